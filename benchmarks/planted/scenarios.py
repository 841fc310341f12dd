"""The twelve scenarios: a corpus each, how it is trained on, what the user demands, and which arm is right, with the reason.

The labels follow from how a corpus is made, and stand here before anything is run. They hold for a small model that reads a
number from a passage when asked plainly, and learns a form from some dozens of examples: templates and sizes were chosen so on
the seeds 1 and 101 to 109, which are not to be used for results.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from planted.codes import codes_alone
from planted.corpus import Corpus
from planted.messages import messages
from planted.names import Names
from planted.numbers import changing_numbers, new_numbers, stale_numbers
from planted.orders import styled_orders
from planted.prose import with_prose
from planted.slips import changing_slips

DEVELOPMENT_SEEDS = (1, *range(101, 110))
AS_FAST_AS_ALONE = "half as much again as the slower of the arms without documents"
"""A bound on seconds that the run fills in: a machine's speed is no part of the plant, what reading costs is."""


@dataclass(frozen=True, slots=True)
class Scenario:
    """A planted case: `right` is the arm to choose and `why` the reason, both fixed by how `draw` makes the corpus."""

    name: str
    right: str
    why: str
    draw: Callable[[Names], Corpus]
    epochs: float
    passages: int = 1
    constraints: Mapping[str, Any] = field(default_factory=dict)

    def corpus(self, seed: int) -> Corpus:
        """Draw the corpus of a seed: always the same, and another for each scenario."""
        return self.draw(Names(random.Random(f"{seed}/{self.name}")))


SCENARIOS: tuple[Scenario, ...] = (
    Scenario(
        "codes",
        "finetuned",
        "The house's codes never change and no document tells them: only the examples do. Documents add nothing.",
        lambda names: codes_alone(names, train=80, test=40, other_documents=12),
        epochs=3,
    ),
    Scenario(
        "orders",
        "finetuned",
        "A fixed house style for what the question says, told by the examples alone. Documents add nothing.",
        lambda names: styled_orders(names, train=48, test=40, other_documents=12),
        epochs=2,
    ),
    Scenario(
        "numbers",
        "rag",
        "Each question asks for a number that stands in a document of its own and cannot be known without it; most have "
        "changed since the training. The form of an answer counts for nothing, so training adds nothing to reading.",
        lambda names: changing_numbers(names, train=24, test=40, changed=0.7),
        epochs=1,
    ),
    Scenario(
        "stale",
        "rag",
        "A few facts were trained on in many phrasings, and all have changed since: what the adapter holds is out of date, "
        "the documents are not.",
        lambda names: stale_numbers(names, facts=14, phrasings=4, test=40),
        epochs=2,
    ),
    Scenario(
        "slips",
        "rag+finetuned",
        "The house format is told by the examples alone, what goes into it by the documents alone, which change.",
        lambda names: changing_slips(names, train=48, test=40, changed=0.7),
        epochs=2,
    ),
    Scenario(
        "messages",
        "base",
        "Each question holds its answer in plain sight: there is nothing to look up and nothing to learn.",
        lambda names: messages(names, train=24, test=40, other_documents=12),
        epochs=1,
    ),
    Scenario(
        "orders-traceable",
        "rag+finetuned",
        "A fixed house style for what the question says is learned from examples: alone that would be right. But answers must "
        "be traceable, so the style guide has to be read with each, and reading a guide does not give the style.",
        lambda names: styled_orders(names, train=48, test=40, other_documents=12, guide=True),
        epochs=2,
        constraints={"traceable": True},
    ),
    Scenario(
        "slips-hourly",
        "rag+finetuned",
        "As `slips`, with documents that change every hour: the format does not, and what changes is read anew for each "
        "answer. Often changing documents do not speak against training for form.",
        lambda names: changing_slips(names, train=48, test=40, changed=1.0),
        epochs=2,
        constraints={"changes": "hourly"},
    ),
    Scenario(
        "slips-fast",
        "finetuned",
        "As `slips`, but an answer must come about as fast as from the model alone, and eight passages take several times as "
        "long to read. Of the arms without documents the trained one knows the format.",
        lambda names: with_prose(changing_slips(names, train=32, test=40, changed=0.7), names, sentences=9),
        epochs=1.5,
        passages=8,
        constraints={"seconds": AS_FAST_AS_ALONE},
    ),
    Scenario(
        "numbers-fast",
        "base",
        "As `numbers`, but an answer must come about as fast as from the model alone: the documents cannot be read in that time, "
        "and nobody knows the numbers without them. Training gains nothing.",
        lambda names: with_prose(changing_numbers(names, train=12, test=40, changed=0.7), names, sentences=9),
        epochs=1,
        passages=8,
        constraints={"seconds": AS_FAST_AS_ALONE},
    ),
    Scenario(
        "new-traceable",
        "rag",
        "All that is asked about came after the training, which had few examples; answers must be traceable, and nothing may "
        "leave the machine. Reading a plain number needs no training.",
        lambda names: new_numbers(names, train=12, test=40, known=20),
        epochs=1,
        constraints={"traceable": True, "offline": True},
    ),
    Scenario(
        "orders-daily",
        "finetuned",
        "As `orders`, with documents that change every day: the style does not change with them.",
        lambda names: styled_orders(names, train=48, test=40, other_documents=12, changed=12),
        epochs=2,
        constraints={"changes": "daily"},
    ),
)
