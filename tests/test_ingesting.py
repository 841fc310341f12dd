"""Sources → index: what is counted, what is skipped, what is taken out, and what an interruption leaves."""

import contextlib
import dataclasses
import json
import shutil
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from small_stores import HashEmbedder, make_expert, matching, store_state, words_bert, write_files

from doyen.config import ChunkingSettings, EmbedderSettings, Settings, StoreSettings, load_settings
from doyen.embedding import load_embedder
from doyen.erasing import remove_documents
from doyen.errors import DocumentError, ExpertError, ModelError, StoreError, UsageError
from doyen.expert import open_retriever
from doyen.folder import status
from doyen.ingesting import index_place, ingest, open_index
from doyen.ingesting.timing import recorded_ingests
from doyen.ingesting.watching import watch
from doyen.retrieval.hybrid import Retriever

STORES = "both"
FILES = {
    "lease.txt": "The deposit is returned within thirty days.",
    "house/yard.md": "# Yard\n\nBicycles stand in the yard behind the mill.",
    "house/o'neil.txt": "Smith repairs the boiler every autumn.",
}


class InterruptedEmbedder(HashEmbedder):
    """A `HashEmbedder` whose user presses Ctrl-C (or whose machine fails) at its n-th call."""

    def __init__(self, call, error=KeyboardInterrupt):
        super().__init__()
        self.calls = 0
        self.call = call
        self.error = error

    def embed(self, texts, *, kind="passage", progress=None):
        self.calls += 1
        if self.calls == self.call:
            raise self.error("stopped by the test")
        return super().embed(texts, kind=kind, progress=progress)


@pytest.fixture
def source(tmp_path):
    return write_files(tmp_path / "source", FILES)


@pytest.fixture
def bring(expert, embedder):
    """Ingest sources into the expert."""
    return lambda *sources, **options: ingest(expert, sources, **({"embedder": embedder} | options))


def index_of(expert):
    return open_index(expert, load_settings(expert))


def state_of(expert):
    return index_place(expert, load_settings(expert)).state


def ids(expert):
    return [d.id for d in index_of(expert).documents()]


def counts(report):
    return [len(getattr(report, name)) for name in ("new", "changed", "unchanged", "removed", "failed")]


def found(expert, question, embedder=None):
    return {h.chunk.document for h in Retriever(index_of(expert), embedder or HashEmbedder()).search(question, 50)}


def contents(expert):
    """Return all that the index holds, to compare two indices chunk for chunk."""
    index = index_of(expert)
    names = [d.id for d in index.documents()]
    return [(d.id, d.sha256, d.chunks, index.text(d.id)) for d in index.documents()], index.chunks_of(names)


# ---- what is counted


def test_ingests_that_change_the_index_are_recorded(bring, expert, source):
    bring(source)
    bring(source)
    (source / "lease.txt").write_text("The lease now runs for eleven years.")
    bring(source)
    rows = recorded_ingests(index_place(expert, load_settings(expert)).state)
    assert [(row["new"], row["changed"]) for row in rows] == [(3, 0), (0, 1)]
    assert all(row["seconds"] > 0 for row in rows)


def test_new_changed_unchanged_removed_and_failed_are_told_apart(bring, expert, source):
    assert counts(bring(source)) == [3, 0, 0, 0, 0]
    write_files(source, {"lease.txt": "The deposit is never returned.", "new.txt": "Prams.", "empty.txt": ""})
    (source / "house/yard.md").unlink()
    report = bring(source)
    assert (report.new, report.changed, report.unchanged) == (["new.txt"], ["lease.txt"], ["house/o'neil.txt"])
    assert report.removed == ["house/yard.md"]
    assert [Path(file).name for file, _ in report.failed] == ["empty.txt"]
    assert ids(expert) == ["house/o'neil.txt", "lease.txt", "new.txt"]


def test_every_chunk_is_the_exact_slice_of_its_document(bring, expert, source):
    bring(source)
    index = index_of(expert)
    for name, content in FILES.items():
        text, _ = index.text(name)
        chunks = index.chunks_of([name])
        assert chunks and all(text[c.start : c.end] == c.text for c in chunks)
        assert content.split()[-1] in text


