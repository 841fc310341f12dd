"""Another embedder for an index in a bucket, and how long its readers keep the state that they answer from."""

import json
import threading
import time
from datetime import timedelta

import pytest
from small_stores import HashEmbedder, make_expert, manifest_of, matching, nearest, write_files, write_texts, written

import doyen
from doyen.config import Settings, StoreSettings, load_settings
from doyen.erasing import remove_documents
from doyen.errors import StoreError
from doyen.index import maintenance
from doyen.index.generations import Record, Shown, State
from doyen.index.places import BucketPlace, place_of
from doyen.index.s3.connecting import Bucket, bucket_of
from doyen.index.s3.lease import LEASE, held
from doyen.ingesting import index_place, ingest, open_index, revectoring
from doyen.retrieval.hybrid import Retriever

pytest.importorskip("obstore", reason="needs the extra s3")
pytest.importorskip("moto", reason="needs moto[server]")

OTHER = "bge-small-en-v1.5"
TEXTS = {f"{n}.txt": f"The wheel numbered {n} stands in hall{n} of the mill." for n in range(6)}


class Other(HashEmbedder):
    """Another model: its vectors have another length."""

    def __init__(self):
        super().__init__(OTHER, dim=128)


@pytest.fixture
def store(bucket_store):
    return bucket_store


@pytest.fixture
def expert(store, tmp_path):
    return make_expert(tmp_path / "expert", Settings(store=StoreSettings(store)))


@pytest.fixture
def filled(expert, tmp_path, embedder):
    ingest(expert, [write_files(tmp_path / "docs", TEXTS)], embedder=embedder)
    return expert


def opened(expert):
    return open_index(expert, load_settings(expert))


def first(index, embedder, question="what stands in hall3?"):
    return Retriever(index, embedder).search(question)[0].chunk.document


def failing(*_):
    raise StoreError("gone")


def test_another_embedder_and_the_way_back(filled, embedder):
    reader, before = Retriever(opened(filled), embedder), opened(filled).manifest.embedder
    done = doyen.reembed(filled, OTHER, embedder=Other())
    assert (done.before, done.embedder, done.computed) == (before, OTHER, 6)
    assert first(opened(filled), Other()) == "3.txt" and opened(filled).manifest.dim == 128
    assert reader.search("what stands in hall3?")[0].chunk.document == "3.txt" and reader.index.manifest.dim == 256
    back = doyen.reembed(filled, undo=True)
    assert back.instant and first(opened(filled), embedder) == "3.txt"


def test_the_way_back_keeps_what_came_since(filled, tmp_path, embedder):
    doyen.reembed(filled, OTHER, embedder=Other())
    write_files(tmp_path / "docs", {"new.txt": "A bicycle stands in the yard."})
    ingest(filled, [tmp_path / "docs"], embedder=Other())
    again = HashEmbedder()
    done = doyen.reembed(filled, undo=True, embedder=again)
    assert not done.instant and again.embedded == 1
    assert first(opened(filled), embedder, "where is the bicycle?") == "new.txt"


def test_keys_that_end_while_it_is_re_embedded_lose_nothing(filled, embedder, monkeypatch):
    monkeypatch.setattr(revectoring, "_AT_ONCE", 1)
    add = doyen.index.lance.LanceIndex.added
    adds = []

    def ending(index, texts):
        add(index, texts)
        adds.extend(texts)
        if len(adds) == 4:
            raise OSError("Generic S3 error: 403 Forbidden: <Code>ExpiredToken</Code>")

    with monkeypatch.context() as patched, pytest.raises(StoreError, match="have expired") as caught:
        patched.setattr("doyen.index.lance.LanceIndex.added", ending)
        doyen.reembed(filled, OTHER, embedder=Other())
    assert "goes on" in caught.value.hint
    assert first(opened(filled), embedder) == "3.txt" and load_settings(filled).embedder.name != OTHER
    assert doyen.reembed(filled, OTHER, embedder=Other()).computed == 2
    assert opened(filled).chunk_count() == 6 and first(opened(filled), Other()) == "3.txt"


