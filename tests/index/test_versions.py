"""Versions: what an answer cited stays resolvable until it is purged; items as a whole; vectors found again by text."""

import time
import unicodedata

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from small_stores import HashEmbedder, manifest_of, one_chunk_document, reopened, write_texts

from doyen.errors import StoreError
from doyen.index.lance import LanceIndex
from doyen.sources.item import Item

STORES = "both"
DAY_S = 86400.0


def numbers(index, document):
    return [(v.version, v.sha256, v.retired_at is None) for v in index.versions(document)]


def test_a_changed_document_keeps_its_old_text_under_its_hash_and_number(index, embedder):
    write_texts(index, embedder, {"a.txt": "First text."}, sha256="1")
    write_texts(index, embedder, {"a.txt": "Second text."}, sha256="2")
    index.finish()
    assert index.text("a.txt")[0] == index.text("a.txt", sha256="2")[0] == "Second text."
    assert index.text("a.txt", sha256="1")[0] == "First text."
    assert index.document_version("a.txt", version=1)[1] == "First text."
    assert numbers(index, "a.txt") == [(2, "2", True), (1, "1", False)]
    assert [c.version for c in index.chunks_of(["a.txt"])] == [2]


def test_versions_go_on_counting_after_a_document_was_gone(index, embedder):
    write_texts(index, embedder, {"a.txt": "First text."}, sha256="1")
    index.retire(["a.txt"])
    with pytest.raises(StoreError, match="no document"):
        index.text("a.txt")
    assert index.text("a.txt", sha256="1")[0] == "First text."
    assert (index.chunk_count(), index.documents()) == (0, [])
    write_texts(index, embedder, {"a.txt": "Back."}, sha256="2")
    assert [n for n, _, _ in numbers(index, "a.txt")] == [2, 1]


def test_the_same_content_written_again_keeps_its_number_and_makes_no_version(index, embedder):
    for text in ("As it was read first.", "As a better reader reads it."):
        write_texts(index, embedder, {"a.txt": text}, sha256="1")
    assert numbers(index, "a.txt") == [(1, "1", True)]


def test_old_versions_are_purged_after_their_days(index, embedder):
    write_texts(index, embedder, {"a.txt": "First."}, sha256="1")
    write_texts(index, embedder, {"a.txt": "Second."}, sha256="2")
    index.finish(keep_versions_days=30, now=time.time() + 29 * DAY_S)
    assert len(index.versions("a.txt")) == 2
    index.finish(keep_versions_days=30, now=time.time() + 31 * DAY_S)
    assert numbers(index, "a.txt") == [(2, "2", True)]
    with pytest.raises(StoreError) as caught:
        index.text("a.txt", sha256="1")
    assert "keep_versions_days" in caught.value.hint


def test_no_days_keep_nothing(index, embedder):
    write_texts(index, embedder, {"a.txt": "First."}, sha256="1")
    write_texts(index, embedder, {"a.txt": "Second."}, sha256="2")
    index.finish(keep_versions_days=0)
    assert len(index.versions("a.txt")) == 1


# ---- items


def test_an_item_is_replaced_as_a_whole(index, embedder):
    mail = {"item": "mail.eml", "item_sha256": "m1", "stamp": "s1"}
    write_texts(index, embedder, {"mail.eml": "Mail.", "mail.eml/a.txt": "One.", "mail.eml/b.txt": "Two."}, **mail)
    write_texts(index, embedder, {"other.txt": "Other."})
    (item,) = index.items(["mail.eml", "nothing"]).values()
    assert (item.id, item.sha256, item.stamp) == ("mail.eml", "m1", "s1")
    assert item.documents == ("mail.eml", "mail.eml/a.txt", "mail.eml/b.txt")
    mail |= {"item_sha256": "m2", "stamp": "s2", "sha256": "b"}
    write_texts(index, embedder, {"mail.eml": "Mail 2."}, keep=["mail.eml/b.txt"], **mail)
    assert [d.id for d in index.documents()] == ["mail.eml", "mail.eml/b.txt", "other.txt"]
    (item,) = index.items(["mail.eml"]).values()
    assert (item.sha256, item.stamp, item.documents) == ("m2", "s2", ("mail.eml", "mail.eml/b.txt"))
    assert [c.text for c in index.chunks_of(["mail.eml", "mail.eml/b.txt"])] == ["Mail 2.", "Two."]
    assert numbers(index, "mail.eml/a.txt") == [(1, "a", False)]


def test_touch_changes_where_an_item_is_and_nothing_else(index, embedder):
    write_texts(index, embedder, {"a.txt": "Text.", "b.txt": "Other."}, stamp="old")
    index.finish()
    index.touch([Item("a.txt", "/moved/a.txt", "/moved", "a.txt", bytes, "new", 7.0)])
    row, other = index.documents()
    assert (row.source, row.root, row.stamp, row.modified_at) == ("/moved/a.txt", "/moved", "new", 7.0)
    assert (row.version, row.chunks, index.text("a.txt")[0]) == (1, 1, "Text.")
    assert other.stamp == "old"
    assert not index.unfinished


def test_members_and_hashes_of_items_are_known(index, embedder):
    write_texts(index, embedder, {"m.eml": "Mail.", "m.eml/a.txt": "One."}, item="m.eml", item_sha256="m")
    write_texts(index, embedder, {"c.txt": "Alone."}, sha256="c")
    index.retire(["c.txt"])
    assert sorted(v.document for v in index.members(["m.eml"])) == ["m.eml", "m.eml/a.txt"]
    assert [v.document for v in index.members(["m.eml/a.txt", "c.txt"])] == ["c.txt", "m.eml/a.txt"]
    assert index.named({"m", "c", "x"}) == {"m", "c"}
    assert index.named({"m", "c", "a"}, items=False, without=["c.txt"]) == {"a"}


# ---- vectors


def test_vectors_are_found_again_by_text_wherever_it_stands(index, embedder):
    assert not index.vectors_for(["One."])[0].any()
    write_texts(index, embedder, {"a.txt": "One.", "b.txt": "Two."})
    found, vectors = index.vectors_for(["Two.", "Three.", "One.", "Two."])
    assert found.tolist() == [True, False, True, True]
    assert np.allclose(vectors[found], embedder.embed(["Two.", "One.", "Two."]), atol=1e-3)
    assert not vectors[~found].any()
    index.finish()
    assert reopened(index).vectors_for(["One."])[0].all()
    index.retire(["a.txt"])
    assert not index.vectors_for(["One."])[0].any()


def test_the_context_belongs_to_the_text_of_a_vector(index, embedder):
    entry = one_chunk_document("a.txt", "One.")
    index.write([entry], embedder.embed(["One."]))
    assert index.vectors_for(["One.", "Title\nOne."])[0].tolist() == [True, False]


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.text(st.characters(exclude_categories=("Cs",)), max_size=20), max_size=6, unique=True))
def test_every_text_that_was_written_is_found(tmp_path_factory, texts):
    embedder = HashEmbedder(dim=16)
    index = LanceIndex.open_or_create(tmp_path_factory.mktemp("store") / "index", manifest_of(embedder))
    texts = [unicodedata.normalize("NFKC", text) for text in texts]
    write_texts(index, embedder, {f"{n}.txt": text for n, text in enumerate(texts)})
    found, vectors = index.vectors_for([*texts, "never written, and longer than any"])
    assert found.tolist() == [True] * len(texts) + [False]
    assert np.allclose(vectors[:-1], embedder.embed(texts), atol=1e-3)
