"""The page's own files, as they lie in `doyen/serving/page`: the same for everybody, so none of them needs a key.

Knows no expert. What the page shows, it asks the API for.
"""

from __future__ import annotations

from functools import cache
from importlib import resources

from fastapi import APIRouter, Request, Response

from doyen.serving.faults import HTTPFault

router = APIRouter(include_in_schema=False)
FOLDER = "/page/"
FRAME = "frame.html"
"""Where reports are shown: their scripts may draw there, and reach neither the page nor any address."""
_TYPES = {
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".svg": "image/svg+xml",
}
PAGE_CSP = (
    "default-src 'self'; img-src 'self' blob:; object-src 'none'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'"
)
"""Neither inline scripts nor inline styles, nothing of another address, and no text that is made into HTML."""
FRAME_CSP = (
    "sandbox allow-scripts; default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; img-src data:; "
    "frame-ancestors 'self'"
)


@cache
def page_files() -> dict[str, bytes]:
    """Return all files of the page by their names."""
    folder = resources.files("doyen.serving").joinpath("page")
    found = {f.name: f.read_bytes() for f in folder.iterdir() if f.name.endswith(tuple(_TYPES))}
    assert "index.html" in found
    return found


def open_paths() -> frozenset[str]:
    """Return the paths that need no key: those of the page's files, each by its name."""
    return frozenset({"/", *(FOLDER + name for name in page_files())})


@router.get("/")
def index(request: Request) -> Response:
    """Return the page."""
    return _answer("index.html")


@router.get(FOLDER + "{name}")
def file(name: str, request: Request) -> Response:
    """Return one of its files, never a path made of the name."""
    if name not in page_files():
        raise HTTPFault(404, "not_found", f"the page has no file '{name[:80]}'")
    return _answer(name)


def _answer(name: str) -> Response:
    headers = {"content-security-policy": FRAME_CSP if name == FRAME else PAGE_CSP}
    headers |= {"x-frame-options": "SAMEORIGIN"} if name == FRAME else {}
    return Response(page_files()[name], media_type=_TYPES[name[name.rindex(".") :]], headers=headers)
