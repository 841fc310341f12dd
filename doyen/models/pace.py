"""Requests and tokens a minute → how long to wait before the next request."""

from __future__ import annotations

import threading
import time
from collections import deque


class Pace:
    """Holds requests back so that no minute has more than so many of them, or of their tokens; 0: no limit."""

    def __init__(self, requests: int = 0, tokens: int = 0, *, minute_s: float = 60.0) -> None:
        self._most = (requests, tokens)
        self._minute_s = minute_s
        self._sent: deque[tuple[float, int]] = deque()
        self._lock = threading.Lock()

    def book(self, tokens: int) -> float:
        """Take a place for a request; return how many seconds to wait before it. A larger one than a minute has goes alone."""
        requests, most_tokens = self._most
        with self._lock:
            now = time.monotonic()
            start = max(now, self._sent[-1][0] if self._sent else now)
            while True:
                window = [(at, n) for at, n in self._sent if at > start - self._minute_s]
                full = requests and len(window) >= requests
                heavy = most_tokens and window and sum(n for _, n in window) + tokens > most_tokens
                if not full and not heavy:
                    break
                start = window[0][0] + self._minute_s
            while self._sent and self._sent[0][0] <= now - self._minute_s:
                self._sent.popleft()
            self._sent.append((start, tokens))
            return start - now
