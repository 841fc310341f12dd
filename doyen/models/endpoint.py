"""JSON over HTTP to a model behind an API: tried again with growing pauses, paced, and clear when it is given up.

Knows no embeddings, no rerankers and no chats: what reads an answer is passed in. Keys come from the environment only and
stand in no error.
"""

from __future__ import annotations

import contextlib
import email.utils
import ipaddress
import json
import os
import random
import re
import time
import weakref
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, TypeVar
from urllib.parse import parse_qsl, quote, urlsplit

from doyen.errors import ConfigError, EndpointError
from doyen.models.pace import Pace

T = TypeVar("T")
TIMEOUT_S = 60.0
CONNECT_S = 10.0
ATTEMPTS = 6
FIRST_PAUSE_S = 0.5
LONGEST_PAUSE_S = 60.0
AZURE_VERSION = "2024-10-21"
_AGAIN = frozenset({408, 409, 425, 429, 500, 502, 503, 504, 529})
_STEP_S = 0.2
_REFUSED = {
    400: "shorter texts or another model may do: check [{table}] in doyen.toml",
    401: "check the key in the environment variable {variable}",
    403: "check the key in the environment variable {variable}, and that it may use this model",
    404: "check the model's name, and `endpoint`: it ends where /embeddings, /rerank or /chat/completions begins, mostly "
    "with /v1",
}


class BadAnswerError(Exception):
    """Raised by what reads an answer: it is no result, but another try may bring one."""


@dataclass(frozen=True, slots=True)
class Vendor:
    """Where a vendor's API is, which environment variable holds its key, and in which header that goes.

    `url` is empty where each customer has an own one; its host then ends with one of `domains`.
    """

    url: str
    key_variable: str
    key_header: str = "Authorization"
    domains: tuple[str, ...] = ()


VENDORS = {
    "openai": Vendor("https://api.openai.com/v1", "OPENAI_API_KEY"),
    "azure": Vendor(
        "",
        "AZURE_OPENAI_API_KEY",
        "api-key",
        (".openai.azure.com", ".cognitiveservices.azure.com", ".services.ai.azure.com"),
    ),
    "jina": Vendor("https://api.jina.ai/v1", "JINA_API_KEY"),
    "cohere": Vendor("https://api.cohere.com/v2", "COHERE_API_KEY"),
}
Lines = Callable[[str, Iterator[str]], T]
"""Reads an answer that comes line by line: from its content type and its lines."""


