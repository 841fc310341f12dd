"""Another embedder for an index: beside the one that is searched, with a switch and a way back."""

import json
import threading

import pytest
from small_stores import HashEmbedder, make_expert, write_files
from typer.testing import CliRunner

import doyen
from doyen.cli import app
from doyen.config import Settings, StoreSettings, load_settings
from doyen.erasing import remove_documents
from doyen.errors import Interrupted, StoreError, UsageError
from doyen.index.generations import FolderRoot, Record
from doyen.ingesting import ingest, open_index, revectoring
from doyen.retrieval.hybrid import Retriever
from doyen.sources import SourceOptions

OTHER = "bge-small-en-v1.5"
TEXTS = {f"{n:02}.txt": f"The wheel numbered {n} stands in hall{n} of the mill." for n in range(12)}


class Other(HashEmbedder):
    """Another model: its vectors have another length."""

    def __init__(self, **changes):
        super().__init__(OTHER, dim=128, **changes)


@pytest.fixture
def filled(tmp_path, embedder):
    folder = make_expert(tmp_path / "expert", Settings(store=StoreSettings("index")))
    write_files(tmp_path / "docs", TEXTS)
    ingest(folder, [tmp_path / "docs"], embedder=embedder)
    return folder


def opened(expert):
    return open_index(expert, load_settings(expert))


def first(index, embedder, question):
    return Retriever(index, embedder).search(question)[0].chunk.document


def record(expert) -> Record:
    return FolderRoot(expert / "index").read()[0]


def test_the_index_gets_other_vectors_and_the_settings_their_name(filled):
    old = opened(filled)
    done = doyen.reembed(filled, OTHER, embedder=Other())
    assert (done.before, done.embedder, done.computed) == (old.manifest.embedder, OTHER, 12)
    new = opened(filled)
    assert new.manifest.dim == 128 and load_settings(filled).embedder.name == OTHER
    assert first(new, Other(), "what stands in hall7?") == "07.txt"
    assert [c.text for c in new.chunks_of(["03.txt"])] == [TEXTS["03.txt"]]
    assert new.text("03.txt") == old.text("03.txt") and new.versions("03.txt") == old.versions("03.txt")


def test_who_reads_goes_on_with_the_old_vectors(filled, embedder):
    reader = Retriever(opened(filled), embedder)
    doyen.reembed(filled, OTHER, embedder=Other())
    assert reader.search("what stands in hall7?")[0].chunk.document == "07.txt"
    assert reader.index.manifest.dim == 256


def test_undo_is_instant_where_nothing_was_written_since(filled, embedder):
    before = opened(filled).manifest.embedder
    doyen.reembed(filled, OTHER, embedder=Other())
    done = doyen.reembed(filled, undo=True)
    assert done.instant and (done.before, done.embedder) == (OTHER, before)
    assert first(opened(filled), embedder, "what stands in hall7?") == "07.txt"
    assert load_settings(filled).embedder.name == before
    with pytest.raises(UsageError, match="no index from before"):
        doyen.reembed(filled, undo=True)


def test_undo_keeps_what_came_since(filled, tmp_path, embedder):
    doyen.reembed(filled, OTHER, embedder=Other())
    write_files(tmp_path / "docs", {"new.txt": "A bicycle stands in the yard."})
    (tmp_path / "docs" / "05.txt").unlink()
    ingest(filled, [tmp_path / "docs"], embedder=Other())
    again = HashEmbedder()
    done = doyen.reembed(filled, undo=True, embedder=again)
    assert not done.instant and again.embedded == done.computed == 1
    index = opened(filled)
    assert first(index, embedder, "where is the bicycle?") == "new.txt"
    assert {d.id for d in index.documents()} == {*TEXTS, "new.txt"} - {"05.txt"}


def test_an_ingest_goes_on_in_the_new_generation(filled, tmp_path):
    doyen.reembed(filled, OTHER, embedder=Other())
    write_files(tmp_path / "docs", {"03.txt": "A bicycle stands in the yard."})
    report = ingest(filled, [tmp_path / "docs"], embedder=Other())
    assert report.changed == ["03.txt"] and len(report.unchanged) == 11
    assert first(opened(filled), Other(), "where is the bicycle?") == "03.txt"


class Stopping(Other):
    """Is interrupted after some texts."""

    def __init__(self, after):
        super().__init__()
        self.after = after

    def embed(self, texts, **options):
        if self.embedded >= self.after:
            raise KeyboardInterrupt
        return super().embed(texts, **options)


