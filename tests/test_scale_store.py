"""benchmarks/scale_store.py at toy size: what a reader of a bucket finds, readers through switches, memory by size."""

import importlib
import json
import sys
import threading
from argparse import Namespace
from pathlib import Path

import pytest
from small_stores import HashEmbedder, make_expert, manifest_of, one_chunk_document

from doyen.config import load_settings
from doyen.index.places import place_of
from doyen.ingesting import open_index

pytest.importorskip("obstore", reason="needs the extra s3")
pytest.importorskip("moto", reason="needs moto[server]")
BENCHMARKS = Path(__file__).parents[1] / "benchmarks"
OWN = ("scale_store", "scale_switching", "retrieval_scale", "synthetic_chunks", "measuring")


@pytest.fixture
def bench(monkeypatch):
    """The benchmark's module, with an embedder that needs no weights."""
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    monkeypatch.setattr("doyen.expert.load_embedder", lambda *_, **__: HashEmbedder())
    yield importlib.import_module("scale_store")
    for name in OWN:
        sys.modules.pop(name, None)


@pytest.fixture
def pattern(tmp_path):
    """An expert with a few real-looking chunks."""
    expert, embedder = make_expert(tmp_path / "pattern"), HashEmbedder()
    texts = [f"wheel{n} of hall{n % 7} turns beside gate{n % 5} of the mill in room{n % 11}" for n in range(80)]
    index = place_of("index", expert).open_or_create(manifest_of(embedder))
    index.write([one_chunk_document(f"{n}.txt", text) for n, text in enumerate(texts)], embedder.embed(texts))
    index.finish()
    return expert


def test_a_reader_of_a_bucket_finds_what_the_local_index_finds(bench, pattern, tmp_path, monkeypatch):
    for module in (bench, importlib.import_module("retrieval_scale")):
        monkeypatch.setattr(module, "QUERIES", 10)
    monkeypatch.setattr(bench, "_WARM", 2)
    monkeypatch.setattr(bench, "_DIRECT", 3)
    monkeypatch.setattr(bench, "KEYS", {})  # os.environ stays as it is
    for name, value in importlib.import_module("s3_server").KEYS.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("DOYEN_CACHE", "")
    given = Namespace(work=tmp_path, expert=pattern, chunks=120, rclone="")
    monkeypatch.setattr(bench, "_child", lambda own, _, folder: bench.making(own.expert, folder, own.chunks))
    found = bench.on_s3(given)
    assert found["same_hits"] and found["met"]["same_hits"]
    assert {"first_search_s", "search_ms"} <= found["s3"].keys() & found["local"].keys() & found["in_the_bucket"].keys()
    folder = tmp_path / "chunks-120"
    assert open_index(folder, load_settings(folder)).chunk_count() == 120
    noted = json.loads((folder / "memory.json").read_text())
    assert [count for count, _ in noted] == [120, 120] and all(gib > 0 for _, gib in noted)


def test_memory_by_size_tells_growth_from_flatness(bench):
    batches = [[count, 0.5] for count in range(10, 1001, 10)]
    flat = bench.memory_by_size([[10, 3.0], *batches[1:], [1000, 0.9]])
    assert flat["growth"] == 0 and flat["finish_gib"] == 0.9 and max(flat["gib_by_chunks"].values()) == 0.5
    growing = bench.memory_by_size([[count, count / 1000] for count, _ in batches] + [[1000, 1.0]])
    assert growing["growth"] > 2.5 and growing["gib_by_chunks"]["1000"] == 1.0


def test_readers_through_a_re_embedding_and_a_switch(bench, tmp_path, monkeypatch):
    """As the benchmark's readers do, but in threads of this process, and a hundred questions at least."""
    switching = importlib.import_module("scale_switching")
    monkeypatch.setattr("doyen.expert.load_embedder", lambda named, **_: switching.MODELS[named.name])
    monkeypatch.setattr(switching.subprocess, "Popen", Reader)
    found = switching.switching(tmp_path / "expert", "index", 40, 2, rounds=1)
    assert (found["failed"], found["mixed"], found["said"]) == (0, 0, [])
    assert found["switches"] == 4 and set(found["answers"]) == set(switching.MODELS)


class Reader(threading.Thread):
    """Stands for a process that reads."""

    def __init__(self, command):
        super().__init__()
        _, _, expert, count, out = command
        switching = importlib.import_module("scale_switching")
        self._work = lambda: switching.read(Path(expert), int(count), Path(out))
        self.start()

    def run(self):
        self._work()

    def poll(self):
        return None if self.is_alive() else 0

    def wait(self):
        self.join()


@pytest.mark.parametrize(
    ("hits", "fault"),
    [
        ([7, 1, 2, 3, 4], ""),
        ([7, 1, 2, 3], "4 hits"),
        ([1, 7, 2, 3, 4], "000001.txt came first"),
        ([7, 1, 2, 3, -4], "another text"),
    ],
)
def test_a_mixed_result_is_told(bench, hits, fault):
    switching = importlib.import_module("scale_switching")
    shown = [(switching.name_of(abs(n)), switching.text_of(n)) for n in hits]
    assert fault in switching._fault(7, shown, 100) and bool(fault) == bool(switching._fault(7, shown, 100))
