"""`doyen remove`: afterwards nothing of a document is found by any search, nor stands in any file of the store."""

import dataclasses
import random
import string
import time

import pytest
from small_stores import HashEmbedder, make_expert, manifest_of, matching, one_chunk_document, write_files, write_texts

from doyen.config import Settings, StoreSettings, load_settings
from doyen.erasing import remove_documents
from doyen.errors import ExpertError, StoreError
from doyen.index.lance import LanceIndex
from doyen.ingesting import index_place, ingest, open_index
from doyen.originals import collect_originals, keep_original, original_path
from doyen.retrieval.hybrid import Retriever

STORES = "both"
SECRET = "".join(random.Random(4).choices(string.ascii_lowercase, k=24))
OLDER_SECRET = "".join(random.Random(5).choices(string.ascii_lowercase, k=24))


@pytest.fixture
def embedder():
    return HashEmbedder()


@pytest.fixture
def expert(tmp_path, embedder, store):
    """An expert with sixty documents in one file of the table, so that compaction alone would leave a removed one in it."""
    folder = make_expert(tmp_path / "expert", Settings(store=StoreSettings(store)))
    index = index_place(folder, load_settings(folder)).open_or_create(manifest_of(embedder))
    texts = {f"d{n}.txt": f"document number {n} of the archive" for n in range(60)}
    write_texts(index, embedder, texts | {"plan.txt": f"the plan says {OLDER_SECRET}"}, sha256="1")
    index.finish()
    write_texts(index, embedder, {"plan.txt": f"the plan says {SECRET}"}, sha256="2")
    index.finish()
    return folder


def open_(expert):
    return open_index(expert, load_settings(expert))


def files_with(expert, text):
    return [p for p in (expert / "index").rglob("*") if p.is_file() and text.encode() in p.read_bytes()]


@pytest.mark.lance_only
def test_a_removed_document_is_in_no_file_of_the_store(expert):
    assert files_with(expert, SECRET) and files_with(expert, OLDER_SECRET)  # else the test sees nothing
    before = {p for p in (expert / "index").rglob("*") if p.is_file() and p.suffix in (".lance", ".manifest", ".txn")}
    assert remove_documents(expert, ["plan.txt"]) == ["plan.txt"]
    assert files_with(expert, SECRET) == files_with(expert, OLDER_SECRET) == []
    assert files_with(expert, "document number 17")
    held = {p for p in before if p.exists()}
    assert not [p for p in held if "chunks.lance" in p.parts], "compressed or not: every file of before is gone"


def test_no_search_finds_a_removed_document(expert, embedder):
    remove_documents(expert, ["plan.txt"])
    index = open_(expert)
    retriever = Retriever(index, embedder)
    for query in (SECRET, OLDER_SECRET, "the plan says"):
        assert "plan.txt" not in {h.chunk.document for h in retriever.search(query, 100)}
    assert "plan.txt" not in {h.chunk.document for h in retriever.similar("d1.txt", 100)}
    assert matching(index, SECRET, 10) == []
    assert not len(index.vectors_of("plan.txt"))
    for read in (index.versions, index.text):
        with pytest.raises(StoreError):
            read("plan.txt")
    with pytest.raises(StoreError):
        index.text("plan.txt", sha256="1")
    assert matching(index, "archive", 100)


@pytest.mark.lance_only
def test_a_vanished_document_can_still_be_removed(expert):
    index = open_(expert)
    index.retire(["plan.txt"])
    index.finish()
    assert remove_documents(expert, ["plan.txt"]) == ["plan.txt"]
    assert files_with(expert, SECRET) == files_with(expert, OLDER_SECRET) == []


@pytest.mark.lance_only
def test_a_removal_that_was_stopped_is_finished_by_the_next(expert):
    index = open_(expert)
    index.remove(["plan.txt"])  # and no finish: the process was killed
    assert files_with(expert, SECRET)
    assert remove_documents(expert, ["plan.txt"]) == ["plan.txt"]
    assert files_with(expert, SECRET) == []
    assert not open_(expert).unfinished


@pytest.mark.lance_only
def test_an_orphan_of_a_killed_write_goes_too(expert, embedder):
    """A write that was killed leaves a data file that no state of the table names."""
    index = open_(expert)
    other = LanceIndex.open_or_create(expert.parent / "other", manifest_of(embedder))
    write_texts(other, embedder, {"plan.txt": f"the plan says {SECRET}"})
    (orphan,) = (other.folder / "chunks.lance" / "data").iterdir()
    orphan.rename(index.folder / "chunks.lance" / "data" / orphan.name)
    remove_documents(expert, ["plan.txt"])
    assert files_with(expert, SECRET) == []


