"""`/api/workflows`: rows through the expert's workflows, and the rows that wait for a person."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query, Request
from pydantic import ConfigDict, Field

from doyen.errors import AccessError, DoyenError, UsageError
from doyen.models.ticket import Ticket
from doyen.serving.access import Editor, Reader, audit, run, service_of
from doyen.serving.body import Body
from doyen.serving.desk import ModelName
from doyen.serving.faults import HTTPFault
from doyen.serving.keys import Principal
from doyen.serving.service import Service
from doyen.workflows.definition import Lookup, Workflow
from doyen.workflows.doing import run_rows
from doyen.workflows.opening import Setup, open_setup
from doyen.workflows.outputs import output_row
from doyen.workflows.places import workflows_of
from doyen.workflows.reading import load_workflow
from doyen.workflows.reviewing import Reviewed, ReviewQueue, review_id
from doyen.workflows.rows import REVIEW, Row, documents_of
from doyen.workflows.running import Judge

router = APIRouter(prefix="/api", tags=["Workflows"])
MOST_ROWS = 64


class RunRequest(Body):
    """Rows to run over, each an object with the columns of the workflow."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [{"rows": [{"text": "A pipe burst."}]}]})
    rows: list[dict[str, Any]] = Field(min_length=1, max_length=MOST_ROWS)
    arm: str = Field(default="", max_length=40, description="In place of the workflow's.")
    adapter: str = Field(default="", max_length=200)
    audit: bool = Field(default=False, description="Return each row's audit trail, too.")


class VerdictRequest(Body):
    """A person's verdict on a row; a correction gives what is right, by step or `STEP.FIELD`."""

    verdict: Literal["accept", "correct", "reject"]
    values: dict[str, Any] = Field(default={}, max_length=200)
    comment: str = Field(default="", max_length=4000)


@router.get("/workflows", summary="The expert's workflows")
async def workflows(request: Request, principal: Reader) -> dict[str, Any]:
    """List them with their columns and steps; a broken file with its faults."""
    service = service_of(request)

    def work(ticket: Ticket) -> list[dict[str, Any]]:
        return [_described(name, path) for name, path in workflows_of(service.desk.expert).items()]

    return {"workflows": await run(request, service.quick, work)}


def _described(name: str, path: Path) -> dict[str, Any]:
    try:
        flow = load_workflow(path)
    except DoyenError as error:
        return {"name": name, "error": str(error)}
    columns = [{"name": c.name, "type": c.type, "optional": c.optional} for c in flow.columns.values()]
    steps = [{"name": step.name, "do": step.do} for step in flow.steps]
    return {"name": name, "title": flow.title, "columns": columns, "steps": steps, "decision": flow.decision}


@router.post("/workflows/{name}", summary="Run a workflow over rows")
async def run_flow(name: str, body: RunRequest, request: Request, principal: Reader) -> dict[str, Any]:
    """Return a row of output for each row; what goes wrong with a row is in its `flow_status` and `flow_reason`."""
    service = service_of(request)
    found = await run(request, service.asks, lambda ticket: _run(service, name, body, principal, ticket))
    shown = {document for record in found["records"] for document in documents_of(record)}
    audit(request, workflow=name, rows=len(body.rows), documents=sorted(shown))
    if not body.audit:
        del found["records"]
    return found


def _run(service: Service, name: str, body: RunRequest, principal: Principal, ticket: Ticket) -> dict[str, Any]:
    flow = load_workflow(_path(service, name))
    setup = _setup(service, flow, body, principal, ticket)
    rows = [Row(number, flow.row_id(cells, number), cells) for number, cells in enumerate(body.rows, 1)]
    with closing(setup):
        run_rows(setup, rows)
    judge = Judge(setup)
    records = [judge.record(row) for row in rows]
    ReviewQueue(service.desk.expert).add(setup.flow, records)
    outputs = [output_row(setup.flow, record) for record in records]
    for output, record in zip(outputs, records, strict=True):
        output["flow_review"] = review_id(flow.name, record["input"]) if record["status"] == REVIEW else None
    return {"workflow": name, "arm": setup.arm, "rows": outputs, "threshold": judge.threshold, "records": records}


