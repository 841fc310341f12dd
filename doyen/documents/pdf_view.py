"""A PDF's bytes, a page and quotes from its text → where on the page they stand, and a picture of it.

Boxes and pictures are made when a passage is shown, from the kept original; ingest computes neither.
"""

from __future__ import annotations

import ctypes
import struct
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from doyen.documents.pdf_file import open_page, open_pdf
from doyen.documents.pdf_match import PageText, Range
from doyen.documents.pdf_scans import bounded_scale
from doyen.errors import DocumentError

if TYPE_CHECKING:
    import numpy as np
    import pypdfium2

MAX_PIXELS = 20_000_000
HIGHLIGHT = (255, 230, 110)  # multiplied into the page, so that letters stay black
_SAME_LINE_SHARE = 0.5


@dataclass(frozen=True, slots=True)
class Quote:
    """A passage to find; `position` says where in the page's text it stands (0 start, 1 end), if it is there twice."""

    text: str
    position: float = 0.0


@dataclass(frozen=True, slots=True)
class Box:
    """A rectangle on a page: in shares of the page as it is shown (0..1 from its top left), and in PDF points.

    The points are the file's own: from the bottom left of an unrotated page. `x0 < x1` and `y0 < y1`.
    """

    left: float
    top: float
    right: float
    bottom: float
    x0: float
    y0: float
    x1: float
    y1: float


@dataclass(frozen=True, slots=True)
class PageView:
    """A drawn page: PNG bytes, its size in pixels, and the boxes of each quote, none for one that is not there."""

    png: bytes
    width: int
    height: int
    boxes: tuple[tuple[Box, ...], ...]


def find_boxes(
    data: bytes, page_number: int, quotes: Sequence[Quote | str], passwords: Sequence[str] = (), name: str = "the file"
) -> tuple[tuple[Box, ...], ...]:
    """Return the boxes of each quote on a page, one for each printed line; none for a quote that is not there.

    Raises DocumentError for a file that cannot be opened and a page that it does not have.
    """
    with open_pdf(data, name, passwords) as pdf, open_page(pdf, _index(pdf, page_number, name)) as page:
        return _boxes(_checked(page, page_number, name), quotes)


def draw_page(
    data: bytes,
    page_number: int,
    quotes: Sequence[Quote | str] = (),
    scale: float = 2.0,
    passwords: Sequence[str] = (),
    name: str = "the file",
) -> PageView:
    """Draw a page with the quotes highlighted; a scale of 1 gives 72 pixels an inch, very large pages get fewer.

    Raises DocumentError as `find_boxes` does, and for a page that cannot be drawn.
    """
    import pypdfium2

    with open_pdf(data, name, passwords) as pdf, open_page(pdf, _index(pdf, page_number, name)) as page:
        boxes = _boxes(_checked(page, page_number, name), quotes)
        try:
            drawn = page.render(scale=bounded_scale(page, scale, MAX_PIXELS), rev_byteorder=True)
            pixels = drawn.to_numpy()[:, :, :3].copy()
        except (pypdfium2.PdfiumError, ValueError, MemoryError) as error:
            raise DocumentError(f"page {page_number} of {name} cannot be drawn ({error})") from error
    for box in (box for found in boxes for box in found):
        _highlight(pixels, box)
    height, width = pixels.shape[:2]
    return PageView(_png(pixels), width, height, boxes)


def _index(pdf: pypdfium2.PdfDocument, page_number: int, name: str) -> int:
    if not 1 <= page_number <= len(pdf):
        raise DocumentError(f"{name} has {len(pdf)} pages; page {page_number} was asked for")
    return page_number - 1


def _checked(page: Any, page_number: int, name: str) -> Any:
    if page is None:
        raise DocumentError(f"page {page_number} of {name} is damaged")
    return page


def _boxes(page: Any, quotes: Sequence[Quote | str]) -> tuple[tuple[Box, ...], ...]:
    if not quotes:
        return ()
    text_page = page.get_textpage()
    try:
        place = _Place(page, text_page)
        text = PageText(place.text)
        wanted = [Quote(quote) if isinstance(quote, str) else quote for quote in quotes]
        return tuple(tuple(place.boxes(text.find(quote.text, quote.position))) for quote in wanted)
    finally:
        text_page.close()


Sides = tuple[float, float, float, float]  # left, top, right, bottom in points from the top left of the shown page


