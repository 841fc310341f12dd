"""A step and a row → the prompt: what is the same for all rows first, then passages, then the row's own text.

The one place where the prompts of flows are worded; running, training and evaluating ask with the same messages.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from doyen.models.constraints import Choices, Constraint, JsonSchema, PassageNumbers
from doyen.models.engine import Engine
from doyen.prompts import ROW_INPUT, Message, passage_text
from doyen.records import Hit
from doyen.workflows.definition import DECISION_TOKENS, Classify, Decide, Draft, Extract, Prompt, Workflow, prompt_of
from doyen.workflows.expressions import resolve
from doyen.workflows.faults import RowFault
from doyen.workflows.templates import as_text

_TURN_TOKENS = 64  # more than the marks of a turn take
_CHARS_A_TOKEN = 12  # no text has fewer tokens than this
_LEAST_CHARS = 200
_TRIES = 12
Asking = Classify | Extract | Decide | Draft


@dataclass(frozen=True, slots=True)
class Asked:
    """What a model is asked for one row: `hits` are the passages that fitted, `cut` how many characters did not."""

    messages: tuple[Message, ...]
    constraint: Constraint | None
    max_tokens: int
    hits: tuple[Hit, ...] = ()
    cut: int = 0

    @property
    def sha256(self) -> str:
        """A hash of the prompt."""
        return hashlib.sha256(json.dumps(self.messages, ensure_ascii=False).encode()).hexdigest()


def asked_of(flow: Workflow, step: Asking, values: Mapping[str, Any], hits: Sequence[Hit]) -> Asked:
    """Return what a step asks about a row, with these passages. Raises RowFault for a value that is not there."""
    prompt = _prompt(step)
    shown = tuple(hits)
    text = prompt.input.fill(values)
    return Asked(_messages(flow, step, text, shown), constraint_of(step, len(shown)), tokens_of(step), shown)


def fitted(engine: Engine, flow: Workflow, step: Asking, values: Mapping[str, Any], hits: Sequence[Hit]) -> Asked:
    """Return what a step asks, made to fit into the model's context: passages go, the last first, then the end of the longest text.

    Raises:
        RowFault: the instruction alone does not fit.
    """
    shown = tuple(hits)
    room = engine.context_tokens - tokens_of(step)
    asked = asked_of(flow, step, values, shown)
    while len(shown) > 1 and not _fits(engine, asked.messages, room):
        shown = shown[:-1]
        asked = asked_of(flow, step, values, shown)
    if _fits(engine, asked.messages, room):
        return asked
    prompt = _prompt(step)
    lengths = {path: len(as_text(resolve(path, values))) for path in prompt.input.paths}
    cut: dict[str, int] = {}
    for _ in range(_TRIES):
        longest = max(lengths, key=lambda p: cut.get(p, lengths[p]), default="")
        now = cut.get(longest, lengths.get(longest, 0))
        if now <= _LEAST_CHARS:
            break
        asked = Asked(
            _messages(flow, step, prompt.input.fill(values, cut), shown), asked.constraint, asked.max_tokens, shown
        )
        over = 1.0 if now > room * _CHARS_A_TOKEN else engine.count_tokens(asked.messages) / max(room, 1)
        if over <= 1 and cut:
            missing = sum(lengths[p] - n for p, n in cut.items())
            return Asked(asked.messages, asked.constraint, asked.max_tokens, shown, missing)
        cut[longest] = min(room * _CHARS_A_TOKEN, now - 1) if over <= 1 else max(_LEAST_CHARS, int(now / over * 0.95))
    raise RowFault(f"the prompt does not fit into the model's context ({engine.context_tokens:,} tokens)")


def _fits(engine: Engine, messages: Sequence[Message], room: int) -> bool:
    # A token has a byte at least: short prompts need no counting.
    if sum(len(m["content"].encode()) + _TURN_TOKENS for m in messages) <= room:
        return True
    if sum(len(m["content"]) for m in messages) > room * _CHARS_A_TOKEN:
        return False
    return engine.count_tokens(messages) <= room


def _prompt(step: Asking) -> Prompt:
    prompt = prompt_of(step)
    assert prompt is not None, f"{step.name} asks no model"
    return prompt


def _messages(flow: Workflow, step: Asking, text: str, hits: Sequence[Hit]) -> tuple[Message, ...]:
    system = "\n".join(filter(None, (flow.system.strip(), _prompt(step).instruction, form_text(step, bool(hits)))))
    user = "\n\n".join([*(passage_text(n, hit) for n, hit in enumerate(hits, 1)), f"{ROW_INPUT}{text}"])
    return {"role": "system", "content": system}, {"role": "user", "content": user}


def form_text(step: Asking, shows_passages: bool) -> str:
    """Say what form the answer has."""
    if isinstance(step, Classify | Decide):
        if not any(step.choices.values()):
            return f"Answer with one of: {', '.join(step.choices)}"
        return "Answer with one of:\n" + "\n".join(f"{c}: {m}" if m else c for c, m in step.choices.items())
    if isinstance(step, Extract):
        return f"Answer with JSON of this schema: {json.dumps(dict(step.schema), ensure_ascii=False)}"
    if shows_passages:
        return "Write the text alone. Name the numbers of the passages that it stands on, like [1]."
    return "Write the text alone."


def constraint_of(step: Asking, passages: int) -> Constraint | None:
    """Return what a step's answers are held to."""
    if isinstance(step, Classify | Decide):
        return Choices(tuple(step.choices))
    if isinstance(step, Extract):
        return JsonSchema(step.schema)
    return PassageNumbers(passages) if passages else None


def tokens_of(step: Asking) -> int:
    """Return the most tokens of a step's answer."""
    return DECISION_TOKENS if isinstance(step, Classify | Decide) else _prompt(step).max_tokens


def answer_of(step: Asking, value: Any) -> str:
    """Return a value as the model is to write it: what training teaches."""
    if isinstance(step, Extract):
        ordered = {name: value[name] for name in step.fields if name in value} | dict(value)
        return json.dumps(ordered, ensure_ascii=False)
    return str(value)
