"""JSON over HTTP to a model behind an API: tried again with growing pauses, paced, and clear when it is given up.

Knows no embeddings and no rerankers: what reads an answer is passed in. Keys come from the environment only and stand in
no error.
"""

from __future__ import annotations

import contextlib
import email.utils
import json
import os
import random
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar
from urllib.parse import urlsplit

from doyen.errors import ConfigError, EndpointError

T = TypeVar("T")
TIMEOUT_S = 60.0
ATTEMPTS = 6
FIRST_PAUSE_S = 0.5
LONGEST_PAUSE_S = 60.0
_AGAIN = frozenset({408, 409, 425, 429, 500, 502, 503, 504, 529})
_STEP_S = 0.2
_REFUSED = {
    400: "shorter texts or another model may do: check [embedder] or [rerank] in doyen.toml",
    401: "check the key in the environment variable {variable}",
    403: "check the key in the environment variable {variable}, and that it may use this model",
    404: "check the model's name, and `endpoint`: it ends where /embeddings or /rerank begins, mostly with /v1",
}


class BadAnswerError(Exception):
    """Raised by what reads an answer: it is no result, but another try may bring one."""


@dataclass(frozen=True, slots=True)
class Vendor:
    """Where a vendor's API is, and which environment variable holds its key."""

    url: str
    key_variable: str


VENDORS = {
    "openai": Vendor("https://api.openai.com/v1", "OPENAI_API_KEY"),
    "jina": Vendor("https://api.jina.ai/v1", "JINA_API_KEY"),
    "cohere": Vendor("https://api.cohere.com/v2", "COHERE_API_KEY"),
}


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


class Endpoint:
    """One API. Several threads may use it at once."""

    def __init__(
        self,
        vendor: str,
        *,
        url: str = "",
        key_variable: str = "",
        pace: Pace | None = None,
        attempts: int = ATTEMPTS,
        first_pause_s: float = FIRST_PAUSE_S,
        timeout_s: float = TIMEOUT_S,
    ) -> None:
        """Take `url` and `key_variable`, or the vendor's own. To another URL than the vendor's, a key goes only if named.

        Raises: EndpointError where the key that is needed is not in the environment; ConfigError for a wrong URL.
        """
        import httpx

        self.url = (url or VENDORS[vendor].url).rstrip("/")
        parts = urlsplit(self.url)
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.username or parts.query:
            raise ConfigError(
                f"endpoint = {_without_secret(self.url)!r}: expected https://HOST/PATH, without a name or password",
                hint="put the key into an environment variable and name that in key_variable",
            )
        self.host = parts.netloc
        self.variable = key_variable or ("" if url else VENDORS[vendor].key_variable)
        self._key = os.environ.get(self.variable, "").strip() if self.variable else ""
        if self.variable and not self._key:
            raise EndpointError(
                f"{self.host} needs a key, and the environment variable {self.variable} is not set",
                hint=f"export {self.variable}=…",
            )
        self._pace = pace or Pace()
        self._attempts, self._first_pause_s = attempts, first_pause_s
        headers = {"User-Agent": "doyen"} | ({"Authorization": f"Bearer {self._key}"} if self._key else {})
        try:
            self._client = httpx.Client(headers=headers, timeout=timeout_s, follow_redirects=False)
        except UnicodeEncodeError:
            raise EndpointError(
                f"the environment variable {self.variable} holds what no key can hold", hint="paste the key again"
            ) from None

        weakref.finalize(self, self._client.close)  # who holds an embedder does not know that it has connections

    def post(
        self,
        path: str,
        body: dict[str, Any],
        read: Callable[[Any], T],
        *,
        tokens: int = 0,
        alive: Callable[[], None] | None = None,
    ) -> T:
        """Send `body` to `path` and return what `read` makes of the answer.

        Tries again after a time-out, a broken connection, 408, 429, 5xx, what is not JSON, and BadAnswerError: after what
        Retry-After says, else after pauses that double, with jitter. `tokens` count for the pace. `alive` is called
        while waiting; what it raises ends the waiting.

        Raises: EndpointError when it is refused, or given up.
        """
        for attempt in range(self._attempts):
            self._wait(self._pace.book(tokens), alive)
            problem, asked_s, result = self._try(path, body, read)
            if result:
                return result[0]
            if attempt < self._attempts - 1:
                pause = min(LONGEST_PAUSE_S, self._first_pause_s * 2**attempt) * random.uniform(0.5, 1.5)
                self._wait(pause if asked_s is None else asked_s, alive)
        raise EndpointError(
            f"{self.host} was given up after {self._attempts} tries: {problem}",
            hint="try again later: what was done is kept; for 429, lower [embedder] requests_per_minute",
        )

    def _try(self, path: str, body: dict[str, Any], read: Callable[[Any], T]) -> tuple[str, float | None, list[T]]:
        """Return (what went wrong, seconds that the server asks to wait, [] or [result])."""
        import httpx

        try:
            answer = self._client.post(f"{self.url}/{path}", json=body)
        except httpx.TimeoutException:
            return f"no answer within {self._client.timeout.read:.0f} s", None, []
        except httpx.HTTPError as error:
            return f"no connection ({self._clean(str(error) or type(error).__name__)})", None, []
        words = self._clean(_message(answer.text))
        if answer.status_code in _AGAIN and "insufficient_quota" not in answer.text:
            return f"it answers {answer.status_code}: {words}", _retry_after(answer.headers.get("Retry-After")), []
        if answer.status_code != 200:
            raise self._refused(answer.status_code, words)
        try:
            return "", None, [read(json.loads(answer.content))]
        except (ValueError, BadAnswerError) as error:
            what = str(error) if isinstance(error, BadAnswerError) else "what is not JSON"
            return f"it answers {self._clean(what)}", None, []

    def _refused(self, status: int, words: str) -> EndpointError:
        hint = _REFUSED.get(status, "see the vendor's documentation").format(variable=self.variable or "(none named)")
        if status == 429:
            hint = "the account's quota is spent: see the vendor's billing page"
        return EndpointError(f"{self.host} refuses: {status}: {words}", hint=hint)

    def _clean(self, text: str) -> str:
        text = " ".join(text.split())
        return (text.replace(self._key, "…") if self._key else text)[:300]

    def _wait(self, seconds: float, alive: Callable[[], None] | None) -> None:
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            if alive is not None:
                alive()
            time.sleep(min(left, _STEP_S))


def _without_secret(url: str) -> str:
    with contextlib.suppress(ValueError):
        parts = urlsplit(url)
        return parts._replace(netloc=parts.netloc.rpartition("@")[2], query="").geturl()
    return "…"


def _message(text: str) -> str:
    """Return an error answer's own words."""
    try:
        content = json.loads(text)
    except ValueError:
        return text[:300]
    found = content.get("error", content) if isinstance(content, dict) else content
    if isinstance(found, dict):
        found = found.get("message") or found.get("detail") or found
    return str(found)[:300]


def _retry_after(value: str | None) -> float | None:
    """Return the seconds of a Retry-After header (RFC 9110: a number or a date), at most LONGEST_PAUSE_S."""
    if not value:
        return None
    with contextlib.suppress(ValueError):
        return min(max(float(value), 0.0), LONGEST_PAUSE_S)
    with contextlib.suppress(ValueError, TypeError):
        moment = email.utils.parsedate_to_datetime(value).timestamp()
        return min(max(moment - time.time(), 0.0), LONGEST_PAUSE_S)
    return None
