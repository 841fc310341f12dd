"""`/api/feedback`: what users say of answers, and the queue in which it is reviewed."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query, Request
from pydantic import ConfigDict, Field

from doyen.errors import UsageError
from doyen.feedback import LONGEST, MOST_PASSAGES, Feedback, FeedbackBook, resolve
from doyen.models.ticket import Ticket
from doyen.serving.access import Editor, Reader, audit, run, service_of
from doyen.serving.body import MOST_VERSION, Body
from doyen.serving.faults import HTTPFault, told
from doyen.serving.keys import Principal
from doyen.serving.service import Service

router = APIRouter(prefix="/api", tags=["Feedback"])


class Place(Body):
    """A passage: as `/api/ask` returns citations and passages; other fields are not looked at."""

    document: str = Field(min_length=1, max_length=4096)
    start: int = Field(ge=0)
    end: int = Field(ge=1)
    version: int | None = Field(default=None, ge=1, le=MOST_VERSION)


class FeedbackRequest(Body):
    """What a user says of an answer."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"question": "How long?", "answer": "A week.", "thumb": "down"}]}
    )
    question: str = Field(min_length=1, max_length=LONGEST)
    answer: str = Field(max_length=LONGEST)
    thumb: Literal["up", "down"]
    correction: str = Field(default="", max_length=LONGEST, description="The right answer.")
    comment: str = Field(default="", max_length=LONGEST)
    arm: str = Field(default="", max_length=40)
    adapter: str | None = Field(default=None, max_length=200)
    passages: list[Place] = Field(default=[], max_length=MOST_PASSAGES, description="The passages that were shown.")


class ReviewRequest(Body):
    """A reviewer's verdict; an edit gives what is to be changed."""

    verdict: Literal["accept", "edit", "reject"]
    question: str = Field(default="", max_length=LONGEST)
    answer: str = Field(default="", max_length=LONGEST)
    evidence: list[Place] = Field(default=[], max_length=MOST_PASSAGES)


@router.post("/feedback", status_code=201, summary="Say what you think of an answer", responses=told(409))
async def give(body: FeedbackRequest, request: Request, principal: Reader) -> dict[str, str]:
    """Keep it; it is on disk when this answers."""
    service = service_of(request)

    def work(ticket: Ticket) -> dict[str, str]:
        passages = resolve([p.model_dump() for p in body.passages], service.desk.viewer(principal).version)
        texts = {"correction": body.correction, "comment": body.comment, "arm": body.arm, "adapter": body.adapter or ""}
        book = FeedbackBook(service.desk.expert)
        row = book.add(principal.id, body.question, body.answer, body.thumb, **texts, passages=passages)
        audit(request, feedback=row.id, documents=sorted(row.documents))
        return {"id": row.id}

    return await run(request, service.quick, work)


@router.get("/feedback", summary="The review queue, the oldest first")
async def queue(
    request: Request,
    principal: Editor,
    state: Annotated[Literal["new", "accepted", "edited", "rejected", "all"], Query()] = "new",
    limit: Annotated[int, Query(ge=1, le=1000)] = 100,
) -> dict[str, Any]:
    """List it, without what shows documents, or what an adapter wrote, that are not for you."""
    service = service_of(request)

    def work(ticket: Ticket) -> dict[str, Any]:
        states = ("new", "accepted", "edited", "rejected") if state == "all" else (state,)
        rows = FeedbackBook(service.desk.expert).rows(states)
        free = _visible(service, principal, rows)
        audit(request, documents=sorted({d for r in free[:limit] for d in r.documents}))
        return {"feedback": [row.as_dict() for row in free[:limit]], "total": len(free)}

    return await run(request, service.quick, work)


@router.post("/feedback/{name}/review", summary="Accept, edit or reject feedback")
async def review(name: str, body: ReviewRequest, request: Request, principal: Editor) -> dict[str, Any]:
    """Review it: what is accepted or edited becomes an example, or a question to compare on."""
    service = service_of(request)

    def work(ticket: Ticket) -> dict[str, Any]:
        book, viewer = FeedbackBook(service.desk.expert), service.desk.viewer(principal)
        try:
            row = book.find(name)
            if not _visible(service, principal, [row]):
                raise UsageError(f"there is no feedback '{name[:40]}'", hint="doyen feedback list")
        except UsageError as error:
            raise HTTPFault(404, "feedback_not_found", str(error)) from None
        evidence = resolve([p.model_dump() for p in body.evidence], viewer.version)
        texts = {"question": body.question, "answer": body.answer}
        done = book.review(name, body.verdict, principal.id, **texts, evidence=evidence)
        audit(request, feedback=name, verdict=body.verdict)
        return done.as_dict()

    return await run(request, service.quick, work)


def _visible(service: Service, principal: Principal, rows: list[Feedback]) -> list[Feedback]:
    """Return the rows that someone may see: those that show only their documents, written by adapters that they may use.

    Without passages nothing says what an answer stood on: it may repeat anything, and is for its owner alone.
    """
    viewer = service.desk.viewer(principal)
    if viewer.sees_all:
        return rows
    hidden = viewer.hidden({d for row in rows for d in row.documents})
    adapters = {path.name for path in service.desk.adapters(principal)}

    def is_free(row: Feedback) -> bool:
        if row.owner == principal.id:
            return True
        trained = row.adapter or "finetuned" in row.arm
        return bool(row.documents or viewer.sees_others_work) and (not trained or row.adapter in adapters)

    return [row for row in rows if hidden.isdisjoint(row.documents) and is_free(row)]
