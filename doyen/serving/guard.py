"""What every request passes, before and after its endpoint: host and origin, key, size, id, headers, log, metrics, trace.

A plain ASGI middleware: streams pass through it piece by piece.
"""

from __future__ import annotations

import json
import logging
import secrets
import time
from typing import Any
from urllib.parse import urlsplit

from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from doyen.errors import BusyError, DoyenError
from doyen.models.endpoint import is_loopback
from doyen.serving.faults import HTTPFault, describe
from doyen.serving.keys import Principal
from doyen.serving.pace import Strangers
from doyen.serving.page_files import open_paths
from doyen.serving.service import Service
from doyen.tracing import following, note, span

MOST_BODY = 4 << 20
_MULTIPART_ROOM = 1 << 20
UPLOAD = "/api/upload"
OPEN = frozenset({"/healthz", "/readyz", "/openapi.json"}) | open_paths()
"""What needs no key; all else does, also what is added to the application later."""
HEADERS = (
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"x-frame-options", b"DENY"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"cache-control", b"no-store"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"permissions-policy", b"camera=(), geolocation=(), microphone=()"),
    (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'"),
)
_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
_AUDITED = ("arm", "adapter", "answered", "documents")
log = logging.getLogger("doyen.serving")


class Guard:
    """Wraps the application of one service."""

    def __init__(self, app: ASGIApp, service: Service) -> None:
        self._app, self._service, self._strangers = app, service, Strangers()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request; all else (start and stop) is handed on."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = {k.decode("latin-1").lower(): v.decode("latin-1") for k, v in scope["headers"]}
        entry = _Entry(scope, headers)
        scope["state"]["entry"] = entry
        most = self._service.desk.settings.serve.upload_mib << 20 if scope["path"] == UPLOAD else MOST_BODY
        most += _MULTIPART_ROOM if scope["path"] == UPLOAD else 0
        answer = _Answer(send, entry)
        try:
            self._require_place(scope, headers, entry)
            if entry.allowed and scope["method"] == "OPTIONS":
                await answer.allow()
                return
            self._require_key(scope["path"], headers, entry)  # before a body is read
            if entry.principal is not None:
                self._service.pace.take(entry.principal.id)
            _require_size(headers, most)
            with following(headers), span("request", id=entry.id, path=scope["path"]):
                await self._app(scope, _counted(receive, most), answer)
                note(status=entry.status)
        except DoyenError as error:
            await answer.fault(self._paced(scope, entry, error))
        except Exception as error:  # the edge of a request: the log has all of it, the client a sentence
            log.exception("request %s failed", entry.id)
            await answer.fault(error)
        finally:
            self._count(scope, entry)

    def _require_place(self, scope: Scope, headers: dict[str, str], entry: _Entry) -> None:
        """Without keys, take only requests that this machine's own programs mean for it; never another site's page.

        A page of another site could otherwise reach it by a name that it makes resolve to this machine, or by a form.
        """
        host = headers.get("host", "")
        if not self._service.keys.closed and not is_loopback(f"http://{host}"):
            raise HTTPFault(
                403, "host", f"this server answers as localhost only, not as '{host[:80]}'", hint="doyen keys add NAME"
            )
        origin = headers.get("origin")
        if origin is not None and self._service.keys.closed and origin in self._service.origins:
            entry.allowed = origin  # with a key, which no browser sends by itself
            return
        if origin is not None and urlsplit(origin).netloc != host:
            raise HTTPFault(403, "origin", "pages of other sites may not use this server")
        followed = scope["method"] == "GET" and headers.get("sec-fetch-mode") == "navigate"
        if headers.get("sec-fetch-site") in ("cross-site", "same-site") and not (followed and _is_page(scope["path"])):
            raise HTTPFault(403, "origin", "pages of other sites may not use this server")

    def _require_key(self, path: str, headers: dict[str, str], entry: _Entry) -> None:
        """Note who asks, by `Authorization: Bearer KEY` or `X-API-Key`. Raises AccessError."""
        if path in OPEN:
            return
        kind, _, secret = headers.get("authorization", "").partition(" ")
        secret = secret.strip() if kind.casefold() == "bearer" else headers.get("x-api-key", "")
        entry.principal = self._service.keys.principal(secret)
        entry.fields["key"] = entry.principal.id

    def _paced(self, scope: Scope, entry: _Entry, error: DoyenError) -> DoyenError:
        """Return what a refused stranger is told; of a flood of them the audit log is spared."""
        if entry.principal is not None or describe(error)[0] not in (401, 403):
            return error
        try:
            self._strangers.take((scope.get("client") or ("",))[0])
        except BusyError as busy:
            return busy
        return error

    def _count(self, scope: Scope, entry: _Entry) -> None:
        route = getattr(scope.get("route"), "path", "none")
        took = time.perf_counter() - entry.began
        metrics = self._service.metrics
        method = scope["method"] if scope["method"] in _METHODS else "other"  # a client may call it anything
        metrics.requests.labels(route, method, entry.status).inc()
        metrics.seconds.labels(route).observe(took)
        fields = {"request": entry.id, "method": scope["method"], "route": route, "status": entry.status}
        who = entry.principal
        if entry.audit or entry.status in (401, 403):
            known = {"key": who.id, "name": who.name} if who else {"key": None}
            told = {k: v for k, v in entry.fields.items() if k in _AUDITED}
            self._service.audit.write(**fields | known | told | entry.audit)
        log.info("request", extra={"fields": fields | {"seconds": round(took, 4)} | entry.fields})


