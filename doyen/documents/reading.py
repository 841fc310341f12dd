"""One file → one Document: reads the bytes, picks the reader by suffix, fills title, hash and language.

Knows no format by itself; every fault of a file leaves here as a DocumentError.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path

from doyen.documents.csv_table import read_table
from doyen.documents.docx import read_docx
from doyen.documents.extracted import Extracted, title_from_path
from doyen.documents.html import read_html
from doyen.documents.language import detect_language
from doyen.documents.markdown import read_markdown
from doyen.documents.pdf import read_pdf
from doyen.documents.plain import read_plain
from doyen.errors import DocumentError
from doyen.records import Document

READERS: dict[str, Callable[[bytes, Path], Extracted]] = {
    ".txt": read_plain,
    ".text": read_plain,
    ".log": read_plain,
    ".md": read_markdown,
    ".markdown": read_markdown,
    ".html": read_html,
    ".htm": read_html,
    ".pdf": read_pdf,
    ".docx": read_docx,
    ".csv": read_table,
    ".tsv": read_table,
}
MEDIA_TYPES = {
    ".txt": "text/plain",
    ".text": "text/plain",
    ".log": "text/plain",
    ".md": "text/markdown",
    ".markdown": "text/markdown",
    ".html": "text/html",
    ".htm": "text/html",
    ".pdf": "application/pdf",
    ".docx": "application/vnd.openxmlformats-officedocument.wordprocessingml.document",
    ".csv": "text/csv",
    ".tsv": "text/tab-separated-values",
}
SUFFIXES: frozenset[str] = frozenset(READERS)


def read_document(path: Path, document_id: str, data: bytes | None = None) -> Document:
    """Read a file, or `data` in its place, into a Document with the given id.

    Raises DocumentError with a one-line reason for every file that cannot be read: missing, empty, binary,
    encrypted, damaged, without text, or of an unknown suffix.
    """
    suffix = path.suffix.lower()
    if suffix not in READERS:
        known = " ".join(sorted(SUFFIXES))
        raise DocumentError(f"{path.name} has the unknown suffix {suffix or '(none)'}", hint=f"supported are {known}")
    data = _read_bytes(path) if data is None else data
    if not data:
        raise DocumentError(f"{path.name} is empty (0 bytes)")
    extracted = _extract(data, path, suffix)
    if not extracted.text.strip():
        raise DocumentError(f"{path.name} has no text in it")
    return Document(
        id=document_id,
        text=extracted.text,
        title=extracted.title or title_from_path(path),
        media_type=MEDIA_TYPES[suffix],
        sha256=hashlib.sha256(data).hexdigest(),
        source=str(path.absolute()),
        language=detect_language(extracted.text),
        pages=extracted.pages,
        headings=extracted.headings,
        records=extracted.records,
        tables=extracted.tables,
        modified_at=path.stat().st_mtime if path.is_file() else 0.0,
    )


def _extract(data: bytes, path: Path, suffix: str) -> Extracted:
    try:
        return READERS[suffix](data, path)
    except DocumentError:
        raise
    except Exception as error:  # the edge: a parser may fail in ways that its documentation does not list
        raise DocumentError(
            f"{path.name} cannot be read ({type(error).__name__}: {' '.join(str(error).split())})"[:300]
        ) from error


def _read_bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError as error:
        raise DocumentError(f"{path} does not exist") from error
    except OSError as error:
        raise DocumentError(f"{path} cannot be opened ({error.strerror})") from error
