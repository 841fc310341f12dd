"""How much of what the base model could do a training has cost: bits per byte on a general set, before and after.

Enters: an engine and an adapter as it is served. Leaves: figures for the manifest. The set (general.jsonl) was written
for this project: short texts on everyday things in five languages, and questions with answers.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any

from doyen.models.engine import Engine

MOST_RISE = 0.02
"""A rise of the bits per byte above this share is worth a warning."""


@dataclass(frozen=True, slots=True)
class Forgetting:
    """Bits per byte of general texts with the base and with what was trained; `rise` is their ratio less 1.

    `answers_*` is the same of the answers to general questions, asked through the chat template.
    """

    bits_per_byte_before: float
    bits_per_byte_after: float
    rise: float
    answers_before: float
    answers_after: float
    answers_rise: float
    bytes: int

    @property
    def too_much(self) -> bool:
        """Whether the rise on texts is above MOST_RISE."""
        return self.rise > MOST_RISE

    def remarks(self) -> list[str]:
        """Return what is said of it: the figures, and a warning where they are bad."""
        figures = (
            f"forgetting: {self.bits_per_byte_before:.3f} bits a byte of general text before, "
            f"{self.bits_per_byte_after:.3f} after ({self.rise:+.1%}); answers to general questions {self.answers_rise:+.1%}"
        )
        warning = (
            f"warning: general texts take over {MOST_RISE:.0%} more bits than before: fewer epochs "
            "or a lower learning_rate keep more of what the model could do"
        )
        return [figures, warning] if self.too_much else [figures]


@cache
def general_rows(kind: str) -> tuple[dict[str, Any], ...]:
    """Return the rows of the general set of one kind: text, turn (question and answer) or prompt (question)."""
    text = resources.files("doyen.finetuning").joinpath("general.jsonl").read_text("utf-8")
    return tuple(row for row in map(json.loads, text.splitlines()) if row["kind"] == kind)


def measure_forgetting(engine: Engine, adapter: Path) -> Forgetting:
    """Measure the general set with the base model and with an adapter folder (or wholly trained model)."""
    texts = [row["text"] for row in general_rows("text")]
    turns = general_rows("turn")
    chats = [[{"role": "user", "content": row["question"]}] for row in turns]
    answers = [row["answer"] for row in turns]

    def both(given: Path | None) -> tuple[float, float]:
        return (
            bits_per_byte(engine.text_losses(texts, adapter=given), texts),
            bits_per_byte(engine.text_losses(answers, chats, adapter=given), answers),
        )

    before, after = both(None), both(adapter)
    return Forgetting(
        round(before[0], 4),
        round(after[0], 4),
        round(after[0] / before[0] - 1, 4),
        round(before[1], 4),
        round(after[1], 4),
        round(after[1] / before[1] - 1, 4),
        sum(len(text.encode()) for text in texts),
    )


def bits_per_byte(losses: Sequence[float], texts: Sequence[str]) -> float:
    """Return summed losses (nats) of texts as bits for each byte of their UTF-8."""
    return sum(losses) / math.log(2) / sum(len(text.encode()) for text in texts)
