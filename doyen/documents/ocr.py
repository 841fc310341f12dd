"""Picture → the text on it, through the program `tesseract` (an optional extra). Knows no file format.

The program is called with the picture on its standard input: no temporary files.
"""

from __future__ import annotations

import io
import os
import re
import shutil
import subprocess
from functools import lru_cache
from importlib.util import find_spec
from typing import TYPE_CHECKING

from doyen.errors import DocumentError

if TYPE_CHECKING:
    from PIL.Image import Image

OCR_HINT = "pip install 'doyen[ocr]' and the program tesseract (Debian: apt-get install tesseract-ocr)"
TIMEOUT_S = 120
_MAX_LANGUAGES = 4
_MAX_SIDE = 10_000  # pixels; Tesseract itself ends at 32,767
_LANGUAGE = re.compile(r"[A-Za-z_]+(\+[A-Za-z_]+)*")


def ocr_available() -> bool:
    """Tell whether pages without a text layer can be read: Pillow and the program `tesseract` are there."""
    return find_spec("PIL") is not None and shutil.which("tesseract") is not None


@lru_cache(maxsize=1)
def ocr_languages() -> str:
    """Return the languages to read by default, as `eng+deu`: those whose data are installed, English first.

    Where more than four are installed, English alone: every language costs time and a share of the accuracy.
    """
    listed = subprocess.run(["tesseract", "--list-langs"], capture_output=True, text=True, timeout=30, check=False)
    found = [line.strip() for line in listed.stdout.splitlines()[1:] if _LANGUAGE.fullmatch(line.strip())]
    found = sorted((name for name in found if name != "osd"), key=lambda name: (name != "eng", name))
    return "+".join(found) if 0 < len(found) <= _MAX_LANGUAGES else "eng"


def ocr_image(image: bytes | Image, languages: str = "") -> str:
    """Return the text of a picture (its file's bytes, or a Pillow image), a blank line between its blocks.

    `languages` are Tesseract's codes, as in `eng+deu`. Raises DocumentError where Tesseract is missing, fails, or
    takes more than two minutes.
    """
    if not ocr_available():
        raise DocumentError("reading pictures needs OCR, which is not installed", hint=OCR_HINT)
    command = ["tesseract", "stdin", "stdout", "-l", languages or ocr_languages()]
    environment = os.environ | {"OMP_THREAD_LIMIT": "1"}  # documents are read in parallel already
    data = image if isinstance(image, bytes) else _png(image)
    try:
        done = subprocess.run(command, input=data, capture_output=True, timeout=TIMEOUT_S, env=environment, check=False)
    except subprocess.TimeoutExpired as error:
        raise DocumentError(f"OCR took more than {TIMEOUT_S} s") from error
    if done.returncode:
        reason = " ".join(done.stderr.decode("utf-8", "replace").split())[:200]
        raise DocumentError(f"OCR failed: {reason}", hint=f"languages asked for: {command[-1]}")
    text = done.stdout.decode("utf-8", "replace").replace("\f", "\n")
    lines = (" ".join(line.split()) for line in text.split("\n"))
    return re.sub(r"\n{3,}", "\n\n", "\n".join(lines)).strip()


def _png(image: Image) -> bytes:
    if max(image.size) > _MAX_SIDE:
        image = image.copy()
        image.thumbnail((_MAX_SIDE, _MAX_SIDE))
    buffer = io.BytesIO()
    (image if image.mode in ("L", "RGB", "1") else image.convert("RGB")).save(buffer, "PNG", compress_level=1)
    return buffer.getvalue()
