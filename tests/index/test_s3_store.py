"""An index in a bucket, on a real S3 server: states, holds, credentials, what readers see while it is written."""

import json
import threading
import time
from datetime import timedelta

import pytest
from s3_server import BUCKET, KEYS, Refusing, running_s3
from small_stores import HashEmbedder, make_expert, manifest_of, matching, nearest, write_files, write_texts, written

import doyen
from doyen.config import Settings, StoreSettings, load_settings
from doyen.doctor import examine
from doyen.erasing import remove_documents
from doyen.errors import StoreError
from doyen.folder import status
from doyen.index import following
from doyen.index.places import place_of
from doyen.index.s3.connecting import bucket_of, fault, parse
from doyen.index.s3.lease import LEASE, Lease, held
from doyen.ingesting import index_place, ingest, open_index
from doyen.retrieval.hybrid import Retriever

pytest.importorskip("obstore", reason="needs the extra s3")
pytest.importorskip("moto", reason="needs moto[server]")

FILES = {
    "lease.txt": "The deposit of the lease is returned within thirty days.",
    "house/yard.md": "# Yard\n\nBicycles stand in the yard behind the mill.",
    "boiler.txt": "The boiler is repaired every autumn.",
}


@pytest.fixture
def store(bucket_store):
    return bucket_store


@pytest.fixture
def source(tmp_path):
    return write_files(tmp_path / "source", FILES)


def index_of(expert):
    return open_index(expert, load_settings(expert))


def found(index, question):
    return [h.chunk.document for h in Retriever(index, HashEmbedder()).search(question)]


def test_a_toy_expert_lives_in_a_bucket(expert, source, embedder, store):
    assert len(ingest(expert, [source], embedder=embedder).new) == 3
    index = index_of(expert)
    assert found(index, "when is the deposit returned?")[0] == "lease.txt"
    assert len(ingest(expert, [source], embedder=embedder).unchanged) == 3
    (source / "lease.txt").write_text("The deposit of the lease is returned within sixty days.")
    assert ingest(expert, [source], embedder=embedder).changed == ["lease.txt"]
    old, new = reversed(index_of(expert).versions("lease.txt"))
    assert (old.version, new.version) == (1, 2)
    assert "sixty" in index.view().text("lease.txt")[0] and "thirty" in index.text("lease.txt")[0]
    assert status(expert)["documents"] == 3
    assert (expert / "s3").is_dir() and not (expert / "index").exists()
    bucket = bucket_of(store)
    files = [bucket.get(name)[0] for name, _ in bucket.listed("") if "/data/" in name]
    assert files and {data[-8:-4] for data in files} == {b"\x02\x00\x01\x00"}  # Lance's format 2.1 there, too
    assert store.partition("?")[0] in {c.detail.split()[0] for c in examine(expert) if c.name == "bucket" and c.ok}


def test_removed_documents_leave_no_object_behind(expert, source, embedder, store):
    ingest(expert, [source], embedder=embedder)
    reader = index_of(expert)
    remove_documents(expert, ["boiler.txt"])
    bucket = bucket_of(store)
    held_by = [name for name, _ in bucket.listed("") if b"boiler is repaired" in bucket.get(name)[0]]
    assert held_by == []
    assert found(reader, "who repairs the boiler?") and "boiler.txt" not in found(reader, "who repairs the boiler?")


def test_readers_see_finished_states_alone(store, embedder, tmp_path):
    place = place_of(store, tmp_path)
    index = place.open_or_create(manifest_of(embedder))
    with place.only_writer():
        index.take_hold()
        write_texts(index, embedder, {"a.txt": "apples are red", "b.txt": "pears are green"})
        index.finish()
        reader = place.open()
        write_texts(index, embedder, {"a.txt": "apples are yellow", "c.txt": "cherries are black"}, keep=["b.txt"])
        assert {d.id for d in reader.view().documents()} == {"a.txt", "b.txt"}
        texts = [h.chunk.text for h in nearest(reader.view(), embedder.embed(["apples are"])[0], 9)]
        assert texts == ["apples are red", "pears are green"]
        assert [h.chunk.text for h in matching(reader.view(), "cherries apples", 9)] == ["apples are red"]
        index.finish()
    before, after = reader, reader.view()
    assert {d.id for d in before.documents()} == {"a.txt", "b.txt"}
    assert {d.id for d in after.documents()} == {"a.txt", "b.txt", "c.txt"}
    assert [h.chunk.text for h in matching(after, "cherries", 9)] == ["cherries are black"]
    assert [h.chunk.text for h in nearest(before, embedder.embed(["yellow apples"])[0], 1)] == ["apples are red"]


