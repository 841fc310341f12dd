"""Fitting the refusal rule of an adapter on validation examples, which it was not trained on.

Enters: examples with passages, answerable and not. Leaves: a RefusalRule's numbers and what they do there.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from doyen.models.engine import Engine
from doyen.prompts import REFUSAL
from doyen.records import Example
from doyen.refusing import RefusalRule, Signs, logit

FEWEST_OF_EACH = 8
MOST_OF_EACH = 100
_FOLDS = 5
_RIDGE = 0.05


@dataclass(frozen=True, slots=True)
class Calibration:
    """The threshold (None: too few examples) and rule, and the shares that they refuse of the validation examples.

    The shares are cross-fitted: each example is scored by a rule that was fitted without it.
    """

    threshold: float | None
    answerable: int
    unanswerable: int
    false_refusals: float | None = None
    right_refusals: float | None = None
    slope: float = 1.0
    similarity_weight: float = 0.0
    confidence_weight: float = 0.0
    bias: float = 0.0


def calibrate_refusal(
    engine: Engine, adapter: Path, validation: Sequence[Example], *, false_refusals: float, max_tokens: int
) -> Calibration:
    """Fit the rule on validation examples with passages; too few of either kind leave refusing to greedy decoding."""
    answerable = [e for e in validation if e.variant == "passages"][:MOST_OF_EACH]
    unanswerable = [e for e in validation if e.variant == "abstain"][:MOST_OF_EACH]
    if min(len(answerable), len(unanswerable)) < FEWEST_OF_EACH:
        return Calibration(None, len(answerable), len(unanswerable))
    both = [*answerable, *unanswerable]
    completions = engine.generate(
        [list(e.messages[:-1]) for e in both],
        max_tokens=max_tokens,
        adapter=adapter,
        refusal=REFUSAL,
        may_refuse=False,
    )
    signs = [
        Signs(c.refusal_probability or 0.0, c.log_probability, e.similarity or 0.0)
        for c, e in zip(completions, both, strict=True)
    ]
    target = [False] * len(answerable) + [True] * len(unanswerable)
    scores = _cross_fitted(signs, target)
    sure, unsure = scores[: len(answerable)], scores[len(answerable) :]
    threshold = refusal_threshold(sure, false_refusals)
    rule = fit_rule(signs, target)
    return Calibration(
        round(threshold, 6),
        len(answerable),
        len(unanswerable),
        false_refusals=round(sum(p > threshold for p in sure) / len(sure), 4),
        right_refusals=round(sum(p > threshold for p in unsure) / len(unsure), 4),
        slope=round(rule.slope, 6),
        similarity_weight=round(rule.similarity_weight, 6),
        confidence_weight=round(rule.confidence_weight, 6),
        bias=round(rule.bias, 6),
    )


def refusal_threshold(answerable: Sequence[float], share: float) -> float:
    """Return 0.5, or the higher threshold that refuses at most about `share` of answerable questions.

    The higher one is the split-conformal quantile of their scores: a new question like these is refused with a
    probability of at most `share` (Vovk et al.; arXiv 2107.07511, section 1).
    """
    rank = math.ceil((len(answerable) + 1) * (1 - share))
    return max(0.5, sorted(answerable)[min(rank, len(answerable)) - 1])


def _cross_fitted(signs: Sequence[Signs], unanswerable: Sequence[bool]) -> list[float]:
    """Score each example with a rule fitted on the other folds."""
    scores = [0.0] * len(signs)
    for fold in range(_FOLDS):
        others = [i for i in range(len(signs)) if i % _FOLDS != fold]
        rule = fit_rule([signs[i] for i in others], [unanswerable[i] for i in others])
        for i in range(fold, len(signs), _FOLDS):
            scores[i] = rule.probability(signs[i])
    return scores


def fit_rule(signs: Sequence[Signs], unanswerable: Sequence[bool]) -> RefusalRule:
    """Fit weights and bias by ridge logistic regression, both classes of equal weight (Newton).

    A weight whose sign contradicts its meaning (a surer refusal, a farther passage or a less sure answer speaking for
    answering) is left out.
    """
    columns = np.array([[logit(s.refusal), -s.similarity, -s.log_probability] for s in signs], dtype=np.float64)
    target = np.array(unanswerable, dtype=np.float64)
    kept = list(range(columns.shape[1]))
    while kept:
        weights, bias = _logistic(columns[:, kept], target)
        if min(weights) > 0:
            found = dict(zip(kept, weights, strict=True))
            return RefusalRule(
                slope=found.get(0, 0.0),
                similarity_weight=found.get(1, 0.0),
                confidence_weight=found.get(2, 0.0),
                bias=bias,
            )
        kept.remove(kept[int(np.argmin(weights))])
    return RefusalRule()


def _logistic(columns: NDArray[np.float64], target: NDArray[np.float64]) -> tuple[list[float], float]:
    """Return the weights of unscaled columns, and the bias. A column that never changes gets the weight 0."""
    mean, scale = columns.mean(axis=0), columns.std(axis=0)
    varies = scale > 1e-9
    scale = np.where(varies, scale, 1.0)
    design = np.column_stack([(columns - mean) / scale, np.ones(len(columns))])
    weight = np.where(target == 1, 0.5 / max(target.sum(), 1), 0.5 / max((1 - target).sum(), 1))
    beta = _newton(design, target, weight)
    weights = np.where(varies, beta[:-1] / scale, 0.0)
    return [float(w) for w in weights], float(beta[-1] - weights @ mean)


def _newton(
    design: NDArray[np.float64], target: NDArray[np.float64], weight: NDArray[np.float64]
) -> NDArray[np.float64]:
    beta = np.zeros(design.shape[1])
    penalty = _RIDGE * np.diag([1.0] * (design.shape[1] - 1) + [0.0])
    for _ in range(50):
        fitted = 1 / (1 + np.exp(-np.clip(design @ beta, -30, 30)))
        gradient = design.T @ (weight * (fitted - target)) + penalty @ beta
        curvature = (
            design.T @ (design * (weight * fitted * (1 - fitted))[:, None]) + penalty + 1e-9 * np.eye(design.shape[1])
        )
        step = np.linalg.solve(curvature, gradient)
        beta -= step
        if np.abs(step).max() < 1e-9:
            break
    return beta
