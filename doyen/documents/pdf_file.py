"""PDF bytes → an open PDFium document, or a DocumentError that says why not.

PDFium is not thread-safe: an open document holds a lock of its process. Read PDFs in parallel from processes.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from doyen.documents.office_lock import needs_password
from doyen.documents.pdf_guard import refuse_endless_forms
from doyen.errors import DocumentError

if TYPE_CHECKING:
    import pypdfium2

_LOCK = threading.RLock()


@contextmanager
def open_pdf(data: bytes, name: str, passwords: Sequence[str] = ()) -> Iterator[pypdfium2.PdfDocument]:
    """Open a PDF with the first password that fits; the empty one is always tried.

    Raises DocumentError for a broken file and one that needs another password.
    """
    refuse_endless_forms(data, name)
    with _LOCK:
        pdf = _opened(data, name, passwords)
        try:
            yield pdf
        finally:
            pdf.close()


@contextmanager
def open_page(pdf: pypdfium2.PdfDocument, index: int) -> Iterator[Any]:
    """Yield the page with this index from 0, or None for a page that is broken."""
    import pypdfium2

    try:
        page = pdf[index]
    except pypdfium2.PdfiumError:
        yield None  # one broken page keeps its number and does not cost the document
        return
    try:
        yield page
    finally:
        page.close()


def _opened(data: bytes, name: str, passwords: Sequence[str]) -> pypdfium2.PdfDocument:
    import pypdfium2

    for password in (None, *passwords):
        try:
            return pypdfium2.PdfDocument(data, password=password)
        except pypdfium2.PdfiumError as error:
            if "password" not in str(error).lower():
                raise DocumentError(
                    f"{name} is not a readable PDF (damaged or cut off)", hint="fetch the file again"
                ) from error
    raise needs_password(name, passwords)
