"""Messages → one request to `/chat/completions` → what was written. Leaves out what a server refuses to know.

Knows the differences between servers in what a greedy request holds; no batches and no constraints.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from doyen.errors import EndpointError, EngineError, ModelError
from doyen.models.chat_stream import RefusedInStreamError, TokenSigns, Written, read_chat
from doyen.models.servers import AZURE, LLAMACPP, OPENAI, VLLM, Server, served_models
from doyen.models.token_estimate import estimated_tokens
from doyen.prompts import Message

TOP = 20  # the most that OpenAI and vLLM give
_LENGTHS = ("max_completion_tokens", "max_tokens")
_OPTIONAL = (
    "stream_options", "top_logprobs", "logprobs", "repetition_penalty", "repeat_penalty", "temperature", "seed",
)  # fmt: skip
_TOO_LONG = re.compile(r"context (length|size|window)|context_length_exceeded|input is too long", re.IGNORECASE)
_FILTERED = re.compile(r"content[_ ]filter|content management policy", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Opening:
    """How a refusal begins (its first token; "" where that is of no interest), and whether an answer may begin so."""

    text: str = ""
    may_refuse: bool = True


class ChatRequests:
    """Asks one server. Several threads may use it at once."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._refused: frozenset[str] = frozenset()
        self._length = _LENGTHS[0] if server.kind in (OPENAI, AZURE) else _LENGTHS[1]

    def ask(
        self,
        fields: Mapping[str, Any],
        messages: Sequence[Message],
        max_tokens: int,
        opening: Opening,
        on_text: Callable[[str], bool],
        alive: Callable[[], None],
        begun: str = "",
    ) -> Written:
        """Ask for an answer; `fields` name the model and perhaps a constraint, `begun` is the answer's given beginning.

        Raises:
            EngineError: the prompt is too long.
            EndpointError, ModelError: it is refused, given up, or the server has no such model.
        """
        if begun and not max_tokens:
            return Written(finish="length")
        body = self._body(fields, messages, max_tokens, TOP if opening.text else 0)
        if begun:
            body["messages"] = [*messages, {"role": "assistant", "content": begun}]
            if self._server.kind == VLLM:
                body |= {"add_generation_prompt": False, "continue_final_message": True}
        tokens = max_tokens + estimated_tokens(messages)
        for _ in range(len(_OPTIONAL) + len(_LENGTHS)):
            sent = {self._length if key == "length" else key: v for key, v in body.items() if key not in self._refused}
            try:
                return self._send(sent, tokens, on_text, alive)
            except EndpointError as error:
                if error.status in (400, 422) and self._leaves_out(str(error), sent):
                    continue
                if error.status == 400 and _FILTERED.search(str(error)):
                    return Written(finish="content_filter")
                raise self._told(error, str(fields.get("model"))) from error
        raise EndpointError(f"{self._server.endpoint.host} refuses every form of the request")

    def first(
        self, fields: Mapping[str, Any], messages: Sequence[Message], alive: Callable[[], None]
    ) -> TokenSigns | None:
        """Return the first token that would be written, with the likeliest ones; None where the server tells none."""
        written = self.ask(fields, messages, 1, Opening("?"), lambda _: False, alive)
        return written.tokens[0] if written.tokens else None

    def _body(
        self, fields: Mapping[str, Any], messages: Sequence[Message], max_tokens: int, top: int
    ) -> dict[str, Any]:
        body = {
            **fields,
            "messages": list(messages),
            "length": max_tokens,
            "temperature": 0,
            "seed": 0,
            "logprobs": True,
        }
        body |= {"top_logprobs": top} if top else {}
        # vLLM takes a penalty from the model's generation_config.json, llama.cpp's server from how it was started
        body |= {VLLM: {"repetition_penalty": 1.0}, LLAMACPP: {"repeat_penalty": 1.0}}.get(self._server.kind, {})
        return body | {"stream": True, "stream_options": {"include_usage": True}}

    def _send(
        self, body: dict[str, Any], tokens: int, on_text: Callable[[str], bool], alive: Callable[[], None]
    ) -> Written:
        endpoint = self._server.endpoint

        def read(kind: str, lines: Any) -> Written:
            return read_chat(kind, lines, on_text, alive, endpoint.timeout_s)

        try:
            return endpoint.stream("chat/completions", body, read, tokens=tokens, alive=alive)
        except RefusedInStreamError as error:
            raise endpoint.refused(error.status, str(error)) from error

    def _leaves_out(self, words: str, sent: Mapping[str, Any]) -> bool:
        """Leave out what the server does not know from now on; tell whether there was such a thing."""
        if _TOO_LONG.search(words):
            return False
        if _LENGTHS[0] in words:
            self._length = _LENGTHS[_LENGTHS[0] in sent]
            return True
        named = next((name for name in _OPTIONAL if name in sent and re.search(rf"\b{name}\b", words)), None)
        if named is None:
            return False
        self._refused |= {"logprobs", "top_logprobs"} if named == "logprobs" else {named}
        return True

    def _told(self, error: EndpointError, model: str) -> Exception:
        """Say an error in this program's terms."""
        host = self._server.endpoint.host
        if error.status in (400, 413) and _TOO_LONG.search(str(error)):
            return EngineError(
                f"a prompt is too long: {error}",
                hint="lower [answer] passages, or set [model] context_tokens to what fits",
            )
        if error.status == 404 and not self._server.models:
            try:
                there = self._server.endpoint.get("models", served_models, attempts=1)
            except EndpointError:
                there = ()
            if there:
                names = ", ".join(m.name for m in there[:20])
                return ModelError(
                    f"{host} has no model '{model}'; it has {names}", hint="set [model] name to one of these"
                )
        return error


def refusal_probability(first: TokenSigns, start: str) -> float | None:
    """Return the probability that the first token was the refusal's `start`; None where no likeliest tokens are given.

    Where it is not among them, its bound: it is no likelier than the least of them, and than what they leave.
    """
    if not first.top:
        return None
    if start in first.top:
        return math.exp(min(first.top[start], 0.0))
    spelled = [value for token, value in first.top.items() if token.strip() == start]
    if spelled:
        return math.exp(min(max(spelled), 0.0))
    shares = [math.exp(value) for value in first.top.values()]
    return max(0.0, min(*shares, 1 - math.fsum(shares)))


def ruled_out(first: TokenSigns | None, start: str) -> tuple[str, TokenSigns | None]:
    """Return the likeliest first token that does not begin a refusal, and its signs with the others' share taken over.

    ("", None) where no token is given: then nothing can be ruled out.
    """
    if first is None or not first.top:
        return "", None
    banned = [token for token in first.top if token.strip().casefold() == start.casefold()]
    allowed = {token: value for token, value in first.top.items() if token not in banned and token.strip("\ufffd \n")}
    if not allowed:
        return "", None
    best = max(allowed, key=lambda token: allowed[token])
    left = max(1 - math.fsum(math.exp(first.top[token]) for token in banned), 1e-9)
    return best, TokenSigns(min(allowed[best] - math.log(left), 0.0), first.top)