class Endpoint:
    """One API. Several threads may use it at once."""

    def __init__(
        self,
        vendor: str,
        *,
        url: str = "",
        key_variable: str = "",
        deployment: str = "",
        table: str = "embedder",
        pace: Pace | None = None,
        attempts: int = ATTEMPTS,
        first_pause_s: float = FIRST_PAUSE_S,
        timeout_s: float = TIMEOUT_S,
    ) -> None:
        """Take `url` and `key_variable`, or the vendor's own. To another URL than the vendor's, a key goes only if named.

        `deployment` is Azure's name for the model, which stands in the URL there. `table` is the table of `doyen.toml` that
        errors name. `timeout_s` is how long no byte may come.

        Raises: EndpointError where the key that is needed is not in the environment; ConfigError for a wrong URL.
        """
        import httpx

        known = VENDORS[vendor]
        self.vendor, self._table = vendor, table
        self.url, self._query = _checked_url(url or known.url, vendor)
        parts = urlsplit(self.url)
        self.host = parts.netloc
        self.is_vendors = not url or vendor == "azure"
        """Whether it is a vendor's own, which tells nothing of itself."""
        self.is_local = is_loopback(self.url)
        """Whether it is on this machine."""
        if vendor == "azure" and not parts.path.endswith("/v1"):
            self.url = f"{self.url.removesuffix('/openai')}/openai/deployments/{quote(deployment, safe='')}"
        own = not url or (parts.scheme == "https" and (parts.hostname or "").endswith(known.domains or ("\0",)))
        self.variable = key_variable or (known.key_variable if own else "")
        self._key = os.environ.get(self.variable, "").strip() if self.variable else ""
        if self.variable and not self._key:
            raise EndpointError(
                f"{self.host} needs a key, and the environment variable {self.variable} is not set",
                hint=f"export {self.variable}=…",
            )
        self._pace = pace or Pace()
        self._attempts, self._first_pause_s = attempts, first_pause_s
        value = f"Bearer {self._key}" if known.key_header == "Authorization" else self._key
        headers = {"User-Agent": "doyen"} | ({known.key_header: value} if self._key else {})
        self.timeout_s = timeout_s
        times = httpx.Timeout(timeout_s, connect=min(timeout_s, CONNECT_S))
        try:
            # A proxy of the environment is for other machines.
            self._client = httpx.Client(
                headers=headers, timeout=times, follow_redirects=False, trust_env=not self.is_local
            )
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

        A path that begins with `/` stands at the server's root, not below the API's base URL. Tries again after a time-out, a
        broken connection, 408, 429, 5xx, what is not JSON, and BadAnswerError: after what Retry-After says, else after
        pauses that double, with jitter. `tokens` count for the pace. `alive` is called while waiting; what it raises ends
        the waiting.

        Raises: EndpointError when it is refused (with its `status`), or given up.
        """
        return self.stream(path, body, _reads_json(read), tokens=tokens, alive=alive)

    def get(self, path: str, read: Callable[[Any], T], *, attempts: int = 3) -> T:
        """Return what `read` makes of the JSON at `path`; see `post`."""
        return self._repeat(lambda: self._try("GET", path, None, _reads_json(read)), attempts)

    def stream(
        self,
        path: str,
        body: dict[str, Any],
        read: Lines[T],
        *,
        tokens: int = 0,
        alive: Callable[[], None] | None = None,
    ) -> T:
        """Send `body` to `path` and return what `read` makes of the answer's lines as they come; see `post`."""
        return self._repeat(lambda: self._try("POST", path, body, read), self._attempts, tokens, alive)

    def _repeat(
        self,
        once: Callable[[], tuple[str, float | None, list[T]]],
        attempts: int,
        tokens: int = 0,
        alive: Callable[[], None] | None = None,
    ) -> T:
        attempts = min(attempts, self._attempts)
        for attempt in range(attempts):
            self._wait(self._pace.book(tokens), alive)
            problem, asked_s, result = once()
            if result:
                return result[0]
            if attempt < attempts - 1:
                pause = min(LONGEST_PAUSE_S, self._first_pause_s * 2**attempt) * random.uniform(0.5, 1.5)
                self._wait(pause if asked_s is None else asked_s, alive)
        raise EndpointError(
            f"{self.host} was given up after {attempts} tries: {problem}",
            hint=f"try again later: what was done is kept; for 429, lower [{self._table}] requests_per_minute",
        )

    def _try(
        self, method: str, path: str, body: dict[str, Any] | None, read: Lines[T]
    ) -> tuple[str, float | None, list[T]]:
        """Return (what went wrong, seconds that the server asks to wait, [] or [result])."""
        import httpx

        try:
            with self._client.stream(method, self._address(path), json=body) as answer:
                if answer.status_code == 200:
                    kind = answer.headers.get("Content-Type", "")
                    return "", None, [read(kind, lines_of(answer.iter_bytes()))]
                answer.read()
        except httpx.TimeoutException:
            return f"no answer within {self._client.timeout.read:.0f} s", None, []
        except httpx.HTTPError as error:
            return f"no connection ({self._clean(str(error) or type(error).__name__)})", None, []
        except (ValueError, BadAnswerError) as error:
            what = str(error) if isinstance(error, BadAnswerError) else "what is not JSON"
            return f"it answers {self._clean(what)}", None, []
        words = self._clean(message_of(answer.text))
        if answer.status_code in _AGAIN and "insufficient_quota" not in answer.text:
            return f"it answers {answer.status_code}: {words}", _retry_after(answer.headers.get("Retry-After")), []
        raise self.refused(answer.status_code, words)

    def _address(self, path: str) -> str:
        base = self.url.removesuffix("/v1") if path.startswith("/") else f"{self.url}/"
        return f"{base}{path}{self._query}"

    def refused(self, status: int, words: str) -> EndpointError:
        """Return the error for an answer that another try would not better."""
        hint = _REFUSED.get(status, "see the vendor's documentation")
        hint = hint.format(variable=self.variable or "(none named)", table=self._table)
        if status == 429:
            hint = "the account's quota is spent: see the vendor's billing page"
        return EndpointError(f"{self.host} refuses: {status}: {self._clean(words)}", hint=hint, status=status)

    def _clean(self, text: str) -> str:
        text = " ".join(text.split())
        return (text.replace(self._key, "…") if self._key else text)[:300]

    def _wait(self, seconds: float, alive: Callable[[], None] | None) -> None:
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            if alive is not None:
                alive()
            time.sleep(min(left, _STEP_S))


def lines_of(pieces: Iterator[bytes]) -> Iterator[str]:
    """Yield a body's lines as they come. Only LF and CR LF end one: JSON may hold what `str.splitlines` takes for an end."""
    held = b""
    for piece in pieces:
        *whole, held = (held + piece).split(b"\n")
        for line in whole:
            yield line.removesuffix(b"\r").decode()
    if held:
        yield held.decode()


def _checked_url(url: str, vendor: str) -> tuple[str, str]:
    """Return a base URL and the query of each request. Raises ConfigError for a wrong one, or one with a secret in it."""
    if not url:
        raise ConfigError(
            f"a model of {vendor} needs its endpoint",
            hint='endpoint = "https://RESOURCE.openai.azure.com" in doyen.toml',
        )
    parts = urlsplit(url)
    query = dict(parse_qsl(parts.query))
    odd = query.keys() - ({"api-version"} if vendor == "azure" else set())
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.username or odd or parts.fragment:
        raise ConfigError(
            f"endpoint = {_without_secret(url)!r}: expected https://HOST/PATH, without a name or password",
            hint="put the key into an environment variable and name that in key_variable",
        )
    base = parts._replace(query="").geturl().rstrip("/")
    if vendor != "azure":
        return base, ""
    version = query.get("api-version") or ("" if base.endswith("/v1") else AZURE_VERSION)
    return base, f"?api-version={quote(version)}" if version else ""


def _reads_json(read: Callable[[Any], T]) -> Lines[T]:
    return lambda _, lines: read(json.loads("\n".join(lines)))


def is_loopback(url: str) -> bool:
    """Whether a URL is of this machine."""
    host = urlsplit(url).hostname or ""
    if host == "localhost":
        return True
    with contextlib.suppress(ValueError):
        return ipaddress.ip_address(host).is_loopback
    return False


def _without_secret(url: str) -> str:
    with contextlib.suppress(ValueError):
        parts = urlsplit(url)
        return parts._replace(netloc=parts.netloc.rpartition("@")[2], query="", fragment="").geturl()
    return "…"


def message_of(text: str) -> str:
    """Return an error answer's own words: those of its JSON, or of its HTML without marks."""
    try:
        content = json.loads(text)
    except ValueError:
        return re.sub(r"<(script|style).*?</\1>|<[^>]*>", " ", text, flags=re.DOTALL | re.IGNORECASE)[:2000]
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
