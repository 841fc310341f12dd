"""Bytes → Documents: picks the reader by suffix, fills title, hash and language, and opens what holds files.

Knows no format by itself; every fault of a file leaves here as a DocumentError, every fault of a file within a file
as a failure beside the others.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from doyen.documents.archive import Budget, members, safe_name
from doyen.documents.csv_table import read_table
from doyen.documents.docx import read_docx
from doyen.documents.epub import read_epub
from doyen.documents.extracted import Extracted, Part, title_from_path
from doyen.documents.html import read_html
from doyen.documents.image import IMAGE_SUFFIXES, read_image
from doyen.documents.json_text import read_json, read_jsonl
from doyen.documents.language import detect_language
from doyen.documents.mail import read_eml
from doyen.documents.markdown import read_markdown
from doyen.documents.ocr import ocr_available
from doyen.documents.office_lock import OFFICE_SUFFIXES, unlock_office
from doyen.documents.opendocument import read_odt
from doyen.documents.outlook import read_msg
from doyen.documents.parquet import read_parquet
from doyen.documents.pdf import read_pdf
from doyen.documents.plain import read_plain
from doyen.documents.presentation import read_pptx
from doyen.documents.record import read_record
from doyen.documents.rtf import read_rtf
from doyen.documents.signature import check_kind
from doyen.documents.spreadsheet import read_spreadsheet
from doyen.documents.xml import read_xml
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
    ".xhtml": read_html,
    ".pdf": read_pdf,
    ".docx": read_docx,
    ".odt": read_odt,
    ".rtf": read_rtf,
    ".pptx": read_pptx,
    ".epub": read_epub,
    ".eml": read_eml,
    ".msg": read_msg,
    ".csv": read_table,
    ".tsv": read_table,
    ".record": read_record,
    ".xlsx": read_spreadsheet,
    ".xlsm": read_spreadsheet,
    ".xlsb": read_spreadsheet,
    ".xls": read_spreadsheet,
    ".ods": read_spreadsheet,
    ".parquet": read_parquet,
    ".json": read_json,
    ".jsonl": read_jsonl,
    ".ndjson": read_jsonl,
    ".xml": read_xml,
    **dict.fromkeys(sorted(IMAGE_SUFFIXES), read_image),
}
"""What reads a suffix. Office files are decrypted before."""
LOCKABLE: dict[str, Callable[[bytes, Path, Sequence[str]], Extracted]] = {".pdf": read_pdf}
"""Readers that try passwords themselves, in place of those in READERS."""
ARCHIVES = frozenset((".zip",))
MEDIA_TYPES = {
    ".txt": "text/plain",
    ".text": "text/plain",
    ".log": "text/plain",
    ".md": "text/markdown",
    ".markdown": "text/markdown",
    ".html": "text/html",
    ".htm": "text/html",
    ".xhtml": "application/xhtml+xml",
    ".pdf": "application/pdf",
    ".docx": "application/vnd.openxmlformats-officedocument.wordprocessingml.document",
    ".odt": "application/vnd.oasis.opendocument.text",
    ".rtf": "application/rtf",
    ".pptx": "application/vnd.openxmlformats-officedocument.presentationml.presentation",
    ".epub": "application/epub+zip",
    ".eml": "message/rfc822",
    ".msg": "application/vnd.ms-outlook",
    ".csv": "text/csv",
    ".tsv": "text/tab-separated-values",
    ".record": "application/json",
    ".xlsx": "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet",
    ".xlsm": "application/vnd.ms-excel.sheet.macroEnabled.12",
    ".xlsb": "application/vnd.ms-excel.sheet.binary.macroEnabled.12",
    ".xls": "application/vnd.ms-excel",
    ".ods": "application/vnd.oasis.opendocument.spreadsheet",
    ".parquet": "application/vnd.apache.parquet",
    ".json": "application/json",
    ".jsonl": "application/jsonl",
    ".ndjson": "application/jsonl",
    ".xml": "application/xml",
    ".png": "image/png",
    ".jpg": "image/jpeg",
    ".jpeg": "image/jpeg",
    ".tif": "image/tiff",
    ".tiff": "image/tiff",
    ".webp": "image/webp",
    ".bmp": "image/bmp",
}
SUFFIXES: frozenset[str] = frozenset(READERS) - (frozenset() if ocr_available() else IMAGE_SUFFIXES) | ARCHIVES
"""What a folder's files may end in to be read: pictures only where OCR is installed."""