def test_compaction_leaves_readers_their_state(store, embedder, tmp_path):
    place = place_of(store, tmp_path)
    index = place.open_or_create(manifest_of(embedder))
    with place.only_writer():
        index.take_hold()
        write_texts(index, embedder, {"a.txt": "apples are red"})
        index.finish()
        reader = place.open()
        for i in range(10):
            write_texts(index, embedder, {f"{i}.txt": f"number {i}"})
        index.finish()
    assert int(index.tables.chunks.stats()["fragment_stats"]["num_fragments"]) == 1
    assert [h.chunk.text for h in matching(reader, "apples", 9)] == ["apples are red"]
    assert len(matching(reader.view(), "number", 20)) == 10


def test_an_interrupted_write_is_seen_by_nobody_and_undone(store, embedder, tmp_path, monkeypatch):
    place = place_of(store, tmp_path)
    index = written(place, embedder, {"a.txt": "apples are red"})
    with place.only_writer():
        index.take_hold()
        monkeypatch.setattr("doyen.index.writing._commit", lambda *_, **__: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            write_texts(index, embedder, {"a.txt": "apples are yellow"})
        monkeypatch.undo()
    for name, value in KEYS.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("DOYEN_CACHE", str(tmp_path / "cache"))
    assert [h.chunk.text for h in matching(place.open(), "apples", 9)] == ["apples are red"]
    with place.only_writer():
        again = place.open()
        again.take_hold()
        assert again.unfinished
        again.recover()
        again.finish()
    assert [h.chunk.text for h in matching(place.open(), "apples", 9)] == ["apples are red"]
    assert place.open().chunk_count() == 1


def test_the_second_writer_is_told_who_writes(store, tmp_path):
    place = place_of(store, tmp_path)
    with (
        place.only_writer(),
        pytest.raises(StoreError, match=r"another doyen is writing .*, process \d+, since 20") as caught,
    ):
        place.only_writer().__enter__()
    assert "ends by itself" in caught.value.hint
    with place.only_writer():
        pass


def test_a_dead_hold_is_taken_over_and_its_writer_stopped(store, monkeypatch):
    bucket = bucket_of(store)
    dead = Lease(bucket, lease_s=2)
    dead.take()
    dead._stopped.set()  # a process that sleeps
    with pytest.raises(StoreError, match="another doyen"):
        held(bucket, 2).__enter__()
    time.sleep(3.1)
    with held(bucket, 2) as alive:
        with pytest.raises(StoreError, match="was lost"):
            dead.require()
        alive.require()
        dead.give_back()
        assert bucket.get(LEASE) is not None
    assert bucket.get(LEASE) is None


def test_an_answer_that_is_lost_on_the_way_is_no_other_writer(store, monkeypatch):
    """The service writes, the answer is lost, and obstore's second try finds the object there."""
    bucket = bucket_of(store)
    create, exchange = bucket.create, bucket.exchange
    answers = []

    def lost(write):
        def with_lost_answer(*given):
            answers.append(write(*given))
            return None

        return with_lost_answer

    monkeypatch.setattr(bucket, "create", lost(create))
    lease = Lease(bucket, lease_s=60)
    lease.take()
    monkeypatch.setattr(bucket, "create", create)
    monkeypatch.setattr(bucket, "exchange", lost(exchange))
    lease._renew()
    lease.require()
    assert all(answers) and len(answers) >= 2
    monkeypatch.setattr(bucket, "exchange", exchange)
    with pytest.raises(StoreError, match="another doyen"):
        Lease(bucket, lease_s=60).take()
    lease.give_back()
    assert bucket.get(LEASE) is None


def test_nothing_is_published_without_a_hold(store, embedder, tmp_path):
    place = place_of(store, tmp_path)
    index = written(place, embedder, {"a.txt": "apples are red"})
    before = place.root.read()[0]
    with pytest.raises(StoreError, match="without a hold"):
        index.finish()
    with pytest.raises(StoreError, match="without a hold"):
        write_texts(index, embedder, {"b.txt": "pears are green"})
    assert place.root.read()[0] == before
    assert {d.id for d in place.open().documents()} == {"a.txt"}


def test_a_hold_is_renewed(store):
    bucket = bucket_of(store)
    with held(bucket, 1):
        time.sleep(2.5)
        with pytest.raises(StoreError, match="another doyen"):
            held(bucket, 1).__enter__()


def test_a_service_without_conditional_writes_is_refused(store, monkeypatch):
    bucket = bucket_of(store)
    put = bucket.put
    monkeypatch.setattr(bucket, "create", lambda name, data: put(name, data) or "tag")
    with pytest.raises(StoreError, match="ignores conditional writes"):
        held(bucket).__enter__()


@pytest.mark.parametrize(
    ("uri", "what"),
    [
        ("s3://AKIA:s3cret@bucket/hr", "holds keys"),
        ("s3://bucket", "no prefix"),
        ("s3:///hr", "no bucket"),
        ("s3://bucket/hr?secret=s3cret", "parameter secret"),
        ("s3://bucket/hr?endpoint=https://AKIA:s3cret@host", "endpoint must be"),
    ],
)
def test_a_wrong_uri_is_refused_without_its_keys(tmp_path, uri, what):
    with pytest.raises(StoreError, match=what) as caught:
        doyen.init(tmp_path / "new", store=uri)
    assert "s3cret" not in f"{caught.value} {caught.value.hint}"
    assert not (tmp_path / "new").exists()


def test_a_uri_names_bucket_prefix_and_endpoint():
    assert parse("s3://b/a/c/?region=eu-west-1") == ("b", "a/c", {"region": "eu-west-1"})


def test_no_credentials_are_named_at_once(expert, store, monkeypatch, tmp_path):
    for name in KEYS:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    with pytest.raises(StoreError, match="no credentials") as caught:
        index_of(expert)
    assert "AWS_ACCESS_KEY_ID" in caught.value.hint
    (tmp_path / "none").write_text("[default]\naws_access_key_id = tester\naws_secret_access_key = x\n")
    with pytest.raises(StoreError, match="there is no index"):
        index_of(expert)


def test_a_bucket_that_is_not_there_is_named(expert, s3_address, monkeypatch):
    (expert / "doyen.toml").write_text(f'[store]\nuri = "s3://nowhere/x?endpoint={s3_address}"\n')
    with pytest.raises(StoreError, match="no such bucket"):
        index_of(expert)


@pytest.mark.slow
def test_a_service_that_does_not_answer_is_named(expert, monkeypatch):
    (expert / "doyen.toml").write_text('[store]\nuri = "s3://b/x?endpoint=http://127.0.0.1:9"\n')
    with pytest.raises(StoreError, match="does not answer"):
        index_of(expert)


@pytest.mark.parametrize(
    ("said", "what"),
    [
        ("403 Forbidden: <Code>ExpiredToken</Code>", "have expired"),
        ("403 Forbidden: <Code>InvalidAccessKeyId</Code>", r"are refused \(InvalidAccessKeyId\)"),
        ("Generic S3 error: error sending request for url (http://169.254.169.254/latest/api/token)", "no credentials"),
        ("LanceError(IO): Generic S3 error: Error performing PUT http://x: error sending request", "does not answer"),
    ],
)
def test_what_services_say_is_told_with_what_mends_it(said, what):
    with pytest.raises(StoreError, match=what):
        raise fault(OSError(said), "s3://b/x") or AssertionError


def test_other_errors_are_left_as_they_are():
    assert fault(OSError("Object at location x not found: 404"), "s3://b/x") is None


@pytest.mark.slow
def test_keys_that_end_in_mid_run_lose_nothing(embedder, tmp_path, monkeypatch):
    monkeypatch.setenv("DOYEN_CACHE", str(tmp_path / "cache"))
    files = write_files(tmp_path / "source", {f"{i:02}.txt": f"Number {i} is a number." for i in range(40)})
    monkeypatch.setattr("doyen.ingesting.writing.BATCH_CHUNKS", 5)
    with running_s3() as address:
        expert = make_expert(tmp_path / "expert", Settings(store=StoreSettings(f"s3://{BUCKET}/x?endpoint={address}")))
        refusing = Refusing(address)
        first, second = refusing.user("one"), refusing.user("two")
        refusing.check_keys(True)
        _set(monkeypatch, first | {"AWS_SECRET_ACCESS_KEY": "wrong"})
        with pytest.raises(StoreError, match="credentials are refused"):
            ingest(expert, [files], embedder=embedder)
        _set(monkeypatch, first)

        class Ending(HashEmbedder):
            def embed(self, texts, **options):
                if self.embedded == 20:
                    refusing.check_keys(False)
                    refusing.forget("one", first["AWS_ACCESS_KEY_ID"])
                    refusing.check_keys(True)
                return super().embed(texts, **options)

        with pytest.raises(StoreError, match="credentials are refused|credentials have expired") as caught:
            ingest(expert, [files], embedder=Ending())
        assert "goes on" in caught.value.hint
        _set(monkeypatch, second)
        report = _when_free(lambda: ingest(expert, [files], embedder=embedder))
        assert 0 < len(report.unchanged) and len(report.new) + len(report.unchanged) == 40
        assert len(index_of(expert).documents()) == 40 and index_of(expert).chunk_count() == 40


@pytest.mark.slow
def test_keys_that_may_only_read_are_enough_for_readers(embedder, tmp_path, monkeypatch):
    monkeypatch.setenv("DOYEN_CACHE", str(tmp_path / "cache"))
    files = write_files(tmp_path / "source", {"a.txt": "A pump leaks oil."})
    with running_s3() as address:
        expert = make_expert(tmp_path / "expert", Settings(store=StoreSettings(f"s3://{BUCKET}/r?endpoint={address}")))
        refusing = Refusing(address)
        writer, reader = refusing.user("writer"), refusing.user("reader", ["s3:GetObject", "s3:ListBucket"])
        refusing.check_keys(True)
        _set(monkeypatch, writer)
        ingest(expert, [files], embedder=embedder)
        place = index_place(expert, load_settings(expert))
        assert "with conditional writes" in place.checked()
        _set(monkeypatch, reader)
        assert "for reading alone" in place.checked()
        assert [d.id for d in index_of(expert).documents()] == ["a.txt"]
        with pytest.raises(StoreError, match="credentials are refused"):
            ingest(expert, [files], embedder=embedder)
        _set(monkeypatch, reader | {"AWS_SECRET_ACCESS_KEY": "wrong"})
        with pytest.raises(StoreError, match="credentials are refused"):
            place.checked()


def _set(monkeypatch, keys):
    for name, value in keys.items():
        monkeypatch.setenv(name, value)


def _when_free(work):
    """Do the work once the hold of a writer that lost its keys has died."""
    for _ in range(100):
        try:
            return work()
        except StoreError as error:
            if "another doyen" not in str(error):
                raise
            time.sleep(1)
    raise AssertionError("the hold did not end")


@pytest.mark.slow
def test_many_readers_answer_while_it_is_written(store, embedder, tmp_path):
    place = place_of(store, tmp_path)
    index = place.open_or_create(manifest_of(embedder))
    stopped, faults, answered = threading.Event(), [], [0]

    def read(one):
        retriever = Retriever(one, HashEmbedder())
        while not stopped.is_set():
            try:
                hits = retriever.search("which colour has the apple?", 30)
                rounds = {hit.chunk.text.rpartition(" ")[2] for hit in hits}
                assert len(hits) == 20 and len(rounds) == 1, f"{len(hits)} hits of rounds {rounds}"
                answered[0] += 1
            except Exception as error:
                faults.append(error)
                return

    with place.only_writer():
        index.take_hold()
        for turn in range(8):
            colours = [f"The apple numbered {n} has colour{n} in round {turn}" for n in range(20)]
            write_texts(index, embedder, {f"{n}.txt": text for n, text in enumerate(colours)}, sha256=str(turn))
            index.finish()
            if turn == 0:
                readers = [threading.Thread(target=read, args=(place.open(),)) for _ in range(3)]
                [reader.start() for reader in readers]
        stopped.set()
    [reader.join() for reader in readers]
    assert faults == [] and answered[0] > 10


def test_old_snapshots_go_after_their_time(store, embedder, tmp_path):
    place = place_of(store, tmp_path)
    index = place.open_or_create(manifest_of(embedder))
    with place.only_writer():
        index.take_hold()
        for text in ("one", "two"):
            write_texts(index, embedder, {f"{text}.txt": text})
            index.finish()
        bucket = bucket_of(store)
        assert sum(name.endswith("names.json") for name, _ in bucket.listed("generations")) == 2
        object.__setattr__(index.home, "keep", timedelta(0))
        write_texts(index, embedder, {"three.txt": "three"})
        index.finish()
    assert sum(name.endswith("names.json") for name, _ in bucket.listed("generations")) == 1
    row = json.loads(bucket.get("manifest.json")[0])
    assert row["state"]["snapshot"] and row["generation"]
    assert index_place(
        make_expert(tmp_path / "e", Settings(store=StoreSettings(store))), Settings(store=StoreSettings(store))
    ).exists()


def test_only_new_vectors_are_sent_and_fetched(store, embedder, tmp_path, monkeypatch):
    place = place_of(store, tmp_path)
    index = place.open_or_create(manifest_of(embedder))
    sizes = []
    with place.only_writer():
        index.take_hold()
        write_texts(index, embedder, {f"{i}.txt": f"number {i}" for i in range(40)})
        index.finish()
        bucket = bucket_of(store)
        upload = bucket.upload
        monkeypatch.setattr(
            bucket, "upload", lambda name, path: sizes.append((name, path.stat().st_size)) or upload(name, path)
        )
        write_texts(index, embedder, {"new.txt": "the boiler of the mill"})
        index.finish()
    assert [size for name, size in sizes if name.endswith(".vectors")] == [256 * 2]
    monkeypatch.setenv("DOYEN_CACHE", str(tmp_path / "another machine"))
    assert nearest(place.open(), embedder.embed(["boiler of the mill"])[0], 1)[0].chunk.document == "new.txt"
    assert len(nearest(place.open(), embedder.embed(["number"])[0], 99)) == 41


def test_a_question_costs_no_request(store, embedder, tmp_path, monkeypatch):
    monkeypatch.setattr(following, "FOLLOW_S", 60)
    place = place_of(store, tmp_path)
    written(place, embedder, {"a.txt": "apples are red", "b.txt": "pears are green"})
    reader = place.open()
    matching(reader, "apples", 9)  # fetches the vectors
    bucket = bucket_of(store)
    monkeypatch.setattr(bucket, "get", None)
    monkeypatch.setattr(bucket, "_objects", None)
    monkeypatch.setattr(bucket, "download", lambda *_: pytest.fail("a request"))
    assert [h.chunk.text for h in matching(reader.view(), "apples", 9)] == ["apples are red"]


def test_larger_tables_are_read_in_the_bucket(store, embedder, tmp_path):
    place = place_of(f"{store}&mirror_gib=0", tmp_path)
    written(place, embedder, {"a.txt": "apples are red", "b.txt": "pears are green"})
    reader = place.open()
    assert not (reader.folder / "tables").exists()
    assert [h.chunk.text for h in matching(reader, "apples", 9)] == ["apples are red"]
    assert [h.chunk.text for h in nearest(reader, embedder.embed(["pears are"])[0], 1)] == ["pears are green"]
