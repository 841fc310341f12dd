"""The summaries of a store: kept in step with their documents, and searched by vector."""

import shutil

import numpy as np
import pytest
from small_stores import reopened, write_texts

from doyen.index.lance import LanceIndex

STORES = "both"
TEXTS = {
    "lease.txt": "The deposit of the lease is returned within thirty days.",
    "yard.txt": "Bicycles stand in the yard behind the mill.",
}


@pytest.fixture
def filled(index, embedder):
    write_texts(index, embedder, TEXTS)
    index.finish()
    return index


def texts_of(index, *names):
    return [s.text for own in index.summaries_of(names).values() for s in own]


def test_summaries_come_back_as_written(filled):
    (summary,) = reopened(filled).summaries_of(["lease.txt", "none.txt"])["lease.txt"]
    text = TEXTS["lease.txt"]
    assert (summary.section, summary.start, summary.end) == (None, 0, len(text))
    assert (summary.text, summary.spans, summary.indexed) == (text, ((0, len(text)),), text)
    assert filled.summary_count() == 2


def test_a_changed_document_has_its_new_summary_only_and_search_follows(filled, embedder):
    question = embedder.embed(["prams in the hall"])[0]
    before = filled.summary_nearness(question, ["yard.txt"])["yard.txt"]
    write_texts(filled, embedder, {"yard.txt": "Prams stand in the hall."}, sha256="b")
    assert texts_of(filled, "yard.txt") == ["Prams stand in the hall."]
    assert filled.summary_nearness(question, ["yard.txt"])["yard.txt"] > before
    filled.finish()
    assert list(filled.nearest_summaries(question, 5)) == ["yard.txt", "lease.txt"]
    assert filled.summary_count() == 2


def test_retired_and_removed_documents_have_none(filled, embedder):
    filled.retire(["yard.txt"])
    assert texts_of(filled, *TEXTS) == [TEXTS["lease.txt"]]
    filled.remove(["lease.txt"])
    assert (filled.summary_count(), filled.summaries_of(list(TEXTS))) == (0, {})
    assert filled.nearest_summaries(embedder.embed(["deposit"])[0], 5) == {}


@pytest.mark.lance_only
def test_what_was_added_before_the_commit_is_not_seen(filled, embedder):
    """As after a crash between the new summaries and the documents' rows that make them count."""
    rows = filled.tables.summaries.to_arrow().to_pylist()
    filled.tables.begin()
    stray = [row | {"text": "stray", "revision": 1, "vector": row["vector"]} for row in rows]
    filled.tables.summaries.add(stray)
    question = embedder.embed(["deposit"])[0]
    assert sorted(texts_of(filled, *TEXTS)) == sorted(TEXTS.values())
    assert len(filled.nearest_summaries(question, 9)) == 2
    filled.recover()
    assert filled.summary_count() == 2 and "stray" not in texts_of(filled, *TEXTS)


@pytest.mark.lance_only
def test_an_index_made_before_there_were_summaries_opens_and_gets_them_by_writing(filled, embedder):
    shutil.rmtree(filled.folder / "summaries.lance")
    old = LanceIndex.open(filled.folder)
    assert (old.summary_count(), old.summaries_of(list(TEXTS))) == (0, {})
    assert old.summary_nearness(embedder.embed(["deposit"])[0], list(TEXTS)) == {}
    write_texts(old, embedder, {"lease.txt": TEXTS["lease.txt"]})
    assert list(old.summaries_of(list(TEXTS))) == ["lease.txt"]


@pytest.mark.lance_only
def test_such_an_index_is_read_where_it_cannot_be_written(filled, embedder):
    shutil.rmtree(filled.folder / "summaries.lance")
    (filled.folder / "summaries.lance").write_text("in the way, as a read-only disk would be")
    old = LanceIndex.open(filled.folder)
    assert (old.chunk_count(), old.summary_count(), old.summaries_of(list(TEXTS))) == (2, 0, {})
    assert old.nearest_rows(embedder.embed(["deposit"])[0], 1)[0].document in TEXTS


def test_a_filter_holds_the_nearest_to_its_documents(filled, embedder):
    where = filled.filter_condition(["title=lease*"])
    question = embedder.embed(["bicycles in the yard"])[0]
    assert list(filled.nearest_summaries(question, 5, where=where)) == ["lease.txt"]
    assert filled.nearest_summaries(question, 5, where="start = 0") == {}


def test_vectors_of_summaries_are_found_by_their_text(filled, embedder):
    found, vectors = filled.vectors_for([TEXTS["lease.txt"], "unknown"])
    assert found.tolist() == [True, False]
    assert np.allclose(vectors[0], embedder.embed([TEXTS["lease.txt"]])[0], atol=1e-3)
