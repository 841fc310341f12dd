"""PDF: pages, cleaning, furniture, contents, headings, tables, columns, and files that cannot be read."""

from pathlib import Path

import pytest
from documents.pdf_files import make_pdf, table
from reportlab.lib.pdfencrypt import StandardEncryption

from doyen.documents import read_document
from doyen.documents.pdf import read_pdf
from doyen.errors import DocumentError

LEFT = (
    "The tenant must report any damage to",
    "the house within seven days. Damage by",
    "water is covered where the pipe was in",
    "good repair, and where the compre-",
    "hensive cover was in force at the time",
    "of the leak and of the report of it.",
)
RIGHT = (
    "Burglary is covered where a lock was",
    "broken. The insurer pays for repairs of",
    "the lock and the door, and for what was",
    "taken away, up to the sum insured that",
    "the schedule names for each room of the",
    "house and for its garage and its shed.",
)


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


def test_pages_without_text_are_named_in_a_warning():
    pages = [["Text"], [], ["Text"], [], [], []]
    (warning,) = read_pdf(make_pdf(pages), Path("a.pdf")).warnings
    assert "pages 2, 4-6" in warning
    assert read_pdf(make_pdf([["Text"]]), Path("a.pdf")).warnings == ()


def test_pages_without_text_are_given_to_ocr():
    data = make_pdf([["Text"], []])
    read = read_pdf(data, Path("a.pdf"), read_scan=lambda page: f"Scanned at {page.get_width():.0f} points\n\nThe end")
    assert read.text == "Text\n\nScanned at 595 points\nThe end"
    assert read.warnings == ()


def test_meaningless_metadata_titles_give_way_to_the_first_line():
    assert read([["Annual report"]], title="Microsoft Word - x.doc").title == "Annual report"
    assert read([["Annual report"]], title="untitled").title == "Annual report"


def test_hyphenated_words_and_paragraph_lines_are_rejoined():
    text = read(
        [["The comprehensive household contents insur-", "ance covers damage by water and fire.", "Next."]]
    ).text
    assert "contents insurance covers damage" in text
    assert text.endswith("fire.\nNext.")


def test_a_compound_that_the_document_knows_keeps_its_hyphen():
    lines = ["The long-term plan covers ten years of the", "whole work, and each of the other long-", "term plans too."]
    assert "other long-term plans too." in read([lines]).text


def test_lines_repeated_at_page_edges_are_dropped_with_their_page_numbers():
    pages = [["ACME Ltd", f"Body {'abcde'[n]} text", f"Page {n + 1} of 5"] for n in range(5)]
    document = read(pages)
    assert [page_text(document, n) for n in range(1, 6)] == [f"Body {c} text" for c in "abcde"]


@pytest.mark.parametrize("rotation", [0, 90, 180, 270])
def test_two_columns_drawn_line_by_line_are_read_one_after_the_other(rotation):
    rows = [(60, 760, "A heading over both of the columns", "Helvetica-Bold", 12)]
    for n, (left, right) in enumerate(zip(LEFT, RIGHT, strict=True)):
        rows += [(60, 730 - 14 * n, left), (320, 730 - 14 * n, right)]
    rows.append((60, 600, "This line below goes over the whole width of the page, from the left to the right."))
    text = read([rows], rotation=rotation).text
    assert text.index("report of it.") < text.index("Burglary is covered") < text.index("This line below")
    assert "within seven days. Damage by water is covered" in text
    assert "the comprehensive cover was" in text


def test_columns_drawn_one_after_the_other_stay_so():
    lines = [(60, 730 - 14 * n, line) for n, line in enumerate(LEFT)]
    lines += [(320, 730 - 14 * n, line) for n, line in enumerate(RIGHT)]
    text = read([lines]).text
    assert text.index("report of it.") < text.index("Burglary is covered")
    assert "pays for repairs of the lock" in text


BALANCE = [
    ("(in millions)", "2024", "2023"),
    ("Cash and bank balances", "1,204", "1,100"),
    ("Receivables, net of allowances for doubtful", None, None),
    ("accounts and for returns", "310", "295"),
    ("Stock", "(45)", "77"),
    ("Total assets", "$1,514", "$1,472"),
]


def rows_of(document, at=0):
    found = document.tables[at]
    return document.text[found.start : found.end].split("\n")


def test_rows_of_a_table_are_whole_and_its_header_is_known():
    document = read([["Balance sheet", *table(BALANCE), (60, 600, "See the notes.")]])
    assert rows_of(document) == [
        "(in millions) 2024 2023",
        "Cash and bank balances 1,204 1,100",
        "Receivables, net of allowances for doubtful accounts and for returns 310 295",
        "Stock (45) 77",
        "Total assets $1,514 $1,472",
    ]
    assert document.tables[0].header == "(in millions) | 2024 | 2023"
    assert document.text.endswith("\nSee the notes.")
    turned = read([["Balance sheet", *table(BALANCE), (60, 600, "See the notes.")]], rotation=90)
    assert (turned.text, turned.tables) == (document.text, document.tables)


