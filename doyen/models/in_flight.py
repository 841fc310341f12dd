"""Several requests at once: numbers of work → results as they are done, with pieces of text on the way.

Knows no requests. The threads are daemons: one that waits for a server that says nothing holds up neither Ctrl-C nor the exit.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError
from typing import Generic, TypeVar

T = TypeVar("T")
_WAIT_S = 0.5
Work = Callable[[int, Callable[[str], None], Callable[[], None]], T]
"""Called with a number, what hands on a piece of text, and what raises CancelledError once the work is to end."""


class _Workers(Generic[T]):
    """Threads that take numbers and put (number, piece of text, [result], error)."""

    def __init__(self, work: Work[T], count: int) -> None:
        self._work, self._numbers = work, iter(range(count))
        self._lock = threading.Lock()
        self.ended = threading.Event()
        self.found: queue.Queue[tuple[int, str, list[T], BaseException | None]] = queue.Queue()

    def alive(self) -> None:
        if self.ended.is_set():
            raise CancelledError

    def serve(self) -> None:
        while not self.ended.is_set():
            with self._lock:
                number = next(self._numbers, None)
            if number is None or not self._do(number):
                return

    def _do(self, number: int) -> bool:
        """Do one piece of work; tell whether there is to be another."""
        try:
            result = self._work(number, lambda text: self.found.put((number, text, [], None)), self.alive)
        except CancelledError:
            return False
        except BaseException as error:  # the edge of a worker: it is raised again in the caller's thread
            self.found.put((number, "", [], error))
            return False
        self.found.put((number, "", [result], None))
        return True


def run_in_flight(work: Work[T], count: int, most: int, piece: Callable[[int, str], None]) -> Iterator[tuple[int, T]]:
    """Do the work of the numbers below `count`, `most` at a time; yield each number with its result, in order of completion.

    `piece` is called in the caller's thread. What a piece of work raises is raised here, and ends the others; leaving
    the iteration does too.
    """
    workers = _Workers(work, count)
    for i in range(min(most, count)):
        threading.Thread(target=workers.serve, daemon=True, name=f"requests-{i}").start()
    left = count
    try:
        while left:
            try:
                number, text, result, error = workers.found.get(timeout=_WAIT_S)
            except queue.Empty:
                continue
            if error is not None:
                raise error
            if text:
                piece(number, text)
            for one in result:
                left -= 1
                yield number, one
    finally:
        workers.ended.set()
