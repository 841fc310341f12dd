"""An export, read by an engine that knows its form → how far its probabilities and answers are from the expert's.

Enters: the expert's base and adapter, an export opened as `Reader`. Leaves: a `Score`. Held-out examples are used where
the expert has them, else a fixed conversation.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from doyen.evaluation.metrics import token_f1
from doyen.examples.importing import read_examples
from doyen.models.engine import render
from doyen.models.fitting import GOLDEN
from doyen.models.safetensors_writing import Progress
from doyen.prompts import Message, is_complete

MOST_KL = 1e-3
"""What a 16-bit export's mean divergence, in nats a token, must stay below."""
LARGEST_DROP = {8: 1.0, 4: 3.0}
"""Points of token F1 that fewer bits may cost before it is warned of."""
_EXAMPLES, _ANSWER_TOKENS, _WRITTEN = 12, 8, 48
Floats = NDArray[np.float64]


class Reader(Protocol):
    """What reads a model back."""

    name: str

    def log_probabilities(self, prompt: Sequence[int], answer: Sequence[int]) -> list[tuple[NDArray[np.int64], Floats]]:
        """Return, after the prompt and after each token of the answer, token ids and their log-probabilities.

        Where not all tokens are there, they are the likeliest.
        """
        ...

    def write(self, prompts: Sequence[tuple[Sequence[Message], list[int]]], max_tokens: int) -> list[str]:
        """Return the greedy answers to prompts, each given as messages and as tokens."""
        ...


@dataclass(frozen=True, slots=True)
class Score:
    """How far an export is from its expert.

    `mean_kl` and `largest_kl` are of the next token's probabilities (nats), over `positions` of `examples` prompts and
    answers; `base_kl` is the mean divergence of the expert from its base: what the adapter does. `agreement` is the share of
    the positions where the likeliest token is the same. F1 is in points over `questions` held-out answers.
    """

    engine: str
    examples: int
    positions: int
    mean_kl: float
    largest_kl: float
    base_kl: float
    agreement: float
    questions: int
    f1_before: float | None
    f1_after: float | None

    @property
    def keeps_adapter(self) -> bool:
        """Whether the export is nearer to the expert than the base is."""
        return self.mean_kl < self.base_kl

    @property
    def f1_drop(self) -> float:
        """Points of F1 lost; 0 where it was not measured."""
        return 0.0 if self.f1_before is None or self.f1_after is None else self.f1_before - self.f1_after


@dataclass(frozen=True, slots=True)
class Probe:
    """A prompt and its right answer; `held_out`: whether the answer counts for F1."""

    messages: tuple[Message, ...]
    answer: str
    held_out: bool


def probes_of(expert: Path) -> list[Probe]:
    """Return some held-out examples of an expert, spread over the file; else a fixed conversation."""
    path = expert / "examples" / "validation.jsonl"
    rows = read_examples(path) if path.exists() else []
    if not rows:
        return [Probe(tuple(GOLDEN[1:2]), GOLDEN[2]["content"], False)]
    chosen = sorted({i * len(rows) // _EXAMPLES for i in range(_EXAMPLES)})
    return [Probe(tuple(rows[i].messages[:-1]), rows[i].messages[-1]["content"], True) for i in chosen]


@dataclass(frozen=True, slots=True)
class Reference:
    """What an expert says to the probes: probabilities at each position and answers."""

    prompts: list[list[int]]
    answers: list[list[int]]
    distributions: list[list[Floats]]
    base_kl: float
    written: list[str]


def reference_of(
    expert: Reader, base: Reader, probes: Sequence[Probe], tokenizer: Any, progress: Progress
) -> Reference:
    """Ask the expert as it is, and its base, about the probes."""
    prompts = [render(tokenizer, probe.messages) for probe in probes]
    answers = [tokenizer(p.answer, add_special_tokens=False)["input_ids"][:_ANSWER_TOKENS] for p in probes]
    found = []
    for i in range(len(probes)):
        found.append([_dense(*row) for row in expert.log_probabilities(prompts[i], answers[i])])
        progress("asking the expert", i + 1, len(probes))
    few = range(0, len(probes), max(1, len(probes) // 4))
    base_kl = [
        _divergence(p, *q)
        for i in few
        for p, q in zip(found[i], base.log_probabilities(prompts[i], answers[i]), strict=True)
    ]
    return Reference(prompts, answers, found, float(np.mean(base_kl)), _written(expert, probes, prompts))


def score(reader: Reader, reference: Reference, probes: Sequence[Probe], progress: Progress) -> Score:
    """Ask an export about the probes and compare."""
    divergences, same = [], []
    for i in range(len(probes)):
        rows = reader.log_probabilities(reference.prompts[i], reference.answers[i])
        for p, (ids, logs) in zip(reference.distributions[i], rows, strict=True):
            divergences.append(_divergence(p, ids, logs))
            same.append(int(p.argmax()) == int(ids[logs.argmax()]))
        progress("asking the export", i + 1, len(probes))
    right = [probe.answer for probe in probes if probe.held_out]
    return Score(
        engine=reader.name,
        examples=len(probes),
        positions=len(divergences),
        mean_kl=float(np.mean(divergences)),
        largest_kl=float(np.max(divergences)),
        base_kl=reference.base_kl,
        agreement=float(np.mean(same)),
        questions=len(right),
        f1_before=_mean_f1(reference.written, right),
        f1_after=_mean_f1(_written(reader, probes, reference.prompts), right),
    )


def _written(reader: Reader, probes: Sequence[Probe], prompts: Sequence[list[int]]) -> list[str]:
    """Return the answers to the probes whose right answer is known, ended where the engines end a short answer."""
    asked = [(p.messages, ids) for p, ids in zip(probes, prompts, strict=True) if p.held_out]
    return [_ended(text.strip()) for text in reader.write(asked, _WRITTEN)] if asked else []


def _ended(text: str) -> str:
    ends = (i + 1 for i, char in enumerate(text) if char == "\n" and is_complete(text[: i + 1]))
    return text[: next(ends, len(text))].strip()


def _mean_f1(answers: Sequence[str], right: Sequence[str]) -> float | None:
    if not right:
        return None
    return 100 * sum(map(token_f1, answers, right)) / len(right)


def _dense(ids: NDArray[np.int64], logs: Floats) -> Floats:
    found = np.full(int(ids.max()) + 1, -np.inf)
    found[ids] = logs
    return found


def _divergence(p: Floats, ids: NDArray[np.int64], logs: Floats) -> float:
    """Return KL(p ‖ q) in nats; the tokens that q does not name count as one.

    `p` are log-probabilities `(vocabulary,)`, q those of `ids`. Tokens taken together make it smaller, never larger.
    """
    named = ids < len(p)
    mine, theirs = p[ids[named]], logs[named]
    found = float(np.sum(np.exp(mine) * (mine - theirs)))
    rest, other = 1 - float(np.exp(mine).sum()), 1 - float(np.exp(theirs).sum())
    if rest > 1e-6:
        found += rest * float(np.log(rest / max(other, 1e-12)))
    return max(found, 0.0)


def log_softmax(logits: NDArray[np.float32]) -> Floats:
    """Return log-probabilities of logits `(…, vocabulary)`, in float64."""
    shifted = logits.astype(np.float64) - logits.max(axis=-1, keepdims=True)
    made: Floats = shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))
    return made