def test_removed_documents_leave_no_generation_behind(filled, store):
    doyen.reembed(filled, OTHER, embedder=Other())
    left = bucket_of(store).cache
    assert len(list(left.iterdir())) == 2
    remove_documents(filled, ["3.txt"])
    bucket = bucket_of(store)
    assert [name for name, _ in bucket.listed("") if b"hall3 " in bucket.get(name)[0]] == []
    assert len(bucket.folders("generations")) == 1 and len(list(left.iterdir())) == 1


def test_a_crash_before_generations_go_forgets_no_removal(filled, store, monkeypatch):
    doyen.reembed(filled, OTHER, embedder=Other())
    with monkeypatch.context() as patched, pytest.raises(StoreError):
        patched.setattr("doyen.index.s3.generations.BucketRoot.drop", failing)
        remove_documents(filled, ["3.txt"])
    with index_place(filled, load_settings(filled)).only_writer():
        index = opened(filled)
        index.take_hold()
        assert index.erasing == ["3.txt"]
        index.recover()
        index.finish()
    bucket = bucket_of(store)
    assert [name for name, _ in bucket.listed("") if b"hall3 " in bucket.get(name)[0]] == []


@pytest.mark.slow
def test_a_reader_keeps_its_state_by_when_it_was_replaced(store, embedder, tmp_path, monkeypatch):
    """Not by how old it is: an index that nobody wrote to for days has one old state, which all readers answer from."""
    monkeypatch.setattr(maintenance, "_CLOCKS_APART", timedelta(minutes=2))  # for a machine that is busy
    monkeypatch.setattr(maintenance, "_FEW_FRAGMENTS", 1)
    place = place_of(f"{store}&mirror_gib=0", tmp_path)
    index = place.open_or_create(manifest_of(embedder))
    object.__setattr__(index.home, "keep", timedelta(seconds=1))

    def write(text):
        write_texts(index, embedder, {f"{text}.txt": f"{text} is red", f"other {text}.txt": f"{text} is ripe"})
        write_texts(index, embedder, {f"third {text}.txt": f"{text} is sour"})
        index.finish()

    with place.only_writer():
        index.take_hold()
        write("apple")
        reader = place.open()
        own = reader.tables.state.versions["chunks"]
        time.sleep(1.1)
        write("cherry")
        assert own in {row["version"] for row in index.tables.chunks.list_versions()}
        assert len(matching(reader, "apple", 9)) == 3
        assert len(nearest(reader, embedder.embed(["apple"])[0], 9)) == 3
        time.sleep(1.1)
        monkeypatch.setattr(maintenance, "_CLOCKS_APART", timedelta(0))
        write("pear")
        assert own not in {row["version"] for row in index.tables.chunks.list_versions()}
    assert len(matching(place.open(), "apple cherry pear", 30)) == 9


def test_the_record_keeps_few_states_and_the_one_of_before(monkeypatch, embedder):
    now = [1000.0]
    monkeypatch.setattr("doyen.index.generations.time.time", lambda: now[0])
    tables = ("chunks", "summaries", "documents", "versions")
    record = Record(manifest_of(embedder), "a")
    for number in range(2000):
        now[0] += 5
        record = record.published(State(dict.fromkeys(tables, number), str(number)), 3600)
        oldest = record.shown[0]
        assert oldest.since <= max(1005.0, now[0] - 3600) and len(record.shown) <= 11
    assert oldest.state.versions["chunks"] >= 2000 - (3600 + 450) / 5 - 2
    again = Record.read(record.text(), "x", "broken", "")
    assert again == record
    late = Record.read(json.dumps(json.loads(record.text()) | {"shown": None}), "x", "broken", "")
    now[0] += 9999
    kept = late.published(State(dict.fromkeys(tables, 5000), None), 3600).shown
    assert kept == (Shown(late.state, 0.0), Shown(State(dict.fromkeys(tables, 5000), None), now[0]))


