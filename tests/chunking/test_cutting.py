"""Laws of chunking over random documents and two counters, and the structure that chunks keep."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from doyen.chunking import chunk_document
from doyen.documents.extracted import join_pages
from doyen.embedding import ByteCounter
from doyen.records import Document, Heading, Record, Table

WORDS = st.text("ab Z.!?\n\t|-#`。水é😀", max_size=60)
BYTES = ByteCounter(10**6)


class WordCounter:
    """A `TokenCounter` whose tokens are words and signs; a word's part is a token of its own, so parts count more."""

    special = 2
    fingerprint = "words"

    def __init__(self, limit=10**6):
        self.limit = limit

    def starts(self, text):
        return [match.start() for match in re.finditer(r"\w{1,8}|[^\w\s]", text)]

    def count(self, text):
        return len(self.starts(text))


def make(text, **fields):
    return Document(
        id="d", text=text, title=fields.pop("title", "T"), media_type="text/plain", sha256="s", source="", **fields
    )


def chunks_of(document, max_tokens=200, counter=BYTES):
    return chunk_document(document, counter, max_tokens=max_tokens)


def texts(document, **options):
    return [chunk.text for chunk in chunks_of(document, **options)]


@st.composite
def documents(draw):
    blocks = draw(st.lists(WORDS | st.text(max_size=40), max_size=12))
    if draw(st.booleans()):
        text, pages = join_pages(blocks)
    else:
        text, pages = "\n\n".join(blocks), ()
    places = draw(st.lists(st.tuples(st.integers(0, max(len(text), 1)), st.integers(1, 6)), max_size=8))
    headings = tuple(Heading(at, level, f"H{at}") for at, level in sorted(dict(places).items()))
    ends = sorted(draw(st.sets(st.integers(0, len(text)), max_size=4)))
    tables = tuple(Table(a, b, f"head {a}") for a, b in zip(ends[::2], ends[1::2], strict=False))
    return make(text, pages=pages, headings=headings, tables=tables)


@given(documents(), st.integers(1, 40), st.sampled_from([16, 60, 10**6]), st.sampled_from([ByteCounter, WordCounter]))
def test_chunks_are_verbatim_ordered_complete_and_within_the_limit(document, max_tokens, limit, counting):
    counter = counting(limit)
    chunks = chunks_of(document, max_tokens, counter)
    for chunk in chunks:
        assert document.text[chunk.start : chunk.end] == chunk.text == chunk.text.strip() != ""
        assert counter.count(chunk.indexed) + counter.special <= limit
    assert all(a.end <= b.start for a, b in zip(chunks, chunks[1:], strict=False))
    assert "".join("".join(c.text.split()) for c in chunks) == "".join(document.text.split())
    assert chunks == chunks_of(document, max_tokens, counter)


@given(documents(), st.integers(1, 40))
def test_chunks_stay_on_one_page(document, max_tokens):
    spans = {page.number: (page.start, page.end) for page in document.pages}
    for chunk in chunks_of(document, max_tokens):
        assert len(chunk.pages) == (1 if spans else 0)
        for number in chunk.pages:
            assert spans[number][0] <= chunk.start and chunk.end <= spans[number][1]


ROWS = st.lists(st.text("ab ;:水.", min_size=1, max_size=60).filter(str.strip), min_size=1, max_size=20)


def holding(document, start, end):
    row = document.text[start:end].strip()
    return [c for c in chunks_of(document, 15) if c.start < end and start < c.end and row in c.text]


@given(ROWS)
def test_rows_within_the_limit_are_never_cut(rows):
    records, position = [], 0
    for number, row in enumerate(rows, start=1):
        records.append(Record(str(number), position, position + len(row)))
        position += len(row) + 1
    document = make("\n".join(rows), records=tuple(records))
    assert all(len(holding(document, r.start, r.end)) == 1 for r in records)


@given(ROWS, WORDS, WORDS)
def test_lines_of_tables_are_never_cut_and_their_header_goes_along(rows, before, after):
    before += "\n\n"
    table = Table(len(before), len(before) + len("\n".join(rows)), "the | header")
    document = make(before + "\n".join(rows) + "\n\n" + after, tables=(table,))
    position = table.start
    for row in rows:
        [chunk] = holding(document, position, position + len(row))
        inside = table.start < chunk.start
        assert chunk.context == ("T\nthe | header" if inside else "T")
        assert "header" not in chunk.text
        position += len(row) + 1