MAX_DEPTH = 4
"""How deep files may lie within files: a mail in an archive in a mail in an archive."""
_MAX_REASON_CHARS = 400


@dataclass(frozen=True, slots=True)
class ReadResult:
    """The documents of one item, its own first; failures and warnings are (document id, one-line reason)."""

    documents: list[Document] = field(default_factory=list)
    failures: list[tuple[str, str]] = field(default_factory=list)
    warnings: list[tuple[str, str]] = field(default_factory=list)


def read_document(path: Path, document_id: str, data: bytes | None = None) -> Document:
    """Read a file, or `data` in its place, into one Document with the given id; files within it are not read.

    Raises DocumentError with a one-line reason for every file that cannot be read: missing, empty, binary,
    encrypted, damaged, without text, or of an unknown suffix.
    """
    if path.suffix.lower() in ARCHIVES:
        raise DocumentError(f"{path.name} is an archive of files, not one document", hint="use read_documents")
    _check_suffix(path)
    data = _read_bytes(path) if data is None else data
    modified_at = path.stat().st_mtime if path.is_file() else 0.0
    document, _ = _read_one(data, path, document_id, (), source=str(path.absolute()), modified_at=modified_at)
    return document


def read_documents(
    data: bytes,
    name: str,
    document_id: str,
    *,
    source: str = "",
    modified_at: float = 0.0,
    labels: tuple[str, ...] = (),
    passwords: Sequence[str] = (),
) -> ReadResult:
    """Read the bytes of an item called `name` and every file in it, to a depth of four.

    A file within has the id `<document_id>/<its path>`. Raises DocumentError for a fault of the item itself; a fault
    of a file within is a failure.
    """
    reading = _Reading(source, modified_at, labels, tuple(passwords))
    reading.read(data, PurePosixPath(safe_name(name)).name, document_id, depth=0)
    if not reading.result.documents and not reading.result.failures:
        kinds = "; ".join(reason for _, reason in reading.result.warnings)
        raise DocumentError(f"{name} holds no file that can be read" + (f" ({kinds})" if kinds else ""))
    return reading.result


class _Reading:
    """One item being read: what all files within it share."""

    def __init__(self, source: str, modified_at: float, labels: tuple[str, ...], passwords: tuple[str, ...]) -> None:
        self.source = source
        self.modified_at = modified_at
        self.labels = labels
        self.passwords = passwords
        self.budget = Budget()
        self.result = ReadResult()
        self.ids: set[str] = set()

    def read(self, data: bytes, name: str, document_id: str, depth: int, parent: str = "") -> None:
        """Read one file and the files within it; raises DocumentError for a fault of this file."""
        path = Path(name)
        _check_suffix(path)
        if path.suffix.lower() in ARCHIVES:
            self._read_archive(data, path, document_id, depth)
            return
        document, extracted = _read_one(
            data, path, document_id, self.passwords, self.source, self.modified_at, self.labels, parent
        )
        self.result.documents.append(document)
        self.result.warnings.extend((document_id, warning) for warning in extracted.warnings)
        self._read_parts(extracted.parts, document_id, depth)

    def _read_archive(self, data: bytes, path: Path, document_id: str, depth: int) -> None:
        if not data:
            raise DocumentError(f"{path.name} is empty (0 bytes)")
        check_kind(data, path.suffix.lower(), path.name)
        skipped: Counter[str] = Counter()

        def wanted(name: str) -> bool:
            return _is_wanted(name, skipped)

        for member in members(data, path.name, wanted, self.budget, self.passwords):
            if isinstance(member, Part):
                self._read_part(member, document_id, depth)
            else:
                name, error = member
                self._fail(self._id(document_id, name), error)
        self._note_skipped(document_id, skipped)

    def _read_parts(self, parts: Iterable[Part], document_id: str, depth: int) -> None:
        skipped: Counter[str] = Counter()
        for part in parts:
            named = Part(safe_name(part.name), part.data)
            if not _is_wanted(named.name, skipped):
                continue
            if self.budget.take(len(part.data)):
                self._read_part(named, document_id, depth)
            else:
                self._fail(self._id(document_id, named.name), DocumentError(f"{named.name} is one file too many"))
        self._note_skipped(document_id, skipped)

    def _read_part(self, part: Part, parent: str, depth: int) -> None:
        part_id = self._id(parent, part.name)
        try:
            if depth >= MAX_DEPTH:
                raise DocumentError(f"{part.name} lies deeper than {MAX_DEPTH} files within files")
            self.read(part.data, PurePosixPath(part.name).name, part_id, depth + 1, parent)
        except DocumentError as error:
            self._fail(part_id, error)

    def _id(self, parent: str, name: str) -> str:
        """Return the id of a part; a second one of the same name gets a number."""
        part_id, number = f"{parent}/{name}", 1
        while part_id in self.ids:
            number += 1
            path = PurePosixPath(name)
            part_id = f"{parent}/{path.with_name(f'{path.stem} ({number}){path.suffix}')}"
        self.ids.add(part_id)
        return part_id

    def _fail(self, document_id: str, error: DocumentError) -> None:
        reason = f"{error} ({error.hint})" if error.hint else str(error)
        self.result.failures.append((document_id, " ".join(reason.split())[:_MAX_REASON_CHARS]))

    def _note_skipped(self, document_id: str, skipped: Counter[str]) -> None:
        if skipped:
            kinds = " ".join(sorted(skipped))
            self.result.warnings.append((document_id, f"{skipped.total()} files in it are of other formats: {kinds}"))


