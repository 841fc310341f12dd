"""What one statement over tables may use. Knows no database."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class QueryLimits:
    """The bounds of one statement: rows given back, seconds by the clock, memory of the database, bytes of the result."""

    rows: int = 1_000
    seconds: float = 10.0
    memory_mib: int = 512
    result_mib: int = 16
    characters: int = 20_000
    """The longest statement."""