def test_a_label_with_amounts_of_its_own_is_still_one_row():
    rows = [("Sales", "1,204", "1,100"), ("Loss on hedges, net of tax of $5, $2 and", None, None)]
    document = read([table([*rows, ("$6 in the year", "(31)", "(40)")])])
    assert rows_of(document)[1] == "Loss on hedges, net of tax of $5, $2 and $6 in the year (31) (40)"


def test_a_table_drawn_column_by_column_has_its_rows():
    lines = table(BALANCE[3:])
    by_column = [line for x in (60, 400, 480) for line in lines if line[0] == x]
    assert "Stock (45) 77" in read([["Balance sheet", *by_column]]).text.split("\n")


def test_a_table_that_goes_on_over_the_page_keeps_its_header():
    rows = [(f"Region {chr(65 + n)} of the group", f"{n + 10},400", f"{n + 20},300") for n in range(8)]
    document = read([table([BALANCE[0], *rows]), table(rows)])
    assert [t.header for t in document.tables] == ["(in millions) | 2024 | 2023"] * 2


def test_prose_with_numbers_is_no_table():
    prose = [
        "In 2023 the group sold 1,204 houses and in 2024 it sold 1,310,",
        "of which 400 were new. The rest was old.",
    ]
    assert read([prose]).tables == ()


def contents(entries, top=700):
    lines = [(60, top + 40, "Contents", "Helvetica-Bold", 14)]
    for n, (title, number) in enumerate(entries):
        lines += [(60, top - 16 * n, title), (500, top - 16 * n, str(number))]
    return lines


ENTRIES = [("Introduction", 2), ("What is covered", 2), ("Claims", 3), ("Complaints", 4), ("Glossary", 5)]
BODY = [[f"Text of the page, part {'abcde'[n]}."] for n in range(5)]


def test_a_table_of_contents_is_dropped():
    document = read([contents(ENTRIES), *BODY])
    assert page_text(document, 1) == ""
    assert "Complaints" not in document.text
    dotted = [f"{title} {'.' * 30} {n}" for title, n in ENTRIES]
    assert "Glossary" not in read([["Our policy", *dotted], *BODY]).text


def test_a_price_list_and_a_document_that_is_all_contents_stay():
    prices = [("Cats", 12), ("Dogs", 3), ("Cows", 40), ("Horses", 7), ("Sheep", 9)]
    assert "Horses" in read([contents(prices), *BODY]).text
    assert "Glossary" in read([contents(ENTRIES)]).text


def test_headings_are_found_in_place_and_lists_are_not():
    document = read([["3 Cover", "We pay for the damage."], ["3.2 Water damage", "Up to 500 euros."]])
    assert [(h.level, h.title) for h in document.headings] == [(1, "3 Cover"), (2, "3.2 Water damage")]
    assert all(document.text.startswith(h.title, h.start) for h in document.headings)
    assert read([["1 Apples", "2 Pears", "3 Plums"]]).headings == ()


def test_larger_and_bold_lines_are_headings():
    body = "The house is insured against fire, water and storm as long as somebody lives in it all the year."
    lines = [
        (60, 780, "Home insurance", "Helvetica-Bold", 18),
        (60, 740, "Item 1. Cover", "Helvetica-Bold", 12),
        (60, 720, body),
        (60, 690, "Water damage", "Helvetica-Bold", 10),
        (60, 670, body),
    ]
    headings = read([lines]).headings
    assert [h.title for h in headings] == ["Home insurance", "Item 1. Cover", "Water damage"]
    assert [h.level for h in headings] == sorted(h.level for h in headings)
    assert len({h.level for h in headings}) == 3


def test_an_empty_user_password_opens_and_a_real_one_is_named():
    owner_only = StandardEncryption("", ownerPassword="owner", strength=128)
    assert read([["Readable text"]], encrypt=owner_only).text == "Readable text"
    locked = make_pdf([["Secret"]], encrypt=StandardEncryption("user", ownerPassword="owner", strength=128))
    with pytest.raises(DocumentError, match="needs a password"):
        read_document(Path("a.pdf"), "a", locked)


def test_passwords_are_tried_in_turn():
    locked = make_pdf([["Secret"]], encrypt=StandardEncryption("user", ownerPassword="owner", strength=128))
    assert read_pdf(locked, Path("a.pdf"), ["wrong", "user"]).text == "Secret"
    with pytest.raises(DocumentError, match="none of the 1 given opens it"):
        read_pdf(locked, Path("a.pdf"), ["wrong"])


def test_scanned_and_broken_files_are_refused():
    with pytest.raises(DocumentError, match="no text layer in its 2 pages"):
        read([[], []])
    with pytest.raises(DocumentError, match="not a readable PDF"):
        read_document(Path("a.pdf"), "a", b"%PDF-1.7 and then nothing")
    with pytest.raises(DocumentError, match=r"a\.pdf"):
        read_document(Path("a.pdf"), "a", make_pdf([["Text"]])[:300])
