"""One engine for many threads: each caller waits for its own answers, and can be taken away from the others' work.

Enters: prompts of any thread, each with a ticket. Leaves: completions, in that thread. Three ways, by what the engine is:
read and written together as they come (`continuous.py`), in batches (here), or side by side, as servers do (here).
"""

from __future__ import annotations

import queue
import threading
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import CancelledError
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from doyen.models.constraints import Constraint
from doyen.models.engine import Completion, Engine, LocalEngine, Stream
from doyen.models.ticket import Ticket
from doyen.prompts import Message

_LOOK_S = 0.1
Event = tuple[int, str | Completion | BaseException]
"""A prompt's number with a piece of its answer, the whole of it, or what went wrong."""


class SharedEngine(Protocol):
    """What writes for many threads."""

    @property
    def inner(self) -> Engine:
        """The engine that does the work."""
        ...

    def generate(
        self, prompts: Sequence[Sequence[Message]], ticket: Ticket, *, stream: Stream | None = None, **options: Any
    ) -> list[Completion]:
        """Answer as `Engine.generate` does, unless the ticket is cancelled or over; `stream` is called in this thread."""
        ...

    def open(self, adapter: Path | None = None) -> None:
        """Load what the first question would otherwise wait for."""
        ...

    def close(self) -> None:
        """Take on nothing more; what is at work is given up."""
        ...


class TicketEngine:
    """A shared engine as one question sees it: an `Engine` that ends with the question's ticket."""

    def __init__(self, shared: SharedEngine, ticket: Ticket, stream: Stream | None = None) -> None:
        """Take the ticket, and perhaps what gets every answer as it grows."""
        self._shared, self._ticket, self._stream = shared, ticket, stream
        self.inner = shared.inner
        self.name, self.kind = self.inner.name, self.inner.kind
        self.count_tokens, self.template_hash = self.inner.count_tokens, self.inner.template_hash
        self.next_token_logits, self.text_losses = self.inner.next_token_logits, self.inner.text_losses

    @property
    def context_tokens(self) -> int:
        """The most tokens that a prompt and its answer have together."""
        return self.inner.context_tokens

    def identity(self) -> list[str]:
        """Return what the answers depend on beside prompt and adapter; only of engines of this machine."""
        assert isinstance(self.inner, LocalEngine)
        return self.inner.identity()

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
        """Answer as the engine does. Raises CancelledError and TimeLimitError by the ticket, beside what it raises."""
        options: dict[str, Any] = {
            "max_tokens": max_tokens,
            "adapter": adapter,
            "refusal": refusal,
            "may_refuse": may_refuse,
        }
        options |= {"progress": progress, "constraints": constraints}
        return self._shared.generate(prompts, self._ticket, stream=stream or self._stream, **options)


def awaited(
    events: queue.SimpleQueue[Event],
    count: int,
    ticket: Ticket,
    stream: Stream | None,
    progress: Callable[[int], None] | None,
) -> list[Completion]:
    """Wait for `count` completions. Raises what comes instead of one, and by the ticket."""
    done: dict[int, Completion] = {}
    while len(done) < count:
        try:
            number, found = events.get(timeout=_LOOK_S)
        except queue.Empty:
            ticket.check()
            continue
        if isinstance(found, BaseException):
            raise found
        if isinstance(found, str):
            if stream:
                stream(number, found)
            ticket.check()
            continue
        done[number] = found
        if progress:
            progress(1)
    return [done[i] for i in range(count)]


class SideBySide:
    """A server's engine: it takes several callers at once by itself."""

    def __init__(self, inner: Engine) -> None:
        """Take the engine."""
        self.inner = inner

    def generate(
        self, prompts: Sequence[Sequence[Message]], ticket: Ticket, *, stream: Stream | None = None, **options: Any
    ) -> list[Completion]:
        """Ask the server; the ticket counts whenever a piece of an answer comes."""
        ticket.check()

        def hand_on(number: int, text: str) -> None:
            ticket.check()
            if stream:
                stream(number, text)

        return self.inner.generate(prompts, stream=hand_on, **options)

    def open(self, adapter: Path | None = None) -> None:
        """Ask the server what it is."""
        self.inner.context_tokens  # noqa: B018 - asks it

    def close(self) -> None:
        """Do nothing: each caller's requests end with its ticket."""


