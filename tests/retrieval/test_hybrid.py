"""The two searches over one index, as one ranking."""

import numpy as np
import pytest
from small_stores import HashEmbedder, write_texts

from doyen.config import RetrievalSettings
from doyen.errors import StoreError
from doyen.retrieval.hybrid import Retriever

STORES = "both"
TEXTS = {
    "yard.txt": "Bicycles stand in the yard behind the mill.",
    "prams.txt": "Prams stand in the hall behind the yard.",
    "boiler.txt": "Smith repairs the boiler every autumn.",
}


@pytest.fixture
def retriever(index, embedder):
    write_texts(index, embedder, TEXTS)
    index.finish()
    return Retriever(index, embedder)


def documents(hits):
    return [h.chunk.document for h in hits]


def test_search_finds_by_words_and_gives_at_most_k(retriever):
    hits = retriever.search("Where do bicycles stand?")
    assert documents(hits)[0] == "yard.txt"
    assert hits[0].score >= 1.0
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


def test_a_question_without_words_finds_nothing(retriever, embedder):
    for question in ("", "  ", "?!…", "\x00\x07"):
        assert retriever.search(question) == []


def test_very_long_and_odd_questions_find_what_their_words_say(retriever):
    assert documents(retriever.search("boiler " * 10_000))[0] == "boiler.txt"
    assert documents(retriever.search('boiler" OR (yard AND NOT *) \x00 text:"'))
    assert documents(retriever.search("the of and"))


class LongestFirst:
    """A reranker that holds the longest passage for the best."""

    name = fingerprint = "longest"
    weight = None

    def __init__(self):
        self.read = []

    def score(self, question, passages):
        self.read.append((question, len(passages)))
        return np.array([len(p) / 1000 for p in passages], dtype=np.float32)


def test_a_reranker_orders_the_first_hits_and_no_others(index, embedder):
    write_texts(index, embedder, {f"d{n}.txt": "yard " + "long " * n for n in range(6)})
    index.finish()
    plain = Retriever(index, embedder).search("yard", 6)
    reranker = LongestFirst()
    hits = Retriever(index, embedder, reranker=reranker, reranked=3).search("yard", 6)
    assert reranker.read == [("yard", 3)]
    assert documents(hits[:3]) == sorted(documents(plain[:3]), reverse=True)
    assert documents(hits[3:]) == documents(plain[3:])
    assert [h.score for h in hits[:3]] == [pytest.approx(len(h.chunk.indexed) / 1000) for h in hits[:3]]
    assert len(Retriever(index, embedder, reranker=reranker, reranked=3).search("yard", 1)) == 1