def test_a_second_ingest_embeds_nothing_and_writes_nothing(bring, expert, source, embedder):
    write_files(source, {"broken.pdf": b"%PDF-1.4 nothing"})
    bring(source)
    before, embedded = store_state(expert), embedder.embedded
    report = bring(source)
    assert counts(report) == [0, 0, 3, 0, 1]
    assert not report.written
    assert embedder.embedded == embedded
    assert store_state(expert) == before


def test_a_changed_file_counts_its_version_and_loses_its_old_text(bring, expert, source):
    bring(source)
    write_files(source, {"lease.txt": "Pets need consent."})
    bring(source)
    assert {d.id: d.version for d in index_of(expert).documents()} == {
        "lease.txt": 2,
        "house/yard.md": 1,
        "house/o'neil.txt": 1,
    }
    assert {c.version for c in index_of(expert).chunks_of(["lease.txt"])} == {2}
    texts = [h.chunk.text for h in Retriever(index_of(expert), HashEmbedder()).search("deposit thirty days", 50)]
    assert not any("deposit" in text for text in texts)


def test_a_touched_file_with_the_same_content_is_unchanged(bring, source):
    bring(source)
    (source / "lease.txt").write_text(FILES["lease.txt"])
    assert counts(bring(source)) == [0, 0, 3, 0, 0]


def test_a_removed_file_is_found_no_more(bring, expert, source):
    bring(source)
    assert "house/o'neil.txt" in found(expert, "boiler")
    (source / "house/o'neil.txt").unlink()
    assert bring(source).removed == ["house/o'neil.txt"]
    assert "house/o'neil.txt" not in found(expert, "boiler")
    assert "house/o'neil.txt" not in ids(expert)


# ---- files that cannot be read


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("broken.pdf", b"%PDF-1.7\nnothing that a PDF has", "broken.pdf"),
        ("empty.txt", b"", "0 bytes"),
        ("binary.txt", bytes(range(256)) * 8, "binary.txt"),
        ("blank.txt", b" \n\n", "no text"),
        ("not.docx", b"PK\x03\x04 nothing", "not.docx"),
    ],
)
def test_a_file_that_cannot_be_read_is_reported_and_the_rest_goes_on(bring, expert, source, name, content, reason):
    write_files(source, {name: content})
    report = bring(source)
    assert counts(report) == [3, 0, 0, 0, 1]
    ((file, why),) = report.failed
    assert file == str(source / name)
    assert reason in why
    (row,) = json.loads((state_of(expert) / "failed.json").read_text())
    assert (row["file"], row["reason"], row["item"]) == (file, why, name)
    assert status(expert)["failed"] == [{"file": file, "reason": why}]


def test_a_mended_file_is_no_longer_listed(bring, expert, source):
    write_files(source, {"late.txt": ""})
    bring(source)
    write_files(source, {"late.txt": "Now there is text."})
    assert counts(bring(source)) == [1, 0, 3, 0, 0]
    assert status(expert)["failed"] == []


def test_failures_of_another_source_stay_listed_until_their_file_is_gone(bring, expert, source, tmp_path):
    write_files(source, {"late.txt": ""})
    bring(source)
    other = write_files(tmp_path / "other", {"a.txt": "Text.", "worse.txt": ""})
    bring(other)
    assert [Path(f["file"]).name for f in status(expert)["failed"]] == ["late.txt", "worse.txt"]
    (source / "late.txt").unlink()
    bring(other)
    assert [Path(f["file"]).name for f in status(expert)["failed"]] == ["worse.txt"]


def test_an_indexed_file_that_breaks_keeps_its_last_good_text(bring, expert, source):
    bring(source)
    write_files(source, {"lease.txt": ""})
    assert counts(bring(source)) == [0, 0, 2, 0, 1]
    assert "lease.txt" in found(expert, "deposit")


def test_files_of_other_formats_are_named_as_skipped(bring, source):
    write_files(source, {"film.mp4": b"\xff\xd8", ".hidden.txt": "x", "~$lease.docx": "x"})
    report = bring(source)
    assert [Path(p).name for p in report.unsupported] == ["film.mp4"]
    assert counts(report) == [3, 0, 0, 0, 0]