def test_a_renewal_whose_answer_was_lost_does_not_end_the_hold(store, monkeypatch):
    bucket = bucket_of(store)
    exchange = Bucket.exchange

    def unheard(self, name, data, tag):
        exchange(self, name, data, tag)
        return None  # as after a second try of a request that was done

    with held(bucket, 60) as lease:
        with monkeypatch.context() as patched:
            patched.setattr(Bucket, "exchange", unheard)
            lease._renew()
        lease.require()
    assert bucket.get(LEASE) is None


def test_a_question_does_not_wait_for_a_newer_state(store, embedder, tmp_path, monkeypatch):
    monkeypatch.setattr("doyen.index.following.WAIT_S", 0.0)
    place = place_of(store, tmp_path)
    index = place.open_or_create(manifest_of(embedder))
    with place.only_writer():
        index.take_hold()
        write_texts(index, embedder, {"a.txt": "apples are red"})
        index.finish()
        reader = place.open()
        write_texts(index, embedder, {"b.txt": "pears are green"})
        index.finish()
    going = threading.Event()
    mirrored = type(reader.home)._mirrored
    monkeypatch.setattr(type(reader.home), "_mirrored", lambda home: going.wait(60) and mirrored(home))
    assert [d.id for d in reader.view().documents()] == ["a.txt"]
    going.set()
    for _ in range(200):
        if len(reader.view().documents()) == 2:
            return
        time.sleep(0.05)
    raise AssertionError("the newer state was not opened")


def test_who_reads_before_the_first_state_is_there_goes_over_to_it(store, embedder, tmp_path):
    place = place_of(store, tmp_path)
    index = place.open_or_create(manifest_of(embedder))
    reader = place.open()
    assert reader.view().documents() == []
    with place.only_writer():
        index.take_hold()
        write_texts(index, embedder, {"a.txt": "apples are red"})
        index.finish()
        assert index.view() is index and index.tables.state is None
    assert reader.view().tables.state is not None
    assert [h.chunk.text for h in matching(reader.view(), "apples", 9)] == ["apples are red"]


def test_a_service_that_falls_silent_stops_no_reader(filled, embedder, monkeypatch):
    place = index_place(filled, load_settings(filled))
    stamp, reader = place.stamp(), Retriever(opened(filled), embedder)
    assert stamp is not None
    reader.search("what stands in hall3?")  # fetches the vectors
    monkeypatch.setattr(Bucket, "get", failing)
    assert place.stamp() == stamp
    assert reader.search("what stands in hall3?")[0].chunk.document == "3.txt"


def test_a_disk_that_is_full_is_read_past_and_the_copy_goes(store, embedder, tmp_path, monkeypatch):
    place = place_of(store, tmp_path)
    written(place, embedder, {"a.txt": "apples are red"})
    reader = place.open()
    assert any((reader.folder / "tables").rglob("*"))
    monkeypatch.setattr("doyen.index.s3.generations._LEFT_FREE", 1 << 60)
    written(place, embedder, {"b.txt": "pears are green"}, keep=["a.txt"])
    reader = place.open()
    assert not (reader.folder / "tables").exists()  # it would keep what is erased later
    assert [h.chunk.text for h in matching(reader, "apples", 9)] == ["apples are red"]


def test_taking_an_index_away_that_was_interrupted_goes_on(filled, store, monkeypatch):
    place = index_place(filled, load_settings(filled))
    assert isinstance(place, BucketPlace)
    with monkeypatch.context() as patched, pytest.raises(StoreError, match="gone"):
        patched.setattr(Bucket, "drop", failing)
        place.clear()
    assert not place.exists()
    place.clear()
    assert bucket_of(store).listed("generations") == []