def test_interrupted_it_leaves_the_old_index_and_goes_on(filled, tmp_path, embedder, monkeypatch):
    monkeypatch.setattr(revectoring, "_AT_ONCE", 1)
    with pytest.raises(Interrupted):
        doyen.reembed(filled, OTHER, embedder=Stopping(5))
    assert first(opened(filled), embedder, "what stands in hall7?") == "07.txt"
    assert record(filled).upcoming is not None
    write_files(tmp_path / "docs", {"03.txt": "A bicycle stands in the yard.", "04.txt": "Nothing."})
    ingest(filled, [tmp_path / "docs"], embedder=embedder)
    done = doyen.reembed(filled, OTHER, embedder=Other())
    assert done.computed < 12
    new = opened(filled)
    assert new.chunk_count() == 12 and new.summary_count() == opened(filled).summary_count()
    assert [c.text for c in new.chunks_of(["03.txt"])] == ["A bicycle stands in the yard."]
    assert first(new, Other(), "what stands in hall7?") == "07.txt"


def test_labels_that_changed_after_an_interruption_hold(filled, tmp_path, embedder, monkeypatch):
    monkeypatch.setattr(revectoring, "_AT_ONCE", 1)
    with pytest.raises(Interrupted):
        doyen.reembed(filled, OTHER, embedder=Stopping(8))
    ingest(filled, [tmp_path / "docs"], embedder=embedder, options=SourceOptions(labels=("board",)))
    doyen.reembed(filled, OTHER, embedder=Other())
    labels = {
        tuple(row)
        for batch in opened(filled).tables.chunks.search().select(["labels"]).to_batches()
        for row in batch["labels"].to_pylist()
    }
    assert labels == {("board",)} and opened(filled).chunk_count() == 12


def test_removed_documents_are_in_no_generation(filled):
    doyen.reembed(filled, OTHER, embedder=Other())
    remove_documents(filled, ["07.txt"])
    left = [p for p in (filled / "index").rglob("*") if p.is_file() and b"hall7 " in p.read_bytes()]
    assert left == [] and record(filled).beside == []
    assert first(opened(filled), Other(), "what stands in hall8?") == "08.txt"


def test_two_switches_keep_one_generation_to_go_back_to(filled, embedder):
    for name in ("one", "two"):
        doyen.reembed(filled, name, embedder=HashEmbedder(name, dim=64, version=name))
    assert record(filled).previous.manifest.embedder == "one" and len(record(filled).old) == 1
    assert doyen.reembed(filled, undo=True).embedder == "one"


def test_a_second_writer_is_refused(filled):
    from doyen.ingesting import index_place

    with index_place(filled, load_settings(filled)).only_writer(), pytest.raises(StoreError, match="another doyen"):
        doyen.reembed(filled, OTHER, embedder=Other())


def test_an_expert_follows_settings_of_before(filled, monkeypatch):
    settings = load_settings(filled)
    doyen.reembed(filled, OTHER, embedder=Other())
    named = []
    monkeypatch.setattr("doyen.expert.load_embedder", lambda s, **_: named.append(s.name) or Other())
    from doyen.expert import open_retriever

    assert open_retriever(filled, settings).search("what stands in hall7?")[0].chunk.document == "07.txt"
    assert named == [OTHER]


def test_the_command_says_what_it_needs(filled):
    run = CliRunner().invoke
    assert "needs a model" in str(run(app, ["reembed", "--expert", str(filled)]).exception)
    doyen.reembed(filled, OTHER, embedder=Other())
    shown = json.loads(run(app, ["reembed", "--undo", "--json", "--expert", str(filled)]).stdout)
    assert shown["instant"] and shown["before"] == OTHER


def test_without_an_index_nothing_is_done(expert, tmp_path):
    with pytest.raises(StoreError, match="no index"):
        doyen.reembed(make_expert(tmp_path / "empty"), OTHER, embedder=Other())


@pytest.mark.slow
def test_readers_answer_through_re_embeddings_and_switches(filled, monkeypatch):
    """No failed query, and every result of one embedder alone: each reader reopens as `doyen serve` does."""
    from doyen.expert import open_retriever
    from doyen.ingesting import index_place

    models = {
        "hashing-a": HashEmbedder("hashing-a", dim=64, version="a"),
        "hashing-b": HashEmbedder("hashing-b", dim=96, version="b"),
    }
    first_one = {load_settings(filled).embedder.name: HashEmbedder()}
    monkeypatch.setattr("doyen.expert.load_embedder", lambda s, **_: (models | first_one)[s.name])
    settings, place = load_settings(filled), index_place(filled, load_settings(filled))
    stop, faults, seen = threading.Event(), [], []

    def read():
        stamp = retriever = None
        while not stop.is_set():
            try:
                if retriever is None or place.stamp() != stamp:
                    stamp, retriever = place.stamp(), open_retriever(filled, load_settings(filled))
                hits = retriever.search("what stands in hall7?", 5)
                assert hits[0].chunk.document == "07.txt"
                seen.append(retriever.index.manifest.embedder)
            except Exception as error:
                faults.append(error)
                return

    readers = [threading.Thread(target=read) for _ in range(3)]
    [reader.start() for reader in readers]
    for _ in range(4):
        for name, model in models.items():
            doyen.reembed(filled, name, embedder=model)
    stop.set()
    [reader.join() for reader in readers]
    assert faults == [] and {"hashing-a", "hashing-b"} <= set(seen)
    assert settings.store.uri == "index"
