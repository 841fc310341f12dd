"""A PDFium text page → its printed lines with their place, size and cells.

Leaves lines in the order in which PDFium gives them; knows nothing of columns, tables and paragraphs.
"""

from __future__ import annotations

import ctypes
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from math import hypot
from typing import Any

HYPHEN = "\ufffe"  # ends a line whose last word goes on in the next line
_SAME_LINE_EM = 0.7  # a superscript may end a line
_WIDE_GAP_EM = 1.0  # a space wider than this parts two cells
_PLAIN_CHARS = 60  # longer lines without digits are prose; their spaces are measured only on suspicion
_PROSE_EM = 0.56  # the average advance of a letter that hints at wide gaps in a line
_SAMPLE = 5
_MAX_CELL_CHARS = 400
_SPACES = {0xA0: " ", 0x2009: " ", 0x2007: " ", 0x202F: " ", 0x3000: " ", 0x09: " ", 0x02: HYPHEN}
_BREAK = re.compile("(?:\ufffe[ ]*)?\r?\n|\ufffe[ ]*|\r")
_ODD = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\xad\ufeff\uffff\ufffe]")
_LEADERS = re.compile(r"\s*(?:\.{4,}|(?:\. ){3,}\.?|…{2,}|_{4,})[.\s]*")
_BOLD = re.compile(rb"bold|black|heavy|semibd|demi", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Cell:
    """A part of a line that wide gaps set apart."""

    text: str
    left: float
    right: float


@dataclass(frozen=True, slots=True)
class Line:
    """A printed line; `base` is its baseline and `size` its letters' height, in points from the page's bottom left.

    A line that could not be measured has `size` 0. `led` says that dotted leaders were taken out of it.
    """

    text: str
    left: float = 0.0
    right: float = 0.0
    base: float = 0.0
    size: float = 0.0
    cells: tuple[Cell, ...] = ()
    bold: bool = False
    led: bool = False

    @property
    def hyphenated(self) -> bool:
        """Whether the last word goes on in the next line."""
        return self.text.endswith(HYPHEN)


def line_of(cells: Sequence[Cell], like: Line) -> Line:
    """Return a line of these cells with the baseline and the type of `like`."""
    text = " ".join(cell.text for cell in cells)
    left, right = min(c.left for c in cells), max(c.right for c in cells)
    return replace(like, text=text, left=left, right=right, cells=tuple(cells))


def plain_lines(text: str) -> list[Line]:
    """Return the lines of a text without their places."""
    return [Line(cleaned) for raw in text.splitlines() if (cleaned := _clean(raw.translate(_SPACES)))]


class LineReader:
    """Measures the lines of one text page; `rotation` is the page's, in degrees clockwise."""

    def __init__(self, text_page: Any, rotation: int = 0) -> None:
        import pypdfium2.raw as pdfium

        self._page = text_page.raw
        self._turn = rotation // 90 % 4
        self._x, self._y, self._right, self._top = (ctypes.c_double() for _ in range(4))
        self._refs = [ctypes.byref(v) for v in (self._x, self._right, self._y, self._top)]
        self._matrix = pdfium.FS_MATRIX()
        self._name = ctypes.create_string_buffer(128)
        self._flags = ctypes.c_int()
        self._pdfium = pdfium
        self.text = str(text_page.get_text_range()).translate(_SPACES)
        count = text_page.count_chars()
        self._index = None if count == len(self.text) else self._indices(len(self.text))

    def lines(self) -> list[Line]:
        """Return the page's lines; without places where the text does not run from left to right."""
        kept: list[tuple[tuple[int, int], Line]] = []
        odd = 0
        for whole in _spans(self.text):
            line = self._line(*whole)
            for span in [whole] if line else self._printed(*whole):
                line = line or self._line(*span)
                odd += line is None
                kept.append((span, line or self._unmeasured(span, kept)))
                line = None
        if odd > len(kept) // 4:
            return plain_lines(self.text.replace(HYPHEN, HYPHEN + "\n"))
        if self._hides_gaps(kept):
            kept = [(span, self._split(span, line)) for span, line in kept]
        return [line for _, line in kept if line.text]

    def _printed(self, start: int, end: int) -> Iterator[tuple[int, int]]:
        """Yield the printed lines of what PDFium took for one line."""
        begun, (left, base), size = start, self._origin(start), self._size(start)
        at = self.text.find(" ", start, end)
        while at >= 0:
            if self.text[at + 1] != " ":
                x, y = self._origin(at + 1)
                if abs(y - base) > _SAME_LINE_EM * size or x < left:
                    yield from _stripped(self.text, begun, at)
                    begun, base, size = at + 1, y, self._size(at + 1)
                left = x
            at = self.text.find(" ", at + 1, end)
        yield from _stripped(self.text, begun, end)

    def _unmeasured(self, span: tuple[int, int], above: Sequence[tuple[tuple[int, int], Line]]) -> Line:
        """Return a line that has no place of its own where the one above it has: text is never lost."""
        text = _clean(self.text[span[0] : span[1]])
        if not above or not above[-1][1].size:
            return Line(text)
        last = above[-1][1]
        return replace(last, text=text, base=last.base - last.size, cells=(), bold=False, led=False)

    def _hides_gaps(self, measured: Sequence[tuple[tuple[int, int], Line]]) -> bool:
        """Return whether a gutter seems to run through long lines: seen in a sample of them, or in shorter ones."""
        if sum(len(line.cells) == 2 and all(len(c.text) > 20 for c in line.cells) for _, line in measured) > 1:
            return True
        long = [(span, line) for span, line in measured if not line.cells and len(line.text) > _PLAIN_CHARS]
        found = [len(self._split(span, line).cells) > 1 for span, line in long[::_SAMPLE]]
        return sum(found) * 2 > len(found)

    def _line(self, start: int, end: int) -> Line | None:
        size = self._size(start)
        left, base = self._origin(start)
        right = self._box(end - 1)[1]
        if (
            size <= 0
            or (end - start > 2 and right <= left)
            or abs(self._origin(end - 1)[1] - base) > _SAME_LINE_EM * size
        ):
            return None
        raw = self.text[start:end]
        bold = len(raw) < 150 and self._is_bold(start) and self._is_bold(end - 1)
        line = Line(_clean(raw), left, right, base, size, bold=bold, led=bool(_LEADERS.search(raw)))
        if len(raw) > _MAX_CELL_CHARS:
            return line
        if len(raw) < _PLAIN_CHARS or right - left > _PROSE_EM * size * len(raw) or any(map(str.isdigit, raw)):
            return self._split((start, end), line)
        return line

    def _split(self, span: tuple[int, int], line: Line) -> Line:
        """Find the line's cells."""
        if line.cells:
            return line
        cells = []
        for start, end, left, right in self._cells(span, line):
            if text := _clean(self.text[start:end]):
                cells.append(Cell(text, left, right))
        return line_of(cells, line) if cells else line

    def _cells(self, span: tuple[int, int], line: Line) -> Iterator[tuple[int, int, float, float]]:
        start, end = span
        left = line.left
        least = _WIDE_GAP_EM * line.size
        text = self.text
        at = text.find(" ", start, end)
        while at >= 0:
            after = at + 1
            while after < end and text[after] == " ":
                after += 1
            gap_start = self._box(at - 1)[1]
            gap_end = self._box(after)[0]
            if gap_end - gap_start > least:
                yield start, at, left, gap_start
                start, left = after, gap_end
            at = text.find(" ", after, end)
        yield start, end, left, line.right

    def _box(self, at: int) -> tuple[float, float]:
        """Return the left and right of a character as it is seen on the turned page."""
        index = at if self._index is None else self._index[at]
        self._pdfium.FPDFText_GetCharBox(self._page, index, *self._refs)
        if not self._turn:
            return self._x.value, self._right.value
        sides = (self._x.value, self._right.value, self._y.value, self._top.value)
        left, right, bottom, top = sides
        return ((left, right), (bottom, top), (-right, -left), (-top, -bottom))[self._turn]

    def _origin(self, at: int) -> tuple[float, float]:
        index = at if self._index is None else self._index[at]
        self._pdfium.FPDFText_GetCharOrigin(self._page, index, self._refs[0], self._refs[2])
        x, y = self._x.value, self._y.value
        return ((x, y), (y, -x), (-x, -y), (-y, x))[self._turn]

    def _size(self, at: int) -> float:
        """Return the letters' height: the font size, which the text's matrix scales."""
        index = at if self._index is None else self._index[at]
        size = self._pdfium.FPDFText_GetFontSize(self._page, index)
        if not self._pdfium.FPDFText_GetMatrix(self._page, index, self._matrix):
            return float(size)
        return float(size) * hypot(self._matrix.c, self._matrix.d)

    def _is_bold(self, at: int) -> bool:
        index = at if self._index is None else self._index[at]
        length = self._pdfium.FPDFText_GetFontInfo(self._page, index, self._name, 128, self._flags)
        return 0 < length <= 128 and _BOLD.search(self._name.value) is not None

    def _indices(self, length: int) -> list[int]:
        find = self._pdfium.FPDFText_GetCharIndexFromTextIndex
        return [max(find(self._page, at), 0) for at in range(length)]


def _spans(text: str) -> Iterator[tuple[int, int]]:
    """Yield the lines of a page text without outer spaces; a word that is hyphenated keeps its mark."""
    start = 0
    for match in _BREAK.finditer(text):
        mark = text.startswith(HYPHEN, match.start())
        yield from _stripped(text, start, match.start() + mark)
        start = match.end()
    yield from _stripped(text, start, len(text))


def _stripped(text: str, start: int, end: int) -> Iterator[tuple[int, int]]:
    while start < end and text[start] == " ":
        start += 1
    while start < end and text[end - 1] == " ":
        end -= 1
    if start < end:
        yield start, end


def _clean(text: str) -> str:
    """Take out control characters, leaders of dots and doubled spaces."""
    if _ODD.search(text):
        end = HYPHEN if text.endswith((HYPHEN, "\xad")) else ""
        text = _ODD.sub("", text) + end
    if "..." in text or ". ." in text or "…" in text or "____" in text:
        text = _LEADERS.sub(" ", text)
    return " ".join(text.split(" ")).strip() if "  " not in text else " ".join(text.split())