# ---- sources


def test_a_missing_source_is_a_fault_to_mend_and_changes_nothing(bring, expert, tmp_path):
    with pytest.raises(DocumentError, match="there is no file or folder") as caught:
        bring(tmp_path / "nowhere")
    assert (caught.value.exit_code, caught.value.hint) == (1, "check the path")
    assert not state_of(expert).exists()


def test_an_emptied_folder_is_refused_and_nothing_is_taken_out(bring, expert, source):
    bring(source)
    shutil.rmtree(source)
    source.mkdir()
    with pytest.raises(DocumentError, match="holds no document") as caught:
        bring(source, prune=True)
    assert caught.value.exit_code == 1
    assert ".pdf" in (caught.value.hint or "")
    assert len(ids(expert)) == 3


def test_no_source_is_wrong_usage(bring):
    with pytest.raises(UsageError):
        bring()


@pytest.mark.parametrize("name", ["", "/", "a/", " a", "../a", "a/../b"])
def test_a_name_that_is_none_is_refused(bring, source, name):
    with pytest.raises(UsageError, match="is not a name"):
        bring(source, name=name)


def test_two_sources_of_one_run_that_give_one_id_are_refused(bring, expert, source, tmp_path):
    other = write_files(tmp_path / "other", {"lease.txt": "Another lease."})
    with pytest.raises(UsageError, match=r"would both be 'lease.txt'") as caught:
        bring(source, other)
    assert "--name" in (caught.value.hint or "")
    assert not state_of(expert).exists()


def test_a_source_that_would_replace_another_ones_document_is_refused(bring, expert, source, tmp_path):
    bring(source)
    other = write_files(tmp_path / "other", {"lease.txt": "Another lease."})
    with pytest.raises(UsageError, match="already indexed") as caught:
        bring(other)
    assert "--name" in (caught.value.hint or "")
    assert "thirty days" in index_of(expert).text("lease.txt")[0]


def test_a_name_stands_before_the_ids_and_keeps_sources_apart(bring, expert, source, tmp_path):
    bring(source)
    other = write_files(tmp_path / "other", {"lease.txt": "Another lease."})
    assert bring(other, name="berlin").new == ["berlin/lease.txt"]
    assert ids(expert) == ["berlin/lease.txt", "house/o'neil.txt", "house/yard.md", "lease.txt"]
    assert counts(bring(other, name="berlin")) == [0, 0, 1, 0, 0]
    assert counts(bring(source)) == [0, 0, 3, 0, 0]  # and takes out nothing of the other


def test_a_moved_source_takes_the_place_of_the_one_that_is_gone(bring, expert, source, embedder, tmp_path):
    bring(source)
    moved = source.rename(tmp_path / "moved")
    embedded = embedder.embedded
    report = bring(moved)
    assert (sorted(report.moved), counts(report)) == (sorted(FILES), [0, 0, 0, 0, 0])
    assert embedder.embedded == embedded
    assert {d.root for d in index_of(expert).documents()} == {str(moved)}


def test_prune_takes_out_what_other_sources_brought(bring, expert, source, tmp_path):
    bring(source)
    other = write_files(tmp_path / "other", {"a.txt": "Text of a."})
    assert counts(bring(other)) == [1, 0, 0, 0, 0]
    assert counts(bring(other, prune=True)) == [0, 0, 1, 3, 0]
    assert ids(expert) == ["a.txt"]


def test_a_single_file_of_an_ingested_folder_keeps_its_id(bring, expert, source):
    bring(source)
    yard = write_files(source, {"house/yard.md": "# Yard\n\nNo bicycles any more."}) / "house/yard.md"
    report = bring(yard)
    assert (report.changed, counts(report)) == (["house/yard.md"], [0, 1, 0, 0, 0])
    assert counts(bring(source)) == [0, 0, 3, 0, 0]
    assert len(ids(expert)) == 3


def test_a_single_file_of_its_own_is_named_by_its_name(bring, expert, source):
    assert bring(source / "house/yard.md").new == ["yard.md"]
    assert ids(expert) == ["yard.md"]


