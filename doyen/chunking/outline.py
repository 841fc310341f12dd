"""Document → its structure as marks in its text: headings, rows, tables, code; and what each place belongs to.

Enters: a Document. Leaves: pieces of it in order, and the section path, table header, row key of a place. Knows no
sizes.
"""

from __future__ import annotations

import re
from bisect import bisect_left, bisect_right
from collections.abc import Iterator

from doyen.chunking.dividing import BODY, CODE, NONSPACE, RECORD, TABLE, Piece, Span
from doyen.records import Document, Table

_SETEXT = re.compile(r"\n {0,3}(?:=+|-+)[ \t]*(?=\n|\Z)")
_FENCE = re.compile(r"^[^\S\n]*(`{3,}|~{3,})([^\n]*)$", re.MULTILINE)


def regions(document: Document) -> Iterator[tuple[int, int, int | None]]:
    """Yield the spans that no chunk may leave, with their page numbers; text between pages has none."""
    position = 0
    for page in document.pages:
        start, end = max(position, page.start), min(page.end, len(document.text))
        if position < start:
            yield position, start, None
        if start < end:
            yield start, end, page.number
        position = max(position, end)
    if position < len(document.text):
        yield position, len(document.text), None


class Outline:
    """The document's headings, rows, tables and code as marks in its text, and the section path of every heading."""

    def __init__(self, document: Document) -> None:
        self.document = document
        self.marks = _marks(document)
        self.starts = [mark[0] for mark in self.marks]
        self.paths = self._paths()
        self.heading_starts = [start for start, _ in self.paths]
        self.records: list[Span] = [(record.start, record.end) for record in document.records]
        self.record_starts = [start for start, _ in self.records]
        self.tables = sorted(document.tables, key=lambda table: table.start)
        self.table_starts = [table.start for table in self.tables]

    def _paths(self) -> list[tuple[int, tuple[str, ...]]]:
        """Return every heading's start with the titles of the headings in force there, itself the last."""
        paths: list[tuple[int, tuple[str, ...]]] = []
        open_: list[tuple[int, str]] = []
        title = self.document.title.casefold().split()
        for heading in sorted(self.document.headings, key=lambda h: h.start):
            while open_ and open_[-1][0] >= heading.level:
                open_.pop()
            open_.append((heading.level, heading.title))
            paths.append((heading.start, tuple(t for _, t in open_ if t and t.casefold().split() != title)))
        return paths

    def pieces(self, start: int, end: int) -> list[Piece]:
        """Return the marks and the bodies between them in `[start, end)`, in order and without gaps."""
        pieces: list[Piece] = []
        position = start
        first = max(bisect_right(self.starts, start) - 1, 0)
        for mark_start, mark_end, kind in self.marks[first : bisect_left(self.starts, end)]:
            mark_start, mark_end = max(mark_start, position), min(mark_end, end)
            if mark_start >= mark_end:
                continue
            pieces += [(position, mark_start, BODY), (mark_start, mark_end, kind)]
            position = mark_end
        return [*pieces, (position, end, BODY)]

    def section(self, start: int, end: int) -> tuple[str, ...]:
        """Return the headings in force at the first text in `[start, end)` that is no heading itself."""
        position = start
        index = bisect_left(self.starts, position)
        while index < len(self.marks) and self.marks[index][0] == position and self.marks[index][2] < 0:
            found = NONSPACE.search(self.document.text, self.marks[index][1], end)
            if found is None:
                break
            position, index = found.start(), index + 1
        at = bisect_right(self.heading_starts, position) - 1
        return self.paths[at][1] if at >= 0 else ()

    def table(self, position: int) -> Table | None:
        """Return the table around a character."""
        at = bisect_right(self.table_starts, position) - 1
        return self.tables[at] if at >= 0 and position < self.tables[at].end else None

    def header(self, start: int) -> str:
        """Return the header that a chunk from `start` on must repeat: that of the table it begins in the middle of."""
        table = self.table(start)
        return table.header if table is not None and table.start < start else ""

    def record(self, start: int, end: int) -> str | None:
        """Return the key of the row in the span, or `first-last` of several."""
        records = self.document.records
        first = max(bisect_right(self.record_starts, start) - 1, 0)
        last = bisect_left(self.record_starts, end)
        keys = [record.key for record in records[first:last] if record.end > start]
        if not keys:
            return None
        return keys[0] if len(keys) == 1 else f"{keys[0]}-{keys[-1]}"


def _marks(document: Document) -> list[Piece]:
    """Return tables, code, rows and heading lines in order; what lies in another is part of it."""
    text = document.text
    marks: list[Piece] = [(t.start, min(t.end, len(text)), TABLE) for t in document.tables]
    marks += [(r.start, min(r.end, len(text)), RECORD) for r in document.records]
    marks += [(start, end, CODE) for start, end in _fenced_code(text)]
    for heading in document.headings:
        end = text.find("\n", heading.start)
        end = len(text) if end < 0 else end
        underline = _SETEXT.match(text, end)
        marks.append((heading.start, underline.end() if underline else end, -max(heading.level, 1)))
    marks.sort(key=lambda mark: (mark[0], -mark[2]))
    kept: list[Piece] = []
    for mark in marks:
        if mark[0] < mark[1] and (not kept or mark[0] >= kept[-1][1]):
            kept.append(mark)
    return kept


def _fenced_code(text: str) -> Iterator[Span]:
    """Yield the closed code fences (CommonMark 0.31, section 4.5); one that is never closed is text here."""
    opened = None
    for fence in _FENCE.finditer(text):
        marks, rest = fence.group(1), fence.group(2)
        if opened is None:
            opened = None if marks[0] == "`" and "`" in rest else fence
        elif marks.startswith(opened.group(1)) and not rest.strip():
            yield opened.start(), fence.end()
            opened = None
