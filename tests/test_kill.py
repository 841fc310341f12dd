"""Ingest killed with SIGKILL at random moments and run again: the index equals that of an undisturbed run."""

import dataclasses
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from postgresql_server import store_uri
from small_stores import HashEmbedder, make_expert, write_files

from doyen.config import ChunkingSettings, Settings, StoreSettings, load_settings
from doyen.ingesting import ingest, open_index

pytestmark = pytest.mark.e2e

INGEST = """
import sys
sys.path.insert(0, sys.argv[1])
from small_stores import HashEmbedder
from doyen.ingesting import ingest, writing

writing.BATCH_CHUNKS = 64
print("go", flush=True)
ingest(sys.argv[2], [sys.argv[3]], embedder=HashEmbedder())
"""
SMALL = Settings(chunking=ChunkingSettings(max_tokens=32))


@pytest.fixture
def library(tmp_path):
    return make_library(tmp_path)


def make_library(folder):
    """Write forty small files, some of which an earlier ingest has seen in another form."""
    return write_files(folder / "library", {f"shelf-{n:02}.txt": text_of(n, "now") for n in range(40)})


def text_of(n, when):
    lines = (f"Shelf {n}, book {i} treats of matter {n * i % 97}, {when}." for i in range(30))
    return "\n\n".join(lines)


def state(expert):
    """Return all that the store holds, but for the random numbers of its writes, sorted."""
    index = open_index(expert, load_settings(expert))
    documents = [(d.id, d.sha256, d.item_sha256, d.chunks, d.version, index.text(d.id)) for d in index.documents()]
    vectors = {d[0]: np.sort(index.vectors_of(d[0]), axis=0) for d in documents}
    return documents, index.chunks_of([d[0] for d in documents]), vectors


def same(one, other):
    return one[:2] == other[:2] and all(np.array_equal(v, other[2][name]) for name, v in one[2].items())


def run_and_kill(expert, library, after_s):
    """Ingest in a process of its own, to be killed so long after its start; return its seconds, None if it was killed."""
    command = [sys.executable, "-c", INGEST, Path(__file__).parent, expert, library]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout.readline() == b"go\n"
        began = time.monotonic()
        try:
            process.wait(after_s)
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
        _, err = process.communicate()
    assert process.returncode in (0, -signal.SIGKILL), err.decode()
    return None if process.returncode else time.monotonic() - began


def check_kills(tmp_path, library, kills, seed, store_of=lambda: "index"):
    """Kill `kills` ingests at random moments, each of an index in an earlier state, and compare what a further run leaves."""
    earlier = write_files(tmp_path / "earlier", {f"shelf-{n:02}.txt": text_of(n, "before") for n in range(0, 30, 2)})
    changed = {p.name: p.read_text() for p in library.iterdir()}

    def start(name):
        expert = make_expert(tmp_path / name, dataclasses.replace(SMALL, store=StoreSettings(store_of())))
        write_files(library, {p.name: p.read_text() for p in earlier.iterdir()})
        ingest(expert, [library], embedder=HashEmbedder())
        write_files(library, changed)
        return expert

    undisturbed = start("undisturbed")
    whole_s = run_and_kill(undisturbed, library, 600)
    wanted, chance, killed = state(undisturbed), random.Random(seed), 0
    for n in range(
        4 * kills
    ):  # some end before they are killed: how long they take depends on the machine's other work
        expert = start(f"killed-{n}")
        took_s = run_and_kill(expert, library, whole_s * chance.random())
        killed += took_s is None
        whole_s = took_s or whole_s
        ingest(expert, [library], embedder=HashEmbedder())
        assert same(state(expert), wanted), f"run {n}"
        assert not open_index(expert, load_settings(expert)).unfinished
        if killed == kills:
            break
    return killed


def test_a_killed_ingest_run_again_equals_an_undisturbed_one(tmp_path, library):
    assert check_kills(tmp_path, library, kills=2, seed=3) == 2


@pytest.mark.slow
def test_thirty_kills(tmp_path, library):
    assert check_kills(tmp_path, library, kills=30, seed=30) == 30


@pytest.mark.slow
def test_kills_of_an_ingest_into_postgresql(tmp_path, library, postgresql):
    assert check_kills(tmp_path, library, kills=3, seed=4, store_of=lambda: store_uri(postgresql)) == 3
