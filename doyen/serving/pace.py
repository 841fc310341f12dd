"""How many requests a key, or an address, may send in a minute: a bucket for each that fills evenly.

It holds a tenth of a minute's requests, or ten. Buckets that are full again are forgotten.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable

from doyen.errors import BusyError

_MOST_BUCKETS = 4096


class Pace:
    """Counts the requests of each key; `a_minute` 0: no limit."""

    def __init__(
        self,
        a_minute: int,
        *,
        at_once: float = 0,
        now: Callable[[], float] = time.monotonic,
        what: str = "requests with this key",
    ) -> None:
        """Take the limit, and how many may come at once (at least 10; 0: a tenth); `what` is named where there were too many."""
        self._what = what
        self._rate, self._most, self._now = a_minute / 60, max(10.0, at_once or a_minute / 10), now
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
            if len(self._left) >= _MOST_BUCKETS:
                self._forget(moment)
            self._left[key] = (left - 1 if left >= 1 else left), moment
        if left < 1:
            raise BusyError(f"too many {self._what}", retry_after_s=math.ceil((1 - left) / self._rate))

    def _forget(self, moment: float) -> None:
        """Drop the buckets that are full again; all but the newest where that is none of them."""
        kept = {k: (n, t) for k, (n, t) in self._left.items() if n + (moment - t) * self._rate < self._most}
        self._left = kept if len(kept) < _MOST_BUCKETS else dict(list(kept.items())[_MOST_BUCKETS // 2 :])


class Strangers:
    """The pace of requests that are refused because nobody knows who sends them: of each address, and of all together."""

    def __init__(
        self, an_address: int = 60, all_together: int = 600, *, now: Callable[[], float] = time.monotonic
    ) -> None:
        """Take how many a minute are answered by what is wrong with them; more are told to come later."""
        what = "requests without a key of this expert"
        # a page that is opened with an old key asks for several things before it hears of it
        self._each = Pace(an_address, at_once=an_address / 2, now=now, what=what)
        self._all = Pace(all_together, now=now, what=what)

    def take(self, address: str) -> None:
        """Count a refused request. Raises BusyError where there were too many."""
        self._each.take(address)
        self._all.take("")
