"""`doyen ingest --on ray`: the same index as on this machine, whatever happens to the workers."""

import os
import signal
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from small_stores import make_expert, store_state, words_bert, write_files

from doyen import ingest
from doyen.config import ClusterSettings, EmbedderSettings, Settings, StoreSettings, load_settings
from doyen.errors import UsageError
from doyen.ingesting import open_index

TEXTS = {
    f"notes/{n:03}.md": f"# Pump {n}\n\nThe valve of pump {n} opens at {n % 7} bar.\n\n" + f"It is pump {n}. " * 90
    for n in range(40)
}


@pytest.fixture(scope="module")
def embedder(tmp_path_factory):
    return words_bert(tmp_path_factory.mktemp("words"), list(TEXTS.values()))


@pytest.fixture
def files(tmp_path):
    return write_files(tmp_path / "files", TEXTS | {"broken.pdf": b"%PDF-1.4 no more", "empty.txt": b""})


def an_expert(folder, embedder, **cluster):
    settings = Settings(
        store=StoreSettings("index"),
        embedder=EmbedderSettings(name=str(embedder)),
        cluster=ClusterSettings(**({"worker_cores": 1, "workers": 2} | cluster)),
    )
    return make_expert(folder, settings)


def content(expert):
    """Return document → its chunks and their vectors."""
    index = open_index(expert, load_settings(expert))
    found = {}
    for document in index.documents():
        chunks, vectors = index.chunks_with_vectors([document.id])
        order = sorted(range(len(chunks)), key=lambda i: chunks[i].start)
        summaries = index.summaries_of([document.id])
        found[document.id] = (document.sha256, [chunks[i] for i in order], summaries, vectors[order])
    return found


def require_equal(one, other):
    assert one.keys() == other.keys()
    for document, (*texts, vectors) in one.items():
        assert texts == list(other[document][:-1])
        assert np.array_equal(vectors, other[document][-1]), document


def test_the_index_is_that_of_this_machine_and_again_nothing_is_written(ray, tmp_path, files, embedder):
    here, there = (an_expert(tmp_path / name, embedder) for name in ("here", "there"))
    own, found = ingest(here, [files]), ingest(there, [files], on="ray")
    assert sorted(own.new) == sorted(found.new) and len(found.new) >= 40
    assert sorted(own.failed) == sorted(found.failed) and own.failed
    assert own.chunks == found.chunks
    require_equal(content(here), content(there))
    before = store_state(there)
    again = ingest(there, [files], on="ray")
    assert not again.written and len(again.unchanged) == len(found.new)
    assert store_state(there) == before


@pytest.mark.slow
def test_what_changed_is_brought_in_as_on_this_machine(ray, tmp_path, files, embedder):
    here, there = (an_expert(tmp_path / name, embedder) for name in ("here", "there"))
    ingest(here, [files]), ingest(there, [files], on="ray")
    write_files(files, {"notes/000.md": "# Pump 0\n\nIt was sold."})
    (files / "notes/001.md").unlink()
    assert (ingest(there, [files], on="ray").changed, ingest(here, [files]).changed) == (["notes/000.md"],) * 2
    require_equal(content(here), content(there))


@pytest.mark.slow
def test_a_killed_worker_loses_nothing_and_doubles_nothing(ray, tmp_path, files, embedder, capsys):
    here, there = (an_expert(tmp_path / name, embedder) for name in ("here", "there"))
    ingest(here, [files])
    done = threading.Event()
    killed = []

    def kill():
        while not done.wait(0.05) and len(killed) < 3:
            for process in workers_of(os.getpid()) - set(killed):
                killed.append(process)
                os.kill(process, signal.SIGKILL)
                time.sleep(0.2)
                break

    threading.Thread(target=kill, daemon=True).start()
    try:
        ingest(there, [files], on="ray")
    finally:
        done.set()
    assert killed
    assert capsys.readouterr().out == "", "results go to stdout, and Ray would tell of ended workers there"
    require_equal(content(here), content(there))


def workers_of(driver):
    """Return the processes of the workers that load or work on the cluster that `driver` started."""
    titles = {int(path.parent.name): title for path in Path("/proc").glob("[0-9]*/cmdline") if (title := read(path))}
    found = {process for process, title in titles.items() if b"ray::IngestWorker" in title}
    return {process for process in found if driver in ancestors(process)}


def ancestors(process):
    while process > 1:
        stat = read(Path(f"/proc/{process}/stat"))
        process = int(stat.rpartition(b")")[2].split()[1]) if stat else 0
        yield process


def read(path):
    try:
        return path.read_bytes()
    except OSError:
        return b""


def test_an_embedder_that_is_given_cannot_travel(tmp_path, files, embedder):
    from doyen.embedding import load_embedder

    expert = an_expert(tmp_path / "expert", embedder)
    with pytest.raises(UsageError, match="load their embedder themselves"):
        ingest(expert, [files], on="ray", embedder=load_embedder(str(embedder)))


@pytest.mark.slow
def test_a_machine_that_dies_mid_way_loses_nothing(tmp_path, embedder, monkeypatch):
    """Two raylets; the second one, with its worker, is killed as soon as it works."""
    ray = pytest.importorskip("ray", reason="Ray is not installed (pip install 'doyen[ray]')")
    from ray.cluster_utils import Cluster

    ray.shutdown()
    texts = {f"{n}.md": f"# Pump {n}\n\n" + f"The valve of pump {n} opens late. " * 400 for n in range(300)}
    files = write_files(tmp_path / "many", texts)
    here, there = (an_expert(tmp_path / name, embedder) for name in ("here", "there"))
    ingest(here, [files])
    monkeypatch.setenv("RAY_worker_niceness", "0")
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    try:
        second = cluster.add_node(num_cpus=1)
        monkeypatch.setenv("RAY_ADDRESS", cluster.address)
        removed = []

        def progress(stage, done, total):
            if done > 20 and not removed:
                removed.append(done)
                threading.Thread(target=cluster.remove_node, args=(second, False)).start()

        report = ingest(there, [files], on="ray", progress=progress)
        assert removed and removed[0] < 300
        assert len(report.new) == 300 and not report.failed
        require_equal(content(here), content(there))
    finally:
        ray.shutdown()
        cluster.shutdown()
