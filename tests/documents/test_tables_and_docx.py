"""CSV, TSV and DOCX."""

import io
from pathlib import Path

import docx
import pytest
from docx.oxml import OxmlElement

from doyen.documents import read_document
from doyen.documents.tables import number_of
from doyen.errors import DocumentError


def read_csv(text, name="prices.csv"):
    return read_document(Path(name), name, text.encode())


def rows(document):
    return [(r.key, document.text[r.start : r.end]) for r in document.records]


def test_csv_rows_are_records_of_name_value_pairs():
    document = read_csv('item,price,note\nBike,300,"fast,\nred"\n\nLock,20,\n')
    first = "Table prices: columns item (text: Bike, Lock), price (number: 20 to 300), note (text: fast, red); 2 rows"
    assert document.text.split("\n")[0] == first
    assert rows(document) == [("1", "item: Bike; price: 300; note: fast, red"), ("2", "item: Lock; price: 20")]
    assert document.title == "Prices"


@pytest.mark.parametrize("delimiter", [";", "\t", "|"])
def test_csv_delimiter_is_found(delimiter):
    text = "\n".join(delimiter.join(row) for row in (["a", "b"], ["1,5", "x"], ["2,5", "y"]))
    assert rows(read_csv(text)) == [("1", "a: 1,5; b: x"), ("2", "a: 2,5; b: y")]


def test_tsv_is_split_at_tabs():
    assert rows(read_csv("a\tb\n1,2\t3\n", "t.tsv")) == [("1", "a: 1,2; b: 3")]


def test_csv_without_header_numbers_its_columns_and_years_may_be_names():
    assert rows(read_csv("1,2\n3,4\n")) == [("1", "column 1: 1; column 2: 2"), ("2", "column 1: 3; column 2: 4")]
    assert rows(read_csv("region,2019,2020\nEast,5,6\n")) == [("1", "region: East; 2019: 5; 2020: 6")]


def test_csv_with_a_title_row_above_the_header():
    document = read_csv("Overview of schools,,,,\nname,code,city,rank,size\nMitty,M,Reno,1,20\n")
    assert rows(document) == [("1", "name: Mitty; code: M; city: Reno; rank: 1; size: 20")]
    assert "Overview of schools" in document.text


def test_csv_without_rows_is_refused():
    with pytest.raises(DocumentError, match="no rows"):
        read_csv("a,b\n")
    with pytest.raises(DocumentError, match="no rows"):
        read_csv("\n\n")


def test_the_first_line_gives_types_and_typical_values():
    lines = ["when,amount,city,code"]
    lines += [f'2024-01-{n:02},"{n},000.50",{"Bonn" if n % 2 else "Rome"},key-{n}' for n in range(1, 13)]
    first = read_csv("\n".join(lines)).text.split("\n")[0]
    assert first == (
        "Table prices: columns when (date: 2024-01-01 to 2024-01-12), amount (number: 1,000.50 to 12,000.50), "
        "city (text: Bonn, Rome), code (text: such as key-1); 12 rows"
    )


def test_the_first_line_of_a_wide_table_keeps_the_names_and_drops_values_and_types():
    names = [f"measurement {n}" for n in range(20)]
    first = read_csv("\n".join(",".join(row) for row in (names, ["123456789"] * 20))).text.split("\n")[0]
    assert first == f"Table prices: columns {', '.join(f'{name} (number)' for name in names)}; 1 rows"
    names = [f"measurement {n}" for n in range(100)]
    first = read_csv("\n".join(",".join(row) for row in (names, ["5"] * 100))).text.split("\n")[0]
    assert first == f"Table prices: columns {', '.join(names)}; 1 rows"


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1,5", 1.5),
        ("1,234", 1234),
        ("1.234,5", 1234.5),
        ("$1,234.5", 1234.5),
        ("(20)", -20),
        ("5%", 5),
        ("-2e3", -2000),
    ],
)
def test_numbers_are_compared_by_value(text, value):
    assert number_of(text) == value


def make_docx():
    document = docx.Document()
    document.add_paragraph("Household policy", style="Title")
    document.add_heading("Cover", 1)
    document.add_paragraph("We pay for water damage.")
    document.add_paragraph("pipes", style="List Bullet")
    document.add_paragraph("roofs", style="List Bullet")
    table = document.add_table(rows=3, cols=3)
    for r, row in enumerate(table.rows):
        for c, cell in enumerate(row.cells):
            cell.text = f"r{r}c{c}"
    merged = table.cell(0, 0).merge(table.cell(0, 1))
    merged.text = "wide"
    tall = table.cell(1, 2).merge(table.cell(2, 2))
    tall.text = "tall"
    document.add_heading("Claims", 2)
    document.add_paragraph("Call us.")
    control = OxmlElement("w:sdt")  # a content control, common in company templates
    content = OxmlElement("w:sdtContent")
    control.append(content)
    content.append(document.add_paragraph("Inside a control.")._p)
    document.element.body.insert(-1, control)
    buffer = io.BytesIO()
    document.save(buffer)
    return buffer.getvalue()


