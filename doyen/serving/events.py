"""Answers as server-sent events (WHATWG HTML, 9.2): written as they come, ended with the client, never longer than allowed.

The model's side never waits for a slow reader: what is written is kept until it is read, or the time is over.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable
from typing import Any

from fastapi import Response
from starlette.types import Receive, Scope, Send

from doyen.models.ticket import Ticket
from doyen.serving.admission import Admission, Begun
from doyen.serving.desk import Answered
from doyen.serving.faults import describe
from doyen.serving.metrics import Metrics

_ALIVE_S = 15.0
_GRACE_S = 5.0


def event(data: Any, name: str = "") -> bytes:
    """Return one event; `data` is written as JSON, a text as it is."""
    text = data if isinstance(data, str) else json.dumps(data, ensure_ascii=False)
    return (f"event: {name}\n" if name else "").encode() + f"data: {text}\n\n".encode()


class Growing:
    """An answer at work: its pieces, then what it came to. The queue has begun it, so a BusyError came before."""

    def __init__(
        self, queue: Admission, metrics: Metrics, work: Callable[[Ticket, Callable[[str], None]], Answered]
    ) -> None:
        self._pieces: asyncio.Queue[str | None] = asyncio.Queue()
        self._began, self._metrics = time.perf_counter(), metrics
        loop = asyncio.get_running_loop()

        def put(piece: str | None) -> None:
            loop.call_soon_threadsafe(self._pieces.put_nowait, piece)

        self.begun: Begun[Answered] = queue.begin(lambda ticket: work(ticket, put))
        self.begun.result.add_done_callback(lambda _: self._pieces.put_nowait(None))

    async def pieces(self) -> AsyncIterator[str]:
        """Yield pieces of text; "" when there was none for a while."""
        first = True
        while True:
            try:
                piece = await asyncio.wait_for(self._pieces.get(), _ALIVE_S)
            except TimeoutError:
                yield ""
                continue
            if piece is None:
                return
            if first:
                self._metrics.first.observe(time.perf_counter() - self._began)
                first = False
            yield piece

    def result(self) -> Answered:
        """Return the answer, once the pieces have ended. Raises what went wrong."""
        return self.begun.outcome()


class EventStream(Response):
    """A response of events; `body` yields them. Ends when the client leaves or does not read within the ticket's time."""

    def __init__(self, body: AsyncIterator[bytes], ticket: Ticket) -> None:
        super().__init__(media_type="text/event-stream")
        self._body, self._ticket = body, ticket

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the events."""
        headers = [(b"content-type", b"text/event-stream; charset=utf-8"), (b"x-accel-buffering", b"no")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        writing = asyncio.create_task(self._write(send))
        watching = asyncio.create_task(gone(receive))
        try:
            limit = min(self._ticket.left_s, 1e6) + _GRACE_S
            await asyncio.wait({writing, watching}, timeout=limit, return_when=asyncio.FIRST_COMPLETED)
            if writing.done():
                writing.result()
        finally:
            self._ticket.cancel()
            for task in (writing, watching):
                task.cancel()
            await asyncio.gather(writing, watching, return_exceptions=True)

    async def _write(self, send: Send) -> None:
        async for piece in self._body:
            await send({"type": "http.response.body", "body": piece, "more_body": True})
        await send({"type": "http.response.body", "body": b"", "more_body": False})


async def gone(receive: Receive) -> None:
    """Return when the client has left. Its body must have been read."""
    while (await receive())["type"] != "http.disconnect":
        pass


def fault_event(error: BaseException, name: str = "") -> bytes:
    """Return the event that tells of an error in an answer that has begun."""
    return event(describe(error)[1], name)
