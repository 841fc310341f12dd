"""A chat-completions server as an engine: several requests in flight, each streamed; greedy as far as the server can.

Enters: messages. Leaves: completions. What needs weights (logits, losses) it cannot give. Knows no prices.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
import re
import sys
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, NoReturn

from doyen.errors import EndpointError, EngineError
from doyen.models.chat_requests import TOP, ChatRequests, Opening, refusal_probability, ruled_out
from doyen.models.chat_stream import TokenSigns, Written
from doyen.models.checks import require_room
from doyen.models.constraints import Choices, Constraint, Form, JsonSchema, Regex
from doyen.models.endpoint import Endpoint
from doyen.models.engine import CERTAINTY_TOKENS, Completion, Stream, first_tokens, render, template_hash, without_marks
from doyen.models.fitting import GOLDEN
from doyen.models.in_flight import run_in_flight
from doyen.models.served_adapters import ServedAdapters
from doyen.models.server_constraints import Asked, asked_as, choice_probabilities, in_words, taken_out
from doyen.models.servers import ServedModel, Server, find_server
from doyen.models.token_estimate import estimated_tokens
from doyen.prompts import Message, is_complete

CONCURRENT = 8
_MARK = re.compile(r"<\|[^|<>\s]{1,40}\|>|</?s>|<(?:start|end)_of_turn>|<(?:bos|eos|pad|unk)>")
_LOCAL_HINT = 'set [model] engine = "auto" with a model that is on this machine'


class ServerEngine:
    """A model behind an endpoint. Nothing is asked of the server before the first prompt, or question about it."""

    kind = "server"

    def __init__(
        self,
        endpoint: Endpoint,
        model: str,
        *,
        name: str = "",
        folder: Path | None = None,
        context_tokens: int = 0,
        in_flight: int = CONCURRENT,
        finished: Callable[[str], bool] = is_complete,
    ) -> None:
        """Take the model's name there; `folder` is the same model's here, if it is, for its tokenizer."""
        self.endpoint = endpoint
        self.name = name or model
        self.folder = folder
        self.model = model
        self._context_tokens = context_tokens
        self._in_flight = in_flight
        self._finished = finished
        self._noted: Counter[str] = Counter()

    # ---- what the server is

    @cached_property
    def server(self) -> Server:
        """What answers there. Raises EndpointError where nothing does."""
        return find_server(self.endpoint)

    @cached_property
    def _served(self) -> ServedModel:
        return self.server.find(self.model)

    @cached_property
    def _chats(self) -> ChatRequests:
        return ChatRequests(self.server)

    @cached_property
    def adapters(self) -> ServedAdapters:
        """The base model's and adapters' names on the server."""
        names = self._tokenizer.convert_ids_to_tokens if self._tokenizer is not None else list
        return ServedAdapters(self.server, self._served, self._first_token, names)

    @cached_property
    def _tokenizer(self) -> Any:
        if self.folder is None:
            return None
        from doyen.models.chat_tokenizer import open_chat_tokenizer

        return open_chat_tokenizer(self.folder)

    @cached_property
    def context_tokens(self) -> int:
        """The most tokens that a prompt and its answer have together: as set, else as the server says, else no limit."""
        return self._context_tokens or self.server.context_tokens(self._served) or sys.maxsize

    @property
    def remarks(self) -> list[str]:
        """What could not be checked or had no answer, one sentence each."""
        told = [f"{count} answers: {what}" for what, count in self._noted.items()]
        return [*(self.adapters.remarks if "adapters" in self.__dict__ else ()), *told]

    def count_tokens(self, messages: Sequence[Message]) -> int:
        """Return the length of a prompt in tokens: by the model's tokenizer here, else by the server, else an estimate."""
        if self._tokenizer is not None:
            return len(render(self._tokenizer, messages))
        if self.server.tells_tokens:
            return len(self.server.tokens(self._safe(messages), self._served.name))
        return estimated_tokens(messages)

    def template_hash(self) -> str:
        """Return a hash of how the server turns a fixed conversation into tokens, or of what is known of it."""
        if self.server.tells_tokens:
            known: Any = self.server.tokens(GOLDEN[:2], self._served.name)
        else:
            known = template_hash(self._tokenizer) if self._tokenizer is not None else [self.server.kind, self.model]
        return hashlib.sha256(json.dumps(known).encode()).hexdigest()[:16]

    # ---- answers

    def generate(
        self,
        prompts: Sequence[Sequence[Message]],
        *,
        max_tokens: int,
        adapter: Path | None = None,
        refusal: str | None = None,
        may_refuse: bool = True,
        progress: Callable[[int], None] | None = None,
        stream: Stream | None = None,
        constraints: Sequence[Constraint | None] = (),
    ) -> list[Completion]:
        """Answer all prompts, several requests at a time; `stream` gets each answer as it comes, in the caller's thread.

        Where the server gives no log-probabilities, `refusal_probability` is None. Where it cannot go on with an answer
        that is begun, `may_refuse` false changes nothing.

        Raises:
            EngineError: a prompt does not fit, an adapter is not served as it should be, an answer does not keep to its
                constraint.
            EndpointError: the server refuses or is given up.
        """
        if not prompts:
            return []
        started = time.perf_counter()
        fields = self.adapters.fields(adapter)
        safe = [self._safe(prompt) for prompt in prompts]
        self._require_room(safe, max_tokens)
        opening = Opening(self._first_text(refusal) if refusal else "", may_refuse or not self.server.continues)
        # Only what a user asks for is held to: what engines may leave out is left out.
        kept = [c if isinstance(c, Form) else None for c in constraints]
        rules: list[Form | None] = kept or [None] * len(prompts)

        def work(i: int, say: Callable[[str], None], alive: Callable[[], None]) -> Completion:
            job = _Job(safe[i], {**fields}, max_tokens, opening, rules[i], alive)
            return self._constrained(job, say) if rules[i] is not None else self._plain(job, say if stream else None)

        most = min(self._in_flight, self.server.slots or self._in_flight)
        done: dict[int, Completion] = {}
        for i, completion in run_in_flight(work, len(safe), most, stream or _nothing):
            done[i] = completion
            if progress:
                progress(1)
        seconds = (time.perf_counter() - started) / len(safe)
        return [dataclasses.replace(done[i], seconds=seconds) for i in range(len(safe))]

    def _plain(self, job: _Job, say: Callable[[str], None] | None) -> Completion:
        """Answer one prompt. Where the refusal is ruled out, the best other first token is asked for, and gone on from."""
        growing = _Growing(say)
        begun, head = "", []
        if job.opening.text and not job.opening.may_refuse:
            first = self._chats.first(job.fields, job.messages, job.alive)
            begun, token = ruled_out(first, job.opening.text)
            head = [token] if token else []

        def on_text(text: str) -> bool:
            whole = _continued(begun, text)
            growing.show(whole)
            return "\n" in whole and self._finished(whole)

        written = self._chats.ask(
            job.fields, job.messages, job.max_tokens - bool(begun), job.opening, on_text, job.alive, begun
        )
        text = _continued(begun, written.text).strip()
        growing.finish(text)
        self._note(written, text)
        return self._completion(job, written, text, head)

    def _constrained(self, job: _Job, say: Callable[[str], None]) -> Completion:
        """Answer one prompt within its constraint: asked once more, with the constraint in words, where it is not kept to."""
        assert job.constraint is not None
        asked = asked_as(job.constraint, self.server)
        written = self._asked(job, asked, job.messages)
        text = taken_out(written.text, job.constraint, asked.within)
        if text is None:
            last = {**job.messages[-1]}
            last["content"] += f"\n\n{in_words(job.constraint, asked.within)}"
            written = self._asked(job, asked, [*job.messages[:-1], last])
            text = taken_out(written.text, job.constraint, asked.within)
        if text is None:
            cut = (
                "it is cut off at its longest"
                if written.finish == "length"
                else "the server does not keep to constraints"
            )
            raise EngineError(
                f"an answer of {self.endpoint.host} does not keep to what it may be ({cut}): {written.text[:120]!r}",
                hint="raise the longest answer, or use a server that knows structured outputs (vLLM, llama.cpp's)",
            )
        say(text)
        choices: tuple[float, ...] = ()
        if isinstance(job.constraint, Choices) and not asked.within:
            choices = choice_probabilities(written.tokens[0] if written.tokens else None, job.constraint.options)
        return dataclasses.replace(self._completion(job, written, text, []), choice_probabilities=choices)

    def _asked(self, job: _Job, asked: Asked, messages: Sequence[Message]) -> Written:
        fields = {**job.fields, **asked.fields}
        if isinstance(job.constraint, Choices):
            fields["top_logprobs"] = TOP
        return self._chats.ask(fields, messages, job.max_tokens, job.opening, _never, job.alive)

    def _completion(self, job: _Job, written: Written, text: str, head: list[TokenSigns]) -> Completion:
        signs = [*head, *written.tokens]
        sure = [max(s.log_probability, -1e4) for s in signs]
        before = written.prompt_tokens if written.prompt_tokens is not None else self.count_tokens(job.messages)
        after = (
            written.completion_tokens
            if written.completion_tokens is not None
            else len(written.tokens) or written.pieces
        )
        return Completion(
            text,
            before,
            after + len(head),
            0.0,
            refusal_probability(signs[0], job.opening.text) if signs and job.opening.text else None,
            math.fsum(sure[:CERTAINTY_TOKENS]) / len(sure[:CERTAINTY_TOKENS]) if sure else 0.0,
            total_log_probability=math.fsum(sure) if isinstance(job.constraint, JsonSchema | Regex) else 0.0,
        )

    def _note(self, written: Written, text: str) -> None:
        if written.finish == "content_filter":
            self._noted["withheld by the server's content filter"] += 1
        elif not text and written.finish == "length":
            self._noted[
                "ended before a word was written (a model that thinks first?): raise [model] max_answer_tokens"
            ] += 1

    def _first_token(self, fields: Mapping[str, Any], messages: Sequence[Message]) -> TokenSigns | None:
        return self._chats.first(fields, messages, lambda: None)

    def _first_text(self, refusal: str) -> str:
        """Return the refusal's first token as text; without a tokenizer here, its first word."""
        if self._tokenizer is None:
            return refusal.split()[0]
        return str(self._tokenizer.decode(first_tokens(self._tokenizer, refusal)[:1])).strip()

    def _safe(self, messages: Sequence[Message]) -> list[Message]:
        """Split turn marks in texts, as the engines of this machine do, so that no text can end its turn."""
        if self._tokenizer is not None:
            return without_marks(messages, self._tokenizer.get_added_vocab())
        return without_marks(messages, {mark for m in messages for mark in _MARK.findall(m["content"])})

    def _require_room(self, prompts: Sequence[Sequence[Message]], max_tokens: int) -> None:
        room = self.context_tokens - max_tokens
        for prompt in prompts:
            if estimated_tokens(prompt) > room:
                require_room(self.count_tokens(prompt), max_tokens, self.context_tokens, self.name)

    # ---- what a server cannot

    def next_token_logits(self, messages: Sequence[Message], *, adapter: Path | None = None) -> NoReturn:
        """Raise EngineError: servers give the likeliest tokens' probabilities, no logits."""
        raise EngineError(
            f"{self.endpoint.host} gives no logits: this needs the model's weights here", hint=_LOCAL_HINT
        )

    def text_losses(
        self, texts: Sequence[str], prompts: Sequence[Sequence[Message]] = (), *, adapter: Path | None = None
    ) -> NoReturn:
        """Raise EngineError: servers score no texts."""
        raise EngineError(
            f"{self.endpoint.host} scores no texts: this needs the model's weights here", hint=_LOCAL_HINT
        )


@dataclass(frozen=True, slots=True)
class _Job:
    messages: list[Message]
    fields: dict[str, Any]
    max_tokens: int
    opening: Opening
    constraint: Form | None
    alive: Callable[[], None]


class _Growing:
    """Hands on a text as it grows: no white space at its ends, no half-written character, nothing twice after another try."""

    def __init__(self, say: Callable[[str], None] | None) -> None:
        self._say, self._shown = say, ""

    def show(self, text: str) -> None:
        self.finish(text.strip().rstrip("\ufffd"))

    def finish(self, text: str) -> None:
        if self._say is None or self._shown.startswith(text):
            return
        if not text.startswith(self._shown):
            raise EndpointError(
                "an answer was cut off after its beginning was shown, and came out otherwise at the next try",
                hint="ask again",
            )
        self._say(text[len(self._shown) :])
        self._shown = text


def _continued(begun: str, text: str) -> str:
    """Return an answer whose beginning was given; some servers repeat that."""
    return text if text.startswith(begun) else begun + text


def _nothing(number: int, text: str) -> None:
    return None


def _never(text: str) -> bool:
    return False