@pytest.mark.parametrize("sources", [("", ""), ("", "lease.txt"), ("house/yard.md", ""), ("", "house")])
def test_a_file_given_twice_is_indexed_once(bring, expert, source, sources):
    bring(*[source / s for s in sources])
    assert ids(expert) == sorted(FILES)
    assert index_of(expert).chunk_count() == 3


def test_rebuild_makes_the_index_anew_with_other_settings(bring, expert, source):
    bring(source)
    other = HashEmbedder("other", dim=64)
    with pytest.raises(StoreError) as caught:
        bring(source, embedder=other)
    assert "--rebuild" in (caught.value.hint or "")
    assert counts(bring(source, embedder=other, rebuild=True)) == [3, 0, 0, 0, 0]
    assert found(expert, "boiler", other) >= {"house/o'neil.txt"}


@pytest.mark.parametrize("precision", ["f32", "bf16"])
def test_an_index_keeps_the_precision_that_it_was_made_in(tmp_path, source, precision):
    embedder = words_bert(tmp_path / "bert", ["rent deposit thirty days boiler"])
    expert = make_expert(tmp_path / "kept", Settings(embedder=EmbedderSettings(str(embedder))))
    ingest(expert, [source], embedder=load_embedder(str(embedder), precision=precision))
    (source / "lease.txt").write_text("The deposit is one month of rent.")
    assert ingest(expert, [source]).changed == ["lease.txt"]
    retriever = open_retriever(expert, load_settings(expert))
    assert retriever.embedder.fingerprint == index_of(expert).manifest.fingerprint
    assert retriever.embedder.fingerprint.endswith(f"/openvino-{precision}")
    assert index_of(expert).manifest.counter == retriever.embedder.counter.fingerprint


@pytest.mark.lance_only
def test_rebuild_does_not_remove_a_folder_that_is_no_index(bring, expert, source):
    write_files(expert / "index", {"precious.txt": "mine"})
    with pytest.raises(StoreError, match="not an index"):
        bring(source, rebuild=True)
    assert (expert / "index/precious.txt").exists()


# ---- removing by hand


def test_rebuild_keeps_the_index_where_two_sources_collide(bring, expert, source, tmp_path):
    other = write_files(tmp_path / "other", {"lease.txt": "Another lease."})
    bring(source)
    with pytest.raises(UsageError, match="would both be"):
        bring(source, other, rebuild=True)
    assert ids(expert) == sorted(FILES)


@pytest.mark.parametrize("uri", [".", "..", ""])
def test_an_index_in_the_place_of_the_expert_is_refused(embedder, source, tmp_path, uri):
    expert = make_expert(tmp_path / "own", Settings(store=StoreSettings(uri)))
    with pytest.raises(StoreError, match="own folder"):
        ingest(expert, [source], embedder=embedder, rebuild=True)
    assert (expert / "doyen.toml").exists()


def test_rebuild_does_not_take_the_training_examples_for_an_index(embedder, source, tmp_path):
    expert = make_expert(tmp_path / "own", Settings(store=StoreSettings("examples")))
    write_files(expert, {"examples/manifest.json": '{"train": 3}', "examples/train.jsonl": "{}"})
    with pytest.raises(StoreError, match="not an index"):
        ingest(expert, [source], embedder=embedder, rebuild=True)
    assert (expert / "examples" / "train.jsonl").exists()


def test_the_folder_around_an_ingested_folder_keeps_its_ids(bring, expert, source):
    bring(source / "house")
    assert counts(bring(source)) == [1, 0, 2, 0, 0]
    assert ids(expert) == ["lease.txt", "o'neil.txt", "yard.md"]


def test_a_file_deleted_from_a_folder_within_an_ingested_one_is_taken_out(bring, expert, source):
    bring(source)
    (source / "house" / "yard.md").unlink()
    assert counts(bring(source / "house"))[3] == 1
    assert "house/yard.md" not in ids(expert) and "lease.txt" in ids(expert)