class _Entry:
    """What is logged of a request; endpoints add to `fields`, but no question and no text."""

    def __init__(self, scope: Scope, headers: dict[str, str]) -> None:
        self.id = secrets.token_hex(8)
        self.began = time.perf_counter()
        self.status = 499  # that of a client that left before an answer began
        self.fields: dict[str, Any] = {}
        self.audit: dict[str, Any] = {}
        self.principal: Principal | None = None
        self.allowed = ""  # the origin of another site that may use the server
        scope.setdefault("state", {})


class _Answer:
    """`send` with the common headers; tells whether an answer has begun."""

    def __init__(self, send: Send, entry: _Entry) -> None:
        self._send, self._entry, self._begun = send, entry, False

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self._begun = True
            self._entry.status = message["status"]
            given = list(message.get("headers", ()))
            names = {name.lower() for name, _ in given}
            given += [(name, value) for name, value in HEADERS if name not in names]
            if origin := self._entry.allowed.encode():
                given += [(b"access-control-allow-origin", origin), (b"vary", b"Origin")]
                given = [(k, b"cross-origin" if k == b"cross-origin-resource-policy" else v) for k, v in given]
            message["headers"] = [*given, (b"x-request-id", self._entry.id.encode())]
        await self._send(message)

    async def allow(self) -> None:
        """Answer another site's question whether its pages may send a request."""
        lines = [
            (b"access-control-allow-methods", b"GET, POST, DELETE"),
            (b"access-control-allow-headers", b"Authorization, X-API-Key, Content-Type"),
            (b"access-control-max-age", b"600"),
        ]
        await self({"type": "http.response.start", "status": 204, "headers": lines})
        await self._send({"type": "http.response.body", "body": b""})

    async def fault(self, error: BaseException) -> None:
        """Answer with an error; nothing where an answer has begun: the connection then ends without its end."""
        if self._begun:
            return
        status, form, headers = describe(error)
        body = json.dumps(form).encode()
        lines = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
        lines += [(name.lower().encode(), value.encode()) for name, value in headers.items()]
        if status in (403, 413):
            lines.append((b"connection", b"close"))  # what is left of the body is not read
        await self({"type": "http.response.start", "status": status, "headers": lines})
        await self._send({"type": "http.response.body", "body": body})


def _is_page(path: str) -> bool:
    """Whether a link on another site may lead here: to the page for people, not to what programs ask."""
    return not path.startswith(("/api/", "/v1/", "/metrics"))


def _require_size(headers: dict[str, str], most: int) -> None:
    length = headers.get("content-length", "0")
    if length.isdigit() and int(length) > most:
        raise _too_large(most)


def _counted(receive: Receive, most: int) -> Receive:
    """Return `receive` that ends where a body without a stated length grows too large."""
    read = 0

    async def counted() -> Message:
        nonlocal read
        message = await receive()
        if message["type"] == "http.request":
            read += len(message.get("body", b""))
            if read > most:  # the framework hands on this kind of error only
                raise HTTPException(413, str(_too_large(most)))
        return message

    return counted


def _too_large(most: int) -> HTTPFault:
    return HTTPFault(413, "too_large", f"the request is too large: at most {most / 2**20:g} MiB are taken")
