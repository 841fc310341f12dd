"""Examples → token ids with the supervised positions → steps of padded micro-batches.

Knows the tokenizer's chat template; knows no model. Supervision is by position, never by token id, so that a pad token
that equals the end token hides nothing.
"""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from doyen.errors import GateError
from doyen.models.engine import render
from doyen.records import FLOW_VARIANTS, Example

# Few widths: on the CPU every new shape costs compiled kernels and fragments the heap (LOG.md: 4 GiB and 45% of the speed).
WIDTH_STEP = 64


@dataclass(frozen=True, slots=True)
class TokenisedExample:
    """Token ids of a conversation; those from `answer_start` on are supervised, the end of the turn included.

    `number` is the example's place among those that were tokenised, `weight` what each of its supervised tokens counts in
    the loss that is trained on.
    """

    ids: tuple[int, ...]
    answer_start: int
    number: int = 0
    weight: float = 1.0

    @property
    def supervised(self) -> int:
        """The number of supervised tokens."""
        return len(self.ids) - self.answer_start

    @property
    def counted(self) -> float:
        """What the example counts in the mean loss of a step: its supervised tokens by their weight."""
        return self.weight * self.supervised


def tokenise(examples: Sequence[Example], tokenizer: Any, stops: Sequence[int]) -> list[TokenisedExample]:
    """Tokenise examples, of whatever length, with the chat template. Of a chat with several turns the last is supervised.

    Raises:
        GateError: the template refuses a conversation, or renders it in such a way that the prompt of serving is not its
            beginning.
    """
    from jinja2 import TemplateError

    found: list[TokenisedExample] = []
    for number, example in enumerate(examples):
        try:
            prompt = render(tokenizer, example.messages[:-1])
            whole = render(tokenizer, example.messages, prompt=False)
        except TemplateError as error:
            turns = ", ".join(m["role"] for m in example.messages)
            raise GateError(
                f"the model's chat template refuses example {number + 1} ({turns}): {error}",
                hint="give its turns as the template wants them, or train another model",
            ) from error
        if whole[: len(prompt)] != prompt:
            raise GateError(
                "the chat template renders a prompt for training otherwise than for serving",
                hint="use the model's own chat template",
            )
        # Templates put a newline, and Phi's <|endoftext|> too, after the end-of-turn token: the engine stops before them.
        end = next((i + 1 for i in range(len(prompt), len(whole)) if whole[i] in stops), len(whole))
        found.append(TokenisedExample(tuple(whole[:end]), len(prompt), number))
    return _answers_alike(found, [e.variant in FLOW_VARIANTS for e in examples])


def _answers_alike(examples: Sequence[TokenisedExample], of_flows: Sequence[bool]) -> list[TokenisedExample]:
    """Return examples of which those of workflows count alike, however long their answers are; together as much as before.

    A choice of two tokens is as much of a flow as an object of fifty: by tokens it would hardly be learned (LOG.md).
    """
    lengths = [e.supervised for e, of_flow in zip(examples, of_flows, strict=True) if of_flow]
    if not lengths:
        return list(examples)
    mean = sum(lengths) / len(lengths)
    return [
        dataclasses.replace(e, weight=mean / e.supervised) if of_flow and e.supervised else e
        for e, of_flow in zip(examples, of_flows, strict=True)
    ]


def plan_steps(
    examples: Sequence[TokenisedExample],
    *,
    epochs: float,
    batch_size: int,
    micro_batch_tokens: int,
    seed: int,
    switch: int | None = None,
) -> list[list[list[int]]]:
    """Return steps → micro-batches → example indices, in an order fixed by the seed.

    A step holds `batch_size` examples; within it, examples of like length share a micro-batch of at most
    `micro_batch_tokens` padded tokens (a longer single example stands alone). `switch` is the length beyond which the
    model takes other rotary frequencies: such examples never share a micro-batch with shorter ones.
    """
    rng = random.Random(seed)
    order: list[int] = []
    wanted = max(1, round(epochs * len(examples)))
    while len(order) < wanted:
        epoch = list(range(len(examples)))
        rng.shuffle(epoch)
        order += epoch
    order = order[:wanted]
    return [
        micro_batches(examples, order[i : i + batch_size], micro_batch_tokens, switch)
        for i in range(0, len(order), batch_size)
    ]


def micro_batches(
    examples: Sequence[TokenisedExample], indices: Sequence[int], budget: int, switch: int | None = None
) -> list[list[int]]:
    """Group examples of like length so that rows × longest stays within `budget` tokens, on one side of `switch`."""

    def beyond(i: int) -> bool:
        return switch is not None and len(examples[i].ids) > switch

    groups: list[list[int]] = []
    for i in sorted(indices, key=lambda i: -len(examples[i].ids)):
        first = groups[-1][0] if groups else i
        rows = len(groups[-1]) + 1 if groups else 1
        if groups and beyond(i) == beyond(first) and rows * padded_width([examples[first]], switch) <= budget:
            groups[-1].append(i)
        else:
            groups.append([i])
    return groups


def padded_width(examples: Sequence[TokenisedExample], switch: int | None = None) -> int:
    """Return the longest example's length, rounded up to a multiple of WIDTH_STEP but not beyond `switch`."""
    longest = max(len(e.ids) for e in examples)
    width = -(-longest // WIDTH_STEP) * WIDTH_STEP
    return width if switch is None or longest > switch else min(width, switch)


def pad(examples: Sequence[TokenisedExample], device: Any, switch: int | None = None) -> tuple[Any, Any, Any]:
    """Return `(ids, positions, targets)`: right-padded `(rows, width)` int64 ids, the flat positions `(supervised,)`
    whose next token is supervised, and those next tokens. No mask is needed: a causal model's tokens see nothing on their right.
    """  # noqa: D205
    import torch

    width = padded_width(examples, switch)
    ids = torch.zeros(len(examples), width, dtype=torch.long)
    positions: list[int] = []
    targets: list[int] = []
    for row, example in enumerate(examples):
        ids[row, : len(example.ids)] = torch.tensor(example.ids)
        positions += [row * width + i - 1 for i in range(example.answer_start, len(example.ids))]
        targets += example.ids[example.answer_start :]
    return ids.to(device), torch.tensor(positions, device=device), torch.tensor(targets, device=device)
