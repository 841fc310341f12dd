"""Plain text, Markdown and HTML."""

from pathlib import Path

import pytest

from doyen.documents import read_document
from doyen.errors import DocumentError


def read(name, content):
    data = content.encode() if isinstance(content, str) else content
    return read_document(Path(name), name, data)


@pytest.mark.parametrize(
    ("encoding", "text"),
    [
        ("utf-8", "Größe – 水"),
        ("utf-8-sig", "Größe"),
        ("utf-16", "Größe 水"),
        ("cp1252", "Die Prüfung der Größe kostet 5 €. Für Öl gelten schärfere Maßstäbe, über die wir später sprechen."),
    ],
)
def test_encodings(encoding, text):
    assert read("a.txt", text.encode(encoding)).text == text


def test_newlines_are_normalised_and_control_characters_dropped():
    assert read("a.log", "a\r\nb\rc\x07d \x1b[31mred\x1b[0m\n").text == "a\nb\ncd red\n"


def test_form_feeds_start_pages():
    document = read("a.txt", "one\ntwo\n\fthree\f\ffive\n\f")
    assert [(p.number, document.text[p.start : p.end]) for p in document.pages] == [
        (1, "one\ntwo"),
        (2, "three"),
        (3, ""),
        (4, "five"),
    ]
    assert "\f" not in document.text
    assert read("a.txt", "no form feed").pages == ()


def test_plain_titles():
    assert read("water_damage-2024.txt", "It rained. Then it stopped.").title == "Water damage 2024"
    assert read("x.txt", "Claims handbook\n\nIt rained.").title == "Claims handbook"


MARKDOWN = """# Rules <a name="rules"></a>

Text with `# no heading`.

```
# comment in code
```

## Part \\- two ##

Setext one
==========

Setext two
---

| a | b |
|---|---|
"""


def test_markdown_headings_stand_where_they_say():
    document = read("a.md", MARKDOWN)
    assert document.text == MARKDOWN
    assert [(h.level, h.title) for h in document.headings] == [
        (1, "Rules"),
        (2, "Part - two"),
        (1, "Setext one"),
        (2, "Setext two"),
    ]
    starts = [document.text[h.start :].split("\n")[0] for h in document.headings]
    assert starts == ['# Rules <a name="rules"></a>', "## Part \\- two ##", "Setext one", "Setext two"]
    assert document.title == "Rules"


def test_markdown_front_matter_names_the_title():
    document = read("a.md", "---\ntitle: 'The guide'\n# not a heading\n---\n# First\n\ntext\n\n---\n\nmore")
    assert document.title == "The guide"
    assert [h.title for h in document.headings] == ["First"]
    assert read("my-notes.md", "no heading").title == "My notes"


HTML = """<!DOCTYPE html><html><head><title>Cover &amp; claims</title><style>p{}</style></head><body>
<nav>Home</nav><h1>Water
 damage</h1><p>We   pay <b>up</b> to 500&nbsp;&euro;.<br>Always.</p><script>alert(1)</script>
<template>never</template><div style="display: none">ghost</div>
<ul><li>first</li><li><p>second</p></li></ul><h2>Limits</h2>
<table><thead><tr><th>Item</th><th>Limit</th></tr></thead>
<tr><td>Bike</td><td></td><td>300<br>euros</td></tr><tr><td></td></tr></table>
<pre>a
  b</pre></body></html>"""


def test_html_text_headings_lists_and_tables():
    document = read("a.html", HTML)
    assert document.text.split("\n") == [
        "Water damage",
        "",
        "We pay up to 500 €.",
        "Always.",
        "",
        "- first",
        "",
        "- second",
        "",
        "Limits",
        "",
        "Item | Limit",
        "Bike | | 300 euros",
        "",
        "a",
        "  b",
    ]
    assert [(h.level, document.text[h.start : h.start + len(h.title)]) for h in document.headings] == [
        (1, "Water damage"),
        (2, "Limits"),
    ]
    assert document.title == "Cover & claims"


def test_html_layout_tables_are_blocks():
    html = "<table><tr><td><p>one</p><table><tr><td>a</td><td>b</td></tr></table></td><td>two</td></tr></table>"
    assert [line for line in read("a.html", html).text.split("\n") if line] == ["one", "a | b", "two"]


def test_html_charset_is_honoured():
    html = '<meta charset="windows-1251"><p>Страхование имущества</p>'.encode("cp1251")
    assert read("a.htm", html).text == "Страхование имущества"
    wrong = '<meta charset="no-such-charset"><p>Größe</p>'.encode()
    assert read("a.htm", wrong).text == "Größe"


def test_html_nested_beyond_the_recursion_limit():
    assert read("a.html", "<div>" * 5000 + "deep" + "</div>" * 5000).text == "deep"


@pytest.mark.parametrize("name", ["a.txt", "a.md", "a.html", "a.csv"])
@pytest.mark.parametrize("data", [b"abc\x00def", b"\x01\x02\x03\x04 text", b"\x89PNG\r\n"])
def test_binary_files_are_refused(name, data):
    with pytest.raises(DocumentError, match="binary file"):
        read(name, data)


def tables(document):
    return [(document.text[t.start : t.end].split("\n"), t.header) for t in document.tables]


def test_markdown_tables_and_their_headers():
    text = "# Prices\n\n| **Name** | `Price` in \\| | \n|:---|---:|\n| Bike | 300 |\n| Lock | 20 |\nNot a row.\n\n"
    text += "```\n| a | b |\n|---|---|\n```\n\na | b\n--- | ---\n\nNo | table\nhere | .\n\nTitle\n---\n"
    first, second = tables(read("t.md", text))
    assert first[0][0].startswith("| **Name**") and first[0][-1] == "| Lock | 20 |" and len(first[0]) == 4
    assert first[1] == "Name | Price in |"
    assert second == (["a | b", "--- | ---"], "a | b")


def test_html_tables_and_their_headers():
    head = "<thead><tr><th>Name<th>Price</tr><tr><td><td>euros</tr></thead>"
    text = f"<p>Before</p><table><caption>All</caption>{head}<tr><td>Bike<td>300</tr><tr><td>Lock<td>20</tr></table>"
    text += "<p>After</p><table><tr><td>a<td>b</tr><tr><td>1<td>2</tr></table>"
    text += "<table><tr><th>Tax<td>7</tr><tr><th>Sum<td>9</tr></table><table></table>"
    assert tables(read("t.html", text)) == [
        (["Name | Price", "| euros", "Bike | 300", "Lock | 20"], "Name | Price\n| euros"),
        (["a | b", "1 | 2"], "a | b"),
        (["Tax | 7", "Sum | 9"], ""),
    ]
