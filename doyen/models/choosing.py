"""Log-probabilities of the options of a choice → probabilities that sum to 1, and how far to trust them (calibration).

Knows no model: numbers in, numbers out.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from doyen.errors import UsageError

_LEAST = 1e-12
_RIDGE = 1.0
"""As strong as this many answers."""


def option_probabilities(options: Sequence[Sequence[int]], log_probabilities: Sequence[float]) -> tuple[float, ...]:
    """Return the probability of each option, given that the answer is one of them.

    Args:
        options: the tokens of each.
        log_probabilities: of each option's tokens after the prompt, summed. An answer counts for an option if it
            begins with its tokens: the end of the turn is not asked for, since models like to go on behind a "yes".

    An answer that begins with a longer option counts for that one alone ("yes, always", not "yes"). There is no
    correction for length: a probability is one of the whole text.
    """
    largest = max(log_probabilities)
    mass = np.exp(np.array(log_probabilities, dtype=np.float64) - largest)
    own = mass.copy()
    for i, option in enumerate(options):
        shorter = [k for k, o in enumerate(options) if len(o) < len(option) and list(option[: len(o)]) == list(o)]
        if shorter:
            own[max(shorter, key=lambda k: len(options[k]))] -= mass[i]
    own = np.maximum(own, _LEAST)
    return tuple(float(p) for p in own / own.sum())


@dataclass(frozen=True, slots=True)
class Calibration:
    """`p_i^(1/temperature) · e^bias_i`, normalised. Above 1 a temperature says that the model is too sure of itself."""

    temperature: float
    biases: tuple[float, ...] = ()
    """One an option, in their order; empty: none. They undo a model's liking for one of the options."""

    def apply(self, probabilities: Sequence[float]) -> tuple[float, ...]:
        """Return calibrated probabilities of one answer's options."""
        scores = np.log(np.maximum(probabilities, _LEAST)) / self.temperature
        scores += np.array(self.biases or [0.0] * len(scores))
        found = np.exp(scores - scores.max())
        return tuple(float(p) for p in found / found.sum())


def calibrate(probabilities: Sequence[Sequence[float]], labels: Sequence[int], *, biases: bool = False) -> Calibration:
    """Fit a temperature, and with `biases` one number an option, by the likelihood of labelled answers.

    Args:
        probabilities: `(answers, options)`, as `Completion.choice_probabilities` gives them; a row may have fewer or more
            options than another where no biases are asked for.
        labels: the right option's number in each row, from 0.
        biases: whether all rows have the same options, in the same order, and the labels are distributed as later ones.

    Fit on answers that are not measured afterwards: 100 do for a temperature. (Guo et al., arXiv 1706.04599.)

    Raises:
        UsageError: there are no rows, or rows and labels do not go together.
    """
    if not probabilities or len(probabilities) != len(labels):
        raise UsageError(f"{len(labels)} labels for {len(probabilities)} answers", hint="one label an answer")
    widths = {len(row) for row in probabilities}
    if biases and len(widths) > 1:
        raise UsageError("biases need the same options in every row", hint="calibrate without biases")
    width = max(widths)
    scores = np.full((len(probabilities), width), np.log(_LEAST))
    for i, row in enumerate(probabilities):
        scores[i, : len(row)] = np.log(np.maximum(row, _LEAST))
    present = np.array([[k < len(row) for k in range(width)] for row in probabilities])
    beta = _newton(scores, present, np.array(labels), biases)
    return Calibration(1 / max(float(beta[0]), 1e-3), tuple(map(float, beta[1:])) if biases else ())


def _newton(
    scores: NDArray[np.float64], present: NDArray[np.bool_], labels: NDArray[np.int64], biases: bool
) -> NDArray[np.float64]:
    """Return 1 / temperature and the biases that make the labels likeliest; a small ridge holds them near 1 and 0."""
    rows, width = scores.shape
    columns = [scores[:, :, None]]
    if biases:
        columns.append(np.broadcast_to(np.eye(width), (rows, width, width)))
    design = np.concatenate(columns, axis=2)
    beta = np.zeros(design.shape[2])
    beta[0] = 1.0
    rest, ridge = beta.copy(), _RIDGE / rows
    for _ in range(100):
        logits = np.where(present, design @ beta, -np.inf)
        found = np.exp(logits - logits.max(axis=1, keepdims=True))
        found /= found.sum(axis=1, keepdims=True)
        wrong = found.copy()
        wrong[np.arange(rows), labels] -= 1
        gradient = np.einsum("rk,rkd->d", wrong, design) / rows + ridge * (beta - rest)
        mean = np.einsum("rk,rkd->rd", found, design)
        curvature = np.einsum("rk,rkd,rke->de", found, design, design) / rows - mean.T @ mean / rows
        step = np.linalg.solve(curvature + ridge * np.eye(len(beta)), gradient)
        beta -= np.clip(step, -1, 1)
        if np.abs(step).max() < 1e-9:
            break
    return beta


def calibration_error(probabilities: Sequence[Sequence[float]], labels: Sequence[int], bins: int = 10) -> float:
    """Return the expected calibration error: how far, on average, the likeliest option's probability is from its share right.

    Bins of equal width; 0 is perfect.
    """
    sure = np.array([max(row) for row in probabilities])
    right = [int(np.argmax(row)) == label for row, label in zip(probabilities, labels, strict=True)]
    return error_of_confidence(sure, right, bins)


def error_of_confidence(
    confidences: Sequence[float] | NDArray[np.float64], right: Sequence[bool], bins: int = 10
) -> float:
    """Return how far confidence is, on average, from the share that is right. Bins of equal width; 0 is perfect."""
    sure, held = np.asarray(confidences), np.array(right)
    where = np.minimum((sure * bins).astype(int), bins - 1)
    gaps = [abs(float(sure[where == b].sum()) - float(held[where == b].sum())) for b in range(bins)]
    return sum(gaps) / len(sure)