@dataclass(slots=True, eq=False)
class _Call:
    prompts: Sequence[Sequence[Message]]
    constraints: Sequence[Constraint | None]
    options: dict[str, Any]
    events: queue.SimpleQueue[Event] = field(default_factory=queue.SimpleQueue)


class InBatches:
    """An engine that answers one batch at a time: callers that wait for the same adapter go together, in their order."""

    def __init__(self, inner: Engine, most_prompts: int = 32) -> None:
        """Start the thread that the engine runs in."""
        self.inner = inner
        self._most = most_prompts
        self._waiting: deque[_Call] = deque()
        self._changed = threading.Condition()
        self._closed = False
        threading.Thread(target=self._serve, daemon=True, name="doyen-engine").start()

    def generate(
        self, prompts: Sequence[Sequence[Message]], ticket: Ticket, *, stream: Stream | None = None, **options: Any
    ) -> list[Completion]:
        """Wait for the turn, and for the answers; one piece each, when its batch is done."""
        if not prompts:
            return []
        ticket.check()
        progress, constraints = options.pop("progress", None), options.pop("constraints", ())
        call = _Call(prompts, constraints or [None] * len(prompts), options)
        with self._changed:
            if self._closed:
                raise CancelledError
            self._waiting.append(call)
            self._changed.notify_all()
        try:
            return awaited(call.events, len(prompts), ticket, stream, progress)
        finally:
            with self._changed:
                if call in self._waiting:
                    self._waiting.remove(call)

    def open(self, adapter: Path | None = None) -> None:
        """Load the weights, by a word."""
        self.generate([[{"role": "user", "content": "Hello"}]], Ticket(), max_tokens=1, adapter=adapter)

    def close(self) -> None:
        """End the thread after the batch at work; who waits gets a CancelledError."""
        with self._changed:
            self._closed = True
            for call in self._waiting:
                call.events.put((0, CancelledError()))
            self._waiting.clear()
            self._changed.notify_all()

    def _serve(self) -> None:
        while (calls := self._next()) is not None:
            self._answer(calls)

    def _next(self) -> list[_Call] | None:
        """Wait for a call; return it with those that can go with it, in their order. None: closed."""
        with self._changed:
            self._changed.wait_for(lambda: self._closed or self._waiting)
            if self._closed:
                return None
            options, count = self._waiting[0].options, 0
            taken: list[_Call] = []
            for call in list(self._waiting):
                if call.options == options and (not taken or count + len(call.prompts) <= self._most):
                    self._waiting.remove(call)
                    taken.append(call)
                    count += len(call.prompts)
            return taken

    def _answer(self, calls: Sequence[_Call]) -> None:
        places = [(call, number) for call in calls for number in range(len(call.prompts))]
        prompts = [call.prompts[number] for call, number in places]
        constraints = [call.constraints[number] for call, number in places]
        try:
            found = self.inner.generate(prompts, constraints=constraints, **calls[0].options)
        except Exception as error:  # the edge of a worker: it is raised again in the callers' threads
            if len(calls) > 1:  # one of them is at fault, perhaps: each by itself
                for call in calls:
                    self._answer([call])
                return
            calls[0].events.put((0, error))
            return
        for (call, number), completion in zip(places, found, strict=True):
            call.events.put((number, completion.text))
            call.events.put((number, completion))


def shared_engine(engine: Engine, *, most_adapters: int = 2) -> SharedEngine:
    """Return an engine as many threads can use it; `most_adapters` stay loaded where they take memory of their own."""
    from doyen.models.continuous import ContinuousEngine
    from doyen.models.openvino_engine import OpenVINOEngine

    if isinstance(engine, OpenVINOEngine):
        return ContinuousEngine(engine, most_adapters=most_adapters)
    return InBatches(engine) if isinstance(engine, LocalEngine) else SideBySide(engine)
