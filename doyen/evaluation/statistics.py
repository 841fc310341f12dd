"""Per-question values in, figures with 95% intervals out; tests of differences, and how many questions they need.

Figures: the percentile bootstrap, every statistic computed for 2000 resamples at once from a matrix of how often each
question was drawn (Efron & Tibshirani 1993, chapter 13). Paired differences: Student's t interval and the sign-flip
test, chosen by measurement (benchmarks/comparison_statistics.py). Knows nothing of what the values measure.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from statistics import NormalDist
from typing import Any

import numpy as np
from numpy.typing import NDArray

RESAMPLES = 2000
FLIPS = 10_000
LEVEL = 0.05  # of the tests, two-sided
POWER = 0.8
LEAST_QUESTIONS = 8  # from 8 on, differences all on one side can pass the corrected test of six pairs
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


def _array(values: Sequence[float] | Array) -> Array:
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
    return _interval(float(x.mean()), resampled_means(x, seed=seed), len(x))


def resampled_means(values: Array, *, seed: int = 0) -> Array:
    """Return means over resampled questions, one draw for all columns: (questions,) → (RESAMPLES,), or both with columns."""
    return np.concatenate([draws @ values for draws in _blocks(len(values), seed)]) / len(values)


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


def bootstrap_balanced_accuracy(expected: Sequence[str], given: Sequence[str | None], *, seed: int = 0) -> Interval:
    """Return the mean over the expected classes of the share that was given rightly: 0.5 of two is guessing."""
    classes = sorted(set(expected))
    e = np.array([[float(label == c) for c in classes] for label in expected])
    g = np.array([[float(label == c) for c in classes] for label in given])
    columns = np.concatenate((e * g, e), axis=1)
    sums = np.concatenate([draws @ columns for draws in _blocks(len(e), seed)])
    return _interval(float(_mean_recall(columns.sum(axis=0, keepdims=True))[0]), _mean_recall(sums), len(e))


def _mean_recall(sums: Array) -> Array:
    """Mean recall of each row of sums, (rows, 2 * classes); classes not drawn are left out of the mean."""
    hits, expected = np.split(sums, 2, axis=1)
    drawn = expected > 0
    result: Array = (hits / np.maximum(expected, 1) * drawn).sum(axis=1) / drawn.sum(axis=1)
    return result


def _macro_f1(sums: Array) -> Array:
    """Macro F1 of each row of sums, (rows, 3 * classes); classes not drawn are left out of the mean."""
    hits, expected, given = np.split(sums, 3, axis=1)
    f1 = 2 * hits / np.maximum(expected + given, 1)
    drawn = expected > 0
    result: Array = (f1 * drawn).sum(axis=1) / drawn.sum(axis=1)
    return result


def paired_difference(a: Sequence[float] | Array, b: Sequence[float] | Array, *, seed: int = 0) -> Interval:
    """Return mean(b - a) over the same questions with Student's t interval and the sign-flip test's p-value.

    Raises:
        ValueError: there are no values, or the lengths differ.
    """
    x, y = _array(a), _array(b)
    if len(x) != len(y):
        raise ValueError(f"the arms must answer the same questions, got {len(x)} and {len(y)} values")
    mean, n = float((y - x).mean()), len(x)
    half_width = student_t(n - 1) * spread(y - x) / math.sqrt(n) if n > 1 else 0.0
    return Interval(mean, mean - half_width, mean + half_width, n, p=sign_flip_p(y - x, seed=seed))


def spread(differences: Sequence[float] | Array) -> float:
    """Return the standard deviation of paired differences; 0 of a single one."""
    d = _array(differences)
    return float(d.std(ddof=1)) if len(d) > 1 else 0.0


_T = (12.706205, 4.302653, 3.182446, 2.776445, 2.570582)


def student_t(freedom: int) -> float:
    """Return the 97.5% quantile of Student's t, to 0.002 (Abramowitz & Stegun 26.7.5 beyond 5 degrees of freedom)."""
    if freedom <= len(_T):
        return _T[freedom - 1]
    z = 1.959964
    terms = (
        (z**3 + z) / 4,
        (5 * z**5 + 16 * z**3 + 3 * z) / 96,
        (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384,
    )
    return z + sum(term / float(freedom) ** power for power, term in enumerate(terms, 1))


def sign_flip_p(differences: Sequence[float] | Array, *, seed: int = 0) -> float:
    """Return the two-sided p-value of paired differences: would their mean be so far from zero if each sign were chance?

    Exact while all ways to flip are few, else over 10,000 random ones, the observed one counted among them. It holds its
    level whatever the values are if the arms are exchangeable, and nearly if only their means are equal (Romano 1990).
    """
    d = _array(differences)
    d = d[d != 0]  # a tie has no sign
    limit = abs(float(d.sum())) * (1 - 1e-9) - 1e-12  # sums of equal values differ in the last digits
    if 2 ** len(d) <= FLIPS:
        ways = np.arange(2 ** len(d))[:, None] >> np.arange(len(d)) & 1
        return float((np.abs((2.0 * ways - 1) @ d) >= limit).mean())
    rng, rows, further = np.random.default_rng((seed, len(d))), max(1, BLOCK_CELLS // len(d)), 0
    for done in range(0, FLIPS, rows):
        signs = rng.integers(0, 2, (min(rows, FLIPS - done), len(d)), dtype=np.int8).astype(np.float64)
        further += int((np.abs(2 * (signs @ d) - d.sum()) >= limit).sum())
    return (1 + further) / (1 + FLIPS)


def holm(p_values: Sequence[float]) -> list[float]:
    """Return p-values corrected for having tested all of them (Holm 1979), in the order given."""
    corrected, highest = [0.0] * len(p_values), 0.0
    for rank, i in enumerate(sorted(range(len(p_values)), key=lambda i: p_values[i])):
        highest = max(highest, min(1.0, (len(p_values) - rank) * p_values[i]))
        corrected[i] = highest
    return corrected


def _errors_from_zero(level: float) -> float:
    """Return how many standard errors from zero is found with 80% power, two-sided (Cohen 1988, chapter 2)."""
    return NormalDist().inv_cdf(1 - level / 2) + NormalDist().inv_cdf(POWER)


def detectable_difference(spread: float, n: int) -> float:
    """Return the true difference that n questions find four times in five, two-sided at 5%; `spread` as of `spread`."""
    return _errors_from_zero(LEVEL) * spread / math.sqrt(n)


def questions_needed(difference: float, spread: float, *, tests: int = 1) -> int:
    """Return how many questions find a true difference four times in five, two-sided at 5% divided by `tests`.

    Raises:
        ValueError: the difference is 0.
    """
    if not difference:
        raise ValueError("no number of questions finds a difference of 0")
    return max(LEAST_QUESTIONS, math.ceil((_errors_from_zero(LEVEL / tests) * spread / difference) ** 2))
