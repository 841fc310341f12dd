"""One request to one host: polite, bounded in time and size, never redirected by itself. Knows no links and no items."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

from doyen.errors import DocumentError

if TYPE_CHECKING:
    import httpx

MAX_RETRY_AFTER_S = 30.0
_OVERLOADED = frozenset({429, 502, 503, 504})
_SLOW_AFTER = 10
"""A page that takes this many time-outs altogether is given up: some servers drip for ever."""


class FetchError(DocumentError):
    """A page that cannot be had now; it may be there at the next try."""


@dataclass(frozen=True, slots=True)
class Response:
    """What a server sent; `data` is empty where the status is not 200 or `wanted` refused the headers."""

    url: str
    status: int
    headers: Mapping[str, str]
    data: bytes = b""
    refused: bool = False


class Fetcher:
    """Sends GET requests, one after another with `delay_s` between them. Credentials go to the named host only."""

    def __init__(
        self, url: str, *, agent: str, timeout_s: float, delay_s: float, max_bytes: int, sleep: Callable[[float], None]
    ) -> None:
        parts = urlsplit(url)
        self.delay_s = delay_s
        self._login = (unquote(parts.username), unquote(parts.password or "")) if parts.username else None
        self._agent = agent
        self._timeout_s = timeout_s
        self._max_bytes = max_bytes
        self._sleep = sleep
        self._last = 0.0
        self._client: httpx.Client | None = None

    def get(
        self,
        url: str,
        *,
        headers: Mapping[str, str] | None = None,
        wanted: Callable[[Mapping[str, str]], bool] = lambda _: True,
    ) -> Response:
        """Return the response; `wanted` sees the headers of a 200 before its body is fetched. Tries twice.

        Raises:
            FetchError: no connection, too slow, too large, or a server that stays overloaded.
        """
        import httpx

        problem = ""
        for attempt in range(2):
            self._wait()
            try:
                with self._connected().stream("GET", url, headers=dict(headers or {})) as answer:
                    if answer.status_code not in _OVERLOADED:
                        return self._read(url, answer, wanted)
                    problem = f"the server answers {answer.status_code}"
                    pause_s = _retry_after(answer.headers.get("Retry-After", ""))
            except (httpx.HTTPError, httpx.InvalidURL, httpx.StreamError) as error:
                problem, pause_s = " ".join(str(error).split())[:200] or type(error).__name__, 1.0
            if attempt == 0:
                self._sleep(pause_s)
        raise FetchError(f"{url} cannot be fetched ({problem})")

    def close(self) -> None:
        """Close the connections; a later `get` opens new ones."""
        client, self._client = self._client, None
        if client is not None:
            client.close()

    def _connected(self) -> httpx.Client:
        import httpx

        if self._client is None:
            self._client = httpx.Client(
                headers={"User-Agent": self._agent, "Accept": "text/html,application/xhtml+xml,*/*;q=0.8"},
                timeout=self._timeout_s,
                follow_redirects=False,
                auth=httpx.BasicAuth(*self._login) if self._login else None,
                trust_env=True,
            )
        return self._client

    def _read(self, url: str, answer: httpx.Response, wanted: Callable[[Mapping[str, str]], bool]) -> Response:
        headers = dict(answer.headers)
        if answer.status_code != 200:
            return Response(url, answer.status_code, headers)
        if not wanted(headers):
            return Response(url, 200, headers, refused=True)
        data = bytearray()
        deadline = time.monotonic() + _SLOW_AFTER * self._timeout_s
        for piece in answer.iter_bytes(65536):
            data += piece
            if len(data) > self._max_bytes:
                raise FetchError(f"{url} has more than the {self._max_bytes} bytes allowed (max_bytes)")
            if time.monotonic() > deadline:
                raise FetchError(f"{url} took more than {_SLOW_AFTER * self._timeout_s:.0f} s")
        return Response(url, 200, headers, bytes(data))

    def _wait(self) -> None:
        left = self._last + self.delay_s - time.monotonic()
        if left > 0:
            self._sleep(left)
        self._last = time.monotonic()


def _retry_after(value: str) -> float:
    return min(float(value), MAX_RETRY_AFTER_S) if value.isdecimal() else 5.0