def test_records_are_named_one_or_first_to_last():
    text = "Table t\nname: a\nname: b\nname: c"
    records = tuple(
        Record(str(n), text.index(f"name: {c}"), text.index(f"name: {c}") + 7)
        for n, c in ((1, "a"), (2, "b"), (3, "c"))
    )
    document = make(text, records=records)
    assert [c.record for c in chunks_of(document, 2)] == [None, "1", "2", "3"]
    assert [c.record for c in chunks_of(document, 6)] == ["1-2", "3"]
    assert chunks_of(make("no rows"))[0].record is None


def headed(text, *titles, title="T"):
    headings = tuple(Heading(text.index(line), line.index(" "), line.lstrip("# ")) for line in titles)
    return make(text, headings=headings, title=title)


def test_top_headings_start_chunks_and_deep_ones_share():
    text = "# T\n\nintro text\n\n## A\n\nalpha text that goes on\n\n### B\n\nbeta\n\n## C\n\n"
    text += "gamma text that goes on as well"
    document = headed(text, "# T", "## A", "### B", "## C")
    chunks = chunks_of(document, 60)
    assert [c.text.split("\n")[0] for c in chunks] == ["# T", "## A", "## C"]
    assert [c.section for c in chunks] == [None, "A", "C"]
    assert [c.context for c in chunks] == ["T", "T › A", "T › C"]
    deep = chunks_of(document, 13)
    assert [c.section for c in deep] == [None, "A", "A › B", "C"]


def test_headings_in_a_row_belong_to_the_text_below_them():
    text = "# T\n\n## A\n\n### B\n\nbody " + "word " * 30
    chunks = chunks_of(headed(text, "# T", "## A", "### B"), 20)
    assert chunks[0].text.startswith("# T\n\n## A\n\n### B\n\nbody word")
    assert {c.section for c in chunks} == {"A › B"}


def test_a_heading_moves_with_its_text_when_the_text_does_not_fit():
    text = "some first words here\n\n#### H\n\n" + "these words are many and need room"
    document = headed(text, "#### H")
    assert texts(document, max_tokens=12) == ["some first words here", "#### H\n\nthese words are many and need room"]


def test_a_tiny_last_section_joins_the_chunk_before_it():
    text = "## A\n\n" + "word " * 40 + "\n\n## B\n\nend"
    assert len(texts(headed(text, "## A", "## B"), max_tokens=100)) == 1
    longer = headed(text + " of this section, which is long enough to stand", "## A", "## B")
    assert len(texts(longer, max_tokens=100)) == 2


def test_breaks_at_paragraphs_before_sentences_before_words():
    assert texts(make("One two. Three.\n\nFour five. Six."), max_tokens=5) == ["One two. Three.", "Four five. Six."]
    assert texts(make("One two three. Four five six."), max_tokens=5) == ["One two three.", "Four five six."]
    assert texts(make("水火水火水。火水火水火！"), max_tokens=5) == ["水火水火水。", "火水火水火！"]
    assert texts(make("alpha beta gamma"), max_tokens=3) == ["alpha beta", "gamma"]
    assert texts(make("x" * 20), max_tokens=2) == ["x" * 8, "x" * 8, "x" * 4]


def test_hard_wrapped_sentences_are_not_broken_at_line_ends():
    text = "The cover is for\nwater and fire. It\nends at night."
    assert texts(make(text), max_tokens=9) == ["The cover is for\nwater and fire.", "It\nends at night."]


def test_a_word_that_a_tokenizer_takes_for_one_token_is_still_cut():
    class OneToken(WordCounter):
        def starts(self, text):
            return [0] if text else []

    assert max(map(len, texts(make("x" * 10_000), max_tokens=50, counter=OneToken()))) <= 50 * 8 + 8


CODE = "```python\nfor line in file:\n\n    print(line)\n    count += 1\n```"


