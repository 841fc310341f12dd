"""The tables, of either store: what is written comes back exactly, and an interrupted write is undone."""

import dataclasses
import struct
from dataclasses import replace

import numpy as np
import pytest
from small_stores import HashEmbedder, manifest_of, matching, nearest, one_chunk_document, reopened, write_texts

from doyen.errors import StoreError
from doyen.index.lance import IndexEntry, LanceIndex, recorded_fingerprint, same_vectors
from doyen.index.places import place_of
from doyen.records import Chunk, Document, Page
from doyen.sources.item import Item

STORES = "both"
TEXTS = {
    "lease.txt": "The deposit of the lease is returned within thirty days.",
    "yard.txt": "Bicycles stand in the yard behind the mill.",
    "o'neil.txt": "O'Neil repairs the boiler every autumn.",
}


def ids(index):
    return [d.id for d in index.documents()]


def open_or_create(index, manifest):
    return type(index).open_or_create(getattr(index, "folder", None) or index.database, manifest)


def found(candidates):
    return [c.chunk.document for c in candidates]


@pytest.fixture
def filled(index, embedder):
    write_texts(index, embedder, TEXTS)
    index.finish()
    return index


@pytest.mark.lance_only
def test_rows_lie_in_files_of_the_format_that_reads_them_alone(filled):
    files = list(filled.folder.glob("*.lance/data/*.lance"))
    assert files and {struct.unpack("<HH", file.read_bytes()[-8:-4]) for file in files} == {(2, 1)}


def test_a_document_and_its_chunks_come_back_as_they_were_written(index, embedder):
    text = "First page.\n\fSecond page: “ünï”.\n"
    pages = (Page(1, 0, 13), Page(2, 13, len(text)))
    document = Document(
        "a/b.txt",
        text,
        "Title",
        "text/plain",
        "abc",
        "/src/a/b.txt",
        "en",
        pages,
        labels=("staff",),
        metadata=(("from", "Ünal"),),
    )
    chunks = [
        Chunk("a/b.txt", 0, 11, text[0:11], "Title", (1,), "First", None, "abc", 1, "en", ("staff",)),
        Chunk("a/b.txt", 13, 33, text[13:33], "Title › Second", (1, 2), None, "row 7", "abc", 1, "en", ("staff",)),
    ]
    index.write([IndexEntry(document, "/src", chunks)], embedder.embed([c.text for c in chunks]))
    index.finish()
    again = reopened(index)
    assert again.text("a/b.txt") == (text, pages)
    assert again.chunks_of(["a/b.txt"]) == chunks
    (row,) = again.documents()
    assert (row.id, row.root, row.source, row.version, row.labels) == (
        "a/b.txt",
        "/src",
        "/src/a/b.txt",
        1,
        ("staff",),
    )
    assert (row.item, row.item_sha256, row.stamp, row.metadata) == ("a/b.txt", "abc", "", (("from", "Ünal"),))
    assert (row.pages, row.chunks, row.characters) == (2, 2, len(text))


def test_the_sets_of_labels_are_those_of_this_moment(filled):
    """Also where another process changes them: a server asks for them with every request, and may not go by old ones."""
    other = reopened(filled)
    assert filled.label_sets() == other.label_sets() == {()}
    filled.label_sets().add(("forged",))
    other.relabel([Item("lease.txt", "", "", "lease.txt", bytes, labels=("staff", "board"))])
    assert filled.label_sets() == {(), ("board", "staff")}
    other.retire(["lease.txt"])
    assert filled.label_sets() == {(), ("board", "staff")}  # an old version has them still
    other.remove(["lease.txt"])
    assert filled.label_sets() == {()}


def test_the_nearest_chunk_has_the_cosine_as_its_score(filled, embedder):
    question = embedder.embed([TEXTS["yard.txt"]])[0]
    best, *others = filled.nearest_rows(question, 3)
    assert best.document == "yard.txt"
    assert best.score == pytest.approx(1.0, abs=2e-3)  # vectors are kept in float16
    for candidate in [best, *others]:
        assert candidate.score == pytest.approx(float(candidate.vector @ question), abs=2e-3)
    assert [c.score for c in [best, *others]] == sorted((c.score for c in [best, *others]), reverse=True)
    assert len(nearest(filled, question, 2)) == 2


def test_nearest_can_leave_a_document_out(filled, embedder):
    question = embedder.embed([TEXTS["o'neil.txt"]])[0]
    assert found(nearest(filled, question, 3))[0] == "o'neil.txt"
    assert "o'neil.txt" not in found(nearest(filled, question, 3, without="o'neil.txt"))