def test_docx_in_body_order_with_headings_lists_and_tables():
    document = read_document(Path("a.docx"), "a", make_docx())
    assert document.title == "Household policy"
    assert document.text.split("\n\n") == [
        "Household policy",
        "Cover",
        "We pay for water damage.",
        "- pipes\n- roofs",
        "wide | r0c2\nr1c0 | r1c1 | tall\nr2c0 | r2c1",
        "Claims",
        "Call us.",
        "Inside a control.",
    ]
    assert [(h.level, document.text[h.start :].split("\n")[0]) for h in document.headings] == [
        (1, "Cover"),
        (2, "Claims"),
    ]
    assert document.pages == ()


def test_docx_hidden_and_deleted_text_does_not_leak_and_properties_are_metadata():
    document = docx.Document()
    document.core_properties.author = "Ann Lee"
    paragraph = document.add_paragraph("Shown ")
    hidden = paragraph.add_run("secret")
    hidden.font.hidden = True
    for tag in ("w:del", "w:moveFrom"):
        gone = OxmlElement(tag)
        gone.append(document.add_paragraph().add_run("removed")._r)
        paragraph._p.append(gone)
    buffer = io.BytesIO()
    document.save(buffer)
    read = read_document(Path("a.docx"), "a", buffer.getvalue())
    assert read.text == "Shown"
    assert dict(read.metadata)["author"] == "Ann Lee"


@pytest.mark.parametrize("data", [b"not a zip", make_docx()[:2000], b"PK\x03\x04rest"])
def test_docx_that_is_damaged_is_refused(data):
    with pytest.raises(DocumentError, match="not a readable Word document"):
        read_document(Path("a.docx"), "a", data)


def test_docx_that_is_encrypted_is_refused():
    with pytest.raises(DocumentError, match="encrypted"):
        read_document(Path("a.docx"), "a", b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + b"\0" * 600)


def test_docx_tables_and_their_headers():
    document = read_document(Path("a.docx"), "a.docx", make_docx())
    assert document.tables
    for table in document.tables:
        assert document.text[table.start : table.end].split("\n")[0] == table.header


def test_docx_notes_follow_the_block_that_refers_to_them_and_comments_are_left_out():
    from docx.opc.constants import RELATIONSHIP_TYPE
    from docx.opc.packuri import PackURI
    from docx.opc.part import Part
    from docx.oxml.ns import nsdecls, qn

    document = docx.Document()
    paragraph = document.add_paragraph("The deposit is repaid")
    document.add_comment(paragraph.runs, text="Is that so?", author="Ann")
    table = document.add_table(rows=1, cols=1)
    document.add_paragraph("The end.")

    def refer(to, kind, number):
        reference = OxmlElement(f"w:{kind}Reference")
        reference.set(qn("w:id"), number)
        to.add_run()._r.append(reference)

    def add(kind, relationship, notes):
        xml = f"<w:{kind}s {nsdecls('w')}>{notes}</w:{kind}s>".encode()
        part = Part(PackURI(f"/word/{kind}s.xml"), "application/xml", xml, document.part.package)
        document.part.relate_to(part, relationship)

    refer(paragraph, "footnote", "2")
    paragraph.add_run(" in May.")
    refer(paragraph, "endnote", "2")
    refer(table.cell(0, 0).paragraphs[0], "footnote", "3")
    table.cell(0, 0).paragraphs[0].add_run("cell")
    note = '<w:footnote w:id="{}"{}><w:p><w:r><w:t>{}</w:t></w:r></w:p></w:footnote>'
    separator = note.format(0, ' w:type="separator"', "---")
    add(
        "footnote", RELATIONSHIP_TYPE.FOOTNOTES, separator + note.format(2, "", "Or June.") + note.format(3, "", "Sic.")
    )
    endnote = note.replace("footnote", "endnote").format(2, "", "See the law.")
    add("endnote", RELATIONSHIP_TYPE.ENDNOTES, endnote)
    buffer = io.BytesIO()
    document.save(buffer)
    assert read_document(Path("a.docx"), "a", buffer.getvalue()).text.split("\n\n") == [
        "The deposit is repaid in May.",
        "Footnote: Or June.",
        "Endnote: See the law.",
        "cell",
        "Footnote: Sic.",
        "The end.",
    ]


def test_docx_of_endless_elements_is_refused_before_a_tree_is_built():
    from hostile_files import BOMBS

    with pytest.raises(DocumentError, match="more than 4,000,000 elements"):
        read_document(Path("a.docx"), "a", BOMBS["bomb-of-paragraphs.docx"]())
