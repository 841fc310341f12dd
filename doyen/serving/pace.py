"""How many requests a key may send in a minute: a bucket for each that fills evenly and holds a tenth of a minute's, or ten."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable

from doyen.errors import BusyError


class Pace:
    """Counts the requests of each key; `a_minute` 0: no limit."""

    def __init__(self, a_minute: int, *, now: Callable[[], float] = time.monotonic) -> None:
        self._rate, self._most, self._now = a_minute / 60, max(10.0, a_minute / 10), now
        self._left: dict[str, tuple[float, float]] = {}
        self._lock = threading.Lock()

    def take(self, key: str) -> None:
        """Count a request of a key. Raises BusyError, saying when to come again, where there were too many."""
        if not self._rate:
            return
        with self._lock:
            moment = self._now()
            left, before = self._left.get(key, (self._most, moment))
            left = min(self._most, left + (moment - before) * self._rate)
            self._left[key] = (left - 1 if left >= 1 else left), moment
        if left < 1:
            raise BusyError("too many requests with this key", retry_after_s=math.ceil((1 - left) / self._rate))