def _is_wanted(name: str, skipped: Counter[str]) -> bool:
    """Tell whether a file within a file can be read; count it by suffix if not, unless it is a system's own file."""
    pieces = PurePosixPath(name).parts
    if any(piece.startswith((".", "~$")) or piece == "__MACOSX" for piece in pieces):
        return False
    suffix = PurePosixPath(name).suffix.lower()
    if suffix in SUFFIXES:
        return True
    skipped[suffix or "(none)"] += 1
    return False


def _check_suffix(path: Path) -> None:
    suffix = path.suffix.lower()
    if suffix not in READERS and suffix not in ARCHIVES:
        known = " ".join(sorted(SUFFIXES))
        raise DocumentError(f"{path.name} has the unknown suffix {suffix or '(none)'}", hint=f"supported are {known}")


def _read_one(
    data: bytes,
    path: Path,
    document_id: str,
    passwords: Sequence[str],
    source: str = "",
    modified_at: float = 0.0,
    labels: tuple[str, ...] = (),
    parent: str = "",
) -> tuple[Document, Extracted]:
    if not data:
        raise DocumentError(f"{path.name} is empty (0 bytes)")
    extracted = _extract(data, path, passwords)
    if not extracted.text.strip():
        raise DocumentError(f"{path.name} has no text in it")
    document = Document(
        id=document_id,
        text=extracted.text,
        title=extracted.title or title_from_path(path),
        media_type=MEDIA_TYPES[path.suffix.lower()],
        sha256=hashlib.sha256(data).hexdigest(),
        source=source,
        language=detect_language(extracted.text),
        pages=extracted.pages,
        headings=extracted.headings,
        records=extracted.records,
        tables=extracted.tables,
        labels=labels,
        modified_at=modified_at,
        metadata=(*extracted.metadata, ("part_of", parent)) if parent else extracted.metadata,
    )
    return document, extracted


def _extract(data: bytes, path: Path, passwords: Sequence[str]) -> Extracted:
    suffix = path.suffix.lower()
    try:
        if suffix in OFFICE_SUFFIXES:
            data = unlock_office(data, suffix, path.name, passwords)
        check_kind(data, suffix, path.name)
        if suffix in LOCKABLE:
            return LOCKABLE[suffix](data, path, passwords)
        return READERS[suffix](data, path)
    except DocumentError:
        raise
    except RecursionError as error:
        raise DocumentError(f"{path.name} is nested too deeply") from error
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
