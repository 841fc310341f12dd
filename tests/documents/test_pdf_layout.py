"""PDF layout by itself: furniture, paragraphs, numbered headings, tables of contents."""

import pytest

from doyen.documents.pdf_contents import drop_contents
from doyen.documents.pdf_headings import Styled, heading_level, heading_levels
from doyen.documents.pdf_layout import compounds, drop_furniture, join_lines
from doyen.documents.pdf_lines import HYPHEN, Line


def lines(texts):
    return [Line(text) for text in texts]


def placed(texts, top=700.0):
    return [Line(text, 60, 60 + 5 * len(text), top - 14 * n, 10) for n, text in enumerate(texts)]


def dropped(pages, make=lines):
    return [[line.text for line in page] for page in drop_furniture([make(page) for page in pages])]


def joined(texts):
    return [block.text for block in join_lines(lines(texts))]


def test_furniture_needs_four_pages_and_leaves_distinct_facts_and_no_empty_page():
    three = [["Head", "x"], ["Head", "y"], ["Head", "z"]]
    assert dropped(three) == three
    facts = [[f"The limit is {amount} euros", "a b c d"[n * 2]] for n, amount in enumerate((400, 750, 120, 990))]
    assert dropped(facts) == facts
    assert dropped([["Same"]] * 5) == [["Same"]] * 5


def test_left_and_right_pages_have_heads_of_their_own():
    pages = [["Annual report" if n % 2 else "ACME Ltd", f"{'abcdefgh'[n]} text"] for n in range(8)]
    assert dropped(pages) == [[f"{c} text"] for c in "abcdefgh"]


def test_the_first_page_of_a_chapter_keeps_its_running_head():
    pages = [[f"Chapter {'one' if n < 5 else 'two'}", f"{'abcdefghij'[n]} text"] for n in range(10)]
    kept = dropped(pages, placed)
    assert [page[0] for page in kept if len(page) == 2] == ["Chapter one", "Chapter two"]


def test_numbers_that_end_a_paragraph_are_no_page_numbers():
    pages = [[f"Text {c} ends with", f"{year}."] for c, year in zip("abcd", (2031, 2020, 2024, 2027), strict=True)]
    assert dropped(pages) == pages
    pages = [[f"Text {c}", str(n)] for n, c in enumerate("abcd", start=7)]
    assert dropped(pages) == [[f"Text {c}"] for c in "abcd"]


def test_join_lines_keeps_table_rows_and_list_items_apart():
    rows = ["Net sales of the whole group in millions of dollars 3,393", "Adjusted EBIT of the group 265"]
    assert joined(rows) == rows
    items = ["• a long list item that goes on until the line is full and", "• another one"]
    assert joined(items) == items


def test_a_line_with_room_for_the_next_word_ends_its_paragraph():
    full = "The report was filed in due time with the Securities and"
    short = "The report was filed in due time"
    assert len(join_lines(placed([full, "Exchange Commission.", "x" * len(full)]))) == 2
    assert len(join_lines(placed([short, "Exchange Commission.", "x" * len(full)]))) == 3


def test_hyphens_at_line_ends():
    hyphened = compounds([lines(["a long-term plan"])])
    assert hyphened == {"long-term"}
    for pair, whole in (
        (["insur" + HYPHEN, "ance"], "insurance"),
        (["the long" + HYPHEN, "term plan"], "the long-term plan"),
        (["COVID" + HYPHEN, "19 cases"], "COVID-19 cases"),
        (["Anglo" + HYPHEN, "American law"], "Anglo-American law"),
    ):
        assert [block.text for block in join_lines(lines(pair), (), hyphened)] == [whole]


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


def test_runs_of_numbered_lines_are_lists_and_runs_in_heading_type_are_covers():
    assert heading_levels([Styled(text) for text in ("1 Apples", "2 Pears", "3 Plums")]) == [0, 0, 0]
    cover = [Styled(text, 20.0, True) for text in ("ACME", "Annual report", "Boston", "Massachusetts")]
    body = Styled("The text of the report. " * 30, 10.0)
    assert heading_levels([*cover, body, Styled("Results", 20.0, True), body]) == [0, 0, 0, 0, 0, 1, 0]


def test_bold_type_means_nothing_where_most_text_is_bold():
    bold = Styled("The text of the report. " * 30, 10.0, True)
    assert heading_levels([bold, Styled("A bold line", 10.0, True), bold]) == [0, 0, 0]


def test_contents_need_numbers_that_rise_and_a_sign():
    entries = [Line(f"Title {c * 4} {n}", led=True) for n, c in enumerate("abcdef", start=1)]
    rest = [lines([f"text {c}"]) for c in "abcdefg"]
    assert drop_contents([entries, *rest])[0] == []
    plain = [Line(line.text) for line in entries]
    assert drop_contents([plain, *rest])[0] == plain
    assert drop_contents([[Line("Inhaltsverzeichnis"), *plain], *rest])[0] == []
    falling = entries[::-1]
    assert drop_contents([falling, *rest])[0] == falling
