"""No chunk exceeds what all-MiniLM-L6-v2 reads, counted by its true tokenizer, whatever the text."""

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from doyen.chunking import chunk_document
from doyen.records import Document, Heading, Table

pytestmark = pytest.mark.e2e

WORDS = [
    *"the invoice of a pump delivery is unbelievably antidisestablishmentarianism".split(),
    *"यह दूसरा भुगतान तीस दिनों के भीतर किया जाना चाहिए।".split(),
    *"付款期限为三十天 交货 迟到".split(),
    *"ﷺ ﬁne naïve Zürich 🙂 👨‍👩‍👧 \x00\x07 \u200b\u200d ... ---- x² 3.14 http://a.b/c?d=e&f_g".split(),
    "x" * 101,
    "q" * 150,
    "ab" * 400,
    "0123456789" * 30,
    "வணக்கம்" * 20,
]
PARAGRAPHS = st.lists(st.sampled_from(WORDS) | st.text(max_size=20), max_size=400).map(" ".join)


@pytest.fixture(scope="module")
def counter():
    from doyen.embedding import load_counter
    from doyen.models.catalogue import find_entry
    from doyen.models.fetching import pull

    pull(find_entry("all-minilm-l6-v2"))
    return load_counter("all-minilm-l6-v2")


@settings(max_examples=60, deadline=None)
@given(st.lists(PARAGRAPHS, min_size=1, max_size=4), st.sampled_from([32, 128, 200, 240, 2000]), st.booleans())
@example(["q" * 150 + " " + "x" * 5000], 200, False)
@example(["水" * 3000], 240, True)
@example(["\x00\u200b" * 4000], 200, True)
def test_no_chunk_exceeds_the_limit(counter, paragraphs, max_tokens, is_table):
    text = "\n".join(paragraphs)
    headings = (Heading(0, 1, paragraphs[0][:300]), Heading(len(paragraphs[0]), 2, "भुगतान " * 40))
    tables = (Table(0, len(text), paragraphs[-1][:400]),) if is_table else ()
    document = Document("d", text, "付款期限为三十天 " * 30, "text/plain", "s", "", headings=headings, tables=tables)
    chunks = chunk_document(document, counter, max_tokens=max_tokens)
    for chunk in chunks:
        assert document.text[chunk.start : chunk.end] == chunk.text
        assert counter.count(chunk.indexed) + counter.special <= 256
        assert len(chunk.text) <= 254 * 32
    assert "".join("".join(c.text.split()) for c in chunks) == "".join(text.split())
