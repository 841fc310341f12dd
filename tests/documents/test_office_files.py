"""PPTX, spreadsheets, ODT, RTF, EPUB and Parquet: what is kept of each, and what is left out."""

from pathlib import Path

import pyarrow as pa
import pytest
from hostile_files import ods
from small_files import (
    RTF,
    make_docx,
    make_epub,
    make_ods,
    make_odt,
    make_parquet,
    make_pptx,
    make_xls,
    make_xlsx,
    make_zip,
)

from doyen.documents.epub import read_epub
from doyen.documents.opendocument import read_odt
from doyen.documents.parquet import read_parquet
from doyen.documents.presentation import read_pptx
from doyen.documents.rtf import read_rtf
from doyen.documents.spreadsheet import read_spreadsheet
from doyen.errors import DocumentError


def headings(extracted):
    assert all(extracted.text.startswith(h.title, h.start) for h in extracted.headings)
    return [(h.level, h.title) for h in extracted.headings]


def rows(extracted):
    return [(r.key, extracted.text[r.start : r.end]) for r in extracted.records]


def test_slides_are_pages_with_title_table_chart_and_notes():
    slides = read_pptx(make_pptx(), Path("a.pptx"))
    pages = [slides.text[page.start : page.end] for page in slides.pages]
    assert pages[0] == (
        "Water damage\n\nUp to 500 euros\nFrom day one\n\nItem | Limit\nBike | 300\n\nNotes: Mention the leak."
    )
    assert pages[1:] == ["", "", "Growth\n\nIn a group\n\nClaims: 2023: 12; 2024: 15.5"]
    assert headings(slides) == [(1, "Water damage"), (1, "Growth")]
    assert (slides.title, dict(slides.metadata)["author"]) == ("Claims in numbers", "Ann Lee")
    assert slides.warnings == ("hidden slides are not read: 3",)


def test_sheets_are_sections_and_rows_are_records():
    sheets = {
        "Prices": [["item", "price", "sold"], ["Bike", 300, True], [], ["Lock", 20.5, False]],
        "Secret": [["nothing"]],
        "Notes": [["Prices are net."]],
    }
    book = read_spreadsheet(make_xlsx(sheets, hidden=["Secret"], title="Price list", author="Ann"), Path("a.xlsx"))
    assert headings(book) == [(1, "Prices"), (1, "Notes")]
    assert rows(book) == [
        ("Prices!1", "item: Bike; price: 300; sold: TRUE"),
        ("Prices!2", "item: Lock; price: 20.5; sold: FALSE"),
    ]
    assert "Table Prices: columns item (text: Bike, Lock), price (number: 20.5 to 300)" in book.text
    assert book.text.endswith("Notes\nPrices are net.")
    assert (book.title, dict(book.metadata)["author"]) == ("Price list", "Ann")
    assert book.warnings == ("hidden sheets are not read: Secret",)


def test_hidden_rows_are_read_and_told():
    book = read_spreadsheet(make_xlsx(hidden_row=2), Path("a.xlsx"))
    assert book.text == read_spreadsheet(make_xlsx(), Path("a.xlsx")).text and "Lock" in book.text
    assert book.warnings == ("hidden or filtered rows and columns are read too",)
    row = '<table:table-row{}><table:table-cell office:value-type="string"><text:p>x</text:p></table:table-cell></table:table-row>'
    for mark, told in ((' table:visibility="filter"', 1), ("", 0)):
        assert len(read_spreadsheet(ods(row.format(mark)), Path("a.ods")).warnings) == told


def test_a_single_sheet_without_a_name_takes_that_of_the_file():
    book = read_spreadsheet(make_xlsx({"Sheet1": [["a", "b"], ["x", 1]]}), Path("stock.xlsx"))
    assert book.text == "Table stock: columns a (text: x), b (number: 1); 1 rows\na: x; b: 1"
    assert (book.headings, rows(book)) == ((), [("1", "a: x; b: 1")])


def test_ods_is_read_like_xlsx_and_its_repeated_rows_too():
    book = read_spreadsheet(make_ods(repeated_rows=2), Path("a.ods"))
    assert rows(book) == [("1", "item: Bike; price: 300"), ("2", "item: Bike; price: 300")]


def test_xls_is_read_like_xlsx():
    assert rows(read_spreadsheet(make_xls(), Path("a.xls"))) == [
        ("1", "item: Bike; price: 300"),
        ("2", "item: Lock; price: 20.5"),
    ]


@pytest.mark.parametrize(
    ("data", "name"),
    [
        (make_ods(900_000_000), "a.ods"),
        (make_xls([("a", "b"), ("c", "d")]).replace(b"\1\0\1\0\0\0", b"\xff\xff\xff\xff\0\0"), "a.xls"),
        (
            ods(
                '<table:table-row><table:table-cell><text:s text:c="2000000000"/></table:table-cell></table:table-row>'
            ),
            "a.ods",
        ),
        (make_xlsx({"A": [[1], *[[]] * 1_999, [*[""] * 16_000, 2]]}), "a.xlsx"),  # cells in opposite corners
    ],
)
def test_a_sheet_that_would_fill_the_memory_is_refused(data, name):
    with pytest.raises(DocumentError, match="cells or spaces, more than"):
        read_spreadsheet(data, Path(name))


