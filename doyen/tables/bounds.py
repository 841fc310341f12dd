"""One bound on rows: its SQL, the words that say it, how it reads; several bounds together; values as literals of SQL."""

from __future__ import annotations

import datetime
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Condition:
    """A bound on rows: SQL, the words that say it, and how it reads in English.

    `part` is what of a date it bounds (`month`). Several with `is_one_of` on the same column and part are alternatives
    (diesel and petrol: either); all others hold together.
    """

    column: str
    sql: str
    words: frozenset[int]
    said: str
    part: str = ""
    is_one_of: bool = False

    def is_beside(self, other: Condition) -> bool:
        """Whether it and another one are alternatives."""
        return self.is_one_of and other.is_one_of and (self.column, self.part) == (other.column, other.part)


def merged(found: Sequence[Condition]) -> list[str]:
    """Return the conditions' SQL, all of which holds together."""
    joined = [[one.sql for one in own] for own in _alternatives(found)]
    return [own[0] if len(own) == 1 else f"({' OR '.join(own)})" for own in joined]


def in_words(found: Sequence[Condition]) -> str:
    """Return how conditions read together."""
    return " and ".join(" or ".join(one.said for one in own) for own in _alternatives(found))


def _alternatives(found: Sequence[Condition]) -> list[list[Condition]]:
    """Return the different conditions, those that are alternatives together."""
    groups: list[list[Condition]] = []
    for one in {c.sql: c for c in found}.values():
        own = next((g for g in groups if one.is_beside(g[0])), None)
        if own is None:
            groups.append([one])
        else:
            own.append(one)
    return groups


def literal(value: Any) -> str:
    """Return a value as SQL has it."""
    if isinstance(value, str):
        return "'" + value.replace("'", "''") + "'"
    if isinstance(value, datetime.datetime):
        return f"TIMESTAMP '{value.isoformat(' ')}'"
    if isinstance(value, datetime.date):
        return f"DATE '{value.isoformat()}'"
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)
