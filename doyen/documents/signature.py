"""Bytes → what kind of file they seem to be, whatever the name says. Reads the first bytes and a ZIP's list of names."""

from __future__ import annotations

import io
import re
import zipfile

from doyen.documents.zipped import DAMAGED
from doyen.errors import DocumentError

OLE_MAGIC = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"  # the container of old Office files, of .msg and of encrypted .docx
ZIP_MAGIC = (b"PK\x03\x04", b"PK\x05\x06")
_MAGIC = (
    (b"%PDF-", "PDF"),
    (b"{\\rtf", "RTF file"),
    (b"\x89PNG", "PNG image"),
    (b"\xff\xd8\xff", "JPEG image"),
    (b"GIF8", "GIF image"),
    (b"II*\x00", "TIFF image"),
    (b"MM\x00*", "TIFF image"),
    (b"PAR1", "Parquet file"),
    (OLE_MAGIC, "old or encrypted Office file"),
    (b"\x1f\x8b", "gzip archive"),
    (b"7z\xbc\xaf\x27\x1c", "7z archive"),
    (b"Rar!", "RAR archive"),
    (b"\x7fELF", "program"),
    (b"MZ", "program"),
)
_MEMBERS = (
    ("word/", "Word document (.docx)"),
    ("ppt/", "presentation (.pptx)"),
    ("xl/", "spreadsheet (.xlsx)"),
    ("META-INF/container.xml", "EPUB book"),
    ("content.xml", "OpenDocument file (.odt, .ods)"),
)
_KINDS = {
    ".pdf": ("PDF",),
    ".rtf": ("RTF file",),
    ".docx": ("Word document (.docx)",),
    ".pptx": ("presentation (.pptx)",),
    ".xlsx": ("spreadsheet (.xlsx)",),
    ".xlsm": ("spreadsheet (.xlsx)",),
    ".xlsb": ("spreadsheet (.xlsx)",),
    ".xls": ("old or encrypted Office file",),
    ".ods": ("OpenDocument file (.odt, .ods)",),
    ".odt": ("OpenDocument file (.odt, .ods)",),
    ".epub": ("EPUB book",),
    ".msg": ("old or encrypted Office file",),
    ".parquet": ("Parquet file",),
    ".zip": ("ZIP archive",),
}
_ZIPPED = frozenset((".docx", ".pptx", ".xlsx", ".xlsm", ".xlsb", ".ods", ".odt", ".epub", ".zip"))
_MARKUP = re.compile(rb"\s*(?:<!--.*?-->\s*)*<(!doctype html|html|\?xml)\b", re.IGNORECASE | re.DOTALL)


def seems(data: bytes) -> str:
    """Return what the bytes seem to be, such as 'PDF' or 'ZIP archive'; '' where nothing is recognised."""
    if data.startswith(ZIP_MAGIC):
        return _zip_kind(data)
    for magic, kind in _MAGIC:
        if data.startswith(magic):
            return kind
    if b"%PDF-" in data[:1024]:
        return "PDF"
    if match := _MARKUP.match(data[:2048].removeprefix(b"\xef\xbb\xbf")):
        return "XML file" if match.group(1).startswith(b"?") else "HTML file"
    return ""


def check_kind(data: bytes, suffix: str, name: str) -> None:
    """Raise DocumentError where the bytes are clearly of another kind than a binary format's suffix promises."""
    if suffix not in _KINDS:
        return  # a text format: its reader refuses binary bytes itself
    found = seems(data)
    if not found or found in _KINDS[suffix]:
        return
    if suffix in _ZIPPED and data.startswith(ZIP_MAGIC) and "ZIP archive" in (found, *_KINDS[suffix]):
        return  # a damaged list of names, or an archive that looks like a document
    article = "an" if found[0] in "Eo" or found.startswith(("RTF", "HTML", "XML")) else "a"
    raise DocumentError(f"{name} seems to be {article} {found}, not what its suffix says", hint="rename the file")


def _zip_kind(data: bytes) -> str:
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            names = archive.namelist()
    except DAMAGED:
        return "ZIP archive"
    for start, kind in _MEMBERS:
        if any(name.startswith(start) for name in names):
            return kind
    return "ZIP archive"
