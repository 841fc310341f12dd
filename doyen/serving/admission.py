"""How many questions a server takes at once: a bounded queue before a few threads, each question with a ticket.

Enters: work to be done in a thread. Leaves: its result, or at once a BusyError that says when to come again. A place is
free again when the work has ended, not when its client has left.
"""

from __future__ import annotations

import asyncio
import contextvars
import math
import threading
import time
from collections.abc import Callable, Coroutine
from concurrent.futures import CancelledError, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from doyen.errors import BusyError
from doyen.models.ticket import Ticket

T = TypeVar("T")
_SMOOTHING = 0.1
_LONGEST_RETRY_S = 60


@dataclass(slots=True)
class Begun(Generic[T]):
    """Work that was taken on: its ticket, and what it will come to."""

    ticket: Ticket
    result: asyncio.Future[T]

    def outcome(self) -> T:
        """Return what it came to, once it is there. Raises what the work raised, CancelledError where it was given up."""
        try:
            return self.result.result()
        except asyncio.CancelledError:  # asyncio's is no `Exception`: it would end who asks, without a word
            raise CancelledError from None


class Admission:
    """At most `most` pieces of work at a time, `threads` of them at work, each for at most `limit_s` seconds."""

    def __init__(self, most: int, threads: int, limit_s: float, name: str) -> None:
        self.most, self.limit_s = most, limit_s
        self._threads = min(threads, most)
        self._pool = ThreadPoolExecutor(self._threads, thread_name_prefix=name)
        self._lock = threading.Lock()
        self._tickets: set[Ticket] = set()
        self._seconds = 1.0
        self.refused = 0

    @property
    def count(self) -> int:
        """How many pieces of work wait or are done now."""
        return len(self._tickets)

    def begin(self, work: Callable[[Ticket], T]) -> Begun[T]:
        """Take work on. Raises BusyError where there are as many as may be."""
        ticket = Ticket(self.limit_s)
        with self._lock:
            if len(self._tickets) >= self.most:
                self.refused += 1
                raise BusyError(
                    f"{self.most} requests are being answered or wait already", retry_after_s=self._retry_after_s()
                )
            self._tickets.add(ticket)
        context = contextvars.copy_context()
        future = self._pool.submit(context.run, self._work, work, ticket)
        future.add_done_callback(lambda _: self._leave(ticket))
        result: asyncio.Future[T] = asyncio.wrap_future(future)
        result.add_done_callback(_note)
        return Begun(ticket, result)

    def _work(self, work: Callable[[Ticket], T], ticket: Ticket) -> T:
        ticket.check()  # its client may have left while it waited
        started = time.monotonic()
        try:
            return work(ticket)
        finally:
            took = time.monotonic() - started
            self._seconds += _SMOOTHING * (took - self._seconds)

    def _leave(self, ticket: Ticket) -> None:
        with self._lock:
            self._tickets.discard(ticket)

    def _retry_after_s(self) -> int:
        """Return when a place should be free: the time of a piece of work, as far as the threads share it."""
        return max(1, min(_LONGEST_RETRY_S, math.ceil(self._seconds / self._threads)))

    async def run(self, work: Callable[[Ticket], T], gone: Callable[[], Coroutine[Any, Any, None]]) -> T | None:
        """Do work and return its result; None if its client leaves (`gone` returns), then the work is given up."""
        begun = self.begin(work)
        left = asyncio.create_task(gone())
        waited: set[asyncio.Future[Any]] = {begun.result, left}
        try:
            await asyncio.wait(waited, return_when=asyncio.FIRST_COMPLETED)
            return begun.outcome() if begun.result.done() else None
        finally:
            begun.ticket.cancel()
            left.cancel()
            begun.result.cancel()

    async def empty(self, within_s: float) -> bool:
        """Wait until nothing is at work any more; False where that takes longer. Nothing new may be begun."""
        ends = time.monotonic() + within_s
        while self.count and time.monotonic() < ends:
            await asyncio.sleep(0.05)
        return not self.count

    def close(self) -> None:
        """Give up what waits and what is at work."""
        with self._lock:
            for ticket in self._tickets:
                ticket.cancel()
        self._pool.shutdown(wait=False, cancel_futures=True)


def _note(result: asyncio.Future[T]) -> None:
    """Have asyncio complain of no error that nobody asks for: its client has left."""
    if not result.cancelled():
        result.exception()
