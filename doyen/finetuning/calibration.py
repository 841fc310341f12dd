"""When to refuse: a threshold on the model's own probability of refusing, chosen on validation examples.

A fine-tuned model's first token says how sure it is that the passages hold the answer; greedy decoding uses 0.5 of
it. The threshold here balances answering against refusing on examples that the adapter was not trained on.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from doyen.models.engine import Engine
from doyen.prompts import REFUSAL
from doyen.records import Example

FEWEST_OF_EACH = 8
MOST_OF_EACH = 40


@dataclass(frozen=True, slots=True)
class Calibration:
    """The threshold (None: too few examples) and what it does on the validation examples, as shares."""

    threshold: float | None
    answerable: int
    unanswerable: int
    false_refusals: float | None = None
    right_refusals: float | None = None


def calibrate_refusal(engine: Engine, adapter: Path, validation: Sequence[Example]) -> Calibration:
    """Choose the threshold of highest balanced accuracy on validation examples with passages."""
    answerable = [e for e in validation if e.variant == "passages"][:MOST_OF_EACH]
    unanswerable = [e for e in validation if e.variant == "abstain"][:MOST_OF_EACH]
    if min(len(answerable), len(unanswerable)) < FEWEST_OF_EACH:
        return Calibration(None, len(answerable), len(unanswerable))
    prompts = [list(e.messages[:-1]) for e in [*answerable, *unanswerable]]
    completions = engine.generate(prompts, max_tokens=1, adapter=adapter, watch=REFUSAL)
    scores = [c.first_token_probability or 0.0 for c in completions]
    return choose_threshold(scores[: len(answerable)], scores[len(answerable) :])


def choose_threshold(answerable: Sequence[float], unanswerable: Sequence[float]) -> Calibration:
    """Return the threshold (refuse above it) that maximises right refusals minus false refusals.

    Ties go to the value nearest 0.5 on a grid, so that a clear separation leaves the model's own decision alone.
    """
    grid = [0.01, 0.02, 0.05, *[i / 20 for i in range(2, 20)], 0.95, 0.98]

    def rates(threshold: float) -> tuple[float, float]:
        false = sum(p > threshold for p in answerable) / len(answerable)
        right = sum(p > threshold for p in unanswerable) / len(unanswerable)
        return false, right

    best = max(grid, key=lambda t: (round(rates(t)[1] - rates(t)[0], 9), -abs(t - 0.5)))
    false, right = rates(best)
    return Calibration(best, len(answerable), len(unanswerable), round(false, 4), round(right, 4))
