"""The HTTP application of one expert. Other parts of it (a page, feedback) add routers; what they share is the service."""

from __future__ import annotations

import threading
from collections.abc import AsyncIterator, Callable
from concurrent.futures import CancelledError
from contextlib import asynccontextmanager

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException
from starlette.routing import Route

import doyen
from doyen.errors import DoyenError
from doyen.serving import (
    documents_routes,
    expert_routes,
    feedback_routes,
    openai_routes,
    page_files,
    page_routes,
    runs_routes,
    system_routes,
    workflow_routes,
)
from doyen.serving.faults import describe, error_form, told
from doyen.serving.guard import Guard, log
from doyen.serving.service import Service

DESCRIPTION = (
    "Answers with evidence, from one expert. `/v1` is what OpenAI's clients speak; `/api` has the rest. With keys, send "
    "`Authorization: Bearer KEY`. Errors have OpenAI's form."
)
ROUTERS = (
    openai_routes.router,
    expert_routes.router,
    documents_routes.router,
    feedback_routes.router,
    workflow_routes.router,
    runs_routes.router,
    page_routes.router,
    system_routes.router,
    page_files.router,
)
STOPPING_S = 30.0
"""For so long answers may go on when the server is told to stop."""


def make_app(service: Service, *, load: bool = True, failed: Callable[[BaseException], None] | None = None) -> FastAPI:
    """Return the application. With `load` it loads the models as it starts, beside its first answers.

    `failed` is called where that goes wrong.
    """

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        if load:
            threading.Thread(target=_open, args=(service, failed), daemon=True, name="doyen-opening").start()
        try:
            yield
        finally:
            await service.close(STOPPING_S)

    app = FastAPI(
        title="doyen",
        version=_version(),
        description=DESCRIPTION,
        docs_url=None,
        redoc_url=None,
        lifespan=lifespan,
    )
    app.state.service = service
    service.metrics.watch(service.asks, service.quick)
    for router in ROUTERS:
        app.include_router(router, responses=None if router is system_routes.router else told(404, 422))
    app.add_exception_handler(DoyenError, _fault)
    app.add_exception_handler(CancelledError, _fault)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(HTTPException, _http)
    app.add_middleware(Guard, service=service)
    return app


def _open(service: Service, failed: Callable[[BaseException], None] | None) -> None:
    try:
        service.open()
    except Exception as error:  # the edge of a thread: the server says that it will not be ready, and why
        log.error("the models could not be loaded: %s", error)
        if failed:
            failed(error)


def _version() -> str:
    import importlib.metadata

    try:
        return importlib.metadata.version(doyen.__name__)
    except importlib.metadata.PackageNotFoundError:
        return "0"


async def _fault(request: Request, error: Exception) -> JSONResponse:
    status, form, headers = describe(error)
    return JSONResponse(form, status, headers)


async def _invalid(request: Request, error: RequestValidationError) -> JSONResponse:
    """Tell all that is wrong of a request, without repeating what was sent."""
    faults = [(".".join(str(part) for part in e["loc"][1:]), e["msg"]) for e in error.errors()[:20]]
    message = "; ".join(f"{place}: {what}" if place else what for place, what in faults)
    return JSONResponse(
        error_form(message, "invalid_request_error", "invalid_request", param=faults[0][0] or None), 400
    )


async def _http(request: Request, error: HTTPException) -> JSONResponse:
    kind = "invalid_request_error" if error.status_code < 500 else "server_error"
    code = {404: "not_found", 405: "method_not_allowed", 413: "too_large"}.get(error.status_code, "invalid_request")
    headers = dict(error.headers or {})
    if error.status_code == 405:  # the router names the ways of one of the endpoints at this path only
        headers["Allow"] = ", ".join(sorted(_ways(request.url.path)))
    return JSONResponse(error_form(str(error.detail), kind, code), error.status_code, headers)


def _ways(path: str) -> set[str]:
    """Return the methods that a path takes."""
    routes = [route for router in ROUTERS for route in router.routes if isinstance(route, Route)]
    return {way for route in routes if route.path_regex.match(path) for way in route.methods or ()}
