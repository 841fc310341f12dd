"""Per-question values in, figures with 95% intervals out: the percentile bootstrap over questions.

Every statistic is computed for 2000 resamples at once from a matrix of how often each question was drawn
(Efron & Tibshirani 1993, chapter 13). Knows nothing of what the values measure.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

RESAMPLES = 2000
BLOCK_CELLS = 1_000_000  # 8 MB of draw counts at a time
Array = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Interval:
    """A figure with its 95% interval over `n` questions; `p` (two-sided) for differences only.

    One question, or questions that all agree, give an interval of no width: that is not certainty.
    """

    value: float
    low: float
    high: float
    n: int
    p: float | None = None

    def as_dict(self) -> dict[str, Any]:
        """Return the interval as written into a report."""
        row: dict[str, Any] = {"value": round(self.value, 6), "low": round(self.low, 6), "high": round(self.high, 6)}
        row["n"] = self.n
        return row if self.p is None else row | {"p": round(self.p, 5)}


@lru_cache(maxsize=12)
def _draws(n: int, seed: int, block: int, rows: int) -> Array:
    """Return how often each of n questions is drawn, (rows, n) float64."""
    picked = np.random.default_rng((seed, block)).integers(0, n, (rows, n))
    picked += np.arange(rows)[:, None] * n
    counts = np.bincount(picked.ravel(), minlength=rows * n).astype(np.float64).reshape(rows, n)
    counts.flags.writeable = False  # shared by every caller through the cache
    return counts


def _blocks(n: int, seed: int) -> Iterator[Array]:
    rows = min(RESAMPLES, max(1, BLOCK_CELLS // n))
    for block, done in enumerate(range(0, RESAMPLES, rows)):
        yield _draws(n, seed, block, min(rows, RESAMPLES - done))


def _interval(value: float, statistics: Array, n: int, p: float | None = None) -> Interval:
    low, high = np.quantile(statistics, (0.025, 0.975)) if len(statistics) else (value, value)
    return Interval(value, min(float(low), value), max(float(high), value), n, p)


def _array(values: Sequence[float]) -> Array:
    array = np.asarray(values, dtype=np.float64)
    if array.ndim != 1 or not len(array):
        raise ValueError(f"expected one value or more in a row, got shape {array.shape}")
    return array


def bootstrap_mean(values: Sequence[float], *, seed: int = 0) -> Interval:
    """Return the mean with its interval.

    Raises:
        ValueError: there are no values.
    """
    x = _array(values)
    means = np.concatenate([draws @ x for draws in _blocks(len(x), seed)]) / len(x)
    return _interval(float(x.mean()), means, len(x))


def bootstrap_ratio(numerators: Sequence[float], denominators: Sequence[float], *, seed: int = 0) -> Interval:
    """Return sum(numerators) / sum(denominators) with its interval: a rate pooled over questions.

    Raises:
        ValueError: the denominators add up to nothing, or the lengths differ.
    """
    both = np.stack((_array(numerators), _array(denominators)), axis=1)
    top, bottom = both.sum(axis=0)
    if not bottom:
        raise ValueError("the denominators add up to 0")
    sums = np.concatenate([draws @ both for draws in _blocks(len(both), seed)])
    sums = sums[sums[:, 1] > 0]
    return _interval(float(top / bottom), sums[:, 0] / sums[:, 1], len(both))


def bootstrap_median(values: Sequence[float], *, seed: int = 0) -> Interval:
    """Return the (lower) median with its interval."""
    x = np.sort(_array(values))
    half = len(x) / 2
    places = [np.argmax(np.cumsum(draws, axis=1) >= half, axis=1) for draws in _blocks(len(x), seed)]
    return _interval(float(x[(len(x) - 1) // 2]), x[np.concatenate(places)], len(x))


def bootstrap_macro_f1(expected: Sequence[str], given: Sequence[str | None], *, seed: int = 0) -> Interval:
    """Return the mean F1 over the classes that occur among the expected; None as given counts for no class."""
    classes = sorted(set(expected))
    e = np.array([[float(label == c) for c in classes] for label in expected])
    g = np.array([[float(label == c) for c in classes] for label in given])
    columns = np.concatenate((e * g, e, g), axis=1)  # hits, expected, given of each class
    sums = np.concatenate([draws @ columns for draws in _blocks(len(e), seed)])
    return _interval(float(_macro_f1(columns.sum(axis=0, keepdims=True))[0]), _macro_f1(sums), len(e))


def _macro_f1(sums: Array) -> Array:
    """Macro F1 of each row of sums, (rows, 3 * classes); classes not drawn are left out of the mean."""
    hits, expected, given = np.split(sums, 3, axis=1)
    f1 = 2 * hits / np.maximum(expected + given, 1)
    drawn = expected > 0
    result: Array = (f1 * drawn).sum(axis=1) / drawn.sum(axis=1)
    return result


def paired_difference(a: Sequence[float], b: Sequence[float], *, seed: int = 0) -> Interval:
    """Return mean(b - a) over the same questions with its interval and two-sided p-value.

    Raises:
        ValueError: there are no values, or the lengths differ.
    """
    x, y = _array(a), _array(b)
    if len(x) != len(y):
        raise ValueError(f"the arms must answer the same questions, got {len(x)} and {len(y)} values")
    means = np.concatenate([draws @ (y - x) for draws in _blocks(len(x), seed)]) / len(x)
    tail = 1 + min(int((means <= 0).sum()), int((means >= 0).sum()))
    return _interval(float((y - x).mean()), means, len(x), p=min(1.0, 2 * tail / (RESAMPLES + 1)))
