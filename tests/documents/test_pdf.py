"""PDF: pages, cleaning, furniture, headings, and files that cannot be read."""

import io
from pathlib import Path

import pytest
from reportlab.lib.pagesizes import A4
from reportlab.lib.pdfencrypt import StandardEncryption
from reportlab.pdfgen.canvas import Canvas

from doyen.documents import read_document
from doyen.documents.pdf_layout import drop_furniture, find_headings, heading_level, join_lines
from doyen.errors import DocumentError


def make_pdf(pages, title="", encrypt=None):
    buffer = io.BytesIO()
    canvas = Canvas(buffer, pagesize=A4, encrypt=encrypt)
    canvas.setTitle(title)
    for lines in pages:
        for n, line in enumerate(lines):
            canvas.drawString(60, 780 - 16 * n, line)
        canvas.showPage()
    canvas.save()
    return buffer.getvalue()


def read(pages, **options):
    return read_document(Path("a.pdf"), "a.pdf", make_pdf(pages, **options))


def page_text(document, number):
    page = document.pages[number - 1]
    assert page.number == number
    return document.text[page.start : page.end]


def test_pages_have_exact_offsets_and_empty_pages_keep_their_number():
    document = read([["Alpha one."], [], ["Gamma three."]], title="Policy wording")
    assert [page_text(document, n) for n in (1, 2, 3)] == ["Alpha one.", "", "Gamma three."]
    assert document.pages[1].start == document.pages[1].end
    assert document.title == "Policy wording"
    assert document.media_type == "application/pdf"


def test_meaningless_metadata_titles_give_way_to_the_first_line():
    assert read([["Annual report"]], title="Microsoft Word - x.doc").title == "Annual report"
    assert read([["Annual report"]], title="untitled").title == "Annual report"


def test_hyphenated_words_and_paragraph_lines_are_rejoined():
    text = read(
        [["The comprehensive household contents insur-", "ance covers damage by water and fire.", "Next."]]
    ).text
    assert "contents insurance covers damage" in text
    assert text.endswith("fire.\nNext.")


def test_join_lines_keeps_table_rows_and_list_items_apart():
    rows = ["Net sales of the whole group in millions of dollars 3,393", "Adjusted EBIT of the group 265"]
    assert join_lines(rows) == "\n".join(rows)
    items = ["• a long list item that goes on until the line is full and", "• another one"]
    assert join_lines(items) == "\n".join(items)


def test_lines_repeated_at_page_edges_are_dropped_with_their_page_numbers():
    pages = [["ACME Ltd", f"Body {'abcde'[n]} text", f"Page {n + 1} of 5"] for n in range(5)]
    document = read(pages)
    assert [page_text(document, n) for n in range(1, 6)] == [f"Body {c} text" for c in "abcde"]


def test_furniture_needs_four_pages_and_leaves_distinct_facts_and_no_empty_page():
    three = [["Head", "x"], ["Head", "y"], ["Head", "z"]]
    assert drop_furniture(three) == three
    facts = [[f"The limit is {amount} euros", "a b c d"[n * 2]] for n, amount in enumerate((400, 750, 120, 990))]
    assert drop_furniture(facts) == facts
    assert drop_furniture([["Same"]] * 5) == [["Same"]] * 5


@pytest.mark.parametrize(
    ("line", "level"),
    [
        ("3 Cover", 1),
        ("3.2 Water damage", 2),
        ("Section 4 – Claims", 2),
        ("PART II", 1),
        ("Item 1A. Risk Factors", 2),
        ("Item 1A. Risk Factors 12", 0),
        ("3 people came.", 0),
        ("2019 Revenue", 0),
        ("part of the cover", 0),
        ("12 Oranges 400 500 1,000", 0),
        ("3.1 Exclusions ........ 7", 0),
    ],
)
def test_heading_level(line, level):
    assert heading_level(line) == level


def test_headings_are_found_in_place_and_lists_are_not():
    document = read([["3 Cover", "We pay for the damage."], ["3.2 Water damage", "Up to 500 euros."]])
    assert [(h.level, h.title) for h in document.headings] == [(1, "3 Cover"), (2, "3.2 Water damage")]
    assert all(document.text.startswith(h.title, h.start) for h in document.headings)
    text = "1 Apples\n2 Pears\n3 Plums"
    assert list(find_headings(text, 0, len(text))) == []


def test_an_empty_user_password_opens_and_a_real_one_is_named():
    owner_only = StandardEncryption("", ownerPassword="owner", strength=128)
    assert read([["Readable text"]], encrypt=owner_only).text == "Readable text"
    locked = make_pdf([["Secret"]], encrypt=StandardEncryption("user", ownerPassword="owner", strength=128))
    with pytest.raises(DocumentError, match="needs a password"):
        read_document(Path("a.pdf"), "a", locked)


def test_scanned_and_broken_files_are_refused():
    with pytest.raises(DocumentError, match="no text layer in its 2 pages"):
        read([[], []])
    with pytest.raises(DocumentError, match="not a readable PDF"):
        read_document(Path("a.pdf"), "a", b"%PDF-1.7 and then nothing")
    with pytest.raises(DocumentError, match=r"a\.pdf"):
        read_document(Path("a.pdf"), "a", make_pdf([["Text"]])[:300])
