"""A relation → a Markdown page on it: columns, types, key, number of rows, typical values.

So that a question about a table, rather than about a row, finds it. The values are those of the first rows.
"""

from __future__ import annotations

import datetime
import decimal
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from doyen.sources.database.connecting import Database
from doyen.sources.database.relations import Relation
from doyen.sources.database.rows import plain

SAMPLE_ROWS = 2000
MAX_LISTED = 12
MAX_VALUE_CHARS = 80
_DATE = re.compile(r"\d{4}-\d\d-\d\d([ T]\d\d:\d\d.*)?")
_IN_ORDER = (int, float, decimal.Decimal, datetime.date, datetime.time)
"""Types whose smallest and largest value say more than examples (a datetime is a date)."""


@dataclass(slots=True)
class _Values:
    """What was seen of a column; counting ends once there are too many different values to list."""

    filled: int = 0
    ordered: int = 0
    counts: Counter[str] = field(default_factory=Counter)
    examples: list[str] = field(default_factory=list)

    def add(self, value: Any) -> None:
        if value is None:
            return
        self.filled += 1
        self.ordered += _is_ordered(value)
        text = " ".join(str(plain(value)).split())
        text = text if len(text) <= MAX_VALUE_CHARS else text[:MAX_VALUE_CHARS].rstrip() + "…"
        if text not in self.examples and len(self.examples) < 3:
            self.examples.append(text)
        if len(self.counts) <= MAX_LISTED:
            self.counts[text] += 1

    @property
    def is_ordered(self) -> bool:
        return bool(self.filled) and self.ordered == self.filled


def schema_page(database: Database, relation: Relation) -> bytes:
    """Return the page, UTF-8; the same whenever table and rows are."""
    total, seen = _look(database, relation)
    ordered = [c for c in relation.columns if seen[c].is_ordered and c not in relation.key]
    ranges = _ranges(database, relation, ordered)
    sampled = min(total, SAMPLE_ROWS)
    lines = [
        f"# Table {relation.label}",
        "",
        f"Table {relation.label} of the database {database.name} has {total:,} rows"
        f" and {len(relation.columns)} columns: {', '.join(relation.columns)}.",
    ]
    if relation.key:
        lines.append(f"Its key is {', '.join(relation.key)}.")
    lines += [f"Its column {note}." for note in relation.notes]
    if sampled < total:
        lines.append(f"The values are those of its first {sampled:,} rows.")
    lines += ["", "## Columns", ""]
    types = relation.types or ("",) * len(relation.columns)
    for column, type_ in zip(relation.columns, types, strict=True):
        described = _describe(column, seen[column], ranges, sampled, relation)
        lines.append(f"- {column}" + (f" ({type_})" if type_ else "") + (f": {described}" if described else ""))
    return ("\n".join(lines) + "\n").encode("utf-8", "replace")


def _look(database: Database, relation: Relation) -> tuple[int, dict[str, _Values]]:
    import sqlalchemy as sa

    total = int(database.rows(sa.select(sa.func.count()).select_from(relation.source))[0][0])
    seen = {column: _Values() for column in relation.columns}
    sample = relation.page(relation.columns, None) if relation.key else relation.select(relation.columns)
    for row in database.rows(sample.limit(SAMPLE_ROWS)):
        for column, value in zip(relation.columns, row, strict=True):
            seen[column].add(value)
    return total, seen


def _ranges(database: Database, relation: Relation, columns: Sequence[str]) -> dict[str, tuple[Any, Any]]:
    """Return the smallest and largest value of each column over all rows."""
    import sqlalchemy as sa

    if not columns:
        return {}
    source = relation.source
    bounds = [f(source.c[c], type_=sa.types.NullType()) for c in columns for f in (sa.func.min, sa.func.max)]
    row = database.rows(sa.select(*bounds))[0]
    return {column: (row[2 * n], row[2 * n + 1]) for n, column in enumerate(columns)}


def _describe(
    column: str, values: _Values, ranges: dict[str, tuple[Any, Any]], sampled: int, relation: Relation
) -> str:
    if not values.filled:
        return "no values"
    empty = f"; {sampled - values.filled:,} without a value" if values.filled < sampled else ""
    few = len(values.counts) <= MAX_LISTED and (len(values.counts) < values.filled or values.filled <= 3)
    if few and column not in relation.key:
        common = sorted(values.counts.items(), key=lambda pair: (-pair[1], pair[0]))
        return ", ".join(f"{value} ({count:,})" for value, count in common) + empty
    if column in ranges:
        low, high = ranges[column]
        return f"from {plain(low)} to {plain(high)}{empty}"
    return f"for example {', '.join(values.examples)}{empty}"


def _is_ordered(value: Any) -> bool:
    if isinstance(value, bool):
        return False
    return isinstance(value, _IN_ORDER) or (isinstance(value, str) and _DATE.fullmatch(value) is not None)
