"""Documents ranked for broad questions, with their summaries."""

import pytest
from small_stores import write_texts

from doyen.config import RetrievalSettings
from doyen.records import Chunk, Hit
from doyen.retrieval.by_document import best_documents
from doyen.retrieval.fusion import shares
from doyen.retrieval.hybrid import Retriever


def hit(document, start, score, also=()):
    return Hit(Chunk(document, start, start + 1, "x"), score, also=also)


def test_several_passages_count_more_than_one_that_is_a_little_better():
    hits = [hit("one.txt", 0, 1.0), hit("many.txt", 0, 0.9), hit("many.txt", 9, 0.8)]
    ranked = best_documents(hits, {}, 5)
    assert [(d, pytest.approx(s)) for d, s, _ in ranked] == [("many.txt", 0.9 + 0.4 * 0.8), ("one.txt", 1.0)]
    assert [h.chunk.start for h in ranked[0][2]] == [0, 9]


def test_documents_without_passages_follow_by_their_summaries_and_copies_count_for_both():
    hits = [hit("a.txt", 0, 0.5, also=("copy.txt",))]
    ranked = best_documents(hits, {"far.txt": 0.1, "near.txt": 0.9, "a.txt": 0.2}, 9)
    assert [d for d, _, _ in ranked] == ["a.txt", "copy.txt", "near.txt", "far.txt"]
    assert [len(own) for _, _, own in ranked] == [1, 0, 0, 0]
    assert [d for d, _, _ in best_documents(hits, {"near.txt": 0.9}, 1)] == ["a.txt"]


def test_a_document_without_summary_is_put_neither_first_nor_last():
    share = shares({"near.txt": 0.8, "far.txt": 0.2, "off.txt": -0.3})
    assert share("near.txt") == 1.0 and share("far.txt") == pytest.approx(0.25) and share("off.txt") == 0.0
    assert share("old.txt") == pytest.approx(1.25 / 3)
    assert shares({})("old.txt") == 0.0


TEXTS = {
    "mill.txt": "The mill grinds wheat. Water drives the mill.",
    "yard.txt": "Bicycles stand in the yard.",
    "roof.txt": "The roof was mended.",
}


@pytest.fixture
def retriever(index, embedder):
    write_texts(index, embedder, TEXTS)
    index.finish()
    return Retriever(index, embedder)


def test_a_broad_question_gives_documents_with_summaries(retriever):
    found = retriever.documents("What do we have on the mill?", 2)
    assert (found[0].document, found[0].summary) == ("mill.txt", TEXTS["mill.txt"])
    assert found[0].hits[0].chunk.document == "mill.txt"
    assert len(found) == 2
    where = retriever.index.filter_condition(["title=yard*"])
    assert {d.document for d in retriever.documents("the mill", 5, where=where)} == {"yard.txt"}


def test_the_summary_counts_by_its_weight(index, embedder):
    write_texts(index, embedder, TEXTS)
    index.finish()
    scores = [
        {
            h.chunk.document: h.score
            for h in Retriever(index, embedder, RetrievalSettings(summary_weight=w)).search("mill")
        }
        for w in (0.0, 0.15)
    ]
    assert scores[1]["mill.txt"] == pytest.approx(scores[0]["mill.txt"] + 0.15)
