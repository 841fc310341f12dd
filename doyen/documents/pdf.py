"""PDF → text by page, through PDFium. Reads the text layer only: no OCR.

PDFium is not thread-safe: read PDFs in parallel from processes, not from threads.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from doyen.documents.extracted import Extracted, join_pages, one_line
from doyen.documents.office_lock import needs_password
from doyen.documents.pdf_layout import drop_furniture, find_headings, join_lines
from doyen.errors import DocumentError

if TYPE_CHECKING:
    import pypdfium2

_HYPHEN_MARK = re.compile("[\ufffe\x02]\\s*\\n?[ \t]*")  # PDFium's mark for a word that goes on in the next line
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f\ufeff\uffff]")
_MEANINGLESS_TITLE = re.compile(
    r"untitled|microsoft (word|powerpoint|excel)\b|powerpoint presentation|slide \d|document\d*$"
    r"|.*\.(docx?|pdf|pptx?|xlsx?|indd|qxd|rtf|tex|dvi|html?)$",
    re.IGNORECASE,
)


def read_pdf(data: bytes, path: Path, passwords: Sequence[str] = ()) -> Extracted:
    """Read a PDF; every page becomes a Page, one without text an empty one.

    Raises DocumentError for a broken file, one that none of the passwords opens, and one without any text layer.
    """
    raw_pages, named = _extract(data, path.name, passwords)
    if not any(page.strip() for page in raw_pages):
        raise DocumentError(
            f"{path.name} has no text layer in its {len(raw_pages)} pages; scanned pages need OCR, "
            "which this version does not have",
            hint="run an OCR tool first (for example `ocrmypdf in.pdf out.pdf`)",
        )
    lines = drop_furniture([_clean(page).split("\n") for page in raw_pages])
    text, pages = join_pages([join_lines(page) for page in lines])
    headings = tuple(h for page in pages for h in find_headings(text, page.start, page.end))
    return Extracted(text, _title(named, text), pages, headings)


def _extract(data: bytes, name: str, passwords: Sequence[str]) -> tuple[list[str], str]:
    pdf = _open(data, name, passwords)
    try:
        return [_page_text(pdf, index) for index in range(len(pdf))], pdf.get_metadata_value("Title") or ""
    finally:
        pdf.close()


def _open(data: bytes, name: str, passwords: Sequence[str]) -> pypdfium2.PdfDocument:
    import pypdfium2

    for password in (None, *passwords):  # PDFium tries the empty password by itself
        try:
            return pypdfium2.PdfDocument(data, password=password)
        except pypdfium2.PdfiumError as error:
            if "password" not in str(error).lower():
                raise DocumentError(
                    f"{name} is not a readable PDF (damaged or cut off)", hint="fetch the file again"
                ) from error
    raise needs_password(name, passwords)


def _page_text(pdf: pypdfium2.PdfDocument, index: int) -> str:
    import pypdfium2

    try:
        page = pdf[index]
    except pypdfium2.PdfiumError:
        return ""  # one broken page keeps its number and does not cost the document
    try:
        text_page = page.get_textpage()
        try:
            return str(text_page.get_text_range())
        finally:
            text_page.close()
    finally:
        page.close()


def _clean(text: str) -> str:
    text = text.replace("\r\n", "\n").replace("\r", "\n").replace("\xa0", " ").replace("\xad\n", "\ufffe")
    text = _HYPHEN_MARK.sub("", text).replace("\xad", "")
    lines = (re.sub(r"[ \t]{2,}", " ", line).strip() for line in _CONTROL.sub("", text).split("\n"))
    return "\n".join(lines)


def _title(named: str, text: str) -> str:
    named = one_line(_CONTROL.sub("", named))
    if len(re.findall(r"[^\W\d_]", named)) >= 3 and not _MEANINGLESS_TITLE.match(named):
        return named
    lines = (line.strip() for line in text[:5000].split("\n"))
    return next((one_line(line) for line in lines if len(re.findall(r"[^\W\d_]", line)) >= 3), "")