def _path(service: Service, name: str) -> Path:
    """Return a workflow's file: one of those that are there, never a path made of the name."""
    known = workflows_of(service.desk.expert)
    if name not in known:
        raise HTTPFault(404, "not_found", f"there is no workflow '{name[:80]}'", hint="GET /api/workflows")
    return known[name]


def _setup(service: Service, flow: Workflow, body: RunRequest, principal: Principal, ticket: Ticket) -> Setup:
    """Open a flow as someone may run it: their passages, their adapters."""
    desk = service.desk
    _require_tables(service, flow, principal)

    def adapter_of(named: str) -> Path:
        found = desk.tuning(ModelName("finetuned", named), principal)
        assert found is not None
        return found.folder

    setup = open_setup(
        desk.expert,
        flow,
        arm=body.arm,
        adapter=body.adapter,
        engine=desk.engine_for(ticket, principal),
        retriever=desk.retriever if desk.has_index else None,
        adapter_of=adapter_of,
    )
    setup.filtered = lambda filters: desk.where(principal, filters)
    return setup


def _require_tables(service: Service, flow: Workflow, principal: Principal) -> None:
    """Refuse a flow that looks up tables to keys that may not see all: lookups read whole tables, and rows hold what they found."""
    if any(isinstance(step, Lookup) for step in flow.steps) and not service.desk.viewer(principal).sees_all:
        raise AccessError("this workflow looks up tables, for keys that may see all documents", known=True)


@router.get("/workflows/{name}/reviews", summary="The rows of a workflow that wait for a person, the oldest first")
async def reviews(
    name: str,
    request: Request,
    principal: Editor,
    state: Annotated[Literal["new", "accepted", "corrected", "rejected", "all"], Query()] = "new",
    limit: Annotated[int, Query(ge=1, le=1000)] = 100,
) -> dict[str, Any]:
    """List them, without those that show documents, or what an adapter wrote, that are not for you."""
    service = service_of(request)

    def work(ticket: Ticket) -> dict[str, Any]:
        states = ("new", "accepted", "corrected", "rejected") if state == "all" else (state,)
        flow = load_workflow(_path(service, name))
        _require_tables(service, flow, principal)
        rows = _visible(service, principal, ReviewQueue(service.desk.expert).rows(flow.name, states))
        audit(request, workflow=name, documents=sorted({d for row in rows[:limit] for d in row.documents}))
        return {"reviews": [row.as_dict() for row in rows[:limit]], "total": len(rows)}

    return await run(request, service.quick, work)


@router.post("/workflows/{name}/reviews/{row}", summary="Accept, correct or reject a row")
async def review(name: str, row: str, body: VerdictRequest, request: Request, principal: Editor) -> dict[str, Any]:
    """Review it: what is accepted or corrected can be exported as labelled rows."""
    service = service_of(request)

    def work(ticket: Ticket) -> dict[str, Any]:
        queue = ReviewQueue(service.desk.expert)
        flow = load_workflow(_path(service, name))
        _require_tables(service, flow, principal)
        try:
            found = queue.find(row)
            if found.workflow != flow.name or not _visible(service, principal, [found]):
                raise UsageError(f"there is no row '{row[:40]}' in the review queue")
        except UsageError as error:
            hint = f"GET /api/workflows/{name}/reviews"
            raise HTTPFault(404, "not_found", str(error), hint=hint) from None
        try:
            done = queue.review(row, body.verdict, principal.id, values=body.values, comment=body.comment)
        except UsageError as error:
            raise HTTPFault(400, "invalid_request", str(error), hint=error.hint) from None
        audit(request, workflow=name, review=row, verdict=body.verdict)
        return done.as_dict()

    return await run(request, service.quick, work)


def _visible(service: Service, principal: Principal, rows: list[Reviewed]) -> list[Reviewed]:
    viewer = service.desk.viewer(principal)
    if viewer.sees_all:
        return rows
    hidden = viewer.hidden({d for row in rows for d in row.documents})
    # What an adapter wrote may repeat what it was trained on.
    own = {path.name for path in service.desk.adapters(principal)}
    free = [row for row in rows if row.documents and hidden.isdisjoint(row.documents)]
    return [row for row in free if own.issuperset(row.adapters)]