def test_matching_ranks_by_the_words_and_knows_their_stems(filled):
    best, *_ = matching(filled, "returning deposits", 10)
    assert best.chunk.document == "lease.txt"
    assert best.score > 0
    assert found(matching(filled, "boiler", 10)) == ["o'neil.txt"]


@pytest.mark.parametrize("words", ["", "  ", "???", "zeppelin", "boiler AND (", '"unclosed', "field:value~3^"])
def test_words_that_are_no_words_or_syntax_do_no_harm(filled, words):
    assert set(found(matching(filled, words, 10))) <= {"o'neil.txt"}


def test_an_empty_index_finds_nothing(index, embedder):
    index.finish()
    assert nearest(index, embedder.embed(["yard"])[0], 5) == []
    assert matching(index, "yard", 5) == []
    assert index.chunks_of([]) == []
    assert index.vectors_of("yard.txt").shape == (0, embedder.dim)


def test_writing_a_document_again_replaces_its_chunks(filled, embedder):
    write_texts(filled, embedder, {"yard.txt": "Prams stand in the hall."}, sha256="b")
    filled.finish()
    assert filled.chunk_count() == 3
    assert [c.text for c in filled.chunks_of(["yard.txt"])] == ["Prams stand in the hall."]
    assert matching(filled, "bicycles", 5) == []
    assert found(matching(filled, "prams", 5)) == ["yard.txt"]
    assert {d.id: d.version for d in filled.documents()}["yard.txt"] == 2


def test_a_removed_document_is_nowhere_any_more(filled, embedder):
    filled.remove(["o'neil.txt"])
    filled.finish()
    again = reopened(filled)
    assert ids(again) == ["lease.txt", "yard.txt"]
    assert "o'neil.txt" not in found(nearest(again, embedder.embed(["boiler"])[0], 9)) + found(
        matching(again, "boiler", 9)
    )
    with pytest.raises(StoreError) as caught:
        again.text("o'neil.txt")
    assert caught.value.hint == "doyen documents lists them"


def test_everything_can_be_removed_and_the_index_searched_and_filled_again(filled, embedder):
    filled.remove(list(TEXTS))
    filled.finish()
    assert (ids(filled), filled.chunk_count()) == ([], 0)
    assert nearest(filled, embedder.embed(["yard"])[0], 5) == []
    assert matching(filled, "yard", 5) == []
    write_texts(filled, embedder, TEXTS)
    filled.finish()
    assert found(matching(filled, "yard", 5)) == ["yard.txt"]


def test_more_documents_than_fit_into_one_condition_are_removed(index, embedder):
    texts = {f"d{n:04}.txt": f"text {n}" for n in range(1101)}
    write_texts(index, embedder, texts)
    index.remove(list(texts)[:-1])
    assert (ids(index), index.chunk_count()) == (["d1100.txt"], 1)


def test_a_document_without_chunks_is_kept(index, embedder):
    entry = dataclasses.replace(one_chunk_document("blank.txt", ""), chunks=[])
    index.write([entry], embedder.embed([]))
    index.finish()
    assert index.text("blank.txt") == ("", ())
    assert index.recover() == 0
    assert ids(index) == ["blank.txt"]


# ---- the manifest


def test_the_same_embedder_on_another_backend_is_taken():
    assert same_vectors("m@1/openvino-bf16", "m@1/openvino-f32")
    assert not same_vectors("m@1/openvino-f32", "m@2/openvino-f32")


def of_precision(precision):
    embedder = HashEmbedder()
    embedder.fingerprint = embedder.fingerprint.replace("f32", precision)
    return embedder


def test_chunks_sized_by_another_tokenizer_are_refused(filled, embedder):
    with pytest.raises(StoreError, match="sized by bytes4/1000000, not bytes4/8"):
        open_or_create(filled, replace(manifest_of(embedder), counter="bytes4/8"))


def test_a_place_is_stamped_anew_when_its_index_is(tmp_path, store, embedder):
    place = place_of(store, tmp_path)
    assert (place.stamp(), place.exists(), place.recorded_fingerprint()) == (None, False, None)
    place.open_or_create(manifest_of(embedder))
    before = place.stamp()
    assert before is not None and place.stamp() == before and place.exists()
    assert place.recorded_fingerprint() == embedder.fingerprint
    place.clear()
    assert (place.stamp(), place.exists()) == (None, False)
    place.open_or_create(manifest_of(embedder))
    assert place.stamp() != before


@pytest.mark.lance_only
def test_the_fingerprint_of_an_index_is_read_without_opening_it(filled, tmp_path):
    assert recorded_fingerprint(filled.folder) == filled.manifest.fingerprint
    assert recorded_fingerprint(tmp_path / "nothing") is None


