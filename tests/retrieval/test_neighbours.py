"""Hits that adjoin become one passage, verbatim in the document."""

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st
from small_stores import HashEmbedder, manifest_of

from doyen.chunking import chunk_document
from doyen.index.lance import IndexEntry, LanceIndex
from doyen.records import Chunk, Document, Hit, Page
from doyen.retrieval.hybrid import Retriever
from doyen.retrieval.neighbours import join_neighbours

TEXT = "The crane lifts 12 tonnes.\n\nIt stands at berth 4.\n\nBoats moor at night.\n\nThe gate is shut."
PARTS = TEXT.split("\n\n")


def hit(number, score=1.0, **changes):
    """The passage of that number, as a hit."""
    start = TEXT.index(PARTS[number])
    chunk = Chunk("a", start, start + len(PARTS[number]), PARTS[number], context=f"Port › {number}", sha256="1")
    return Hit(dataclasses.replace(chunk, **changes), score)


def join(hits, count=3, most=1000, texts=None):
    known = {("a", "1"): TEXT} if texts is None else texts
    return join_neighbours(hits, count, lambda *key: known.get(key), len, most)


def test_neighbours_are_one_passage_with_the_place_and_headings_of_the_best():
    best, far, other = hit(1, 0.9), hit(3, 0.8), dataclasses.replace(hit(0, 0.7), similarity=0.5, lexical=3.0)
    (joined, gate) = join([best, far, other])
    assert joined.chunk.text == TEXT[: joined.chunk.end] == f"{PARTS[0]}\n\n{PARTS[1]}"
    assert (joined.score, joined.chunk.context, joined.similarity, joined.lexical) == (0.9, "Port › 1", 0.5, 3.0)
    assert gate == far


def test_a_hit_between_two_passages_joins_both_and_the_next_hit_takes_the_place():
    joined, last = join([hit(0, 0.9), hit(2, 0.8), hit(1, 0.7), hit(3, 0.6, document="b")], count=2)
    assert joined.chunk.text == "\n\n".join(PARTS[:3]) and joined.score == 0.9
    assert last.chunk.document == "b"


def test_no_passage_grows_beyond_the_limit():
    found = join([hit(0), hit(1), hit(2), hit(3)], most=len(f"{PARTS[0]}\n\n{PARTS[1]}"))
    assert [h.chunk.text for h in found] == ["\n\n".join(PARTS[:2]), "\n\n".join(PARTS[2:])]


@pytest.mark.parametrize(
    "changes",
    [{"sha256": "2"}, {"version": 2}, {"pages": (2,)}, {"document": "b"}],
    ids=["content", "version", "page", "document"],
)
def test_passages_of_another_page_version_or_document_stay_apart(changes):
    hits = [hit(0), hit(1, **changes)]
    texts = {(h.chunk.document, h.chunk.sha256): TEXT for h in hits}
    assert join(hits, texts=texts) == hits


def test_text_between_keeps_passages_apart():
    text = TEXT.replace(PARTS[1], "7")
    last = dataclasses.replace(hit(2).chunk, start=text.index(PARTS[2]), end=text.index(PARTS[2]) + len(PARTS[2]))
    hits = [hit(0), Hit(last, 0.5)]
    assert 0 < last.start - hits[0].chunk.end < 8
    assert join(hits, texts={("a", "1"): text}) == hits


def test_a_document_that_is_gone_or_has_changed_joins_nothing():
    hits = [hit(0), hit(1)]
    assert join(hits, texts={}) == hits
    assert join(hits, texts={("a", "1"): TEXT.upper()}) == hits


def test_a_table_keeps_the_header_that_its_first_rows_repeat():
    rows = hit(0, 0.5, context="Port › Cranes\nname | load")
    assert join([hit(1, 0.9), rows])[0].chunk.context == "Port › 1\nname | load"
    begins = hit(0, 0.5, context="Port › Cranes")
    assert join([begins, hit(1, 0.9, context="Port › Cranes\nname | load")])[0].chunk.context == "Port › Cranes"


def test_other_documents_are_named_where_they_hold_the_whole():
    one, two = (dataclasses.replace(hit(n), also=also) for n, also in ((0, ("b", "c")), (1, ("c", "d"))))
    assert join([one, two])[0].also == ("c",)


@given(st.permutations(range(12)), st.integers(1, 12), st.integers(20, 300))
def test_every_passage_is_verbatim_and_no_two_overlap(order, count, most):
    text = "\n\n".join(f"Line {n} of {'x' * (n % 5) * 7}" for n in range(12))
    spans, start = [], 0
    for part in text.split("\n\n"):
        spans.append((start, start + len(part)))
        start += len(part) + 2
    hits = [Hit(Chunk("a", *spans[n], text[slice(*spans[n])], sha256="1"), 1.0 - i / 20) for i, n in enumerate(order)]
    found = join_neighbours(hits, count, lambda *_: text, len, most)
    assert len(found) <= count
    assert all(text[h.chunk.start : h.chunk.end] == h.chunk.text for h in found)
    places = sorted((h.chunk.start, h.chunk.end) for h in found)
    assert all(a[1] < b[0] for a, b in zip(places, places[1:], strict=False))
    assert [h.score for h in found] == sorted((h.score for h in found), reverse=True)
    assert found[0].score == hits[0].score and hits[0].chunk.text in found[0].chunk.text


def test_passages_come_out_of_a_store_by_page(tmp_path):
    embedder = HashEmbedder()
    text = " ".join(f"Sentence {n} tells of the crane at berth {n}." for n in range(40))
    cut = text.index("Sentence 20")
    document = Document("a", text, "Port", "text/plain", "1", "/a", pages=(Page(1, 0, cut), Page(2, cut, len(text))))
    chunks = chunk_document(document, embedder.counter, max_tokens=32)
    index = LanceIndex.open_or_create(tmp_path / "index", manifest_of(embedder, 32))
    index.write([IndexEntry(document, "/", chunks)], embedder.embed([c.indexed for c in chunks]))
    index.finish()
    retriever = Retriever(index, embedder)
    hits = retriever.search("crane at berth", 10)
    passages = retriever.passages(hits, 3)
    assert len(passages) == 3
    assert any(p.chunk not in chunks for p in passages)
    for p in passages:
        assert text[p.chunk.start : p.chunk.end] == p.chunk.text and len(p.chunk.pages) == 1
        assert embedder.counter.count(p.chunk.text) <= 64
    assert retriever.passages(hits[:10], 3) == retriever.passages(retriever.search("crane at berth", 20), 3)