def test_odt_headings_lists_tables_and_no_tracked_deletions():
    text = read_odt(make_odt(), Path("a.odt"))
    assert text.text == "Cover\n\nWe pay up to\n500 euros.\n- pipes\n- roofs\n\nBike | 300"
    assert headings(text) == [(1, "Cover")]
    assert (text.title, text.metadata) == ("The policy", (("author", "Ann Lee"),))


def test_rtf_headings_rows_characters_and_no_hidden_text():
    text = read_rtf(RTF, Path("a.rtf"))
    assert text.text == "Cover\n\nWe pay for wäter –damage.\nItem | Limit\n\nLast"
    assert headings(text) == [(1, "Cover")]
    assert (text.title, text.metadata) == ("The policy", (("author", "Ann Lee"),))


def test_rtf_character_sets():
    assert read_rtf(rb"{\rtf1\ansi\ansicpg1251 \'cf\'f0\par}", Path("a.rtf")).text == "Пр"
    font = rb"{\rtf1\ansi{\fonttbl{\f0 A;}{\f1\fcharset128 B;}}\f1\'93\'fa\'96\'7b\f0  x\par}"
    assert read_rtf(font, Path("a.rtf")).text == "日本 x"
    assert read_rtf(rb"{\rtf1\uc1\u-10179?\u-8694?\par}", Path("a.rtf")).text == "😊".replace("😊", "\U0001f60a")
    assert read_rtf(rb"{\rtf1 a\u55357?b\par}", Path("a.rtf")).text == "a\ufffdb"


def test_rtf_nested_beyond_the_recursion_limit():
    deep = b"{\\rtf1 " + b"{" * 50_000 + b"deep" + b"}" * 50_000 + b"\\par}"
    assert read_rtf(deep, Path("a.rtf")).text == "deep"
    with pytest.raises(DocumentError, match="nested deeper"):
        read_rtf(b"{\\rtf1 " + b"{" * 200_000, Path("a.rtf"))


def test_epub_chapters_in_the_order_of_the_spine():
    book = read_epub(make_epub(), Path("a.epub"))
    assert book.text == "One\n\nIt rained.\n\nTwo\n\nThe roof held."
    assert headings(book) == [(1, "One"), (1, "Two")]
    assert book.title == "Rain & roofs"
    assert dict(book.metadata) == {"author": "Ann Lee, Bo Ek", "language": "en"}
    assert book.warnings == ("chapter OPS/gone.xhtml cannot be read",)


def test_a_copy_protected_epub_is_refused_and_obfuscated_fonts_are_no_protection():
    lock = '<encryption><EncryptionMethod xmlns="http://www.w3.org/2001/04/xmlenc#" Algorithm="{}"/></encryption>'
    fonts = {"META-INF/encryption.xml": lock.format("http://www.idpf.org/2008/embedding")}
    assert read_epub(make_epub(**fonts), Path("a.epub")).text
    protected = {"META-INF/encryption.xml": lock.format("http://www.w3.org/2001/04/xmlenc#aes128-cbc")}
    with pytest.raises(DocumentError, match="copy-protected"):
        read_epub(make_epub(**protected), Path("a.epub"))


def test_parquet_rows_are_records_and_bytes_are_left_out():
    table = read_parquet(make_parquet(), Path("prices.parquet"))
    assert table.text.split("\n")[0] == (
        "Table prices: columns item (text: Bike, Lock), price (number: 20.5 to 300), tags (text: a, b); 2 rows"
    )
    assert rows(table) == [("1", "item: Bike; price: 300; tags: a, b"), ("2", "item: Lock; price: 20.5")]


def test_parquet_with_nested_columns_and_without_rows():
    nested = make_parquet({"who": [{"name": "Ann", "age": 3}], "on": pa.array([0], pa.date32())})
    assert rows(read_parquet(nested, Path("a.parquet"))) == [("1", "who: name: Ann, age: 3; on: 1970-01-01")]
    with pytest.raises(DocumentError, match="no rows"):
        read_parquet(make_parquet({"a": pa.array([], pa.string())}), Path("a.parquet"))


@pytest.mark.parametrize("read", [read_pptx, read_spreadsheet, read_odt, read_epub, read_rtf, read_parquet])
@pytest.mark.parametrize("data", [b"not it", b"PK\x03\x04rest", make_docx()[:3000], make_zip({"a": b"b"})])
def test_damaged_files_are_refused_by_name(read, data):
    with pytest.raises(DocumentError, match="not a readable"):
        read(data, Path("a.bin"))
