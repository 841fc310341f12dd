"""What a question asks of a table: calculations of columns, bounds on rows, groups, an order; or rows to look up.

Knows no question (planning.py makes a Plan of one) and no SQL (statements.py).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from doyen.tables.bounds import Condition
from doyen.tables.loading import Column, LoadedTable
from doyen.tables.operations import Kind

_NAMES = {
    "count": "number of rows",
    "std": "standard deviation",
    "corr": "correlation",
    "missing": "missing values",
    "missing_share": "share of missing values",
    "distinct": "different values",
    "share": "share of rows",
    "skew": "skewness",
    "var": "variance",
    "mode": "most frequent value",
}


@dataclass(frozen=True, slots=True)
class Measure:
    """One calculation: a kind and its columns (two of a correlation; none of a count of rows)."""

    kind: Kind
    columns: tuple[Column, ...] = ()
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Group:
    """What rows are grouped by: a column, or a part (`year`, `month`, …) of a date column."""

    column: Column
    part: str = ""


@dataclass(frozen=True, slots=True)
class Plan:
    """What a question asks of a table. `coverage` is the share of its telling words that the plan accounts for.

    `sureness` is that of the least sure column that is calculated with; `is_strong` where calculations are asked for that
    are asked of tables only. `extreme` +1: the rows or groups of the highest value, -1: the lowest; `arg` what is wanted of
    them. `among` bounds the rows that a share is of. `shown` are the columns that a question about single rows asks for.
    """

    table: LoadedTable
    measures: tuple[Measure, ...] = ()
    conditions: tuple[Condition, ...] = ()
    among: tuple[Condition, ...] = ()
    group: Group | None = None
    extreme: int = 0
    arg: Column | None = None
    limit: int = 1
    shown: tuple[Column, ...] = ()
    coverage: float = 0.0
    sureness: float = 0.0
    is_strong: bool = False
    is_named: bool = False


def name_of(kind: Kind, columns: Sequence[Column]) -> str:
    """Return how a calculation is called: standard deviation of amount."""
    names = " and ".join(c.name for c in columns)
    said = _NAMES.get(kind, kind)
    return f"{said} of {names}" if names else said
