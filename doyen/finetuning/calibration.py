"""Fitting the refusal rule of an adapter on validation examples, which it was not trained on.

Enters: examples with passages, answerable and not. Leaves: a RefusalRule's numbers and what they do there.
"""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from doyen.logistic import logistic_weights
from doyen.models.engine import CERTAINTY_TOKENS, Engine
from doyen.prompts import parse_answer
from doyen.records import Example, Nearness
from doyen.refusing import RefusalRule, Signs, answer_anyway, logit

FEWEST_OF_EACH = 8
MOST_OF_EACH = 100
_FEWEST_TO_FIT = 20
_FOLDS = 5
_SEED = 7
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
    lexical_weight: float = 0.0
    confidence_weight: float = 0.0
    bias: float = 0.0


def calibrate_refusal(
    engine: Engine,
    adapter: Path,
    validation: Sequence[Example],
    *,
    false_refusals: float,
    most: int = MOST_OF_EACH,
) -> Calibration:
    """Fit the rule on validation examples with passages, at most `most` of those to be answered and of the others.

    Too few of either kind leave refusing to greedy decoding.

    A question that can be answered, but whose evidence search missed, teaches the rule to refuse; refusing it counts
    as a false refusal all the same.
    """
    answerable = _sample([e for e in validation if e.variant in ("passages", "missed")], most)
    unanswerable = _sample([e for e in validation if e.variant == "abstain"], most)
    if min(len(answerable), len(unanswerable)) < FEWEST_OF_EACH:
        return Calibration(None, len(answerable), len(unanswerable))
    both = [*answerable, *unanswerable]
    found = answer_anyway(
        engine,
        [e.messages[:-1] for e in both],
        [Nearness(e.similarity or 0.0, e.lexical or 0.0) for e in both],
        max_tokens=CERTAINTY_TOKENS,
        adapter=adapter,
    )
    signs = [signs for _, signs in found]
    rule, scores = fit_rule(signs, [e.variant != "passages" for e in both])
    # An answer that still reads like a refusal is one at serving, whatever the rule says.
    scores = [1.0 if parse_answer(c.text, 0).refused else p for p, (c, _) in zip(scores, found, strict=True)]
    sure, unsure = scores[: len(answerable)], scores[len(answerable) :]
    threshold = refusal_threshold(sure, false_refusals)
    return Calibration(
        round(threshold, 6),
        len(answerable),
        len(unanswerable),
        false_refusals=round(sum(p > threshold for p in sure) / len(sure), 4),
        right_refusals=round(sum(p > threshold for p in unsure) / len(unsure), 4),
        slope=round(rule.slope, 6),
        similarity_weight=round(rule.similarity_weight, 6),
        lexical_weight=round(rule.lexical_weight, 6),
        confidence_weight=round(rule.confidence_weight, 6),
        bias=round(rule.bias, 6),
    )


def most_of_each(trained_on: int, false_refusals: float) -> int:
    """Return how many validation examples of each kind a training on `trained_on` examples is worth.

    One for ten: each has its answer written out, which costs more than a training step on it, so that a short training
    would take less time than its calibration. Never fewer than 1 / `false_refusals`, below which the conformal quantile
    is none of their scores, nor than 20: the rule has five numbers, and each fold holds four. Never more than
    MOST_OF_EACH.
    """
    return min(MOST_OF_EACH, max(_FEWEST_TO_FIT, math.ceil(1 / false_refusals), trained_on // 10))


def refusal_threshold(answerable: Sequence[float], share: float) -> float:
    """Return 0.5, or the higher threshold that refuses at most about `share` of answerable questions.

    The higher one is the split-conformal quantile of their scores: a new question like these is refused with a
    probability of at most `share` (Vovk et al.; arXiv 2107.07511, section 1).
    """
    rank = math.ceil((len(answerable) + 1) * (1 - share))
    return max(0.5, sorted(answerable)[min(rank, len(answerable)) - 1])


def fit_rule(signs: Sequence[Signs], unanswerable: Sequence[bool]) -> tuple[RefusalRule, list[float]]:
    """Fit weights and bias by ridge logistic regression, both classes of equal weight (Newton).

    Also returns the examples' probabilities, each by a rule that was fitted without it. A weight whose sign
    contradicts its meaning (a surer refusal, a farther passage or a less sure answer speaking for answering) is left
    out; without any there is only the model's own probability.
    """
    rows = [[logit(s.refusal), -s.nearness.similarity, -s.nearness.lexical, -s.log_probability] for s in signs]
    columns = np.array(rows, dtype=np.float64)
    target = np.array(unanswerable, dtype=np.float64)
    kept = _meaningful(columns, target)
    if not kept:
        return RefusalRule(), [s.refusal for s in signs]
    everything = np.ones(len(signs), dtype=bool)
    rule = _rule(columns, target, kept, everything)
    scores = [0.0] * len(signs)
    for fold in range(_FOLDS):
        held_out = np.arange(len(signs)) % _FOLDS == fold
        other = _rule(columns, target, kept, ~held_out)
        for i in map(int, np.flatnonzero(held_out)):
            scores[i] = other.probability(signs[i])
    return rule, scores


def _meaningful(columns: NDArray[np.float64], target: NDArray[np.float64]) -> list[int]:
    """Return the columns that keep a positive weight beside each other, leaving out the most negative one at a time."""
    kept = [i for i in range(columns.shape[1]) if columns[:, i].std() > 1e-9]
    while kept:
        standardised = (columns[:, kept] - columns[:, kept].mean(axis=0)) / columns[:, kept].std(axis=0)
        weights, _ = _logistic(standardised, target)
        if weights.min() > 0:
            return kept
        kept.pop(int(weights.argmin()))
    return []


def _rule(
    columns: NDArray[np.float64], target: NDArray[np.float64], kept: list[int], rows: NDArray[np.bool_]
) -> RefusalRule:
    weights, bias = _logistic(columns[rows][:, kept], target[rows])
    whole = np.zeros(columns.shape[1])
    whole[kept] = weights
    slope, similarity, lexical, confidence = map(float, whole)
    return RefusalRule(
        slope=slope, similarity_weight=similarity, lexical_weight=lexical, confidence_weight=confidence, bias=bias
    )


def _logistic(columns: NDArray[np.float64], target: NDArray[np.float64]) -> tuple[NDArray[np.float64], float]:
    """Return the weights of unscaled columns, and the bias. A column that never changes gets the weight 0."""
    mean, scale = columns.mean(axis=0), columns.std(axis=0)
    varies = scale > 1e-9
    scale = np.where(varies, scale, 1.0)
    design = np.column_stack([(columns - mean) / scale, np.ones(len(columns))])
    weight = np.where(target == 1, 0.5 / max(target.sum(), 1), 0.5 / max((1 - target).sum(), 1))
    ridge = np.array([_RIDGE] * columns.shape[1] + [0.0])
    beta = logistic_weights(design, target, ridge, weight)
    weights = np.where(varies, beta[:-1] / scale, 0.0)
    return weights, float(beta[-1] - weights @ mean)


def _sample(examples: Sequence[Example], most: int) -> list[Example]:
    """Return all examples, or `most` of them, always the same."""
    if len(examples) <= most:
        return list(examples)
    return random.Random(_SEED).sample(list(examples), most)
