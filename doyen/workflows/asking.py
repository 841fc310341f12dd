"""A model step over many rows: prompts in one batch, retries where the engine fails, answers row by row.

Whatever an engine raises is a fault of the rows that it was asked for, never of the run; but for one that nobody waits for any more.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Sequence
from concurrent.futures import CancelledError
from typing import Any

import numpy as np

from doyen.errors import DoyenError, TimeLimitError
from doyen.models.engine import Completion
from doyen.records import Hit
from doyen.workflows.definition import Classify, Decide, Draft, Extract, choices_of, prompt_of
from doyen.workflows.faults import RowFault
from doyen.workflows.opening import Setup
from doyen.workflows.prompting import Asked, Asking, fitted
from doyen.workflows.rows import Row, place_of

log = logging.getLogger("doyen.workflows")
WAIT_S = 0.2
_GIVEN_UP = 3
"""After so many rows of a batch have failed one after the other, the rest of it is tried once each."""


def ask_model(setup: Setup, step: Asking, rows: Sequence[Row]) -> None:
    """Ask a step's model for rows, and note its answers; rows that it fails for are failed."""
    asked: list[tuple[Row, Asked]] = []
    for row in rows:
        try:
            asked.append((row, fitted(setup.engine, setup.flow, step, row.values, _hits(setup, step, row))))
        except RowFault as error:
            row.fail(step.name, str(error))
        except DoyenError as error:  # counting tokens needs the model's files
            row.fail(step.name, str(error))
    if not asked:
        return
    completions = _completions(setup, step, [a for _, a in asked])
    for (row, one), (completion, attempts) in zip(asked, completions, strict=True):
        _note(setup, step, row, one, completion, attempts)


def _hits(setup: Setup, step: Asking, row: Row) -> Sequence[Hit]:
    prompt = prompt_of(step)
    found = row.values.get(prompt.passages) if prompt and prompt.passages and setup.shows_passages(step.name) else None
    return found or ()


def _completions(setup: Setup, step: Asking, asked: Sequence[Asked]) -> list[tuple[Completion | str, int]]:
    """Return each row's completion, or why there is none, and how often it was asked for; equal prompts are asked once."""
    first: dict[str, int] = {}
    places = [first.setdefault(one.sha256, i) for i, one in enumerate(asked)]
    found = dict(zip(first.values(), _distinct(setup, step, [asked[i] for i in first.values()]), strict=True))
    return [found[place] for place in places]


def _distinct(setup: Setup, step: Asking, asked: Sequence[Asked]) -> list[tuple[Completion | str, int]]:
    try:
        return [(c, 1) for c in _generate(setup, step, asked)]
    except (CancelledError, TimeLimitError):
        raise
    except Exception as error:  # the edge: an engine may fail with anything
        log.warning("step %s failed for %d rows (%s); each is tried alone", step.name, len(asked), error)
    found: list[tuple[Completion | str, int]] = []
    failed_last = 0
    for one in asked:
        attempts = 1 + (step.retries if failed_last < _GIVEN_UP else 0)
        found.append(_completion(setup, step, one, attempts))
        failed_last = failed_last + 1 if isinstance(found[-1][0], str) else 0
    return found


def _completion(setup: Setup, step: Asking, asked: Asked, attempts: int) -> tuple[Completion | str, int]:
    why = ""
    for attempt in range(attempts):
        try:
            return _generate(setup, step, [asked])[0], attempt + 2  # the batch was the first
        except (CancelledError, TimeLimitError):
            raise
        except Exception as error:  # the edge, as above
            why = f"the engine failed: {error or type(error).__name__}"
            if attempt + 1 < attempts:
                time.sleep(WAIT_S * 4**attempt)
    return why, attempts + 1


def _generate(setup: Setup, step: Asking, asked: Sequence[Asked]) -> list[Completion]:
    return setup.engine.generate(
        [a.messages for a in asked],
        max_tokens=max(a.max_tokens for a in asked),
        adapter=setup.adapters[step.name],
        constraints=[a.constraint for a in asked],
    )


def _note(setup: Setup, step: Asking, row: Row, asked: Asked, answer: Completion | str, attempts: int) -> None:
    adapter = setup.adapters[step.name]
    entry: dict[str, Any] = {"step": step.name, "do": step.do, "arm": setup.arms[step.name]}
    entry |= {"adapter": adapter.name if adapter else None, "prompt_sha256": asked.sha256, "attempts": attempts}
    entry |= {"passages": [place_of(hit) for hit in asked.hits]} if asked.hits else {}
    if asked.cut:
        entry["cut_characters"] = asked.cut
        row.reasons.append(
            f"[{step.name}] {asked.cut:,} characters of its text were not read: the model's context is full"
        )
    row.trail.append(entry)
    if isinstance(answer, str):
        row.fail(step.name, answer)
        entry["error"] = answer
        return
    row.spend(answer.prompt_tokens, answer.completion_tokens)
    sure = sureness(step, answer)
    try:
        row.values[step.name] = value_of(step, answer)
    except RowFault as error:
        row.fail(step.name, str(error))
        entry["error"], entry["wrote"] = str(error), answer.text[:2000]
        return
    if sure is not None:
        row.sure[step.name] = sure
        entry["confidence"] = round(sure, 6)
    if answer.choice_probabilities:
        options = choices_of(step)
        entry["probabilities"] = {o: round(p, 6) for o, p in zip(options, answer.choice_probabilities, strict=True)}
    entry |= {"value": row.values[step.name], "seconds": round(answer.seconds, 4)}
    entry |= {"prompt_tokens": answer.prompt_tokens, "completion_tokens": answer.completion_tokens}
    entry |= {"shortened": True} if answer.shortened else {}


def value_of(step: Asking, answer: Completion) -> Any:
    """Return what a completion says, as the step's value. Raises RowFault where it has not the step's form."""
    if isinstance(step, Classify | Decide):
        if answer.text not in step.choices:
            raise RowFault(f"the model wrote {answer.text[:60]!r}, which is no choice")
        return answer.text
    if isinstance(step, Extract):
        return _parsed(answer.text, step.schema)
    if not answer.text.strip():
        raise RowFault("the model wrote nothing")
    return answer.text


def _parsed(text: str, schema: Any) -> Any:
    from jsonschema import Draft202012Validator

    try:
        value = json.loads(text)
    except ValueError:
        raise RowFault("the model wrote no JSON") from None
    fault = next(Draft202012Validator(dict(schema)).iter_errors(value), None)
    if fault is not None:
        raise RowFault(f"the model's JSON is not valid: {fault.message[:200]}")
    return value


def sureness(step: Asking, answer: Completion) -> float | None:
    """Return the model's own probability of its answer: of a choice its share, of an object that of all its tokens.

    None where a server tells none, and of drafts: that a text was likely says nothing of a decision.
    """
    if isinstance(step, Classify | Decide):
        return max(answer.choice_probabilities) if answer.choice_probabilities else None
    if answer.total_log_probability == 0.0 or isinstance(step, Draft):
        return None
    return float(np.exp(answer.total_log_probability))
