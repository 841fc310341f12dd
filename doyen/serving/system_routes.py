"""Whether the server lives and is ready, what it counts, and what the expert holds."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse

from doyen.folder import status
from doyen.models.ticket import Ticket
from doyen.serving.access import Editor, Reader, run, service_of
from doyen.serving.faults import content, told
from doyen.serving.seen import seen_status

router = APIRouter(tags=["System"])


@router.get("/healthz", summary="Whether the server lives")
def health(request: Request) -> dict[str, str]:
    """Say so, and its state (`loading`, `ready`, `stopping`), always with status 200."""
    return {"status": "ok", "state": service_of(request).state}


@router.get(
    "/readyz",
    summary="Whether the models are loaded and questions are taken",
    responses={503: {"description": "Not yet, or not any more"}},
)
def ready(request: Request) -> JSONResponse:
    """Say so, by the status: 200 or 503."""
    state = service_of(request).state
    return JSONResponse({"status": state}, 200 if state == "ready" else 503)


@router.get(
    "/metrics",
    summary="Counters in Prometheus' text format",
    response_class=Response,
    responses=told() | content("text/plain", "The counters"),
)
def metrics(request: Request, principal: Reader) -> Response:
    """Return them."""
    found = service_of(request).metrics
    return Response(found.text(), media_type=found.content_type)


@router.get(
    "/api/status",
    summary="What the expert holds, what is stale, what the server does",
    tags=["Expert"],
    responses=told(),
)
async def show_status(request: Request, principal: Editor) -> dict[str, Any]:
    """Show it."""
    service = service_of(request)

    def work(ticket: Ticket) -> dict[str, Any]:
        return seen_status(status(service.desk.expert), service.desk.viewer(principal), service.desk.models(principal))

    row = await run(request, service.quick, work)
    row["expert"] = service.desk.expert.resolve().name
    own = service.desk.status(principal) | {"asking": service.asks.count, "refused": service.asks.refused}
    return row | {"server": own}
