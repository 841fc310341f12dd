"""Fitting the refusal rule of an adapter on validation examples, which it was not trained on.

Enters: examples with passages, answerable and not. Leaves: a RefusalRule's numbers and what they do there.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from doyen.models.engine import Engine
from doyen.prompts import REFUSAL
from doyen.records import Example
from doyen.refusing import RefusalRule, logit

FEWEST_OF_EACH = 8
MOST_OF_EACH = 60
# A refused answer that was there counts as much as two questions answered without evidence: people stop asking.
FALSE_REFUSAL_COST = 2.0
_RIDGE = 0.05


@dataclass(frozen=True, slots=True)
class Calibration:
    """The threshold (None: too few examples) and rule, and the shares refused on the validation examples."""

    threshold: float | None
    answerable: int
    unanswerable: int
    false_refusals: float | None = None
    right_refusals: float | None = None
    slope: float = 1.0
    similarity_weight: float = 0.0
    bias: float = 0.0


def calibrate_refusal(engine: Engine, adapter: Path, validation: Sequence[Example]) -> Calibration:
    """Fit the rule on validation examples with passages; too few of either kind leave refusing to greedy decoding."""
    answerable = [e for e in validation if e.variant == "passages"][:MOST_OF_EACH]
    unanswerable = [e for e in validation if e.variant == "abstain"][:MOST_OF_EACH]
    if min(len(answerable), len(unanswerable)) < FEWEST_OF_EACH:
        return Calibration(None, len(answerable), len(unanswerable))
    both = [*answerable, *unanswerable]
    prompts = [list(e.messages[:-1]) for e in both]
    completions = engine.generate(prompts, max_tokens=1, adapter=adapter, watch=REFUSAL)
    p = [c.first_token_probability or 0.0 for c in completions]
    similarity = [e.similarity or 0.0 for e in both]
    rule = fit_rule(p, similarity, [False] * len(answerable) + [True] * len(unanswerable))
    scores = [rule.probability(a, b) for a, b in zip(p, similarity, strict=True)]
    found = choose_threshold(scores[: len(answerable)], scores[len(answerable) :])
    return Calibration(
        found.threshold,
        found.answerable,
        found.unanswerable,
        found.false_refusals,
        found.right_refusals,
        slope=round(rule.slope, 6),
        similarity_weight=round(rule.similarity_weight, 6),
        bias=round(rule.bias, 6),
    )


def fit_rule(p: Sequence[float], similarity: Sequence[float], unanswerable: Sequence[bool]) -> RefusalRule:
    """Fit slope, similarity weight and bias by ridge logistic regression, both classes of equal weight (Newton).

    Signs that contradict the meaning (a surer refusal or a farther passage speaking for an answer) are not kept.
    """
    columns = np.array([[logit(value) for value in p], [-value for value in similarity]], dtype=np.float64).T
    mean, scale = columns.mean(axis=0), columns.std(axis=0)
    scale = np.where(scale > 1e-9, scale, 1.0)
    design = np.column_stack([(columns - mean) / scale, np.ones(len(columns))])
    target = np.array(unanswerable, dtype=np.float64)
    weight = np.where(target == 1, 0.5 / max(target.sum(), 1), 0.5 / max((1 - target).sum(), 1))
    beta = _newton(design, target, weight)
    slope, similarity_weight = beta[:2] / scale
    if slope <= 1e-6:
        return RefusalRule()
    similarity_weight = max(float(similarity_weight), 0.0)
    bias = float(beta[2] - slope * mean[0] - similarity_weight * mean[1])
    return RefusalRule(slope=float(slope), similarity_weight=similarity_weight, bias=bias)


def _newton(
    design: NDArray[np.float64], target: NDArray[np.float64], weight: NDArray[np.float64]
) -> NDArray[np.float64]:
    beta = np.zeros(design.shape[1])
    penalty = _RIDGE * np.diag([1.0, 1.0, 0.0])
    for _ in range(50):
        fitted = 1 / (1 + np.exp(-np.clip(design @ beta, -30, 30)))
        gradient = design.T @ (weight * (fitted - target)) + penalty @ beta
        curvature = design.T @ (design * (weight * fitted * (1 - fitted))[:, None]) + penalty + 1e-9 * np.eye(3)
        step = np.linalg.solve(curvature, gradient)
        beta -= step
        if np.abs(step).max() < 1e-9:
            break
    return beta


def choose_threshold(answerable: Sequence[float], unanswerable: Sequence[float]) -> Calibration:
    """Return the threshold (refuse above it) of most right refusals less FALSE_REFUSAL_COST times the false ones.

    Ties go to the value nearest 0.5 on a grid, so that a clear separation leaves the rule's own decision alone.
    """
    grid = [0.01, 0.02, 0.05, *[i / 20 for i in range(2, 20)], 0.95, 0.98]

    def rates(threshold: float) -> tuple[float, float]:
        false = sum(p > threshold for p in answerable) / len(answerable)
        right = sum(p > threshold for p in unanswerable) / len(unanswerable)
        return false, right

    def worth(threshold: float) -> float:
        false, right = rates(threshold)
        return round(right - FALSE_REFUSAL_COST * false, 9)

    best = max(grid, key=lambda t: (worth(t), -abs(t - 0.5)))
    false, right = rates(best)
    return Calibration(best, len(answerable), len(unanswerable), round(false, 4), round(right, 4))
