"""`/api/runs`: the trainings of an expert with their curves, while they go on and afterwards."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Request, Response

from doyen.finetuning.runs import TrainingRun, run_history, thinned, training_runs
from doyen.finetuning.training_page import PAGE_FILE
from doyen.serving.access import Reader, run, service_of
from doyen.serving.faults import HTTPFault, content
from doyen.serving.keys import Principal
from doyen.serving.service import Service

router = APIRouter(prefix="/api", tags=["Training"])
_PAGE_CSP = "sandbox; default-src 'none'; style-src 'unsafe-inline'"


@router.get("/runs", summary="Training runs, those at work first")
async def runs(request: Request, principal: Reader) -> dict[str, Any]:
    """List those that you may see."""
    service = service_of(request)
    found = await run(request, service.quick, lambda _: _seen(service, principal))
    return {"runs": [one.as_dict() for one in found]}


@router.get("/runs/{name}", summary="A training run with its curve")
async def show_run(name: str, request: Request, principal: Reader) -> dict[str, Any]:
    """Show it; of a long history every so-manieth step."""
    found = await _run(request, name, principal)
    history = await run(request, service_of(request).quick, lambda _: thinned(run_history(found.folder)))
    return found.as_dict() | {"history": history}


@router.get(
    "/runs/{name}/training.html",
    summary="A training run's page",
    response_class=Response,
    responses=content("text/html", "The page"),
)
async def run_page(name: str, request: Request, principal: Reader) -> Response:
    """Show it; it has no scripts."""
    page = (await _run(request, name, principal)).folder / PAGE_FILE
    if not page.exists():
        raise HTTPFault(404, "not_found", f"the run '{name[:80]}' has no page")
    return Response(page.read_bytes(), media_type="text/html", headers={"content-security-policy": _PAGE_CSP})


def _seen(service: Service, principal: Principal) -> list[TrainingRun]:
    """Return the runs of adapters that someone may use; of one that has not ended, nothing says yet what it stands on."""
    allowed = set(service.desk.adapters(principal))
    others = service.desk.viewer(principal).sees_others_work
    runs = training_runs(service.desk.expert)
    return [one for one in runs if (one.folder in allowed if one.state == "done" else others)]


async def _run(request: Request, name: str, principal: Principal) -> TrainingRun:
    """Return a run: one of those that they may see, never a path made of the name."""
    service = service_of(request)
    for one in await run(request, service.quick, lambda _: _seen(service, principal)):
        if one.name == name:
            return one
    raise HTTPFault(404, "not_found", f"there is no training run '{name[:80]}'", hint="GET /api/runs")