def test_what_is_not_indexed_is_refused_and_nothing_removed(expert):
    with pytest.raises(ExpertError, match=r"not indexed: nothing\.txt"):
        remove_documents(expert, ["plan.txt", "nothing.txt"])
    assert open_(expert).text("plan.txt")


def test_a_file_is_removed_with_the_files_in_it(expert, embedder):
    index = open_(expert)
    write_texts(index, embedder, {"m.eml": "Mail.", "m.eml/a.txt": "One."}, item="m.eml")
    index.finish()
    assert remove_documents(expert, ["m.eml"]) == ["m.eml", "m.eml/a.txt"]


def test_all_documents_can_be_removed(expert):
    names = [d.id for d in open_(expert).documents()]
    assert remove_documents(expert, names) == sorted(names)
    assert open_(expert).chunk_count() == 0
    assert files_with(expert, "document number 17") == []


# ---- originals


def sha(letter):
    return letter * 64


def original(expert, letter, suffix=".pdf"):
    return keep_original(expert, b"%PDF " + letter.encode(), sha(letter), suffix)


def test_an_original_is_kept_once_by_its_hash(expert, tmp_path):
    path = original(expert, "a", ".PDF")
    assert path == expert / "originals" / "aa" / f"{sha('a')}.pdf"
    written = path.stat().st_mtime_ns
    (tmp_path / "x.pdf").write_bytes(b"%PDF a")
    assert keep_original(expert, tmp_path / "x.pdf", sha("a"), ".pdf") == path
    assert path.stat().st_mtime_ns == written
    assert original_path(expert, sha("a")) == path
    assert original_path(expert, sha("b")) is None and original_path(expert, "") is None


def test_originals_go_with_the_last_version_that_names_them(expert, embedder):
    index = open_(expert)
    for letter in "abc":
        original(expert, letter)
    for letter in "ab":
        index.write([one_chunk_document("x.pdf", letter, sha256=sha(letter))], embedder.embed([letter]))
    index.finish()
    assert collect_originals(expert, index) == 1  # c is of no document
    assert original_path(expert, sha("a")) and original_path(expert, sha("b"))
    index.finish(now=time.time() + 40 * 86400)
    assert collect_originals(expert, index) == 1
    assert original_path(expert, sha("a")) is None and original_path(expert, sha("b"))


def test_removing_erases_the_original_unless_another_document_is_the_same_file(expert, embedder):
    index = open_(expert)
    for letter in "abm":
        original(expert, letter)
    index.write([one_chunk_document(n, n, sha256=sha("a")) for n in ("x.pdf", "copy.pdf")], embedder.embed(["x", "y"]))
    mail = {"item": "m.eml", "item_sha256": sha("m")}
    parts = [one_chunk_document("m.eml", "m", sha256=sha("c"), **mail)]
    parts.append(one_chunk_document("m.eml/b.pdf", "b", sha256=sha("b"), **mail))
    index.write(parts, embedder.embed(["m", "b"]))
    index.finish()
    remove_documents(expert, ["x.pdf"])
    assert original_path(expert, sha("a"))
    remove_documents(expert, ["copy.pdf"])
    assert original_path(expert, sha("a")) is None
    remove_documents(expert, ["m.eml/b.pdf"])  # the mail's copy holds it as well, so both go
    assert original_path(expert, sha("b")) is None and original_path(expert, sha("m")) is None
    assert open_(expert).text("m.eml")


def test_what_lies_beside_a_removed_document_is_copied_in_slices(expert, embedder):
    index = open_(expert)
    texts = {f"long{n}.txt": f"{n} " + "word " * 1_500_000 for n in range(6)}  # of 16 million characters each
    entries = [dataclasses.replace(one_chunk_document(n, t), chunks=[], sketch=bytes(256)) for n, t in texts.items()]
    index.write(entries, embedder.embed([]))
    index.finish()
    remove_documents(expert, ["long2.txt"])
    again = open_(expert)
    assert "long2.txt" not in [d.id for d in again.documents()]
    assert all(again.text(name)[0] == text for name, text in texts.items() if name != "long2.txt")
    assert len(again.documents()) == 61 + 5


def test_nothing_is_erased_beside_another_writer(expert, tmp_path, embedder):
    write_files(tmp_path / "library", {"a.txt": "The crane lifts twelve tonnes.\n"})
    ingest(expert, [tmp_path / "library"], embedder=embedder)
    with (
        index_place(expert, load_settings(expert)).only_writer(),
        pytest.raises(StoreError, match="another doyen is writing"),
    ):
        remove_documents(expert, ["a.txt"])
    assert remove_documents(expert, ["a.txt"]) == ["a.txt"]
