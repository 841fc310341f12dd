"""The lines of a chat completion, streamed or whole → what was written, with its probabilities and token counts.

Protocol: https://platform.openai.com/docs/api-reference/chat-streaming; server-sent events as of the HTML standard. Knows no
connection: lines come in, BadAnswerError says what another try may mend.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from doyen.models.endpoint import BadAnswerError, message_of

_REFUSALS = frozenset({400, 401, 403, 404, 413, 422})


class RefusedInStreamError(Exception):
    """An error that the server sends with status 200; `status` is the one it names."""

    def __init__(self, status: int, words: str) -> None:
        super().__init__(words)
        self.status = status


@dataclass(slots=True)
class TokenSigns:
    """One written token: its log-probability, and those of the likeliest ones at its place (text → value)."""

    log_probability: float
    top: dict[str, float]


@dataclass(slots=True)
class Written:
    """What a server wrote. Token counts are None where it does not say them."""

    text: str = ""
    tokens: list[TokenSigns] = field(default_factory=list)
    finish: str = ""
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    pieces: int = 0

    def add(self, content: Mapping[str, Any], part: str) -> None:
        """Take in one chunk (`part` is "delta"), or a whole completion ("message"). Raises BadAnswerError."""
        try:
            usage = content.get("usage")
            if usage:
                self.prompt_tokens, self.completion_tokens = usage.get("prompt_tokens"), usage.get("completion_tokens")
            for choice in content.get("choices") or ():
                if choice.get("index", 0) == 0:
                    self._add_choice(choice, part)
        except (TypeError, AttributeError, KeyError, ValueError):
            raise BadAnswerError(f"a chat completion of another form: {json.dumps(content)[:120]}") from None

    def _add_choice(self, choice: Mapping[str, Any], part: str) -> None:
        text = (choice.get(part) or {}).get("content")
        if text:
            self.text += text
            self.pieces += 1
        for token in (choice.get("logprobs") or {}).get("content") or ():
            top = {str(t["token"]): float(t["logprob"]) for t in reversed(token.get("top_logprobs") or ())}
            self.tokens.append(TokenSigns(float(token["logprob"]), top))
        self.finish = choice.get("finish_reason") or self.finish


def read_chat(
    kind: str, lines: Iterator[str], on_text: Callable[[str], bool], alive: Callable[[], None], silence_s: float
) -> Written:
    """Read an answer of content type `kind`. `on_text` is called with the text so far; where it returns True, reading ends.

    Raises:
        BadAnswerError: it is cut off, empty, no chat completion, or nothing but comments came for `silence_s` seconds.
        RefusedInStreamError: the server sends an error that another try would not mend.
    """
    if "event-stream" not in kind:
        return _whole(lines, on_text)
    written = Written()
    heard = time.monotonic()
    for data in _events(lines):
        alive()
        if data is None:
            if time.monotonic() - heard > silence_s:
                raise BadAnswerError(f"nothing but signs of life for {silence_s:.0f} s")
            continue
        heard = time.monotonic()
        if data == "[DONE]":
            break
        before = written.pieces
        written.add(_chunk(data), "delta")
        if written.pieces > before and on_text(written.text):
            written.finish = "stop"
            return written
    if not written.finish:
        raise BadAnswerError("a stream that is cut off" if written.pieces else "a stream without choices")
    return written


def _events(lines: Iterator[str]) -> Iterator[str | None]:
    """Yield each event's data, and None for a comment."""
    held: list[str] = []
    for line in lines:
        if line.startswith(":"):
            yield None
        elif line.startswith("data:"):
            held.append(line[5:].removeprefix(" "))
        elif not line and held:
            yield "\n".join(held)
            held = []
    if held:
        yield "\n".join(held)


def _chunk(data: str) -> Mapping[str, Any]:
    try:
        content = json.loads(data)
    except ValueError:
        raise BadAnswerError(f"a chunk that is not JSON: {data[:80]}") from None
    return _without_error(content, data)


def _without_error(content: Any, text: str) -> Mapping[str, Any]:
    """Return the content where it is no error."""
    if not isinstance(content, dict):
        raise BadAnswerError(f"JSON that is no chat completion: {text[:80]}")
    error = content.get("error") or (content if content.get("object") == "error" else None)
    if error:
        code = error.get("code") if isinstance(error, dict) else None
        if str(code).isdigit() and int(str(code)) in _REFUSALS:
            raise RefusedInStreamError(int(str(code)), message_of(text))
        raise BadAnswerError(f"an error: {message_of(text)}")
    return content


def _whole(lines: Iterator[str], on_text: Callable[[str], bool]) -> Written:
    """Read the answer of a server that does not stream."""
    text = "\n".join(lines)
    try:
        content = json.loads(text)
    except ValueError:
        raise BadAnswerError(f"what is no JSON: {message_of(text)}") from None
    written = Written()
    written.add(_without_error(content, text), "message")
    if not written.pieces and not written.finish:
        raise BadAnswerError("JSON without choices")
    on_text(written.text)
    return written