def test_removed_documents_are_gone_from_search(bring, expert, source):
    bring(source)
    assert remove_documents(expert, ["house/o'neil.txt", "lease.txt"]) == ["house/o'neil.txt", "lease.txt"]
    assert ids(expert) == ["house/yard.md"]
    assert found(expert, "boiler deposit") <= {"house/yard.md"}


def test_one_unknown_document_removes_none(bring, expert, source):
    bring(source)
    with pytest.raises(ExpertError, match=r"not indexed: nothing.txt") as caught:
        remove_documents(expert, ["lease.txt", "nothing.txt"])
    assert "doyen documents" in (caught.value.hint or "")
    assert len(ids(expert)) == 3


# ---- interruptions


@pytest.fixture
def big(tmp_path):
    """Three files of more than a batch each (chunks of 32 tokens)."""
    texts = {
        f"b{n}.txt": "".join(f"Entry {i} of book {n} is about subject {i * n}. \n\n" for i in range(3000))
        for n in (1, 2, 3)
    }
    return write_files(tmp_path / "big", texts)


@pytest.fixture
def fine(tmp_path):
    """An expert with small chunks."""
    return make_expert(tmp_path / "fine", Settings(chunking=ChunkingSettings(max_tokens=32)))


@pytest.fixture
def undisturbed(tmp_path, big):
    """What the index of the big files holds after a run without interruption."""
    expert = make_expert(tmp_path / "undisturbed", Settings(chunking=ChunkingSettings(max_tokens=32)))
    ingest(expert, [big], embedder=HashEmbedder())
    assert index_of(expert).chunk_count() > 3 * 1024
    return contents(expert)


@pytest.mark.parametrize("call", [1, 2, 3])
def test_an_interrupted_ingest_keeps_whole_batches_and_goes_on(fine, big, undisturbed, call):
    stopped = ingest(fine, [big], embedder=InterruptedEmbedder(call))
    assert stopped.interrupted
    assert stopped.new == ["b1.txt", "b2.txt", "b3.txt"][: call - 1]
    assert ids(fine) == stopped.new
    if stopped.new:
        assert matching(index_of(fine), "subject", 1)  # what was written can be searched already
    report = ingest(fine, [big], embedder=HashEmbedder())
    assert counts(report) == [4 - call, 0, call - 1, 0, 0]
    assert contents(fine) == undisturbed
    assert not index_of(fine).unfinished


def test_an_error_midway_keeps_whole_batches_and_goes_on(fine, big, undisturbed):
    with pytest.raises(MemoryError):
        ingest(fine, [big], embedder=InterruptedEmbedder(2, MemoryError))
    assert index_of(fine).unfinished
    ingest(fine, [big], embedder=HashEmbedder())
    assert contents(fine) == undisturbed
    assert matching(index_of(fine), "subject", 1)


@pytest.mark.lance_only
def test_a_crash_before_the_full_text_index_was_built_is_made_good(bring, expert, source):
    """The last thing that a kill can cut off: all is written, `finish` is missing."""
    embedder = HashEmbedder()
    with pytest.raises(MemoryError):
        ingest(expert, [source, source / "lease.txt"], embedder=embedder, progress=_fail_at_the_end)
    assert matching(index_of(expert), "boiler", 5) == []
    assert counts(bring(source)) == [0, 0, 3, 0, 0]
    assert [c.chunk.document for c in matching(index_of(expert), "boiler", 5)] == ["house/o'neil.txt"]
    assert not index_of(expert).unfinished


def _fail_at_the_end(stage, done, total):
    if done == total:
        raise MemoryError("killed by the test")


@pytest.mark.lance_only
def test_removing_after_a_crash_also_clears_what_the_crash_left(bring, expert, source):
    bring(source)
    index = index_of(expert)
    index.tables.documents.delete(
        "id = 'lease.txt'"
    )  # what a crash between the tables leaves: chunks without a document
    (expert / "index" / "writing").touch()
    remove_documents(expert, ["house/yard.md"])
    assert found(expert, "deposit bicycles boiler") == {"house/o'neil.txt"}


