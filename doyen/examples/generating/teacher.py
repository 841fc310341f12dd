"""A stronger model behind an OpenAI-style chat API makes facts of passages; what it says is checked against the passage.

Protocol: https://platform.openai.com/docs/api-reference/chat. Nothing is sent before `estimate` could be shown.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import CancelledError, ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from typing import Any

from doyen.config import TeacherSettings
from doyen.errors import ConfigError
from doyen.examples.generating.asking import json_in, teacher_messages
from doyen.examples.generating.facts import VERDICTS, Fact, fact_of, is_supported, locate
from doyen.models.endpoint import BadAnswerError, Endpoint
from doyen.records import Chunk, Kind

FACTS = 4
PHRASINGS = 2
CONCURRENT = 4
TIMEOUT_S = 300.0
_ANSWER_TOKENS = 1200
_TYPICAL_ANSWER_TOKENS = 350
_BYTES_PER_TOKEN = 4
_SHORT_ANSWER = 8  # words; longer ones are kind "long"
_LEAST_PASSAGE = 80  # characters


@dataclass(frozen=True, slots=True)
class TeacherCost:
    """Requests and tokens (by four bytes each), and dollars where the prices are set."""

    model: str
    host: str
    requests: int
    tokens_in: int
    tokens_out: int
    dollars: float | None

    def __str__(self) -> str:
        """Say it in one sentence."""
        head = (
            f"about {self.requests:,} requests go to {self.host} for {self.model}: some {self.tokens_in:,} tokens in, "
            f"{self.tokens_out:,} out"
        )
        if self.dollars is None:
            return f"{head}; their price is not known ([teacher] input_price and output_price set it)"
        return f"{head}; about US$ {self.dollars:,.2f}"


class TeacherGenerator:
    """Asks the teacher for facts of each passage, several requests at a time."""

    name = "teacher"

    def __init__(self, endpoint: Endpoint, settings: TeacherSettings) -> None:
        self._endpoint = endpoint
        self._settings = settings
        self.refused: dict[str, int] = {}
        """What of the teacher's facts was not kept, by reason."""

    def estimate(self, passages: Sequence[Chunk]) -> TeacherCost:
        """Return what asking about some passages will cost; sends nothing."""
        asked = [chunk for chunk in passages if len(chunk.text) >= _LEAST_PASSAGE]
        sent = sum(len(m["content"].encode()) for chunk in asked for m in self._messages(chunk)) // _BYTES_PER_TOKEN
        written = _TYPICAL_ANSWER_TOKENS * len(asked)
        prices = self._settings.input_price, self._settings.output_price
        dollars = (sent * prices[0] + written * prices[1]) / 1e6 if min(prices) >= 0 else None
        return TeacherCost(self._settings.model, self._endpoint.host, len(asked), sent, written, dollars)

    def _messages(self, chunk: Chunk) -> list[dict[str, str]]:
        return teacher_messages(chunk.indexed, FACTS, PHRASINGS)

    def generate(self, passages: Sequence[Chunk], progress: Callable[[int], None] | None = None) -> list[Fact]:
        """Return the facts whose evidence stands in the passage; see `doyen.examples.generating.facts.Generator`.

        Raises: EndpointError where the API refuses or is given up.
        """
        asked = [chunk for chunk in passages if len(chunk.text) >= _LEAST_PASSAGE]
        found: dict[int, list[Fact]] = {}
        ended = threading.Event()

        def alive() -> None:
            if ended.is_set():
                raise CancelledError

        with ThreadPoolExecutor(CONCURRENT, thread_name_prefix="teacher") as pool:
            jobs = {pool.submit(self._ask, chunk, alive): i for i, chunk in enumerate(asked)}
            try:
                for job in as_completed(jobs):
                    found[jobs[job]] = self._facts(asked[jobs[job]], job.result())
                    if progress:
                        progress(1)
            finally:
                ended.set()
                for job in jobs:
                    job.cancel()
        return [fact for i in sorted(found) for fact in found[i]]

    def _ask(self, chunk: Chunk, alive: Callable[[], None]) -> list[dict[str, Any]]:
        messages = self._messages(chunk)
        body = {
            "model": self._settings.model,
            "messages": messages,
            "temperature": 0,
            "max_tokens": _ANSWER_TOKENS,
        }
        tokens = sum(len(m["content"].encode()) for m in messages) // _BYTES_PER_TOKEN
        return self._endpoint.post("chat/completions", body, _rows, tokens=tokens, alive=alive)

    def _facts(self, chunk: Chunk, rows: Sequence[dict[str, Any]]) -> list[Fact]:
        found = []
        for row in rows:
            fact, reason = checked_fact(chunk, row)
            if fact is not None:
                found.append(fact)
            else:
                self.refused[reason] = self.refused.get(reason, 0) + 1
        return found


def _rows(content: Any) -> list[dict[str, Any]]:
    """Read a chat completion whose text is JSON with `facts`. Raises BadAnswerError."""
    try:
        text = content["choices"][0]["message"]["content"]
        value = json_in(text)
    except (KeyError, IndexError, TypeError):
        raise BadAnswerError("JSON without choices[0].message.content") from None
    except ValueError:
        raise BadAnswerError("a text without JSON") from None
    rows = value.get("facts") if isinstance(value, dict) else value
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise BadAnswerError("JSON without a list `facts`")
    return rows


def checked_fact(chunk: Chunk, row: dict[str, Any]) -> tuple[Fact | None, str]:
    """Return a teacher's fact with its place in the passage, or None and why it is not kept."""
    questions, answer, evidence = row.get("questions") or row.get("question"), row.get("answer"), row.get("evidence")
    asked = [questions] if isinstance(questions, str) else questions
    if not isinstance(asked, list) or not isinstance(answer, str) or not isinstance(evidence, str):
        return None, "teacher: incomplete"
    asked = [q.strip() for q in asked if isinstance(q, str) and q.strip()]
    answer = answer.strip().rstrip(".")
    span = locate(chunk.text, evidence)
    if not asked or not answer or span is None:
        return None, "teacher: evidence not verbatim" if asked and answer else "teacher: incomplete"
    kind: Kind = "span" if len(answer.split()) <= _SHORT_ANSWER else "long"
    if answer.casefold() in VERDICTS:
        kind, answer = "yesno", answer.casefold()
    elif answer[0].isdigit():
        kind = "number"
    if not is_supported(answer, kind, chunk.text[slice(*span)]):
        return None, "teacher: answer not in the evidence"
    return fact_of(chunk, span, asked, answer, kind=kind, rule="teacher"), ""


def open_teacher(settings: TeacherSettings) -> TeacherGenerator:
    """Return the teacher of the settings.

    Raises: ConfigError where no model is named; EndpointError without a key that is needed.
    """
    if not settings.model:
        raise ConfigError(
            "no teacher is set: [teacher] model is empty",
            hint='[teacher] model = "…", and url = "https://HOST/v1" unless it is OpenAI\'s; or --generator rules',
        )
    endpoint = Endpoint("openai", url=settings.url, key_variable=settings.key_variable, timeout_s=TIMEOUT_S)
    return TeacherGenerator(endpoint, settings)
