"""A caller's hold on its work: until when it may take, and whether it is still wanted. Knows no work."""

from __future__ import annotations

import threading
import time
from concurrent.futures import CancelledError

from doyen.errors import TimeLimitError


class Ticket:
    """Handed along with a question; whoever works on it asks `check` now and then."""

    def __init__(self, limit_s: float | None = None) -> None:
        """Take the seconds that the work may last from now on; None: as long as it takes."""
        self.limit_s = limit_s
        self._ends = None if limit_s is None else time.monotonic() + limit_s
        self._cancelled = threading.Event()

    def cancel(self) -> None:
        """Say that nobody waits for the work any more."""
        self._cancelled.set()

    @property
    def left_s(self) -> float:
        """The seconds left, infinity without a limit; 0 once it is over."""
        return float("inf") if self._ends is None else max(0.0, self._ends - time.monotonic())

    def check(self) -> None:
        """Return if the work is to go on.

        Raises:
            CancelledError: nobody waits for it.
            TimeLimitError: its time is over.
        """
        if self._cancelled.is_set():
            raise CancelledError
        if self.left_s == 0:
            raise TimeLimitError(
                f"the answer was not finished within {self.limit_s:g} s", hint="ask again, or raise the time limit"
            )
