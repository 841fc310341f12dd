"""`/api`: documents, their pages as pictures, uploads and the jobs that ingest them."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator
from typing import Annotated, Any, BinaryIO

from fastapi import APIRouter, File, Query, Request, Response, UploadFile

from doyen.erasing import remove_documents
from doyen.errors import ExpertError, StoreError, UsageError
from doyen.models.ticket import Ticket
from doyen.serving.access import Editor, Reader, run, service_of
from doyen.serving.faults import HTTPFault
from doyen.serving.uploads import FOLDER, SOURCE_NAME, Incoming, remove_uploads

router = APIRouter(prefix="/api", tags=["Documents"])
_MOST_FILES = 100
_PIECE = 1 << 20
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
        if not desk.has_index:
            return {"documents": [], "total": 0}
        sought = contains.casefold()
        found = [
            d for d in desk.retriever.index.documents() if sought in d.id.casefold() or sought in d.title.casefold()
        ]
        rows = [{name: getattr(d, name) for name in _SHOWN} for d in found[offset : offset + limit]]
        return {"documents": rows, "total": len(found)}

    return await run(request, service_of(request).quick, work)


@router.get("/document", summary="One document, with its text")
async def document(
    request: Request,
    principal: Reader,
    document: Id,
    version: Annotated[int | None, Query(ge=1)] = None,
    text: Annotated[bool, Query(description="Return the extracted text.")] = False,
) -> dict[str, Any]:
    """Show it."""
    desk = service_of(request).desk

    def work(ticket: Ticket) -> dict[str, Any]:
        index = desk.retriever.index
        try:
            stored, body, pages = index.document_version(document, version=version)
        except StoreError as error:
            raise HTTPFault(404, "document_not_found", str(error)) from None
        row = {name: getattr(stored, name) for name in ("version", "title", "media_type", "pages", "characters")}
        row |= {"id": stored.document, "current": stored.retired_at is None}
        row["versions"] = [v.version for v in index.versions(document)]
        row["page_offsets"] = [dataclasses.asdict(page) for page in pages]
        if stored.retired_at is None:
            row["summaries"] = [s.as_dict() for s in index.summaries_of([document]).get(document, ())]
        return row | ({"text": body} if text else {})

    return await run(request, service_of(request).quick, work)


@router.delete("/document", summary="Erase a document, its versions and original")
async def delete(request: Request, document: Id, principal: Editor) -> dict[str, Any]:
    """Erase it everywhere: the index and its files, cached answers, conversations, and its upload."""
    service = service_of(request)
    expert = service.desk.expert

    def work(ticket: Ticket) -> dict[str, Any]:
        members = service.desk.retriever.index.members([document])
        try:
            removed = remove_documents(expert, [document])
        except ExpertError as error:
            raise HTTPFault(404, "document_not_found", str(error)) from None
        except StoreError as error:
            if "is writing" not in str(error):
                raise
            raise HTTPFault(409, "busy", str(error), hint=error.hint) from None
        remove_uploads(expert, {m.source for m in members})
        return {"removed": removed}

    return await run(request, service.quick, work)


@router.get("/page-image", summary="A page as PNG, with quotes highlighted", response_class=Response)
async def page_image(
    request: Request,
    principal: Reader,
    document: Annotated[str, Query(max_length=4096)],
    page: Annotated[int, Query(ge=1)],
    version: Annotated[int | None, Query(ge=1)] = None,
    quote: Annotated[list[str], Query(description="Texts to highlight.", max_length=10)] = [],  # noqa: B006
    scale: Annotated[float, Query(ge=0.2, le=4.0)] = 2.0,
) -> Response:
    """Draw it; `X-Doyen-Boxes` says where each quote stands, in shares of the page from its top left."""
    service = service_of(request)
    if any(len(q) > 4000 for q in quote):
        raise UsageError("a quote has at most 4,000 characters")

    def work(ticket: Ticket) -> Any:
        try:
            return service.pages.draw(document, page, version=version, quotes=tuple(quote), scale=scale)
        except StoreError as error:
            raise HTTPFault(404, "document_not_found", str(error)) from None

    view = await run(request, service.quick, work)
    boxes = [[[round(v, 5) for v in (b.left, b.top, b.right, b.bottom)] for b in found] for found in view.boxes]
    headers = {"x-doyen-boxes": json.dumps(boxes, separators=(",", ":")), "cache-control": "private, max-age=600"}
    return Response(view.png, media_type="image/png", headers=headers)


# ---- uploads and jobs


@router.post("/upload", status_code=202, summary="Upload files; a job ingests them")
async def upload(
    request: Request,
    principal: Editor,
    files: Annotated[list[UploadFile], File(description="The files; one of a name that is there replaces it.")],
) -> dict[str, Any]:
    """Keep the files and queue their ingest."""
    service = service_of(request)
    if len(files) > _MOST_FILES:
        raise UsageError(f"{len(files)} files; at most {_MOST_FILES} are taken at once")

    def work(ticket: Ticket) -> dict[str, Any]:
        incoming = Incoming(service.desk.expert)
        try:
            for file in files:
                incoming.add(file.filename or "", _pieces(file.file))
            names = incoming.take_in()
        finally:
            incoming.clear()
        source = str((service.desk.expert / FOLDER).resolve())
        return service.jobs.add(principal.id, "upload", source=source, name=SOURCE_NAME, files=names)

    return await run(request, service.quick, work)


def _pieces(file: BinaryIO) -> Iterator[bytes]:
    while piece := file.read(_PIECE):
        yield piece


@router.post("/jobs", status_code=202, summary="Ingest all known sources again")
def ingest_again(request: Request, principal: Editor) -> dict[str, Any]:
    """Queue it."""
    return service_of(request).jobs.add(principal.id, "ingest")


@router.get("/jobs", summary="The newest ingest jobs")
def jobs(request: Request, principal: Reader) -> dict[str, Any]:
    """List them."""
    return {"jobs": service_of(request).jobs.newest()}


@router.get("/jobs/{job}", summary="An ingest job: state, progress, report")
def show_job(job: str, request: Request, principal: Reader) -> dict[str, Any]:
    """Show it; `report.failed` says which files could not be read, and why."""
    try:
        return service_of(request).jobs.show(job)
    except UsageError as error:
        raise HTTPFault(404, "job_not_found", str(error), hint=error.hint) from None


@router.delete("/jobs/{job}", summary="Stop an ingest job; what it read stays")
def cancel_job(job: str, request: Request, principal: Editor) -> dict[str, Any]:
    """Stop it."""
    try:
        return service_of(request).jobs.cancel(job)
    except UsageError as error:
        raise HTTPFault(404, "job_not_found", str(error), hint=error.hint) from None