class _Place:
    """Turns characters of a text page into rectangles on the page as it is shown."""

    def __init__(self, page: Any, text_page: Any) -> None:
        import pypdfium2.raw as pdfium

        self.text = str(text_page.get_text_range())
        self._pdfium = pdfium
        self._raw = text_page.raw
        self._same = text_page.count_chars() == len(self.text)
        self._turn = page.get_rotation() // 90 % 4
        self._bounds = page.get_bbox()
        self._width, self._height = (max(side, 1e-6) for side in page.get_size())

    def boxes(self, ranges: Sequence[Range]) -> Iterator[Box]:
        line: Sides | None = None
        for sides in (s for start, end in ranges for at in range(start, end) if (s := self._sides(at))):
            if line is not None and _on_one_line(line, sides):
                line = (min(line[0], sides[0]), min(line[1], sides[1]), max(line[2], sides[2]), max(line[3], sides[3]))
                continue
            if line is not None:
                yield self._box(line)
            line = sides
        if line is not None:
            yield self._box(line)

    def _sides(self, at: int) -> Sides | None:
        """Return the sides of a character, or None for spaces and marks that are not printed."""
        if self.text[at].isspace():
            return None
        index = at if self._same else self._pdfium.FPDFText_GetCharIndexFromTextIndex(self._raw, at)
        rect = self._pdfium.FS_RECTF()
        if not self._pdfium.FPDFText_GetLooseCharBox(self._raw, index, ctypes.byref(rect)):
            return None
        if rect.right - rect.left <= 0 or rect.top - rect.bottom <= 0:
            return None
        left, bottom, right, top = self._bounds
        return (
            (rect.left - left, top - rect.top, rect.right - left, top - rect.bottom),
            (rect.bottom - bottom, rect.left - left, rect.top - bottom, rect.right - left),
            (right - rect.right, rect.bottom - bottom, right - rect.left, rect.top - bottom),
            (top - rect.top, right - rect.right, top - rect.bottom, right - rect.left),
        )[self._turn]

    def _box(self, sides: Sides) -> Box:
        x0, y0, x1, y1 = self._points(sides)
        width, height = self._width, self._height
        left, right = (min(max(side / width, 0.0), 1.0) for side in (sides[0], sides[2]))
        top, bottom = (min(max(side / height, 0.0), 1.0) for side in (sides[1], sides[3]))
        return Box(left, top, right, bottom, x0, y0, x1, y1)

    def _points(self, sides: Sides) -> Sides:
        """Return the sides as the file counts them: left, bottom, right, top."""
        a, b, c, d = sides
        left, bottom, right, top = self._bounds
        return (
            (left + a, top - d, left + c, top - b),
            (left + b, bottom + a, left + d, bottom + c),
            (right - c, bottom + b, right - a, bottom + d),
            (right - d, top - c, right - b, top - a),
        )[self._turn]


def _on_one_line(line: Sides, sides: Sides) -> bool:
    overlap = min(line[3], sides[3]) - max(line[1], sides[1])
    least = min(line[3] - line[1], sides[3] - sides[1])
    return overlap > _SAME_LINE_SHARE * least and sides[0] >= line[0]


def _highlight(pixels: np.ndarray, box: Box) -> None:
    """Multiply the highlight's colour into the box."""
    height, width = pixels.shape[:2]
    rows = slice(int(box.top * height), max(int(box.bottom * height + 0.999), int(box.top * height) + 1))
    columns = slice(int(box.left * width), max(int(box.right * width + 0.999), int(box.left * width) + 1))
    for channel, value in enumerate(HIGHLIGHT):
        area = pixels[rows, columns, channel]
        area[...] = (area.astype("uint16") * value // 255).astype("uint8")


def _png(pixels: np.ndarray) -> bytes:
    """Return 8-bit RGB pixels `(height, width, 3)` as PNG (W3C PNG specification, filter 0)."""
    import numpy as np

    height, width = pixels.shape[:2]
    rows = np.zeros((height, width * 3 + 1), dtype=np.uint8)
    rows[:, 1:] = pixels.reshape(height, width * 3)
    chunks = (
        (b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)),
        (b"IDAT", zlib.compress(rows.tobytes(), 6)),
        (b"IEND", b""),
    )
    packed = (struct.pack(">I", len(c)) + kind + c + struct.pack(">I", zlib.crc32(kind + c)) for kind, c in chunks)
    return b"\x89PNG\r\n\x1a\n" + b"".join(packed)
