"""What went wrong → an HTTP status and the error form that OpenAI's clients read."""

from __future__ import annotations

from concurrent.futures import CancelledError
from typing import Any

from pydantic import BaseModel

from doyen.errors import (
    AccessError,
    BusyError,
    ConfigError,
    DocumentError,
    DoyenError,
    EndpointError,
    EngineError,
    ExpertError,
    ModelError,
    StoreError,
    TimeLimitError,
    UsageError,
    WorkflowError,
)
from doyen.feedback import FullError
from doyen.serving.desk import UnknownModelError

_STATUS: tuple[tuple[type[BaseException], int, str, str], ...] = (
    (FullError, 409, "invalid_request_error", "full"),
    (UnknownModelError, 404, "invalid_request_error", "model_not_found"),
    (BusyError, 429, "rate_limit_error", "busy"),
    (TimeLimitError, 504, "timeout_error", "time_limit"),
    (CancelledError, 503, "server_error", "shutting_down"),
    (WorkflowError, 422, "invalid_request_error", "workflow"),
    (UsageError, 400, "invalid_request_error", "invalid_request"),
    (EngineError, 400, "invalid_request_error", "not_answerable"),
    (DocumentError, 422, "invalid_request_error", "unreadable_document"),
    (StoreError, 503, "server_error", "store"),
    (EndpointError, 502, "server_error", "endpoint"),
    (ModelError, 503, "server_error", "model"),
    (ConfigError, 500, "server_error", "configuration"),
    (ExpertError, 500, "server_error", "expert"),
)
"""The first that fits counts."""


class ErrorParts(BaseModel):
    """What an error says."""

    message: str
    type: str
    param: str | None
    code: str


class ErrorForm(BaseModel):
    """An error, as OpenAI's clients read it."""

    error: ErrorParts


_MEANINGS = {
    400: "The request says something wrong",
    401: "No key, or a wrong one",
    403: "The key may not do this, or a page of another site asks",
    404: "There is none, or none for this key",
    409: "It cannot be done at the moment, or the name is taken",
    413: "The request is too large",
    422: "The document cannot be read",
    429: "Too many requests: `Retry-After` says when to ask again",
    500: "The expert's folder or settings are broken",
    502: "A server behind this one failed",
    503: "The store or the models cannot be used at the moment, or the server is being stopped",
    504: "It took longer than may be",
}
_EACH = (400, 401, 403, 413, 429, 500, 503, 504)


def told(*more: int) -> dict[int | str, dict[str, Any]]:
    """Return how an endpoint's errors are described in the OpenAPI document: those of every endpoint, and `more`."""
    found: dict[int | str, dict[str, Any]] = {
        s: {"model": ErrorForm, "description": _MEANINGS[s]} for s in sorted({*_EACH, *more})
    }
    # Of what is no HTTP, or has an address of more than 256 KiB, the web server says so itself.
    found[400]["content"] = {"text/plain": {"schema": {"type": "string"}}}
    return found


def content(
    kind: str, description: str, *more: int, schema: dict[str, Any] | None = None
) -> dict[int | str, dict[str, Any]]:
    """Return how an endpoint whose answers are no JSON, or not always, is described there; with `more` as `told`."""
    found: dict[int | str, dict[str, Any]] = {s: row for s, row in told(*more).items() if s in more}
    found[200] = {"description": description, "content": {kind: {"schema": schema or {"type": "string"}}}}
    return found


_EVENT = {"type": "object", "properties": {"event": {"type": "string"}, "data": {"type": "string"}}}
STREAM = content("text/event-stream", "The answer; with `stream` as server-sent events", 502, schema=_EVENT)


class HTTPFault(DoyenError):
    """A fault with a status of its own."""

    def __init__(
        self, status: int, code: str, message: str, *, hint: str | None = None, param: str | None = None
    ) -> None:
        super().__init__(message, hint=hint)
        self.status, self.code, self.param = status, code, param


def error_form(
    message: str, kind: str, code: str, *, hint: str | None = None, param: str | None = None
) -> dict[str, Any]:
    """Return OpenAI's error form; the hint stands in the message too, since clients show nothing else."""
    whole = f"{message} ({hint})" if hint else message
    return {"error": {"message": whole, "type": kind, "param": param, "code": code}}


def describe(error: BaseException) -> tuple[int, dict[str, Any], dict[str, str]]:
    """Return the status, the body and the headers that tell of an error. What is not the client's business is not told."""
    if isinstance(error, HTTPFault):
        kind = "invalid_request_error" if error.status < 500 else "server_error"
        return error.status, error_form(str(error), kind, error.code, hint=error.hint, param=error.param), {}
    if isinstance(error, AccessError):
        if error.known:
            return 403, error_form(str(error), "permission_error", "forbidden", hint=error.hint), {}
        form = error_form(str(error), "authentication_error", "invalid_api_key", hint=error.hint)
        return 401, form, {"WWW-Authenticate": "Bearer"}
    for kind_of_error, status, kind, code in _STATUS:
        if isinstance(error, kind_of_error):
            hint = error.hint if isinstance(error, DoyenError) else None
            headers = {"Retry-After": str(error.retry_after_s)} if isinstance(error, BusyError) else {}
            return status, error_form(str(error) or "the server is being stopped", kind, code, hint=hint), headers
    return 500, error_form("something went wrong within the server; its log says what", "server_error", "internal"), {}