def test_a_code_block_stays_whole_where_it_fits():
    document = make("Some words of text come first here.\n\n" + CODE + "\n\nAnd then text.")
    assert texts(document, max_tokens=17) == ["Some words of text come first here.", CODE, "And then text."]
    assert texts(document, max_tokens=40) == [document.text]


def test_a_longer_code_block_is_cut_at_line_ends():
    lines = [f"    value_{i} = compute({i})" for i in range(20)]
    document = make("\n".join(["```", *lines, "```"]))
    found = texts(document, max_tokens=30, counter=ByteCounter(60))
    assert len(found) > 3 and "\n".join(found).split("\n")[0] == "```"
    assert all(len(chunk.split("\n")) > 1 for chunk in found)
    assert [line.strip() for chunk in found for line in chunk.split("\n")][1:-1] == [line.strip() for line in lines]


def test_a_fence_that_is_never_closed_is_text():
    assert texts(make("One two.\n\n```\nFour five. Six."), max_tokens=5) == ["One two.", "```\nFour five. Six."]


def a_table(rows=12, header="| name | price |"):
    lines = [header, "| --- | --- |", *(f"| thing {i} | {i} euros |" for i in range(rows))]
    text = "Prices:\n\n" + "\n".join(lines) + "\n\nAll without tax."
    return make(text, tables=(Table(9, text.index("\n\nAll"), header.strip("| ")),)), lines


def test_a_table_that_fits_is_one_chunk():
    document, lines = a_table()
    for size in range(70, 120):
        chunks = chunks_of(document, size, ByteCounter(200))
        assert sum("\n".join(lines) in c.text for c in chunks) == 1
        assert {c.context for c in chunks} == {"T"}


def test_a_header_row_never_stands_without_a_row():
    document, lines = a_table()
    for size in range(12, 60):
        chunks = chunks_of(document, size, ByteCounter(80))
        first = next(c for c in chunks if "name" in c.text)
        assert "thing 0" in first.text
        assert all(line in "\n".join(c.text for c in chunks).split("\n") for line in lines)
        repeated = [c for c in chunks if 9 < c.start < document.tables[0].end]
        assert repeated and all(c.context == "T\nname | price" for c in repeated)


def test_a_long_header_gives_way_to_the_row():
    document, _ = a_table(header="| " + "very long column names " * 8 + "| price |")
    counter = ByteCounter(40)
    for chunk in chunks_of(document, 20, counter):
        assert counter.count(chunk.indexed) + 2 <= 40
        assert not chunk.text.startswith("|") or all(line.endswith("|") for line in chunk.text.split("\n")[1:-1])


def test_rows_of_several_lines_stay_whole():
    text = "Sheet\nname: a\n  note: x\nname: b\n  note: y\nname: c\n  note: z"
    places = [text.index(f"name: {c}") for c in "abc"]
    records = tuple(Record(c, at, at + 17) for c, at in zip("abc", places, strict=True))
    document = make(text, records=records, tables=(Table(0, len(text), "name, note"),))
    found = texts(document, max_tokens=6, counter=ByteCounter(24))
    assert found == ["Sheet\nname: a\n  note: x", "name: b\n  note: y", "name: c\n  note: z"]


def test_long_contexts_keep_title_and_last_heading_within_their_budget():
    headings = tuple(Heading(2 * n, n + 1, f"{'long heading ' * 5}{n}") for n in range(4))
    counter = ByteCounter(256)
    chunk = chunks_of(make("a\nb\nc\nd", title="Guide", headings=headings), counter=counter)[-1]
    assert counter.count(chunk.context) <= 54 and chunk.context.startswith("Guide › ") and chunk.context.endswith("3")
    assert chunk.section and chunk.section.count(" › ") == 3


def test_fields_are_copied_from_the_document():
    chunk = chunks_of(make("text", version=3, language="de", labels=("hr",)))[0]
    assert (chunk.document, chunk.sha256, chunk.version, chunk.language, chunk.labels) == ("d", "s", 3, "de", ("hr",))


def test_max_tokens_must_be_positive():
    with pytest.raises(ValueError, match="max_tokens"):
        chunks_of(make("x"), 0)
    assert chunks_of(make(" \n ")) == []
