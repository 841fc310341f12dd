"""Pages as pictures: from the kept original, from the file that holds it, from an unchanged source; by hash alone."""

import hashlib
import io
import zipfile
from email.message import EmailMessage

import numpy as np
import pytest
from reportlab.lib.pagesizes import A4
from reportlab.pdfgen.canvas import Canvas
from small_stores import HashEmbedder, make_expert, manifest_of

from doyen.config import load_settings
from doyen.errors import DocumentError, StoreError, UsageError
from doyen.index.lance import IndexEntry, LanceIndex
from doyen.ingesting import index_place
from doyen.originals import keep_original
from doyen.page_images import page_image
from doyen.records import Document

QUOTE = "The deposit is two rents."


def pdf(text):
    buffer = io.BytesIO()
    canvas = Canvas(buffer, pagesize=A4)
    for page in (text, "Second page."):
        canvas.drawString(60, 780, page)
        canvas.showPage()
    canvas.save()
    return buffer.getvalue()


def sha(data):
    return hashlib.sha256(data).hexdigest()


def mail_with(data):
    mail = EmailMessage()
    mail["Subject"] = "The lease"
    mail.set_content("See the attachment.")
    mail.add_attachment(data, maintype="application", subtype="pdf", filename="lease.pdf")
    return mail.as_bytes()


def zip_with(name, data):
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr("readme.txt", "x")
        archive.writestr(name, data)
    return out.getvalue()


@pytest.fixture
def expert(tmp_path):
    return make_expert(tmp_path / "expert")


@pytest.fixture
def index(expert):
    return LanceIndex.open_or_create(index_place(expert, load_settings(expert)).state, manifest_of(HashEmbedder()))


def write(index, name, data, *, source="/nowhere", media_type="application/pdf", **item):
    document = Document(name, "text", name, media_type, sha(data), str(source))
    index.write([IndexEntry(document, "/", [], **item)], np.zeros((0, index.manifest.dim), np.float32))


def test_a_page_is_drawn_from_the_original_of_the_version_that_is_asked_for(expert, index):
    old, new = pdf(QUOTE), pdf("Pets need consent in writing.")
    for data in (old, new):
        keep_original(expert, data, sha(data), ".pdf")
        write(index, "lease.pdf", data)
    view = page_image(expert, "lease.pdf", 1, version=1, quotes=[QUOTE])
    assert view.png.startswith(b"\x89PNG") and len(view.boxes[0]) == 1
    assert page_image(expert, "lease.pdf", 1, quotes=[QUOTE]).boxes == ((),)
    assert page_image(expert, "lease.pdf", 2, scale=1.0).width < view.width
    with pytest.raises(DocumentError, match="2 pages"):
        page_image(expert, "lease.pdf", 3)
    with pytest.raises(StoreError, match="version 7"):
        page_image(expert, "lease.pdf", 1, version=7)


@pytest.mark.parametrize("depth", [1, 2])
def test_a_page_of_a_file_within_a_file_is_found_by_its_hash(expert, index, depth):
    inner = pdf(QUOTE)
    outer = mail_with(inner) if depth == 1 else zip_with("mails/a.eml", mail_with(inner))
    item = "m.eml" if depth == 1 else "all.zip"
    keep_original(expert, outer, sha(outer), item[item.index(".") :])
    write(index, f"{item}/x/lease.pdf", inner, item=item, item_sha256=sha(outer))
    assert page_image(expert, f"{item}/x/lease.pdf", 1, quotes=[QUOTE]).boxes[0]


def test_without_an_original_the_source_serves_while_it_is_the_same(expert, index, tmp_path):
    source = tmp_path / "lease.pdf"
    source.write_bytes(pdf(QUOTE))
    write(index, "lease.pdf", source.read_bytes(), source=source)
    assert page_image(expert, "lease.pdf", 1).png
    source.write_bytes(pdf("Another."))
    with pytest.raises(DocumentError, match="not kept") as caught:
        page_image(expert, "lease.pdf", 1)
    assert "keep_originals" in caught.value.hint


def test_what_is_no_pdf_has_no_pages_to_draw(expert, index):
    write(index, "a.txt", b"text", media_type="text/plain")
    with pytest.raises(UsageError, match="no PDF"):
        page_image(expert, "a.txt", 1)
