"""An arm's scores and confidences → its correct, wrong and refused shares, and its risk–coverage curve, with intervals.

Risk–coverage: El-Yaniv & Wiener 2010, "On the foundations of noise-free selective classification"; the area under the
curve: Geifman, Uziel & El-Yaniv 2019. Knows no model: confidence is any number that is larger for surer answers.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from doyen.evaluation.scoring import Score
from doyen.evaluation.statistics import RESAMPLES, Interval, bootstrap_mean
from doyen.records import Answer

CORRECT = ("right", "refused rightly")
MOST_POINTS = 60
BLOCK_CELLS = 1_000_000  # 8 MB of draw counts at a time


def outcome_figures(scores: Sequence[Score], answers: Sequence[Answer], *, seed: int = 0) -> dict[str, Any]:
    """Return an arm's `shares` and `risk_coverage` as written into a report; null where nothing can be said.

    `answers` are aligned with `scores`. An answer's confidence is 1 − `refusal_probability`.
    """
    # rounded as in an answers file, so that answers read again give the same curve
    confidences = [None if a.refusal_probability is None else round(1 - a.refusal_probability, 4) for a in answers]
    return {
        "shares": {name: i.as_dict() for name, i in outcome_shares(scores, seed=seed).items()} or None,
        "risk_coverage": risk_coverage(scores, confidences, seed=seed),
    }


def outcome_shares(scores: Sequence[Score], *, seed: int = 0) -> dict[str, Interval]:
    """Return which share of the scored questions was `correct`, `wrong` and `refused`; the three add up to 1.

    Refusing an unanswerable question is correct (and `refused_rightly`, a part of it), answering it is wrong;
    `refused` are refusals of answerable questions. Empty without scored questions.
    """
    return {name: bootstrap_mean(values, seed=seed) for name, values in outcome_values(scores).items()}


def outcome_values(scores: Sequence[Score]) -> dict[str, list[float]]:
    """Return for each share of `outcome_shares` whether each scored question is in it, 0.0 or 1.0; empty without any."""
    outcomes = [s.outcome for s in scores if s.outcome != "unscored"]
    if not outcomes:
        return {}
    members = {"correct": CORRECT, "wrong": ("wrong",), "refused": ("refused",), "refused_rightly": CORRECT[1:]}
    return {name: [float(o in of) for o in outcomes] for name, of in members.items()}


def risk_coverage(
    scores: Sequence[Score], confidences: Sequence[float | None], *, seed: int = 0
) -> dict[str, Any] | None:
    """Return how the share of wrong answers falls when only the surest are given; None without confident answers.

    Returns:
        questions: scored ones; answered: of these, with a confidence; without_confidence: answered, but left out
        points: [{coverage, risk, confidence}], surest first, at most 60: of all scored questions the share that is
            answered with this confidence or more, and which share of those answers is wrong
        risk: of all answers, with its interval
        area: mean risk over the coverages up to that of all answers, with its interval: lower is better
        gain: risk − area, with its interval: above zero the confidence puts right answers before wrong ones

    Raises:
        ValueError: `confidences` are not as many as the scores.
    """
    scored = [(s, c) for s, c in zip(scores, confidences, strict=True) if s.outcome != "unscored"]
    given = [(s, c) for s, c in scored if not s.refused]
    known = sorted(((c, s.outcome == "wrong") for s, c in given if c is not None), reverse=True)
    if not known:
        return None
    confidence, wrong = (np.array(column, dtype=np.float64) for column in zip(*known, strict=True))
    ends = np.append(np.flatnonzero(np.diff(confidence)), len(known) - 1)  # the last answer of each confidence
    risk, area, gain = _bootstrap(wrong, ends, seed)
    risks = np.cumsum(wrong)[ends] / (ends + 1)
    return {
        "questions": len(scored),
        "answered": len(known),
        "without_confidence": len(given) - len(known),
        "points": [
            {
                "coverage": round(float(ends[i] + 1) / len(scored), 4),
                "risk": round(float(risks[i]), 4),
                "confidence": round(float(confidence[ends[i]]), 4),
            }
            for i in _thinned(len(ends))
        ],
        **{name: i.as_dict() for name, i in (("risk", risk), ("area", area), ("gain", gain))},
    }


def _thinned(n: int) -> list[int]:
    """Return at most MOST_POINTS of n places, evenly spaced, the first and the last among them."""
    return sorted({round(i) for i in np.linspace(0, n - 1, min(n, MOST_POINTS))})


def _bootstrap(wrong: NDArray[np.float64], ends: NDArray[np.int64], seed: int) -> list[Interval]:
    """Return risk, area and gain of answers in the order of their confidence; draws are over the answers."""
    n = len(wrong)
    random = np.random.default_rng(seed)
    rows = max(1, BLOCK_CELLS // n)
    blocks = []
    for begin in range(0, RESAMPLES, rows):
        drawn = random.multinomial(n, np.full(n, 1 / n), size=min(rows, RESAMPLES - begin)).astype(np.float64)
        blocks.append(_figures(drawn, wrong, ends))
    resampled = np.concatenate(blocks)
    values = _figures(np.ones((1, n)), wrong, ends)[0]
    lows, highs = np.quantile(resampled, (0.025, 0.975), axis=0)
    return [
        Interval(float(v), float(min(low, v)), float(max(high, v)), n)
        for v, low, high in zip(values, lows, highs, strict=True)
    ]


def _figures(draws: NDArray[np.float64], wrong: NDArray[np.float64], ends: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return (rows, 3): risk, area and gain where each answer was drawn as often as `draws` (rows, n) says."""
    covered = np.cumsum(draws, axis=1)[:, ends]
    risks = np.cumsum(draws * wrong, axis=1)[:, ends] / np.maximum(covered, 1)
    steps = np.diff(covered, axis=1, prepend=0.0)
    area = (steps * risks).sum(axis=1) / covered[:, -1]
    return np.stack((risks[:, -1], area, risks[:, -1] - area), axis=1)
