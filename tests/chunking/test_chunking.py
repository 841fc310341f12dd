"""Laws of chunking, over random documents, and the structure that chunks keep."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from doyen.chunking import sentence_spans
from doyen.documents.extracted import join_pages
from doyen.records import Document, Heading, Record

WORDS = st.text("ab Z.!?\n\t|-#。水é😀", max_size=60)


def make(text, **fields):
    return Document(
        id="d", text=text, title=fields.pop("title", "T"), media_type="text/plain", sha256="s", source="", **fields
    )


def texts(document, **options):
    return [chunk.text for chunk in chunk_document(document, **options)]


@st.composite
def documents(draw):
    blocks = draw(st.lists(WORDS | st.text(max_size=40), max_size=12))
    if draw(st.booleans()):
        text, pages = join_pages(blocks)
    else:
        text, pages = "\n\n".join(blocks), ()
    places = draw(st.lists(st.tuples(st.integers(0, max(len(text), 1)), st.integers(1, 6)), max_size=8))
    headings = tuple(Heading(at, level, f"H{at}") for at, level in sorted(dict(places).items()))
    return make(text, pages=pages, headings=headings)


@given(documents(), st.integers(1, 40))
def test_chunks_are_verbatim_ordered_complete_and_small(document, max_tokens):
    chunks = chunk_document(document, max_tokens=max_tokens)
    for chunk in chunks:
        assert document.text[chunk.start : chunk.end] == chunk.text == chunk.text.strip() != ""
        assert estimate_tokens(chunk.text) <= max_tokens
        assert len(chunk.context) <= 200
    assert all(a.end <= b.start for a, b in zip(chunks, chunks[1:], strict=False))
    assert "".join("".join(c.text.split()) for c in chunks) == "".join(document.text.split())


@given(documents(), st.integers(1, 40))
def test_chunks_stay_on_one_page(document, max_tokens):
    spans = {page.number: (page.start, page.end) for page in document.pages}
    for chunk in chunk_document(document, max_tokens=max_tokens):
        assert len(chunk.pages) == (1 if spans else 0)
        for number in chunk.pages:
            assert spans[number][0] <= chunk.start and chunk.end <= spans[number][1]


@given(st.lists(st.text("ab ;:水.", min_size=1, max_size=60).filter(str.strip), min_size=1, max_size=20))
def test_rows_within_the_limit_are_never_cut(rows):
    records, position = [], 0
    for number, row in enumerate(rows, start=1):
        records.append(Record(str(number), position, position + len(row)))
        position += len(row) + 1
    document = make("\n".join(rows), records=tuple(records))
    chunks = chunk_document(document, max_tokens=15)
    for record in records:
        row = document.text[record.start : record.end]
        if estimate_tokens(row.strip()) <= 15:
            holding = [c for c in chunks if c.start < record.end and record.start < c.end and row.strip() in c.text]
            assert len(holding) == 1


def test_tokens_are_estimated_from_bytes():
    assert [estimate_tokens(t) for t in ("", "a", "abcd", "abcde", "水水水水")] == [0, 1, 1, 2, 3]


def test_records_are_named_one_or_first_to_last():
    text = "Table t\nname: a\nname: b\nname: c"
    records = tuple(
        Record(str(n), text.index(f"name: {c}"), text.index(f"name: {c}") + 7)
        for n, c in ((1, "a"), (2, "b"), (3, "c"))
    )
    document = make(text, records=records)
    assert [c.record for c in chunk_document(document, max_tokens=4)] == ["1", "2-3"]
    assert [c.record for c in chunk_document(document, max_tokens=2)] == [None, "1", "2", "3"]
    assert chunk_document(make("no rows"))[0].record is None


def headed(text, *titles, title="T"):
    headings = tuple(Heading(text.index(line), line.index(" "), line.lstrip("# ")) for line in titles)
    return make(text, headings=headings, title=title)


def test_top_headings_start_chunks_and_deep_ones_share():
    text = "# T\n\nintro text\n\n## A\n\nalpha text that goes on\n\n### B\n\nbeta\n\n## C\n\n"
    text += "gamma text that goes on as well"
    document = headed(text, "# T", "## A", "### B", "## C")
    chunks = chunk_document(document, max_tokens=60)
    assert [c.text.split("\n")[0] for c in chunks] == ["# T", "## A", "## C"]
    assert [c.section for c in chunks] == [None, "A", "C"]
    assert [c.context for c in chunks] == ["T", "T › A", "T › C"]
    deep = chunk_document(document, max_tokens=13)
    assert [c.section for c in deep] == [None, "A", "A › B", "C"]


def test_headings_in_a_row_belong_to_the_text_below_them():
    text = "# T\n\n## A\n\n### B\n\nbody " + "word " * 30
    chunks = chunk_document(headed(text, "# T", "## A", "### B"), max_tokens=20)
    assert chunks[0].text.startswith("# T\n\n## A\n\n### B\n\nbody word")
    assert {c.section for c in chunks} == {"A › B"}


def test_a_heading_moves_with_its_text_when_the_text_does_not_fit():
    text = "some first words here\n\n#### H\n\n" + "these words are many and need room"
    document = headed(text, "#### H")
    assert texts(document, max_tokens=12) == ["some first words here", "#### H\n\nthese words are many and need room"]


def test_a_tiny_last_section_joins_the_chunk_before_it():
    text = "## A\n\n" + "word " * 40 + "\n\n## B\n\nend"
    assert len(texts(headed(text, "## A", "## B"), max_tokens=100)) == 1
    assert (
        len(texts(headed(text + " of this section, which is long enough to stand", "## A", "## B"), max_tokens=100))
        == 2
    )


def test_breaks_at_paragraphs_before_sentences_before_words():
    assert texts(make("One two. Three.\n\nFour five. Six."), max_tokens=5) == ["One two. Three.", "Four five. Six."]
    assert texts(make("One two three. Four five six."), max_tokens=5) == ["One two three.", "Four five six."]
    assert texts(make("水火水火水。火水火水火！"), max_tokens=5) == ["水火水火水。", "火水火水火！"]
    assert texts(make("alpha beta gamma"), max_tokens=3) == ["alpha beta", "gamma"]
    assert texts(make("x" * 20), max_tokens=2) == ["x" * 8, "x" * 8, "x" * 4]


def test_hard_wrapped_sentences_are_not_broken_at_line_ends():
    text = "The cover is for\nwater and fire. It\nends at night."
    assert texts(make(text), max_tokens=9) == ["The cover is for\nwater and fire.", "It\nends at night."]


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("See e.g. No. 5 by Dr. Smith and J. Doe. It ends.", 2),
        ("He asked: why? Nobody knew!", 2),
        ("Version 3.2 is out. (See below.) Done", 3),
        ("1. Open the valve. Then close it.", 2),
        ("यह पहला है। यह दूसरा है।", 2),
        ("它好。它很好！是吗？", 3),
        ("Dots... go on. Then stop.", 2),
    ],
)
def test_sentences(text, count):
    spans = sentence_spans(text)
    assert len(spans) == count
    assert "".join(text[a:b] for a, b in spans).replace(" ", "") == text.replace(" ", "")


def test_long_contexts_keep_title_and_last_heading():
    headings = tuple(Heading(2 * n, n + 1, f"{'long heading ' * 5}{n}") for n in range(4))
    chunk = chunk_document(make("a\nb\nc\nd", title="Guide", headings=headings))[-1]
    assert len(chunk.context) <= 200 and chunk.context.startswith("Guide › ") and chunk.context.endswith("3")


def test_fields_are_copied_from_the_document():
    chunk = chunk_document(make("text", version=3, language="de", labels=("hr",)))[0]
    assert (chunk.document, chunk.sha256, chunk.version, chunk.language, chunk.labels) == ("d", "s", 3, "de", ("hr",))


def test_max_tokens_must_be_positive():
    with pytest.raises(ValueError, match="max_tokens"):
        chunk_document(make("x"), max_tokens=0)
    assert chunk_document(make(" \n ")) == []
