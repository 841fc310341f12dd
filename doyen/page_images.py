"""A page of an indexed document as a picture, of the version that was cited.

Enters: an expert, a document's id, a page. Leaves: PNG bytes with quotes highlighted. The file's bytes come from the
originals, from the file that holds it, or from the source if that is unchanged: what counts is the hash.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath

from doyen.config import load_settings
from doyen.documents.archive import Budget, members
from doyen.documents.extracted import Part
from doyen.documents.pdf_view import PageView, draw_page
from doyen.documents.reading import ARCHIVES, MAX_DEPTH, READERS
from doyen.errors import DocumentError, UsageError
from doyen.index.rows import StoredVersion
from doyen.ingesting import open_index, writing_experts
from doyen.originals import original_path

PDF = "application/pdf"


def page_image(
    expert: Path,
    document: str,
    page: int,
    *,
    version: int | None = None,
    quotes: Sequence[str] = (),
    scale: float = 2.0,
    passwords: Sequence[str] = (),
) -> PageView:
    """Draw page `page` (from 1) of a document, of its current version if none is named.

    Raises:
        StoreError: the document is not indexed, or not in that version.
        DocumentError: its file is not kept and the source has changed or gone, or there is no such page.
        UsageError: it is no PDF.
    """
    stored, _, _ = open_index(expert, load_settings(expert)).document_version(document, version=version)
    name = PurePosixPath(document).name
    if stored.media_type != PDF:
        kept = _kept(expert, stored.sha256)
        raise UsageError(
            f"{document} is no PDF ({stored.media_type}); only PDF pages are drawn",
            hint=f"its original is {kept}" if kept else "doyen documents show ID --text prints its text",
        )
    return draw_page(original_bytes(expert, stored, passwords), page, quotes, scale, passwords, name)


def original_bytes(expert: Path, stored: StoredVersion, passwords: Sequence[str] = ()) -> bytes:
    """Return the bytes of the file that a version was read from. Raises DocumentError if they are nowhere any more."""
    for path, name in _places(expert, stored):
        found = _with_hash(path.read_bytes(), name, stored.sha256, passwords)
        if found is not None:
            return found
    raise DocumentError(
        f"the file of {stored.document} (version {stored.version}) is not kept, and {stored.source} is another now",
        hint='[documents] keep_originals = "paged" keeps such files from the next ingest on',
    )


def _places(expert: Path, stored: StoredVersion) -> Iterator[tuple[Path, str]]:
    """Yield where the bytes may be, with the name that picks a reader."""
    for sha256, name in ((stored.sha256, stored.document), (stored.item_sha256, stored.item)):
        path = _kept(expert, sha256)
        if path is not None:
            yield path, name
    source = Path(stored.source)
    if source.is_file():
        yield source, source.name


def _kept(expert: Path, sha256: str) -> Path | None:
    """Return the copy of a file, where the expert or one that it joins has it."""
    folders = writing_experts(expert, load_settings(expert))
    return next((path for folder in folders if (path := original_path(folder, sha256))), None)


def _with_hash(data: bytes, name: str, sha256: str, passwords: Sequence[str], depth: int = 0) -> bytes | None:
    """Return the bytes with this hash: the file itself, or one within it."""
    if hashlib.sha256(data).hexdigest() == sha256:
        return data
    if depth == MAX_DEPTH:
        return None
    parts = (_with_hash(p.data, p.name, sha256, passwords, depth + 1) for p in _parts(data, name, passwords))
    return next((found for found in parts if found is not None), None)


def _parts(data: bytes, name: str, passwords: Sequence[str]) -> Iterator[Part]:
    suffix = PurePosixPath(name).suffix.lower()
    try:
        if suffix in ARCHIVES:
            found = members(data, name, lambda _: True, Budget(), passwords)
            yield from (member for member in found if isinstance(member, Part))
        elif suffix in READERS:
            yield from READERS[suffix](data, Path(name)).parts
    except Exception:  # the edge: a parser may fail in any way, and then there is nothing in it
        return
