"""Scores of adapters trained on nested shares of the examples → the gain's curve, carried on to more examples.

Two forms are fitted by least squares: a line over the logarithm of the examples, which never ends, and a power law of the
error (1 − score), which does (Hestness et al. 2017, arXiv 1712.00409). Intervals: bootstrap over the questions, the same
draws for all points. Knows no adapters and trains nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from doyen.evaluation.pairs import MOST_QUESTIONS, NO_LEAD
from doyen.evaluation.statistics import Interval, bootstrap_mean, paired_difference, resampled_means

TIMES = (2, 4)
FEW_QUESTIONS = 30
WORTH = 0.01
"""A point: of less, no more examples are collected."""
Array = NDArray[np.float64]


def curve_of(
    examples: Sequence[int], scores: Sequence[Sequence[float]], against: Sequence[float], *, seed: int = 0
) -> dict[str, Any]:
    """Return the curve of one arm: its points, its last step, what two forms say of more examples, and the answer.

    `examples` are the numbers trained on, rising; `scores` the overall scores of each, question by question, and `against`
    those of the same arm without training, of the same questions.

    Returns:
        points: [{examples, score, gain}], figures {value, low, high, n}; gain is the paired difference to `against`
        step: the paired difference of the last point to the one before
        log, power: {at: [{times, examples, gain, more}], off}: `gain` over `against` at so many times the examples, `more`
            what that is above the fitted curve at all examples; off: the largest distance of a point from the curve
        worth: yes | no | unclear, whether twice the examples are worth collecting; more_questions: about how many more
            would tell, None where out of reach or told

    Raises:
        ValueError: there are fewer than two points, or they are not rising.
    """
    if len(examples) < 2 or any(a >= b for a, b in zip(examples, examples[1:], strict=False)) or examples[0] < 1:
        raise ValueError(f"a curve needs two rising numbers of examples or more, got {list(examples)}")
    values, base = np.array(scores, dtype=np.float64), np.array(against, dtype=np.float64)
    points = [
        {
            "examples": n,
            "score": bootstrap_mean(list(found), seed=seed).as_dict(),
            "gain": paired_difference(list(base), list(found), seed=seed).as_dict(),
        }
        for n, found in zip(examples, values, strict=True)
    ]
    step = paired_difference(list(values[-2]), list(values[-1]), seed=seed).as_dict()
    row: dict[str, Any] = {"points": points, "step": step}
    row |= _fits(np.array(examples, dtype=np.float64), values, base, seed)
    worth, width = _worth(row)
    return row | {"worth": worth, "more_questions": _more_questions(row, width) if worth == "unclear" else None}


def _fits(n: Array, scores: Array, base: Array, seed: int) -> dict[str, Any]:
    """Return `log` and `power`; see `curve_of`."""
    questions = scores.shape[1]
    both = np.vstack((scores, base)).T  # (questions, points + 1)
    means = np.concatenate([both.mean(axis=0)[None, :], resampled_means(both, seed=seed)])
    at = np.concatenate((n, n[-1] * np.array(TIMES)))
    found = {}
    for name, form in (("log", _log_line), ("power", _power_law)):
        fitted = form(n, means[:, :-1], at, 0.5 / questions)  # (1 + draws, points + times): scores
        gains = fitted - means[:, -1:]
        more = fitted[:, len(n) :] - fitted[:, len(n) - 1 : len(n)]
        rows = [
            {
                "times": times,
                "examples": int(n[-1]) * times,
                "gain": _figure(gains[:, len(n) + i], questions),
                "more": _figure(more[:, i], questions),
            }
            for i, times in enumerate(TIMES)
        ]
        found[name] = {"at": rows, "off": round(float(np.abs(fitted[0, : len(n)] - means[0, :-1]).max()), 6)}
    return found


def _log_line(n: Array, means: Array, at: Array, least: float) -> Array:
    """Return score = a + b · log n at `at`, fitted to each row of `means` (rows, points); never above 1."""
    return np.minimum(_line(np.log(n), means, np.log(at)), 1.0)


def _power_law(n: Array, means: Array, at: Array, least: float) -> Array:
    """Return score = 1 − A · n^−b at `at`, fitted in logarithms; errors under `least` count as `least`."""
    return 1 - np.exp(_line(np.log(n), np.log(np.maximum(1 - means, least)), np.log(at)))


def _line(x: Array, y: Array, at: Array) -> Array:
    """Return the least-squares line through each row of y (rows, points), at `at`: (rows, len(at))."""
    centred = x - x.mean()
    slope = (y @ centred) / (centred @ centred)
    found: Array = y.mean(axis=1, keepdims=True) + slope[:, None] * (at - x.mean())
    return found


def _figure(values: Array, n: int) -> dict[str, Any]:
    """Return a figure whose first value is of the data and whose others are of the resamples."""
    low, high = np.quantile(values[1:], (0.025, 0.975))
    value = float(values[0])
    return Interval(value, min(float(low), value), max(float(high), value), n).as_dict()


def more_at(row: dict[str, Any], times: int) -> dict[str, float]:
    """Return what so many times the examples bring: the two forms' values, and the bounds that hold both intervals."""
    found = [next(p["more"] for p in row[form]["at"] if p["times"] == times) for form in ("log", "power")]
    values = sorted(f["value"] for f in found)
    return {
        "least": values[0],
        "most": values[1],
        "low": min(f["low"] for f in found),
        "high": max(f["high"] for f in found),
    }


def _worth(row: dict[str, Any]) -> tuple[str, float]:
    """Return whether twice the examples are worth it, and half the width of the interval of what they bring.

    A yes needs the last measured step too: a curve that has levelled off is no line any more.
    """
    more = more_at(row, TIMES[0])
    width = (more["high"] - more["low"]) / 2
    if more["low"] > 0 and more["least"] >= WORTH and row["step"]["value"] >= WORTH:
        return "yes", width
    n = row["step"]["n"]
    sure = n >= FEW_QUESTIONS and (width > 0 or 3 / n < WORTH)  # no question differed: the rule of three
    return ("no" if more["high"] < WORTH and sure else "unclear"), width


def _more_questions(row: dict[str, Any], width: float) -> int | None:
    """Return about how many more questions would tell what twice the examples bring from nothing, if it is as it seems."""
    more = more_at(row, TIMES[0])
    value, n = abs(more["least"] + more["most"]) / 2, row["step"]["n"]
    if value < NO_LEAD or width <= value:
        return None
    needed = n * (width / value) ** 2 - n
    if needed > MOST_QUESTIONS:
        return None
    digits = 10 ** max(0, len(str(int(needed))) - 2)
    return int(-(-needed // digits) * digits)
