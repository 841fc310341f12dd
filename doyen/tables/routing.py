"""A question and the tables at hand → the plan to answer it by, or None: then it is a question for texts.

Deterministic. How probable it is that a plan answers its question is a logistic function of a few signs; its weights were
fitted on questions over tables (right and wrong plans) and questions over texts, and are measured anew by
benchmarks/tables.py. Knows no model.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

from doyen.tables.asked import Asked, name_parts, stem
from doyen.tables.catalogue import StoredTable
from doyen.tables.loading import Column, LoadedTable
from doyen.tables.mentions import column_mentions
from doyen.tables.operations import operations
from doyen.tables.planning import plan
from doyen.tables.plans import Plan

THRESHOLD = 0.4
"""The least probability at which a question is answered by a table."""
ONLY_TABLES = 0.15
"""The same where there are no texts that could answer instead."""
MOST_LOADED = 6
_COVERED = 0.8
_NEARLY = 0.1
"""Up to which difference in probability the order of the tables decides, which is search's and that of the names."""
_WEIGHTS = {
    "bias": -5.0,
    "coverage": 5.5,
    "sureness": 0.6,
    "strong": 2.1,
    "named": 0.1,
    "conditions": -0.3,
    "columns": -0.7,
    "keyed": 3.0,
}


@dataclass(frozen=True, slots=True)
class Route:
    """The plan of the table that a question is meant for, with the probability that it is meant for a table."""

    plan: Plan
    probability: float


def signs_of(found: Plan) -> dict[str, float]:
    """Return what of a plan tells that a table is meant."""
    columns = {c.name for m in found.measures for c in m.columns} | {c.name for c in found.shown}
    columns |= {found.group.column.name} if found.group else set()
    bound = {c.column for c in found.conditions}
    return {
        "bias": 1.0,
        "coverage": found.coverage,
        "sureness": found.sureness,
        "strong": float(found.is_strong),
        "named": float(found.is_named),
        "conditions": float(min(len(found.conditions), 3)),
        "columns": float(min(len(columns), 3)),
        "keyed": float(any(c.is_key and c.kind == "text" and c.name in bound for c in found.table.columns)),
    }


def probability(found: Plan) -> float:
    """Return how probable it is that a question with this plan is meant for the table."""
    total = sum(_WEIGHTS[name] * value for name, value in signs_of(found).items())
    return 1.0 / (1.0 + math.exp(-total))


def route(
    asked: Asked, tables: Sequence[LoadedTable], *, able: bool = False, threshold: float = THRESHOLD
) -> Route | None:
    """Return the best plan over the tables (best first), of nearly equal ones the first; None where none is probable enough.

    Where a model is `able` to write SQL itself, a plan has to account for nearly all of the question.
    """
    plans = [p for table in tables if (p := plan(asked, table)) is not None]
    found = [Route(p, probability(p)) for p in plans if not able or p.coverage >= _COVERED]
    enough = [one for one in found if one.probability >= threshold]
    best = max((one.probability for one in enough), default=0.0)
    return next((one for one in enough if one.probability >= best - _NEARLY), None)


def candidates(asked: Asked, tables: Sequence[StoredTable], found_in: Sequence[str]) -> list[StoredTable]:
    """Return the tables that are worth loading: those that search found (documents, best first), then by their names.

    None where the question calculates nothing, search found no table, and no column is named.
    """
    ranks = {document: n for n, document in reversed(list(enumerate(found_in)))}
    calculates = bool(operations(asked, frozenset()))
    scored = []
    for order, table in enumerate(tables):
        named = _names(asked, table)
        rank = ranks.get(table.document, ranks.get(_page_of(table, found_in)))
        if named or (rank is not None and calculates):
            scored.append((named + (2.0 / (1 + rank) if rank is not None else 0.0), -order, table))
    scored.sort(key=lambda entry: entry[:2], reverse=True)
    return [table for _, _, table in scored[:MOST_LOADED]]


@lru_cache(maxsize=20_000)
def _stems_of(name: str) -> frozenset[str]:
    return frozenset(map(stem, name_parts(name)))


def _page_of(table: StoredTable, found_in: Sequence[str]) -> str:
    """Return the first found document that is a row of a database's table, or ""."""
    return next((d for d in found_in if table.note is None and d.startswith(f"{table.document}/")), "")


def _names(asked: Asked, table: StoredTable) -> float:
    """Return how much of a table's columns and name a question names."""
    stems = {w.stem for w in asked.words if not w.is_stop}
    joined = "".join(w.lower for w in asked.words)
    near = [
        name for name in table.columns if not _stems_of(name).isdisjoint(stems) or "".join(name_parts(name)) in joined
    ]
    columns = [Column(name, "text") for name in near]
    sure = sum(m.score for m in column_mentions(asked, columns) if m.score >= 0.7)
    own = {stem(p) for p in name_parts(table.name) if not re.fullmatch(r"\d+", p)}
    return sure + (1.0 * len(own & stems) / len(own) if own else 0.0)
