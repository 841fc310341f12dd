"""`/api`: documents, their pages as pictures, uploads and the jobs that ingest them."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator, Sequence
from typing import Annotated, Any, BinaryIO

from fastapi import APIRouter, File, Form, Query, Request, Response, UploadFile
from pydantic import Field

from doyen.erasing import remove_documents
from doyen.errors import AccessError, ExpertError, StoreError, UsageError
from doyen.labelling import MOST_LABELS, read_labels
from doyen.models.ticket import Ticket
from doyen.serving.access import Editor, Reader, audit, not_found, run, service_of
from doyen.serving.body import MOST_VERSION
from doyen.serving.faults import HTTPFault, content, told
from doyen.serving.keys import Principal
from doyen.serving.seen import seen_job
from doyen.serving.service import Service
from doyen.serving.uploads import FOLDER, SOURCE_NAME, Incoming, remove_uploads
from doyen.sources.item import Item

router = APIRouter(prefix="/api", tags=["Documents"])
_MOST_FILES = 100
_PIECE = 1 << 20
_Quote = Annotated[str, Field(max_length=1500)]
_SHOWN = (
    "id",
    "title",
    "media_type",
    "version",
    "language",
    "modified_at",
    "pages",
    "chunks",
    "characters",
    "metadata",
)
_Labels = Annotated[
    list[str] | None,
    Form(description="Who may see them; none: as before, or as the rules say.", max_length=MOST_LABELS),
]
Id = Annotated[str, Query(alias="id", description="The document's id.", max_length=4096)]


@router.get("/documents", summary="The indexed documents, by id")
async def documents(
    request: Request,
    principal: Reader,
    offset: Annotated[int, Query(ge=0)] = 0,
    limit: Annotated[int, Query(ge=1, le=1000)] = 100,
    contains: Annotated[str, Query(description="Only ids and titles that hold this text.", max_length=200)] = "",
) -> dict[str, Any]:
    """List them."""
    desk = service_of(request).desk

    def work(ticket: Ticket) -> dict[str, Any]:
        viewer, sought = desk.viewer(principal), contains.casefold()
        found = [d for d in viewer.documents() if sought in d.id.casefold() or sought in d.title.casefold()]
        audit(request, listed=len(found))
        rows = [
            {name: getattr(d, name) for name in _SHOWN} | {"labels": viewer.labels(d.labels)}
            for d in found[offset : offset + limit]
        ]
        return {"documents": rows, "total": len(found)}

    return await run(request, service_of(request).quick, work)


@router.get("/document", summary="One document, with its text")
async def document(
    request: Request,
    principal: Reader,
    document: Id,
    version: Annotated[int | None, Query(ge=1, le=MOST_VERSION)] = None,
    text: Annotated[bool, Query(description="Return the extracted text.")] = False,
) -> dict[str, Any]:
    """Show it."""
    desk = service_of(request).desk

    def work(ticket: Ticket) -> dict[str, Any]:
        viewer = desk.viewer(principal)
        with not_found("document_not_found"):
            stored, body, pages = viewer.version(document, version)
        audit(request, documents=[document], version=stored.version)
        row = {name: getattr(stored, name) for name in ("version", "title", "media_type", "pages", "characters")}
        row |= {"id": stored.document, "current": stored.retired_at is None}
        row["labels"] = viewer.labels(stored.labels)
        row["versions"] = [v.version for v in viewer.versions(document)]
        row["page_offsets"] = [dataclasses.asdict(page) for page in pages]
        if stored.retired_at is None:
            row["summaries"] = [s.as_dict() for s in viewer.index.summaries_of([document]).get(document, ())]
        return row | ({"text": body} if text else {})

    return await run(request, service_of(request).quick, work)


@router.delete("/document", summary="Erase a document, its versions and original", responses=told(409))
async def delete(request: Request, document: Id, principal: Editor) -> dict[str, Any]:
    """Erase it everywhere: the index and its files, cached answers, conversations, and its upload."""
    service = service_of(request)
    expert = service.desk.expert

    def work(ticket: Ticket) -> dict[str, Any]:
        viewer = service.desk.viewer(principal)
        members = viewer.index.members([document])
        if viewer.hidden([document, *(m.document for m in members)]):
            raise HTTPFault(404, "document_not_found", f"not indexed: {document}")
        try:
            removed = remove_documents(expert, [document])
        except ExpertError as error:
            raise HTTPFault(404, "document_not_found", str(error)) from None
        except StoreError as error:
            if "is writing" not in str(error):
                raise
            raise HTTPFault(409, "busy", str(error), hint=error.hint) from None
        audit(request, removed=removed)
        remove_uploads(expert, {m.source for m in members})
        return {"removed": removed}

    return await run(request, service.quick, work)


@router.get(
    "/page-image",
    summary="A page as PNG, with quotes highlighted",
    response_class=Response,
    responses=content("image/png", "The picture"),
)
async def page_image(
    request: Request,
    principal: Reader,
    document: Annotated[str, Query(max_length=4096)],
    page: Annotated[int, Query(ge=1)],
    version: Annotated[int | None, Query(ge=1, le=MOST_VERSION)] = None,
    quote: Annotated[list[_Quote], Query(description="Texts to highlight.", max_length=10)] = [],  # noqa: B006
    scale: Annotated[float, Query(ge=0.2, le=4.0)] = 2.0,
) -> Response:
    """Draw it; `X-Doyen-Boxes` says where each quote stands, in shares of the page from its top left."""
    service = service_of(request)

    def work(ticket: Ticket) -> Any:
        with not_found("document_not_found"):
            stored, _, _ = service.desk.viewer(principal).version(document, version)
            audit(request, documents=[document], version=stored.version, page=page)
            return service.pages.draw(document, page, version=stored.version, quotes=tuple(quote), scale=scale)

    view = await run(request, service.quick, work)
    boxes = [[[round(v, 5) for v in (b.left, b.top, b.right, b.bottom)] for b in found] for found in view.boxes]
    headers = {"x-doyen-boxes": json.dumps(boxes, separators=(",", ":")), "cache-control": "private, max-age=600"}
    return Response(view.png, media_type="image/png", headers=headers)


# ---- uploads and jobs


@router.post("/upload", status_code=202, summary="Upload files; a job ingests them", responses=told(409))
async def upload(
    request: Request,
    principal: Editor,
    files: Annotated[list[UploadFile], File(description="The files; one of a name that is there replaces it.")],
    labels: _Labels = None,
) -> dict[str, Any]:
    """Keep the files and queue their ingest; with labels of your own, only who has one of them sees them."""
    service = service_of(request)
    service.desk.require_own()
    own = None if labels is None else read_labels(labels)
    if own and principal.visible is not None and not principal.labels.issuperset(own):
        raise AccessError(f"the key {principal.id} has not all of these labels", known=True)
    if len(files) > _MOST_FILES:
        raise UsageError(f"{len(files)} files; at most {_MOST_FILES} are taken at once")

    def work(ticket: Ticket) -> dict[str, Any]:
        incoming = Incoming(service.desk.expert)
        try:
            for file in files:
                incoming.add(file.filename or "", _pieces(file.file))
            _refuse_taken(service, principal, incoming.names)
            names = incoming.take_in(own)
        finally:
            incoming.clear()
        audit(request, uploaded=names, labels=own)
        source = str((service.desk.expert / FOLDER).resolve())
        return service.jobs.add(principal.id, "upload", source=source, name=SOURCE_NAME, files=names)

    return await run(request, service.quick, work)


def _refuse_taken(service: Service, principal: Principal, names: Sequence[str]) -> None:
    """Refuse to put a file in the place of one that they may not see."""
    folder, visible = (service.desk.expert / FOLDER).resolve(), principal.visible
    for name in names if visible is not None else ():
        path = folder / name
        there = Item(f"{SOURCE_NAME}/{name}", str(path), str(folder), name, path.read_bytes)
        if path.exists() and not visible.shows(service.desk.labeller(there)):  # type: ignore[union-attr]
            raise HTTPFault(409, "name_taken", f"'{name}' cannot be taken", hint="rename the file")


def _pieces(file: BinaryIO) -> Iterator[bytes]:
    while piece := file.read(_PIECE):
        yield piece


@router.post("/jobs", status_code=202, summary="Ingest all known sources again")
def ingest_again(request: Request, principal: Editor) -> dict[str, Any]:
    """Queue it."""
    service = service_of(request)
    service.desk.require_own()
    return seen_job(service.jobs.add(principal.id, "ingest"), service.desk.viewer(principal))


@router.get("/jobs", summary="The newest ingest jobs")
def jobs(request: Request, principal: Reader) -> dict[str, Any]:
    """List them."""
    service = service_of(request)
    viewer = service.desk.viewer(principal)
    rows = service.jobs.newest(owner="" if viewer.sees_others_work else principal.id)
    return {"jobs": [seen_job(row, viewer) for row in rows]}


@router.get("/jobs/{job}", summary="An ingest job: state, progress, report")
def show_job(job: str, request: Request, principal: Reader) -> dict[str, Any]:
    """Show it; `report.failed` says which files could not be read, and why."""
    return _job(request, job, principal)


def _job(request: Request, job: str, principal: Principal) -> dict[str, Any]:
    """Return a job as someone may see it: their own, or any where nothing has labels."""
    service = service_of(request)
    viewer = service.desk.viewer(principal)
    with not_found("job_not_found", UsageError):
        row = service.jobs.show(job)
        if row["owner"] != principal.id and not viewer.sees_others_work:
            raise UsageError(f"there is no job '{job[:40]}'", hint="GET /api/jobs lists them")
    return seen_job(row, viewer)


@router.delete("/jobs/{job}", summary="Stop an ingest job; what it read stays")
def cancel_job(job: str, request: Request, principal: Editor) -> dict[str, Any]:
    """Stop it."""
    _job(request, job, principal)
    service_of(request).jobs.cancel(job)
    return _job(request, job, principal)
