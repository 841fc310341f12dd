"""PDFs that are broken on purpose: every one is read, or refused with a DocumentError, in bounded time."""

import random
import time
from pathlib import Path

import pytest
from documents.pdf_files import make_pdf

from doyen.documents import pdf as pdf_module
from doyen.documents.pdf import read_pdf
from doyen.documents.pdf_view import draw_page, find_boxes
from doyen.errors import DocumentError

PAGE = "<</Type/Page/Parent 2 0 R/MediaBox[0 0 {size} {size}]/Contents 4 0 R/Resources<</Font<</F 5 0 R>>/XObject<</X 6 0 R>>>>>>"
SHOWN = b"BT /F 12 Tf 72 72 Td (Readable text) Tj ET"


def raw_pdf(kids="[3 0 R]", count=1, size=600, content=SHOWN, form=b"", previous=None):
    objects = [
        b"<</Type/Catalog/Pages 2 0 R>>",
        f"<</Type/Pages/Kids{kids}/Count {count}>>".encode(),
        PAGE.format(size=size).encode(),
        b"<</Length %d>>stream\n%s\nendstream" % (len(content), content),
        b"<</Type/Font/Subtype/Type1/BaseFont/Helvetica>>",
        b"<</Type/XObject/Subtype/Form/BBox[0 0 600 600]/Resources<</XObject<</X 6 0 R>>>>/Length %d>>stream\n%s\nendstream"
        % (len(form), form),
    ]
    data, places = b"%PDF-1.7\n", []
    for number, body in enumerate(objects, start=1):
        places.append(len(data))
        data += b"%d 0 obj%s endobj\n" % (number, body)
    xref = len(data)
    data += b"xref\n0 7\n0000000000 65535 f \n" + b"".join(b"%010d 00000 n \n" % place for place in places)
    back = xref if previous == "itself" else previous
    trailer = b"<</Size 7/Root 1 0 R%s>>" % (b"" if back is None else b"/Prev %d" % back)
    return data + b"trailer%s\nstartxref\n%d\n%%%%EOF" % (trailer, xref)


HOSTILE = {
    "plain": raw_pdf(),
    "no pages": raw_pdf("[]", 0),
    "a page tree that holds itself": raw_pdf("[3 0 R 2 0 R]", 2),
    "a count that lies": raw_pdf(count=2_000_000_000),
    "a negative count": raw_pdf(count=-5),
    "a page that is its own parent's font": raw_pdf("[5 0 R 3 0 R]", 2),
    "a cross-reference that leads to itself": raw_pdf(previous="itself"),
    "a cross-reference that leads nowhere": raw_pdf(previous=999_999_999),
    "a form that draws itself": raw_pdf(content=SHOWN + b" /X Do", form=b"/X Do"),
    "a form that draws itself twice": raw_pdf(content=SHOWN + b" /X Do", form=b"/X Do /X Do"),
    "a gigantic page": raw_pdf(size="9" * 12),
    "a page without size": raw_pdf(size=0),
    "open brackets": raw_pdf(content=b"[" * 100_000),
    "unbalanced states": raw_pdf(content=b"q " * 100_000 + SHOWN),
    "text far away": raw_pdf(content=b"BT /F 12 Tf 1e30 -1e30 Td (Far) Tj ET"),
    "type of size zero": raw_pdf(content=b"BT /F 0 Tf 72 72 Td (Zero) Tj ET"),
}


def reads_or_refuses(data):
    started = time.monotonic()
    for attempt in (
        lambda: read_pdf(data, Path("a.pdf")),
        lambda: find_boxes(data, 1, ["Readable text"]),
        lambda: draw_page(data, 1, ["Readable text"], scale=0.2),
    ):
        try:
            attempt()
        except DocumentError as error:
            assert "\n" not in str(error)
    assert time.monotonic() - started < 20


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_files_are_read_or_refused(name):
    reads_or_refuses(HOSTILE[name])


def test_what_is_readable_in_them_is_read():
    for name in ("plain", "a page tree that holds itself", "a form that draws itself", "a gigantic page"):
        assert "Readable text" in read_pdf(HOSTILE[name], Path("a.pdf")).text, name


def test_forms_that_grow_without_end_are_refused_before_they_are_drawn():
    with pytest.raises(DocumentError, match="without end"):
        read_pdf(HOSTILE["a form that draws itself twice"], Path("a.pdf"))


def test_files_cut_off_or_with_flipped_bits():
    whole = make_pdf([["The text of page one.", "Total 12 34"], ["The text of page two."]])
    for share in range(1, 20):
        reads_or_refuses(whole[: len(whole) * share // 20])
    rng = random.Random(3)
    for _ in range(40):
        flipped = bytearray(whole)
        for _ in range(rng.choice((1, 5, 50))):
            flipped[rng.randrange(len(flipped))] ^= 1 << rng.randrange(8)
        reads_or_refuses(bytes(flipped))


def test_the_number_of_pages_is_limited():
    data = make_pdf([["a"]] * 3)
    assert len(read_pdf(data, Path("a.pdf"), max_pages=3).pages) == 3
    with pytest.raises(DocumentError, match="3 pages, the limit is 2"):
        read_pdf(data, Path("a.pdf"), max_pages=2)


def test_a_page_with_too_much_text_is_left_out_and_named():
    line = b"(" + b"word " * 2_000 + b") Tj T* "
    content = b"BT /F 1 Tf 1 TL 72 72 Td " + line * (pdf_module.MAX_PAGE_CHARS // 10_000 + 2) + b"ET"
    with pytest.raises(DocumentError, match="more than 500,000 characters"):
        read_pdf(raw_pdf(content=content), Path("a.pdf"))
