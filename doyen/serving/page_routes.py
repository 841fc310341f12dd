"""`/api`: what the page needs beside the rest: who it talks for, and a passage within the text around it."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Query, Request

from doyen.errors import UsageError
from doyen.serving import documents_routes
from doyen.serving.access import Reader, service_of
from doyen.serving.body import MOST_VERSION

router = APIRouter(prefix="/api", tags=["Expert"])
_MOST_AROUND = 20_000
_LONGEST = 50_000


@router.get("/me", summary="Whose key this is, and what can be asked")
def me(request: Request, principal: Reader) -> dict[str, Any]:
    """Say so."""
    service = service_of(request)
    own = service.desk.status(principal)
    row = {"name": principal.name, "role": principal.role, "keys": service.keys.closed}
    row |= {"expert": service.desk.expert.resolve().name, "documents": service.desk.has_index}
    return row | {
        "models": own["models"],
        "default": own["default"],
        "upload_mib": service.desk.settings.serve.upload_mib,
    }


@router.get("/passage", summary="A passage of a document, within the text around it")
async def passage(
    request: Request,
    principal: Reader,
    document: Annotated[str, Query(max_length=4096)],
    start: Annotated[int, Query(ge=0, description="First character of the passage.")] = 0,
    end: Annotated[int | None, Query(ge=0, description="Character behind its last; none: nothing is marked.")] = None,
    version: Annotated[int | None, Query(ge=1, le=MOST_VERSION)] = None,
    around: Annotated[
        int, Query(ge=0, le=_MOST_AROUND, description="Characters before and after, to whole lines.")
    ] = 1500,
) -> dict[str, Any]:
    """Show it; who may not see the document is told what `/api/document` tells them."""
    last = start if end is None else end
    if not start <= last <= start + _LONGEST:
        raise UsageError(f"a passage ends behind its start, and has at most {_LONGEST:,} characters")
    row: dict[str, Any] = await documents_routes.document(
        request=request, principal=principal, document=document, version=version, text=True
    )
    text = row.pop("text")
    row.pop("summaries", None)
    offsets = row.pop("page_offsets")
    first, behind = _whole_lines(text, start - around, last + around, around)
    page = next((p["number"] for p in offsets if p["start"] <= start < p["end"]), None)
    parts = {"before": text[first:start], "passage": text[start:last], "after": text[last:behind]}
    return row | {"page": page, "start": start, "end": last, "from": first, "to": behind} | parts


def _whole_lines(text: str, start: int, end: int, slack: int) -> tuple[int, int]:
    """Return a range widened to whole lines, by at most `slack` characters on either side."""
    start, end = max(0, start), min(len(text), end)
    line = text.rfind("\n", max(0, start - slack), start)
    start = line + 1 if line >= 0 else 0 if start <= slack else start
    line = text.find("\n", end, end + slack)
    return start, line if line >= 0 else len(text) if len(text) - end <= slack else end
