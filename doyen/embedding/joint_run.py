"""A few short texts of many threads through one network: those that come while it is at work go together in its next run.

A run reads all weights, for one question as for eight. Enters: token sequences. Leaves: one row each, the same as alone but
for the rounding of a batch. Knows no network.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

MOST_TOGETHER = 16

Rows = NDArray[np.float32]


@dataclass(eq=False, slots=True)
class _Asked:
    texts: Sequence[Any]
    rows: Rows | None = None


class JointRun:
    """Runs one network from any number of threads, one after the other."""

    def __init__(self, work: Callable[[Sequence[Any]], Rows]) -> None:
        """Take what makes one row of each text `(n, size)`, in their order; it is never called by two threads at once."""
        self._work = work
        self._waiting: list[_Asked] = []
        self._lock = threading.Lock()
        self._turn = threading.Lock()

    def __call__(self, texts: Sequence[Any]) -> Rows:
        """Return one row a text `(n, size)`."""
        asked = _Asked(texts)
        with self._lock:
            self._waiting.append(asked)
        with self._turn:
            if asked.rows is None:  # nobody ran it while it waited
                self._run(asked)
        assert asked.rows is not None
        return asked.rows

    def _run(self, own: _Asked) -> None:
        taken = self._taken(own)
        texts = [text for asked in taken for text in asked.texts]
        rows = self._work(texts)  # where it fails, each of the others finds no rows in its turn, and runs for itself
        start = 0
        for asked in taken:
            asked.rows = rows[start : start + len(asked.texts)]
            start += len(asked.texts)

    def _taken(self, own: _Asked) -> list[_Asked]:
        """Take what waits, as far as it goes together with one's own."""
        with self._lock:
            taken, count = [own], len(own.texts)
            for asked in self._waiting:
                if asked is not own and count + len(asked.texts) <= MOST_TOGETHER:
                    taken.append(asked)
                    count += len(asked.texts)
            self._waiting = [asked for asked in self._waiting if asked not in taken]
        return taken
