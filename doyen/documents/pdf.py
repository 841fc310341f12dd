"""PDF → text by page with headings and tables, through PDFium.

Pages without a text layer are read by OCR where that is installed, and named in the warnings where it is not.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any

from doyen.documents.extracted import PAGE_SEPARATOR, Extracted, one_line
from doyen.documents.pdf_columns import reading_order
from doyen.documents.pdf_contents import drop_contents
from doyen.documents.pdf_file import open_page, open_pdf
from doyen.documents.pdf_headings import Styled, heading_levels
from doyen.documents.pdf_layout import Block, compounds, drop_furniture, join_lines
from doyen.documents.pdf_lines import Line, LineReader, plain_lines
from doyen.documents.pdf_scans import ScanReader, scan_reader
from doyen.documents.pdf_tables import TableLines, find_tables
from doyen.errors import DocumentError
from doyen.records import Heading, Page, Table

if TYPE_CHECKING:
    import pypdfium2

MAX_PAGES = 10_000
MAX_PAGE_CHARS = 500_000
_EDGE_LINES = 2  # may stand between the end of a page and the table that goes on over it
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f\ufeff\uffff]")
_MEANINGLESS_TITLE = re.compile(
    r"untitled|microsoft (word|powerpoint|excel)\b|powerpoint presentation|slide \d|document\d*$"
    r"|.*\.(docx?|pdf|pptx?|xlsx?|indd|qxd|rtf|tex|dvi|html?)$",
    re.IGNORECASE,
)


def read_pdf(
    data: bytes,
    path: Path,
    passwords: Sequence[str] = (),
    *,
    max_pages: int = MAX_PAGES,
    read_scan: ScanReader | None = None,
) -> Extracted:
    """Read a PDF; every page becomes a Page, one without text an empty one that the warnings name.

    `read_scan` reads pages without a text layer in place of the installed OCR.
    Raises DocumentError for a broken file, one that none of the passwords opens, one of more than `max_pages` pages,
    and one without any text.
    """
    with open_pdf(data, path.name, passwords) as pdf:
        if len(pdf) > max_pages:
            raise DocumentError(
                f"{path.name} has {len(pdf):,} pages, the limit is {max_pages:,}", hint="split it into smaller files"
            )
        read = _read_pages(pdf, read_scan or scan_reader())
        named = str(pdf.get_metadata_value("Title") or "")
    if not any(read.pages) and (read.broken or read.overlong):
        raise DocumentError(f"{path.name} cannot be read: {'; '.join(read.warnings())}")
    if not any(read.pages):
        raise DocumentError(
            f"{path.name} has no text layer in its {len(read.pages)} pages; scanned pages need OCR",
            hint="run an OCR tool first (for example `ocrmypdf in.pdf out.pdf`)",
        )
    written = _Written(compounds(read.pages))
    for page in drop_contents(drop_furniture(read.pages)):
        written.add_page(page)
    text = "".join(written.parts)
    return Extracted(
        text,
        _title(named, text),
        tuple(written.pages),
        tuple(written.headings()),
        tables=tuple(written.tables),
        warnings=tuple(read.warnings()),
    )


@dataclass(slots=True)
class _Read:
    """The lines of every page; what could not be read, by page number."""

    pages: list[list[Line]] = field(default_factory=list)
    textless: list[int] = field(default_factory=list)
    broken: list[int] = field(default_factory=list)
    overlong: list[int] = field(default_factory=list)

    def warnings(self) -> Iterator[str]:
        if self.textless:
            yield f"no text layer on {_numbers(self.textless)}: empty pages, or scans that need OCR"
        if self.broken:
            yield f"{_numbers(self.broken)} cannot be read: damaged"
        if self.overlong:
            yield f"{_numbers(self.overlong)} left out: more than {MAX_PAGE_CHARS:,} characters on a page"


def _read_pages(pdf: pypdfium2.PdfDocument, scans: ScanReader | None) -> _Read:
    read = _Read()
    for index in range(len(pdf)):
        with open_page(pdf, index) as page:
            lines = _page_lines(page, read, index + 1)
            if not lines and page is not None and index + 1 not in read.overlong:
                lines = plain_lines(scans(page)) if scans else []
                if not lines:
                    read.textless.append(index + 1)
        read.pages.append(lines)
    return read


def _page_lines(page: Any, read: _Read, number: int) -> list[Line]:
    import pypdfium2

    if page is None:
        read.broken.append(number)
        return []
    try:
        text_page = page.get_textpage()
    except pypdfium2.PdfiumError:
        read.broken.append(number)
        return []
    try:
        if text_page.count_chars() > MAX_PAGE_CHARS:
            read.overlong.append(number)
            return []
        return reading_order(LineReader(text_page, page.get_rotation()).lines())
    finally:
        text_page.close()


def _numbers(pages: Sequence[int]) -> str:
    """Return page numbers as words: `page 3`, `pages 3, 7-9`."""
    runs = [[n for _, n in run] for _, run in groupby(enumerate(pages), key=lambda pair: pair[1] - pair[0])]
    shown = ", ".join(str(run[0]) if len(run) == 1 else f"{run[0]}-{run[-1]}" for run in runs)
    return f"page{'s' if len(pages) > 1 else ''} {shown}"


class _Written:
    """The document's text as it grows, with where its pages, tables and blocks lie in it."""

    def __init__(self, hyphened: frozenset[str]) -> None:
        self.hyphened = hyphened
        self.parts: list[str] = []
        self.pages: list[Page] = []
        self.tables: list[Table] = []
        self.blocks: list[tuple[int, Block]] = []
        self.open_table: TableLines | None = None  # the one at the end of the last page
        self.length = 0

    def add_page(self, lines: Sequence[Line]) -> None:
        if self.pages:
            self._write(PAGE_SEPARATOR)
        start = self.length
        rows, tables = find_tables(lines)
        tables = self._with_header(tables, len(rows))
        for table, run in groupby(join_lines(rows, tables, self.hyphened), key=lambda block: block.table):
            first = self.length + (self.length > start)
            for block in run:
                self._write("\n" * (self.length > start))
                self.blocks.append((self.length, block))
                self._write(block.text)
            if table is not None:
                self.tables.append(Table(first, self.length, table.header))
        self.pages.append(Page(len(self.pages) + 1, start, self.length))

    def _with_header(self, tables: list[TableLines], lines: int) -> list[TableLines]:
        """Give a table that goes on from the page before that page's header."""
        above = self.open_table
        if above and tables and tables[0].first <= _EDGE_LINES and above.goes_on_as(tables[0]):
            tables[0] = replace(tables[0], header=above.header)
        self.open_table = tables[-1] if tables and lines - tables[-1].last <= _EDGE_LINES else None
        return tables

    def _write(self, text: str) -> None:
        self.parts.append(text)
        self.length += len(text)

    def headings(self) -> Iterator[Heading]:
        styled = [Styled(b.text, b.line.size, b.line.bold, b.table is not None) for _, b in self.blocks]
        for (start, block), level in zip(self.blocks, heading_levels(styled), strict=True):
            if level:
                yield Heading(start, level, one_line(block.text))


def _title(named: str, text: str) -> str:
    named = one_line(_CONTROL.sub("", named))
    if len(re.findall(r"[^\W\d_]", named)) >= 3 and not _MEANINGLESS_TITLE.match(named):
        return named
    lines = (line.strip() for line in text[:5000].split("\n"))
    return next((one_line(line) for line in lines if len(re.findall(r"[^\W\d_]", line)) >= 3), "")
