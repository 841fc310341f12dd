"""A PDF page without a text layer → its text by OCR, where the OCR extra is installed.

Knows how to draw a page for reading; the reading itself is in `doyen.documents.ocr`.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any

from doyen.errors import DocumentError

ScanReader = Callable[[Any], str]
_DPI = 300
_MAX_PIXELS = 30_000_000
_POINTS_PER_INCH = 72


def scan_reader() -> ScanReader | None:
    """Return the function that reads a drawn page, or None where OCR is not installed."""
    import pypdfium2

    try:
        ocr = importlib.import_module("doyen.documents.ocr")
    except ImportError:
        return None
    if not ocr.ocr_available():
        return None

    def read(page: Any) -> str:
        if not any(True for _ in page.get_objects(max_depth=1)):
            return ""  # an empty page costs no OCR
        try:
            picture = page.render(scale=bounded_scale(page, _DPI / _POINTS_PER_INCH)).to_pil()
            return str(ocr.ocr_image(picture))
        except (DocumentError, pypdfium2.PdfiumError):
            return ""  # one page that cannot be read is reported and does not cost the document

    return read


def bounded_scale(page: Any, scale: float, max_pixels: int = _MAX_PIXELS) -> float:
    """Return the scale, made smaller where the page would have more pixels than that."""
    width, height = page.get_size()
    pixels = max(width, 1.0) * max(height, 1.0) * scale**2
    return scale if pixels <= max_pixels else scale * (max_pixels / pixels) ** 0.5
