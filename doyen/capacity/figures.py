"""A figure of a plan: its value, how far it may be off, and where it comes from. Pure arithmetic."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

MEASURED, RECORDED, ASSUMED, GIVEN = "measured here", "recorded", "assumed", "given"
ORIGINS = (ASSUMED, MEASURED, RECORDED, GIVEN)
"""From the weakest on: what is calculated from several figures is as weak as the weakest of them."""
LEAST_SPREAD = 0.05
"""No measurement of a minute on a shared machine is better than that."""


@dataclass(frozen=True, slots=True)
class Figure:
    """A value with its relative `spread` (0.2: within a fifth, two times out of three) and its origin."""

    value: float
    spread: float = 0.0
    origin: str = GIVEN
    note: str = ""

    @property
    def low(self) -> float:
        """The value, less its spread."""
        return self.value / (1 + self.spread)

    @property
    def high(self) -> float:
        """The value, and its spread."""
        return self.value * (1 + self.spread)

    @property
    def source(self) -> str:
        """Such as `measured here (40 files of yours)`."""
        return f"{self.origin} ({self.note})" if self.note else self.origin

    def as_dict(self) -> dict[str, Any]:
        """Return the figure as JSON; numbers with four digits."""
        numbers = {"value": self.value, "low": self.low, "high": self.high}
        return {name: float(f"{number:.4g}") for name, number in numbers.items()} | {"source": self.source}

    def __mul__(self, other: Figure | float) -> Figure:
        if not isinstance(other, Figure):
            return Figure(self.value * other, self.spread, self.origin, self.note)
        spread = math.hypot(self.spread, other.spread)
        return Figure(self.value * other.value, spread, *_weaker(self, other))

    __rmul__ = __mul__

    def __truediv__(self, other: Figure | float) -> Figure:
        return self * (
            Figure(1 / other.value, other.spread, other.origin, other.note) if isinstance(other, Figure) else 1 / other
        )

    def __add__(self, other: Figure) -> Figure:
        return total((self, other))


def _weaker(a: Figure, b: Figure) -> tuple[str, str]:
    """Return origin and note of the weaker of two figures; at the same strength the first that has a note."""
    weaker = min(a, b, key=lambda f: (ORIGINS.index(f.origin), not f.note))
    return weaker.origin, weaker.note


def total(figures: Iterable[Figure]) -> Figure:
    """Add figures. Their errors are taken to go together: rates of one machine are wrong in one direction."""
    rows = [figure for figure in figures if figure.value]
    if not rows:
        return Figure(0.0)
    value = sum(figure.value for figure in rows)
    spread = sum(abs(figure.value) * figure.spread for figure in rows) / abs(value) if value else 0.0
    largest = [figure for figure in rows if abs(figure.value) >= 0.1 * abs(value)]
    weakest = min(largest or rows, key=lambda f: (ORIGINS.index(f.origin), not f.note))
    return Figure(value, spread, weakest.origin, weakest.note)
