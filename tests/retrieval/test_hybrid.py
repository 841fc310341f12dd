"""Fusion, and the two searches over one index."""

import numpy as np
import pytest
from small_stores import HashEmbedder, write_texts

from doyen.config import RetrievalSettings
from doyen.errors import StoreError
from doyen.index.searching import FoundRow
from doyen.retrieval.hybrid import Retriever, fuse

TEXTS = {
    "yard.txt": "Bicycles stand in the yard behind the mill.",
    "prams.txt": "Prams stand in the hall behind the yard.",
    "boiler.txt": "Smith repairs the boiler every autumn.",
}
QUESTION = np.array([1.0, 0.0], dtype=np.float32)


def candidate(document, score, cosine):
    vector = np.array([cosine, np.sqrt(1 - cosine**2)], dtype=np.float32)
    return FoundRow(0, document, 0, score, vector)


@pytest.fixture
def retriever(index, embedder):
    write_texts(index, embedder, TEXTS)
    index.finish()
    return Retriever(index, embedder)


def documents(hits):
    return [h.chunk.document for h in hits]


def rows(fused):
    return [f.row.document for f in fused]


def test_the_best_of_both_lists_scores_one_and_the_order_falls():
    dense = [candidate("both", 0.8, 0.8), candidate("dense", 0.4, 0.4)]
    text = [candidate("both", 6.0, 0.8), candidate("text", 3.0, 0.2)]
    hits = fuse(dense, text, QUESTION, 0.5)
    assert rows(hits) == ["both", "text", "dense"]
    assert [h.score for h in hits] == pytest.approx([1.0, 0.5 * 0.25 + 0.5 * 0.5, 0.5 * 0.5])


def test_a_hit_tells_its_cosine_and_bm25_score():
    hits = {h.row.document: h for h in fuse([candidate("d", 0.4, 0.4)], [candidate("t", 3.0, 0.2)], QUESTION, 0.5)}
    assert (hits["t"].cosine, hits["t"].bm25) == (pytest.approx(0.2), 3.0)
    assert (hits["d"].cosine, hits["d"].bm25) == (pytest.approx(0.4), 0.0)


def test_the_weight_at_its_ends_leaves_one_ranking():
    dense = [candidate("near", 0.9, 0.9), candidate("word", 0.1, 0.1)]
    text = [candidate("word", 9.0, 0.1)]
    only_dense, only_text = fuse(dense, text, QUESTION, 1.0), fuse(dense, text, QUESTION, 0.0)
    assert rows(only_dense) == ["near", "word"]
    assert [h.score for h in only_dense] == pytest.approx([1.0, 0.1 / 0.9])
    assert rows(only_text) == ["word", "near"]
    assert [h.score for h in only_text] == pytest.approx([1.0, 0.0])


def test_nothing_found_and_nothing_near_are_no_division_by_zero():
    assert fuse([], [], QUESTION, 0.5) == []
    (hit,) = fuse([candidate("far", -0.5, -0.5)], [], QUESTION, 0.5)
    assert (hit.score, hit.cosine) == (0.0, pytest.approx(-0.5))


def test_equal_scores_come_in_order_of_document():
    dense = [candidate(name, 0.5, 0.5) for name in "cab"]
    assert rows(fuse(dense, [], QUESTION, 0.5)) == ["a", "b", "c"]


def test_search_finds_by_words_and_gives_at_most_k(retriever):
    hits = retriever.search("Where do bicycles stand?")
    assert documents(hits)[0] == "yard.txt"
    assert hits[0].score == pytest.approx(1.0)
    assert len(retriever.search("Where do bicycles stand?", k=1)) == 1
    assert [h.score for h in hits] == sorted((h.score for h in hits), reverse=True)


def test_search_many_is_search_of_each_with_one_embedding_call_a_question(retriever, embedder):
    questions = ["bicycles", "boiler", "prams in the hall"]
    one_by_one = [retriever.search(q, 2) for q in questions]
    before = embedder.embedded
    assert retriever.search_many(questions, 2) == one_by_one
    assert embedder.embedded - before == 3
    assert retriever.search_many([]) == []


def test_k_may_exceed_the_candidates(index, embedder):
    write_texts(index, embedder, {f"d{n:02}.txt": f"yard {n}" for n in range(30)})
    index.finish()
    assert len(Retriever(index, embedder, RetrievalSettings(candidates=10)).search("yard", 25)) == 25


def test_similar_documents_leave_out_the_document_itself(retriever):
    hits = retriever.similar("yard.txt")
    assert documents(hits) == ["prams.txt", "boiler.txt"]
    assert hits[0].score > hits[1].score
    assert hits[0].score <= 1.001
    assert documents(retriever.similar("yard.txt", 1)) == ["prams.txt"]


def test_similar_to_an_unknown_document_is_an_error(retriever):
    with pytest.raises(StoreError, match=r"no document 'nothing.txt'"):
        retriever.similar("nothing.txt")


@pytest.mark.parametrize("other", [HashEmbedder("other"), HashEmbedder(version=2), HashEmbedder(dim=64)])
def test_another_embedder_than_the_index_was_made_with_is_refused(index, other):
    with pytest.raises(StoreError, match="made with embedder 'hashing'") as caught:
        Retriever(index, other)
    assert "--rebuild" in (caught.value.hint or "")
