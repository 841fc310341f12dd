"""The held-out loss while training: which examples, how often, and what follows from it: stopping, and what is kept.

Enters: tokenised validation examples and the planned steps. Leaves: numbers, and the decision. Knows no files.
"""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass, field

from doyen.config import FinetuneSettings
from doyen.finetuning.data import TokenisedExample

MOST_EXAMPLES = 64
_FEWEST_EXAMPLES = 8
_MOST_EVALUATIONS = 10
_FEWEST_EVALUATIONS = 4
_COST = 0.05
_FORWARD = 0.5
"""Arithmetic of a token without gradients as a share of one in a step of LoRA, which takes no gradients of the base's
weights: forward is a half there, a third in full fine-tuning."""
_SURE = 2.0


@dataclass(slots=True)
class HeldOutState:
    """What was measured so far. It stands in the checkpoint, so that a resumed run decides as an undisturbed one.

    `before` is the mean before the first step. `lowest` holds the summed loss of each example at the measurement with
    the lowest mean (nats), `kept_step` is the last step whose mean was not surely above that, `kept` its mean, `worse`
    counts the measurements since.
    """

    before: float = 0.0
    evaluations: int = 0
    lowest: list[float] = field(default_factory=list)
    lowest_step: int = 0
    kept_step: int = 0
    kept: float = 0.0
    worse: int = 0
    stopped: bool = False


@dataclass(frozen=True, slots=True)
class HeldOutPlan:
    """A fixed sample of examples, measured every `every` steps and after the last; no examples: never."""

    examples: list[TokenisedExample]
    every: int
    steps: int
    patience: int

    def due(self, step: int) -> bool:
        """Tell whether the loss is measured after this step."""
        return bool(self.examples) and (step % self.every == 0 or step == self.steps)

    def begin(self, state: HeldOutState, losses: Sequence[float]) -> None:
        """Take the examples' summed losses before the first step into the state."""
        state.before = sum(losses) / sum(e.supervised for e in self.examples)

    def judge(self, state: HeldOutState, step: int, losses: Sequence[float]) -> float:
        """Take the examples' summed losses after `step` into the state; return their mean a supervised token.

        `state.stopped` is set where training shall stop.
        """
        counts = [e.supervised for e in self.examples]
        mean = sum(losses) / sum(counts)
        state.evaluations += 1
        if not state.lowest or mean <= sum(state.lowest) / sum(counts):
            state.lowest, state.lowest_step = list(losses), step
        if self.patience and surely_above(losses, state.lowest, counts):
            state.worse += 1
            state.stopped = state.worse >= self.patience
        else:
            state.kept_step, state.kept, state.worse = step, mean, 0
        return mean


def surely_above(losses: Sequence[float], lowest: Sequence[float], counts: Sequence[int]) -> bool:
    """Tell whether the mean loss a token rose by more than twice its standard error over examples.

    Paired: the same examples were measured twice, so what makes one harder than another does not count as noise. The
    mean is a ratio estimate, its standard error that of Cochran, "Sampling Techniques", section 2.11.
    """
    n, tokens = len(counts), sum(counts)
    if n < 2:
        return False
    rise = (sum(losses) - sum(lowest)) / tokens
    apart = sum((a - b - rise * c) ** 2 for a, b, c in zip(losses, lowest, counts, strict=True))
    error = math.sqrt(apart * n / (n - 1)) / tokens
    return rise > _SURE * error and rise > 0


def plan_held_out(
    validation: Sequence[TokenisedExample],
    train: Sequence[TokenisedExample],
    steps: Sequence[Sequence[Sequence[int]]],
    settings: FinetuneSettings,
) -> HeldOutPlan:
    """Choose the sample and how often it is measured, by counts of tokens alone, so that a repeated run chooses the same.

    Automatically: up to 64 examples up to 10 times, so that it costs about a twentieth of the training. Where that
    allows fewer than 4 measurements the sample is smaller, but not below 8 examples.
    """
    if not validation or not steps:
        return HeldOutPlan([], 1, len(steps), settings.early_stop)
    shuffled = list(validation)
    random.Random(settings.seed).shuffle(shuffled)
    sample = shuffled[:MOST_EXAMPLES]
    if settings.evaluate_every:
        return HeldOutPlan(sample, settings.evaluate_every, len(steps), settings.early_stop)
    trained = sum(len(train[i].ids) for step in steps for group in step for i in group)
    budget = _COST / _FORWARD * trained
    while len(sample) > _FEWEST_EXAMPLES and _tokens(sample) * _FEWEST_EVALUATIONS > budget:
        sample.pop()
    times = min(_MOST_EVALUATIONS, max(1, int(budget / _tokens(sample))))
    return HeldOutPlan(sample, max(1, math.ceil(len(steps) / times)), len(steps), settings.early_stop)


def _tokens(examples: Sequence[TokenisedExample]) -> int:
    return sum(len(e.ids) for e in examples)
