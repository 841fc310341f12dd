"""Several requests at once: numbers of work → results as they are done, with pieces of text on the way.

Knows no requests. The threads are daemons: one that waits for a server that says nothing holds up neither Ctrl-C nor the exit.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError
from typing import TypeVar

T = TypeVar("T")
_WAIT_S = 0.5
Work = Callable[[int, Callable[[str], None], Callable[[], None]], T]
"""Called with a number, what hands on a piece of text, and what raises CancelledError once the work is to end."""


def run_in_flight(work: Work[T], count: int, most: int, piece: Callable[[int, str], None]) -> Iterator[tuple[int, T]]:
    """Do the work of the numbers below `count`, `most` at a time; yield each number with its result, in order of completion.

    `piece` is called in the caller's thread. What a piece of work raises is raised here, and ends the others; leaving
    the iteration does too.
    """
    found: queue.Queue[tuple[int, str | None, T | None, BaseException | None]] = queue.Queue()
    ended, lock, numbers = threading.Event(), threading.Lock(), iter(range(count))

    def alive() -> None:
        if ended.is_set():
            raise CancelledError

    def serve() -> None:
        while not ended.is_set():
            with lock:
                number = next(numbers, None)
            if number is None:
                return
            one = number
            try:
                found.put((one, None, work(one, lambda text: found.put((one, text, None, None)), alive), None))
            except CancelledError:
                return
            except BaseException as error:  # the edge of a worker: it is raised again in the caller's thread
                found.put((one, None, None, error))
                return

    for i in range(min(most, count)):
        threading.Thread(target=serve, daemon=True, name=f"requests-{i}").start()
    left = count
    try:
        while left:
            try:
                number, text, result, error = found.get(timeout=_WAIT_S)
            except queue.Empty:
                continue
            if error is not None:
                raise error
            if text is not None:
                piece(number, text)
                continue
            left -= 1
            yield number, result  # type: ignore[misc]
    finally:
        ended.set()
