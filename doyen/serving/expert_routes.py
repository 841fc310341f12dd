"""`/api`: asking with evidence, conversations, searching, comparisons."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request, Response
from pydantic import ConfigDict, Field

from doyen.errors import UsageError
from doyen.models.constraints import Choices, Form, JsonSchema, Regex
from doyen.models.ticket import Ticket
from doyen.retrieval.hybrid import Sought
from doyen.serving.access import Reader, audit, not_found, run, service_of
from doyen.serving.body import Body
from doyen.serving.desk import Answered, Asked
from doyen.serving.events import EventStream, Growing, event, fault_event
from doyen.serving.evidence import evidence, hit_rows, noted
from doyen.serving.faults import STREAM, HTTPFault, content, told
from doyen.serving.keys import Principal
from doyen.serving.service import Service
from doyen.serving.sessions import Turn

router = APIRouter(prefix="/api", tags=["Expert"])
_MOST_HITS = 100
_LONGEST = 4096
_Filter = Annotated[str, Field(max_length=500)]


class AskRequest(Body):
    """A question."""

    model_config = ConfigDict(
        extra="forbid", json_schema_extra={"examples": [{"question": "How long is the notice period?", "arm": "rag"}]}
    )
    question: str = Field(json_schema_extra={"minLength": 1})
    arm: str | None = Field(default=None, description="base, rag, finetuned or rag+finetuned; none: as `doyen ask`.")
    adapter: str | None = None
    session: str | None = Field(default=None, description="A conversation of /api/sessions, which it goes on with.")
    stream: bool = Field(default=False, description="Answer as server-sent events: text, then answer.")
    filters: list[str] = Field(default=[], max_length=20, description="As `doyen ask --filter`.")
    passages: bool = Field(default=False, description="Return the passages that the model was shown, too.")
    json_schema: dict[str, Any] | None = None
    regex: str | None = None
    choices: list[str] | None = None
    max_tokens: int | None = Field(default=None, ge=1, le=8192)

    def constraint(self) -> Form | None:
        """Return what the answer has to be. Raises UsageError for more than one form."""
        given: list[Form] = [JsonSchema(self.json_schema)] if self.json_schema is not None else []
        given += [Regex(self.regex)] if self.regex is not None else []
        given += [Choices(tuple(self.choices))] if self.choices is not None else []
        if len(given) > 1:
            raise UsageError("an answer keeps to one of json_schema, regex and choices")
        return given[0] if given else None


@router.post("/ask", summary="Answer a question, with citations", responses=STREAM)
async def ask(body: AskRequest, request: Request, principal: Reader) -> Any:
    """Answer it; with `session`, as the next of a conversation."""
    service = service_of(request)
    arm = body.arm or ("rag+finetuned" if body.adapter else "")
    wanted, constraint = f"{arm}:{body.adapter}" if body.adapter else arm, body.constraint()

    def begin(ticket: Ticket) -> Asked:
        name = service.desk.model(wanted, principal)
        history = _history(service, body.session, principal) if body.session else []
        return Asked(body.question, name, principal, history, tuple(body.filters), constraint, body.max_tokens or 0)

    asked = await run(request, service.quick, begin)

    def work(ticket: Ticket, show: Callable[[str], None] | None = None) -> Answered:
        found = service.desk.ask(asked, ticket, show)
        if body.session:
            service.sessions.add(body.session, principal.id, body.question, found.question, found.answer)
        return found

    if body.stream:
        growing = Growing(service.asks, service.metrics, work)
        return EventStream(_events(growing, body, request), growing.begun.ticket)
    found = await run(request, service.asks, work)
    noted(service, request, found)
    return _row(body, found)


def _history(service: Service, session: str, principal: Principal) -> list[Turn]:
    return service.sessions.turns(session, principal.id, hidden=service.desk.viewer(principal).hidden)


async def _events(growing: Growing, body: AskRequest, request: Request) -> AsyncIterator[bytes]:
    async for piece in growing.pieces():
        yield event({"text": piece}, "text") if piece else b": at work\n\n"
    try:
        found = growing.result()
    except Exception as error:  # the edge of a request, whose status was sent: the error is an event
        yield fault_event(error, "error")
        return
    noted(service_of(request), request, found)
    yield event(_row(body, found), "answer")


def _row(body: AskRequest, found: Answered) -> dict[str, Any]:
    row: dict[str, Any] = {"answer": found.text, "session": body.session} | evidence(found)
    row["usage"] = {"prompt_tokens": found.answer.prompt_tokens, "completion_tokens": found.answer.completion_tokens}
    return row | ({"passages": hit_rows(found.answer.hits)} if body.passages else {})


# ---- conversations


@router.post("/sessions", status_code=201, summary="Begin a conversation")
def begin_session(request: Request, principal: Reader) -> dict[str, str]:
    """Return its id."""
    return {"id": service_of(request).sessions.begin(principal.id)}


@router.get("/sessions", summary="Your conversations, the last used first")
def sessions(request: Request, principal: Reader) -> dict[str, Any]:
    """List them."""
    return {"sessions": service_of(request).sessions.of(principal.id)}


@router.get("/sessions/{session}", summary="A conversation of yours")
def session(session: str, request: Request, principal: Reader) -> dict[str, Any]:
    """Show it with its answers."""
    service = service_of(request)
    with not_found("session_not_found", UsageError):
        return service.sessions.show(session, principal.id, hidden=service.desk.viewer(principal).hidden)


@router.delete("/sessions/{session}", status_code=204, summary="Delete a conversation of yours")
def delete_session(session: str, request: Request, principal: Reader) -> Response:
    """Delete it."""
    with not_found("session_not_found", UsageError):
        service_of(request).sessions.delete(session, principal.id)
    return Response(status_code=204)


# ---- searching


@router.get("/search", summary="Find passages, or documents", responses=told(502))
async def search(
    request: Request,
    principal: Reader,
    q: Annotated[str, Query(description="What is sought.", max_length=_LONGEST)] = "",
    k: Annotated[int, Query(ge=1, le=_MOST_HITS)] = 10,
    like: Annotated[str, Query(description="Instead of `q`: documents similar to this one.", max_length=4096)] = "",
    documents: Annotated[bool, Query(description="Documents with their summaries, for a broad question.")] = False,
    filter: Annotated[list[_Filter], Query(description="As `doyen search --filter`.", max_length=20)] = [],  # noqa: B006
) -> dict[str, Any]:
    """Search; hits are best first."""
    desk = service_of(request).desk
    if bool(q.strip()) == bool(like):
        raise UsageError("search takes q or like")

    def work(ticket: Ticket) -> list[dict[str, Any]]:
        viewer = desk.viewer(principal)
        where = viewer.where(filter)
        if like:
            with not_found("document_not_found"):
                viewer.require(like)
                rows = [hit.as_dict() for hit in desk.retriever.similar(like, k, where=where)]
        elif documents:
            rows = [found.as_dict() for found in desk.retriever.documents(q, k, where=where)]
        else:
            rows = [hit.as_dict() for hit in desk.search(Sought(q, k, where))]
        audit(request, question=q, like=like, documents=list(dict.fromkeys(row["document"] for row in rows)))
        return rows

    return {"documents" if documents and q else "hits": await run(request, service_of(request).quick, work)}


# ---- comparisons


@router.get("/comparisons", summary="The comparisons of the arms, newest first")
def comparisons(request: Request, principal: Reader) -> dict[str, Any]:
    """List them, each with its advice; they show passages of any document, so only to who may see all."""
    rows: list[dict[str, Any]] = []
    if not service_of(request).desk.viewer(principal).sees_all:
        return {"comparisons": rows}
    for name, folder in _comparisons(service_of(request)).items():
        report = json.loads((folder / "report.json").read_text(encoding="utf-8"))
        manifest = report.get("manifest", {})
        rows.append(
            {
                "id": name,
                "created": manifest.get("created"),
                "questions": len(report.get("rows", ())),
                "arms": list(report.get("arms", ())),
                "advice": report.get("advice"),
            }
        )
    return {"comparisons": sorted(rows, key=lambda row: str(row["created"]), reverse=True)}


@router.get("/comparisons/{name}", summary="A comparison's report.json")
def comparison(name: str, request: Request, principal: Reader) -> Any:
    """Show it."""
    return json.loads((_comparison(request, name, principal) / "report.json").read_text(encoding="utf-8"))


@router.get(
    "/comparisons/{name}/report.html",
    summary="A comparison's report as a page",
    response_class=Response,
    responses=content("text/html", "The page"),
)
def comparison_page(name: str, request: Request, principal: Reader) -> Response:
    """Show it; its scripts may draw, and reach nothing."""
    page = _comparison(request, name, principal) / "report.html"
    if not page.exists():
        raise HTTPFault(404, "not_found", f"comparison '{name}' has no page")
    csp = "sandbox allow-scripts; default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; img-src data:"
    return Response(page.read_bytes(), media_type="text/html", headers={"content-security-policy": csp})


def _comparisons(service: Service) -> dict[str, Path]:
    return {path.parent.name: path.parent for path in (service.desk.expert / "comparisons").glob("*/report.json")}


def _comparison(request: Request, name: str, principal: Principal) -> Path:
    """Return a comparison's folder: one of those that are there, never a path made of the name."""
    service = service_of(request)
    found = _comparisons(service).get(name) if service.desk.viewer(principal).sees_all else None
    if found is None:
        raise HTTPFault(404, "not_found", f"there is no comparison '{name[:80]}'", hint="GET /api/comparisons")
    return found