FULL_DISK = """
import resource, sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from small_stores import HashEmbedder
from doyen.documents.language import detect_language
from doyen.errors import StoreError
from doyen.ingesting import ingest
detect_language("Its model is unpacked into a file at the first call.")
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[4]), resource.RLIM_INFINITY))
try:
    ingest(Path(sys.argv[2]), [sys.argv[3]], embedder=HashEmbedder())
except StoreError as error:
    sys.exit(f"{error} | {error.hint}")
"""


@pytest.mark.lance_only
def test_a_store_that_cannot_grow_is_a_clear_error_and_the_next_run_finishes(expert, source, bring):
    bring(source)
    # Too few letters to tell the language: py3langid unpacks its model into a file, which the limit would stop.
    long = "".join(f"{i}: {i * i}.\n\n" for i in range(12000))
    write_files(source, {"long.txt": long, "lease.txt": "It has changed."})
    arguments = [Path(__file__).parent, expert, source, 20_000]
    done = subprocess.run([sys.executable, "-c", FULL_DISK, *map(str, arguments)], capture_output=True, text=True)
    assert done.returncode == 1, done.stderr
    assert "cannot write the index" in done.stderr and "free disk space" in done.stderr
    assert "Traceback" not in done.stderr
    bring(source)
    assert ids(expert) == ["house/o'neil.txt", "house/yard.md", "lease.txt", "long.txt"]
    index = index_of(expert)
    assert index.text("long.txt")[0] == long
    assert index.chunk_count() == sum(d.chunks for d in index.documents())
    assert [c.chunk.document for c in matching(index, "changed", 5)] == ["lease.txt"]
    assert not index.unfinished


# ---- laws

words = st.text(st.sampled_from("abc é'."), min_size=1, max_size=20)
folders = st.dictionaries(st.sampled_from(["a.txt", "b.md", "c/d.txt", "o'e.txt"]), words, min_size=1)


