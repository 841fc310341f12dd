"""One bound on rows: its SQL, the words that say it, how it reads; values as literals of SQL."""

from __future__ import annotations

import datetime
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Condition:
    """A bound on rows: SQL, the words that say it, and how it reads in English."""

    column: str
    sql: str
    words: frozenset[int]
    said: str


def literal(value: Any) -> str:
    """Return a value as SQL has it."""
    if isinstance(value, str):
        return "'" + value.replace("'", "''") + "'"
    if isinstance(value, datetime.datetime):
        return f"TIMESTAMP '{value.isoformat(' ')}'"
    if isinstance(value, datetime.date):
        return f"DATE '{value.isoformat()}'"
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)
