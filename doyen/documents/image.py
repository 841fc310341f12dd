"""Pictures and scans (PNG, JPEG, TIFF, WebP, BMP) → their text through OCR; every frame of a TIFF is a Page."""

from __future__ import annotations

import io
import warnings
from pathlib import Path
from typing import Any

from doyen.documents.extracted import Extracted, TextWriter
from doyen.documents.ocr import OCR_HINT, ocr_available, ocr_image
from doyen.documents.zipped import DAMAGED
from doyen.errors import DocumentError

IMAGE_SUFFIXES = frozenset((".png", ".jpg", ".jpeg", ".tif", ".tiff", ".webp", ".bmp"))
_FORMATS = ("PNG", "JPEG", "TIFF", "WEBP", "BMP")
_MAX_PIXELS = 120_000_000  # A2 at 600 dpi
_MAX_PAGES = 1_000


def read_image(data: bytes, path: Path) -> Extracted:
    """Read the text on a picture. Raises DocumentError where OCR is not installed, or the picture has no text."""
    if not ocr_available():
        raise DocumentError(f"{path.name} is a picture; its text needs OCR, which is not installed", hint=OCR_HINT)
    image = _open(data, path.name)
    writer = TextWriter()
    frames = getattr(image, "n_frames", 1) if image.format == "TIFF" else 1
    for number in range(min(frames, _MAX_PAGES)):
        writer.page()
        writer.block(ocr_image(_frame(image, number, path.name)))
    if not writer.length:
        raise DocumentError(f"{path.name} is a picture without text that OCR can read")
    notes = (f"only the first {_MAX_PAGES} of {frames} pages were read",) if frames > _MAX_PAGES else ()
    return writer.extracted(warnings=notes)


def _open(data: bytes, name: str) -> Any:
    from PIL import Image, UnidentifiedImageError

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the size is checked below, before a pixel is decoded
            image = Image.open(io.BytesIO(data), formats=_FORMATS)
    except (UnidentifiedImageError, Image.DecompressionBombError, OSError, SyntaxError, ValueError) as error:
        raise DocumentError(
            f"{name} is not a readable picture (damaged or cut off)", hint="fetch the file again"
        ) from error
    return image


def _frame(image: Any, number: int, name: str) -> Any:
    from PIL import Image, ImageOps

    try:
        image.seek(number)
        if image.width * image.height > _MAX_PIXELS:
            raise DocumentError(f"{name} has {image.width} × {image.height} pixels, more than {_MAX_PIXELS:,}")
        turned = ImageOps.exif_transpose(image)  # photographs are often stored on their side
        return turned.convert("L") if turned.mode != "1" else turned
    except (*DAMAGED, SyntaxError, TypeError, ArithmeticError, Image.DecompressionBombError) as error:
        raise DocumentError(
            f"{name} is not a readable picture (damaged or cut off)", hint="fetch the file again"
        ) from error