@pytest.mark.parametrize(
    ("other", "chunk_tokens", "what"),
    [
        (HashEmbedder("other"), 200, "embedder"),
        (HashEmbedder(version=2), 200, "embedder"),
        (HashEmbedder(dim=64), 200, "embedder"),
        (of_precision("bf16"), 200, "embedder"),
        (HashEmbedder(), 300, "chunks of 200 tokens; doyen.toml now says 300"),
    ],
)
def test_an_index_made_otherwise_is_refused_with_the_way_out(filled, other, chunk_tokens, what):
    with pytest.raises(StoreError, match=what) as caught:
        open_or_create(filled, manifest_of(other, chunk_tokens))
    assert "--rebuild" in (caught.value.hint or "")
    assert ids(reopened(filled)) == sorted(TEXTS)


def test_no_index_names_the_command_that_makes_one(tmp_path):
    with pytest.raises(StoreError) as caught:
        LanceIndex.open(tmp_path / "nothing")
    assert "doyen ingest" in (caught.value.hint or "")
    assert not (tmp_path / "nothing").exists()


@pytest.mark.lance_only
@pytest.mark.parametrize("manifest", ["", "{", "[]", '{"unknown": 1}'])
def test_a_broken_manifest_is_named(filled, manifest):
    (filled.folder / "manifest.json").write_text(manifest)
    with pytest.raises(StoreError, match=r"manifest.json is broken"):
        reopened(filled)


@pytest.mark.lance_only
def test_another_format_is_refused(filled):
    path = filled.folder / "manifest.json"
    path.write_text(path.read_text().replace('"format": 3', '"format": 1'))
    with pytest.raises(StoreError, match="format 1") as caught:
        reopened(filled)
    assert "--rebuild" in (caught.value.hint or "")


# ---- finishing


def test_a_batch_that_does_not_fit_is_refused_before_anything_is_written(filled, embedder):
    entry = one_chunk_document("bad.txt", "text")
    with pytest.raises(ValueError, match="length"):
        filled.write([entry], np.zeros((2, embedder.dim), np.float32))
    with pytest.raises(ValueError, match="twice"):
        filled.write([entry, entry], np.zeros((2, embedder.dim), np.float32))
    assert not filled.unfinished
    assert (ids(filled), filled.chunk_count()) == (sorted(TEXTS), 3)


def test_finish_that_is_not_whole_indexes_but_keeps_the_mark(index, embedder):
    write_texts(index, embedder, TEXTS)
    index.finish(whole=False)
    assert found(matching(index, "yard", 5)) == ["yard.txt"]
    assert index.unfinished


@pytest.mark.lance_only
def test_many_small_writes_are_compacted_by_the_next_finish(index, embedder):
    for n in range(12):
        write_texts(index, embedder, {f"d{n}.txt": f"text number {n}"})
    index.finish()
    write_texts(index, embedder, {"late.txt": "text number 12"})
    index.finish()
    assert index.tables.chunks.stats()["fragment_stats"]["num_fragments"] <= 2
    assert len(matching(index, "number", 50)) == 13


@pytest.mark.lance_only
def test_after_many_small_ingests_no_table_has_many_files(index, embedder):
    for n in range(24):
        write_texts(index, embedder, {f"d{n}.txt": f"text number {n}"})
        index.finish()
        tables = (index.tables.documents, index.tables.chunks)
        assert all(table.stats()["fragment_stats"]["num_fragments"] <= 9 for table in tables)
    assert len(ids(index)) == len(matching(index, "number", 50)) == 24


def unindexed(index):
    chunks = index.tables.chunks
    return [chunks.index_stats(made.name).num_unindexed_rows for made in chunks.list_indices()]


@pytest.mark.lance_only
def test_a_few_new_chunks_are_found_beside_the_full_text_index_and_many_are_taken_into_it(filled, embedder):
    filled.finish()
    assert unindexed(filled) == [0]
    write_texts(filled, embedder, {"yard.txt": "Prams stand in the hall, not in the yard."}, sha256="b")
    filled.finish()
    assert unindexed(filled) == [1]
    assert found(matching(filled, "prams hall", 5)) == ["yard.txt"]
    assert found(matching(filled, "bicycles mill", 5)) == []
    write_texts(filled, embedder, {f"{n}.txt": f"Prams number {n} stand in a hall." for n in range(70)})
    filled.finish()
    assert unindexed(filled) == [0]
    assert len(matching(filled, "prams", 100)) == 71