@settings(max_examples=6, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(folders)
def test_ingest_is_idempotent(files):
    with tempfile.TemporaryDirectory() as scratch:
        expert, source = make_expert(Path(scratch, "expert")), write_files(Path(scratch, "source"), files)
        first = ingest(expert, [source], embedder=HashEmbedder())
        before, state = contents(expert), store_state(expert)
        again = ingest(expert, [source], embedder=HashEmbedder())
        assert sorted(again.unchanged) == sorted(first.new)
        assert again.failed == first.failed
        assert (contents(expert), store_state(expert)) == (before, state)


@settings(max_examples=6, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(folders, st.data())
def test_what_was_deleted_is_never_found(files, data):
    with tempfile.TemporaryDirectory() as scratch:
        expert, source = (
            make_expert(Path(scratch, "expert")),
            write_files(Path(scratch, "source"), files | {"k.txt": "keep"}),
        )
        ingest(expert, [source], embedder=HashEmbedder())
        gone = data.draw(st.sets(st.sampled_from(sorted(files)), min_size=1))
        for name in gone:
            (source / name).unlink()
        ingest(expert, [source], embedder=HashEmbedder())
        assert not gone & set(ids(expert))
        for text in files.values():
            assert not gone & found(expert, text)


# ---- in step with the source


def test_a_renamed_file_is_not_embedded_again(bring, expert, source, embedder):
    bring(source)
    embedded = embedder.embedded
    (source / "lease.txt").rename(source / "contract.txt")
    report = bring(source)
    assert (report.new, report.removed) == (["contract.txt"], ["lease.txt"])
    # The title is made of the name where the text has none: only what it changes is embedded anew.
    assert embedder.embedded - embedded == report.chunks - report.reused
    (source / "house/yard.md").rename(source / "yard.md")
    embedded = embedder.embedded
    report = bring(source)
    assert (report.new, report.removed, report.reused) == (["yard.md"], ["house/yard.md"], 1)
    assert embedder.embedded == embedded


def test_a_moved_folder_takes_over_and_what_it_lost_is_taken_out(bring, expert, source, tmp_path):
    bring(source)
    moved = source.rename(tmp_path / "moved")
    (moved / "lease.txt").unlink()
    report = bring(moved)
    assert report.removed == ["lease.txt"]
    assert {d.root for d in index_of(expert).documents()} == {str(moved)}


def test_a_failed_file_is_read_again_only_when_it_changed_or_that_is_asked_for(bring, source):
    write_files(source, {"late.csv": "a,b\n"})
    assert counts(bring(source)) == [3, 0, 0, 0, 1]
    first = bring(source)
    assert first.failed and "late.csv" in first.failed[0][0]
    assert bring(source, retry_failed=True).failed == first.failed
    write_files(source, {"late.csv": "a,b\n1,2\n"})
    assert counts(bring(source)) == [1, 0, 3, 0, 0]


def test_without_sources_all_known_ones_are_ingested_with_their_names(bring, expert, source, tmp_path):
    other = write_files(tmp_path / "other", {"lease.txt": "Another lease."})
    bring(source)
    bring(other, name="berlin")
    write_files(other, {"more.txt": "More of it."})
    assert bring().new == ["berlin/more.txt"]
    assert counts(bring(retry_failed=True)) == [0, 0, 0, 0, 0]


def test_a_known_source_that_is_gone_is_told_and_the_others_go_on(bring, expert, source, tmp_path):
    other = write_files(tmp_path / "other", {"a.txt": "Text of a."})
    bring(source)
    bring(other)
    shutil.rmtree(source)
    report = bring()
    assert (counts(report), report.failed[0][0]) == ([0, 0, 1, 0, 1], str(source))
    assert len(ids(expert)) == 4
    for options in ({"rebuild": True}, {"prune": True}, {"prune": True, "retry_failed": True}):
        with pytest.raises(DocumentError, match="there is no file or folder"):
            bring(**options)
    assert len(ids(expert)) == 4


def test_rebuild_does_not_lose_sources_that_are_not_named(bring, expert, source, tmp_path):
    other = write_files(tmp_path / "other", {"a.txt": "Text of a."})
    bring(source)
    bring(other)
    with pytest.raises(UsageError, match="would take out what came from") as caught:
        bring(other, rebuild=True)
    assert "doyen ingest --rebuild alone" in (caught.value.hint or "")
    assert len(ids(expert)) == 4
    assert counts(bring(rebuild=True)) == [4, 0, 0, 0, 0]
    assert counts(bring(other, rebuild=True, prune=True)) == [1, 0, 0, 0, 0]
    assert counts(bring()) == [0, 0, 1, 0, 0]


def test_a_source_that_fails_does_not_stop_the_others_nor_lose_its_documents(bring, expert, source, tmp_path):
    other = write_files(tmp_path / "other", {"a.txt": "Text of a."})
    bring(source)
    shutil.rmtree(source)
    source.mkdir()
    report = bring(source, other, prune=True)
    assert report.new == ["a.txt"]
    assert [file for file, _ in report.failed] == [str(source)]
    assert len(ids(expert)) == 4


def test_files_within_a_file_come_and_go_with_it(bring, expert, source):
    import io
    import zipfile

    def pack(members):
        out = io.BytesIO()
        with zipfile.ZipFile(out, "w") as archive:
            for name, text in members.items():
                archive.writestr(name, text)
        return out.getvalue()

    write_files(source, {"box.zip": pack({"a.txt": "The first paper.", "b/c.txt": "The second paper.", "d.txt": ""})})
    report = bring(source)
    assert {"box.zip/a.txt", "box.zip/b/c.txt"} <= set(report.new)
    assert report.failed[0][0] == str(source / "box.zip/d.txt")
    assert bring(source).failed == report.failed
    write_files(source, {"box.zip": pack({"a.txt": "The first paper.", "e.txt": "The third paper."})})
    report = bring(source)
    assert (report.new, report.removed, report.failed) == (["box.zip/e.txt"], ["box.zip/b/c.txt"], [])
    (source / "box.zip").unlink()
    assert sorted(bring(source).removed) == ["box.zip/a.txt", "box.zip/e.txt"]


def test_near_duplicates_are_reported(bring, source):
    text = " ".join(f"The tenant of flat {n} waters the lawn on day {n % 7}." for n in range(60))
    write_files(source, {"one.txt": text, "two.txt": text.replace("flat 7 ", "flat 8 ")})
    (group,) = bring(source).duplicates
    assert group.documents == ("one.txt", "two.txt")


def test_two_ingests_of_one_index_at_a_time_are_refused(bring, expert, source, embedder):
    bring(source)
    with index_place(expert, load_settings(expert)).only_writer(), pytest.raises(StoreError, match="another doyen"):
        bring(source)
    assert counts(bring(source)) == [0, 0, 3, 0, 0]


def test_a_rebuild_that_cannot_be_done_keeps_the_index(bring, expert, source):
    bring(source)
    with index_place(expert, load_settings(expert)).only_writer(), pytest.raises(StoreError, match="another doyen"):
        bring(rebuild=True)
    before = contents(expert)
    make_expert(expert, dataclasses.replace(load_settings(expert), embedder=EmbedderSettings("no-such-model")))
    with pytest.raises(ModelError, match="no-such-model"):
        bring(rebuild=True, embedder=None)
    assert contents(expert) == before


def test_a_file_larger_than_a_worker_may_hold_is_not_read_into_memory(bring, source):
    with (source / "huge.txt").open("wb") as file:
        file.truncate((1 << 30) + 1)  # sparse: takes no space
    report = bring(source)
    assert len(report.new) == 3
    assert [(Path(f).name, "[ingest] file_memory_gib" in reason) for f, reason in report.failed] == [("huge.txt", True)]


@pytest.mark.parametrize("text", ["{", "[1]", '[{"x": 1}]'])
def test_broken_lists_beside_the_index_are_told_or_made_anew(bring, expert, source, text):
    bring(source)
    (state_of(expert) / "failed.json").write_text(text)
    assert counts(bring(source)) == [0, 0, 3, 0, 0]
    (expert / "sources.json").write_text(text)
    with pytest.raises(ExpertError, match=r"sources\.json is not a list of sources"):
        bring()


def test_watching_asks_again_only_for_the_source_that_changed(expert, source, embedder, tmp_path):
    other = write_files(tmp_path / "other", {"a.txt": "Text of a.", "b.txt": "Text of b."})
    single = write_files(tmp_path / "single", {"note.txt": "The key is with the porter."}) / "note.txt"
    with watching(expert, [source, other, single], embedder=embedder) as reports:
        assert counts(next(reports)) == [6, 0, 0, 0, 0]
        write_files(source, {"new.txt": "Written before the watch began."})
        assert counts(next(reports))[:3] == [1, 0, 6]  # nothing of it is missed
        write_files(other, {"a.txt": "Another text of a."})
        assert counts(next(reports)) == [0, 1, 1, 0, 0]
        write_files(tmp_path, {"draft": "The key is with the baker."})
        (tmp_path / "draft").replace(single)  # as editors save
        report = next(reports)
        assert (report.changed, len(report.unchanged)) == (["note.txt"], 0)


def test_watching_goes_through_all_sources_at_the_interval(expert, source, embedder):
    with watching(expert, [source], embedder=embedder, interval_s=0.0) as reports:
        assert counts(next(reports)) == [3, 0, 0, 0, 0]
        assert counts(next(reports)) == [0, 0, 3, 0, 0]


@contextlib.contextmanager
def watching(*sources, **options):
    stop = threading.Event()
    reports = watch(*sources, stop=stop, **options)
    try:
        yield reports
    finally:
        stop.set()
        reports.close()


def test_watching_follows_the_folder_until_it_is_stopped(expert, source, embedder):
    stop = threading.Event()
    reports = watch(expert, [source], embedder=embedder, stop=stop)
    assert counts(next(reports)) == [3, 0, 0, 0, 0]
    # Changes are made until one is seen: the watch begins when the next report is asked for.
    writer = threading.Thread(target=_write_until, args=(source / "new.txt", stop))
    writer.start()
    try:
        report = next(reports)
        assert "new.txt" in [*report.new, *report.changed]
    finally:
        stop.set()
        writer.join()
    assert list(reports) == []


def _write_until(path, stop):
    n = 0
    while not stop.wait(0.3):
        n += 1
        path.write_text(f"Prams are kept in cellar {n}.")
