"""XML, JSON and JSONL, and XHTML's empty elements."""

from pathlib import Path

import pytest

from doyen.documents import read_document
from doyen.errors import DocumentError


def read(name, content):
    return read_document(Path(name), name, content if isinstance(content, bytes) else content.encode())


def rows(document):
    return [(r.key, document.text[r.start : r.end]) for r in document.records]


ARTICLE = """<?xml version="1.0"?><!DOCTYPE a [<!ENTITY firm "Hearthwell">]>
<Article id="7" source="Desk" url="https://example.com/7"><!-- draft --><?php no ?>
  <ArticleTitle>Water damage</ArticleTitle>
  <Codes><Code>A1</Code><Code>B2</Code></Codes>
  <Group>Home</Group>
  <Section title="Cover"><p>We pay <b>up to</b> 500&#160;euros
     for water. Always&nbsp;.</p><p>Short.</p></Section>
  <Section><Title>Claims</Title><Text>Call us at once:    - by phone    - by mail

     Then wait.</Text><Limit unit="EUR">500</Limit></Section>
  <Image href="x.png" alt="A pipe"/><Empty/>
</Article>"""


def test_xml_titles_values_and_paragraphs_in_order():
    document = read("a.xml", ARTICLE)
    assert document.text.split("\n") == [
        "Water damage",
        "",
        "Code: A1; B2",
        "Group: Home",
        "",
        "Cover",
        "",
        "We pay up to 500 euros for water. Always .",
        "",
        "Short.",
        "",
        "Claims",
        "",
        "Call us at once:",
        "- by phone",
        "- by mail",
        "",
        "Then wait.",
        "",
        "Limit: 500 (unit: EUR)",
        "Image: href: x.png; alt: A pipe",
    ]
    assert [(h.level, h.title) for h in document.headings] == [(1, "Water damage"), (2, "Cover"), (2, "Claims")]
    assert all(document.text.startswith(h.title, h.start) for h in document.headings)
    assert document.title == "Water damage"
    assert dict(document.metadata)["url"] == "https://example.com/7"


def test_xml_rows_are_records():
    book = "<book year='2001'><title>T{0}</title><author>Ann</author><author>Bo</author></book>"
    document = read("a.xml", f"<books>{''.join(map(book.format, range(3)))}</books>")
    assert rows(document)[0] == ("1", "Year: 2001; Title: T0; Author: Ann, Bo")
    assert len(document.records) == 3
    table = read("a.xml", "<t><tr><td>Bike</td><td unit='EUR'>300</td></tr><tr><td>Lock</td><td/></tr></t>")
    assert rows(table) == [("1", "Bike | 300 (unit: EUR)"), ("2", "Lock")]


def test_xml_that_holds_html_and_xhtml_itself_are_read_as_html():
    feed = (
        "<rss><channel><title>News</title><item><title>One</title><description>{}</description></item></channel></rss>"
    )
    document = read(
        "a.xml", feed.format("&lt;p&gt;It &lt;b&gt;rained&lt;/b&gt;.&lt;/p&gt;&lt;script&gt;no&lt;/script&gt;")
    )
    assert document.text == "News\n\nOne\n\nIt rained."
    page = '<?xml version="1.0"?><html xmlns="http://www.w3.org/1999/xhtml"><head><title/></head><body><h1>Top</h1></body></html>'
    assert read("a.xml", page).text == read("a.xhtml", page).text == "Top"


def test_xml_entities_are_not_expanded_and_nothing_is_fetched(tmp_path):
    (tmp_path / "secret.txt").write_text("secret")
    doctype = f'<!DOCTYPE a [<!ENTITY s SYSTEM "file://{tmp_path}/secret.txt">]>'
    assert "secret" not in read("a.xml", f"{doctype}<a><p>x &s; y</p></a>").text
    levels = "".join(f'<!ENTITY e{n} "{f"&e{n - 1};" * 10}">' for n in range(1, 12))
    bomb = f'<!DOCTYPE a [<!ENTITY e0 "ha">{levels}]><a><p>x &e11; y</p></a>'
    try:
        assert len(read("a.xml", bomb).text) < 100
    except DocumentError as error:
        assert "not well-formed" in str(error)


@pytest.mark.parametrize("data", ["<a><b>x</a>", "<a>", "plain", "<a>" * 10_000 + "x" + "</a>" * 10_000])
def test_xml_that_is_broken_or_too_deep_is_refused(data):
    with pytest.raises(DocumentError, match="not well-formed"):
        read("a.xml", data)


def test_json_objects_of_a_list_are_records():
    document = read("prices.json", '[{"item": "Bike", "limit": {"eur": 1.50}, "tags": ["a", "b"]}, {"item": "Lock"}]')
    assert document.text.split("\n\n")[0] == (
        "Records prices: fields item (text: Bike, Lock), limit.eur (number: 1.50), tags (text: a, b); 2 records"
    )
    assert rows(document) == [("1", "item: Bike\nlimit.eur: 1.50\ntags: a, b"), ("2", "item: Lock")]


def test_json_with_one_list_of_objects_and_keyed_objects():
    document = read("a.json", '{"title": "Stock", "total": 2, "items": [{"a": [{"b": 1}, 2]}, {"a": null, "c": true}]}')
    assert document.title == "Stock"
    assert document.text.startswith("title: Stock\ntotal: 2\n\nRecords items: fields ")
    assert rows(document) == [("1", "a.1.b: 1\na.2: 2"), ("2", "c: true")]
    keyed = read("a.json", '{"k1": {"v": 1}, "k2": {"v": 2}, "k3": {"v": 3}}')
    assert rows(keyed) == [("k1", "k1\nv: 1"), ("k2", "k2\nv: 2"), ("k3", "k3\nv: 3")]


def test_json_like_a_document_has_sections():
    document = read(
        "a.json",
        '{"title": "Guide", "intro": "One.\\nTwo.", "cover": {"name": "Water", "limits": {"eur": 5}, "text": "We pay."},'
        '"flags": {"x": 1}}',
    )
    assert (
        document.text
        == "title: Guide\nintro: One.\nTwo.\nflags.x: 1\n\ncover: Water\n\nname: Water\nlimits.eur: 5\ntext: We pay."
    )
    assert [(h.level, h.title) for h in document.headings] == [(1, "cover: Water")]


def test_jsonl_lines_are_records_and_broken_ones_are_counted():
    from doyen.documents.json_text import read_jsonl

    lines = b'{"a": "x"}\n\nbroken\n{"a": "\\ud83d"}\n[1, 2]\n'
    extracted = read_jsonl(lines, Path("a.jsonl"))
    assert [extracted.text[r.start : r.end] for r in extracted.records] == ["a: x", "a:", "1, 2"]
    assert extracted.warnings == ("1 lines are not valid JSON: 3",)
    assert rows(read("a.json", '{"a": 1}\n{"a": 2}\n')) == [("1", "a: 1"), ("2", "a: 2")]


@pytest.mark.parametrize("data", ['{"a": 1', "nonsense", "[" * 100_000, '{"a":' * 100_000, ""])
def test_json_that_is_broken_or_too_deep_is_refused(data):
    for name in ("a.json", "a.jsonl"):
        with pytest.raises(DocumentError):
            read(name, data)


def test_control_characters_do_not_reach_the_text():
    assert read("a.html", "<p>a&#1;b&#x9f;c</p>").text == "abŸc"
    assert read("a.json", '["a\\u0000b\\u202ec"]').text == "ab\u202ec"
