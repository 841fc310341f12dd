"""Which view of an index a question is answered from, where finished states are published one after another. Knows no index."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Generic, TypeVar

T = TypeVar("T")

FOLLOW_S = 5.0
"""How long a reader of a bucket answers from one state before it looks for a newer one."""
WAIT_S = 2.0
"""How long a question waits for a newer state to be fetched: it is answered from the one before then."""


class Follower(Generic[T]):
    """The newest view that was opened; a newer one is looked for every FOLLOW_S, beside the questions."""

    def __init__(self, first: T, look: Callable[[T], T | None]) -> None:
        """Take `look`, which opens a newer view than the one given; None where there is none, or it cannot be opened."""
        self._view, self._look = first, look
        self._lock = threading.Lock()
        self._looked = time.monotonic()
        self._looking: threading.Thread | None = None

    def view(self) -> T:
        """Return the newest view, after waiting for one that is just opened for WAIT_S at most."""
        looking = None
        with self._lock:
            idle = self._looking is None or not self._looking.is_alive()
            if idle and time.monotonic() - self._looked >= FOLLOW_S:
                self._looked = time.monotonic()
                looking = self._looking = threading.Thread(target=self._go_on, name="doyen-follow", daemon=True)
                looking.start()
        if looking is not None:
            looking.join(WAIT_S)
        return self._view

    def _go_on(self) -> None:
        newer = self._look(self._view)
        if newer is not None:
            self._view = newer
