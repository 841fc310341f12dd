"""Searches of many threads: those that come while others are at work wait, and go together.

What a search costs falls when several go together: the embedder's weights, the index's vectors and the pages of its chunks
are read once. Threads that all searched at once would share the processor and meet at none of these. Enters: a retriever,
what is sought. Leaves: hits, the same as of a search alone.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field

from doyen.records import Hit
from doyen.retrieval.hybrid import TOGETHER, Retriever, Sought


@dataclass(frozen=True, eq=False, slots=True)
class _Asked:
    retriever: Retriever
    sought: Sought
    hits: Future[list[Hit]] = field(default_factory=Future)


class SearchQueue:
    """Searches with `threads` threads of its own; each takes what waits, up to TOGETHER."""

    def __init__(self, threads: int) -> None:
        self._threads = threads
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="doyen-searches")
        self._lock = threading.Lock()
        self._waiting: list[_Asked] = []
        self._at_work = 0

    def search(self, retriever: Retriever, sought: Sought) -> list[Hit]:
        """Return the hits of one search. Raises what it raises, RuntimeError once the queue is closed."""
        asked = _Asked(retriever, sought)
        with self._lock:
            self._waiting.append(asked)
            idle = self._at_work < self._threads
            self._at_work += idle
        if idle:
            self._pool.submit(self._work)
        return asked.hits.result()

    def close(self) -> None:
        """Take no more searches; those that were taken on are done."""
        self._pool.shutdown(wait=False)

    def _work(self) -> None:
        while taken := self._taken():
            try:
                _answer(taken)
            except Exception:  # the edge of a thread: what fails of many is searched for alone, so that it fails alone
                for asked in taken:
                    _alone(asked)

    def _taken(self) -> list[_Asked]:
        """Take what waits for the retriever of the first that does; where nothing waits the thread is free."""
        with self._lock:
            same = [asked for asked in self._waiting if asked.retriever is self._waiting[0].retriever][:TOGETHER]
            self._waiting = [asked for asked in self._waiting if asked not in same]
            self._at_work -= not same
        return same


def _answer(taken: Sequence[_Asked]) -> None:
    found = taken[0].retriever.search_each([asked.sought for asked in taken])
    for asked, hits in zip(taken, found, strict=True):
        asked.hits.set_result(hits)


def _alone(asked: _Asked) -> None:
    if asked.hits.done():
        return
    try:
        _answer([asked])
    except Exception as error:  # whoever waits for it raises it
        asked.hits.set_exception(error)
