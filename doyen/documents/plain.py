"""Bytes → plain text: encodings, newlines, control characters, form-feed pages. Knows no markup."""

from __future__ import annotations

import codecs
import re
from pathlib import Path

from doyen.documents.extracted import Extracted, join_pages, one_line
from doyen.errors import DocumentError

_BOMS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32-le"),  # before UTF-16: its BOM begins with that of UTF-16
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
_BINARY_MAGIC = (b"%PDF-", b"PK\x03\x04", b"\x89PNG", b"\xff\xd8\xff", b"GIF8", b"\x1f\x8b", b"\x7fELF", b"{\\rtf")
_PROBE_BYTES = 65_536
_MAX_CONTROL_SHARE = 0.02
_CONTROL_BYTES = bytes(set(range(32)) - set(b"\t\n\r\f\x1b"))
_ANSI_ESCAPE = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
_CONTROL = re.compile(r"[\x00-\x08\x0b\x0e-\x1f\x7f-\x84\x86-\x9f\ufffe\uffff]")
_MAX_TITLE_LINE = 120


def read_plain(data: bytes, path: Path) -> Extracted:
    """Read a text file; every form feed starts a new page, a file without one has no pages."""
    text = clean_text(decode_text(data, path.name))
    title = _title_line(text)
    if "\f" not in text.strip("\f\n "):
        return Extracted(text.replace("\f", ""), title)
    joined, pages = join_pages([page.strip("\n") for page in text.rstrip("\f\n ").split("\f")])
    return Extracted(joined, title, pages)


def decode_text(data: bytes, name: str) -> str:
    """Decode bytes as text: byte order mark, then UTF-8, then the encoding that charset-normalizer finds.

    Raises DocumentError where the bytes are not text at all.
    """
    for bom, encoding in _BOMS:
        if data.startswith(bom):
            return data[len(bom) :].decode(encoding, errors="replace")
    refuse_binary(data, name)
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        return _decode_legacy(data)


def clean_text(text: str) -> str:
    r"""Normalise newlines to `\n`; drop terminal colours and control characters other than tab and form feed."""
    text = text.replace("\r\n", "\n").replace("\r", "\n").replace("\x85", "\n").replace("\ufeff", "")
    return _CONTROL.sub("", _ANSI_ESCAPE.sub("", text))


def refuse_binary(data: bytes, name: str) -> None:
    """Raise DocumentError where the bytes carry NULs, many control characters or a known binary signature."""
    probe = data[:_PROBE_BYTES]
    controls = len(probe) - len(probe.translate(None, _CONTROL_BYTES))
    if b"\x00" in data or data.startswith(_BINARY_MAGIC) or controls > 2 + _MAX_CONTROL_SHARE * len(probe):
        raise DocumentError(
            f"{name} is a binary file, not the text its name promises",
            hint="give the file its true suffix, or export it as UTF-8 text",
        )


def _decode_legacy(data: bytes) -> str:
    import charset_normalizer

    probe = data[:_PROBE_BYTES]
    if len(data) > _PROBE_BYTES:  # cut at a line end: never inside a multi-byte character
        probe = probe[: probe.rfind(b"\n") + 1] or probe
    best = charset_normalizer.from_bytes(probe).best()
    candidates = ["cp1252"]
    if best is not None:
        # Several code pages often give the same characters; then the most common one decodes the rest too.
        candidates = [best.encoding, "cp1252"] if "cp1252" not in best.could_be_from_charset else candidates
    for encoding in candidates:
        try:
            return data.decode(encoding)
        except UnicodeDecodeError:
            continue
    return data.decode(candidates[0], errors="replace")


def _title_line(text: str) -> str:
    """Return the first line where it stands alone above a blank line and does not read like a sentence."""
    head = text[:2000].lstrip()
    line, _, rest = head.partition("\n")
    line = one_line(line)
    stands_alone = rest.lstrip(" \t").startswith("\n")
    if stands_alone and 3 <= len(line) <= _MAX_TITLE_LINE and line[-1] not in ".:;," and line[0].isalnum():
        return line
    return ""
