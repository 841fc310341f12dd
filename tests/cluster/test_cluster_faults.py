"""Clusters that do not fit, each of two machines (raylets): a worker without the model, another doyen, and the way by `ray://`."""

import contextlib
import os
import re
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from small_stores import make_expert, words_bert, write_files

import doyen
from doyen import ingest
from doyen.cluster.connecting import require_ray
from doyen.config import ClusterSettings, EmbedderSettings, Settings, StoreSettings
from doyen.errors import ClusterError

pytestmark = pytest.mark.slow
TEXT = "# Pump\n\nThe valve of the pump opens at 7 bar.\n"


@contextlib.contextmanager
def two_machines(monkeypatch, *, head=None, **second):
    """Start a cluster whose second machine has other environment variables."""
    pytest.importorskip("ray", reason="Ray is not installed (pip install 'doyen[ray]')")
    ray = require_ray()
    from ray.cluster_utils import Cluster

    monkeypatch.setenv("RAY_worker_niceness", "0")
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False} | (head or {}))
    try:
        with monkeypatch.context() as there:
            for name, value in second.items():
                there.setenv(name, str(value))
            cluster.add_node(num_cpus=1)
        if not head:
            monkeypatch.setenv("RAY_ADDRESS", cluster.address)
        yield cluster
    finally:
        ray.shutdown()
        cluster.shutdown()


@pytest.mark.e2e
def test_a_worker_without_the_model_is_named_with_the_command(tmp_path, monkeypatch):
    expert = make_expert(tmp_path / "expert")
    files = write_files(tmp_path / "files", {"pump.md": TEXT})
    with (
        two_machines(monkeypatch, DOYEN_CACHE=tmp_path / "empty"),
        pytest.raises(
            ClusterError, match=f"worker on .*{socket.gethostname()}.*: The model all-minilm-l6-v2 is not"
        ) as caught,
    ):
        ingest(expert, [files], on="ray")
    assert caught.value.hint.startswith("on ") and caught.value.hint.endswith(": doyen models pull all-minilm-l6-v2")


def test_a_machine_with_another_doyen_is_refused(tmp_path, monkeypatch):
    other = tmp_path / "other"
    shutil.copytree(Path(doyen.__file__).parent, other / "doyen", ignore=shutil.ignore_patterns("__pycache__"))
    with (other / "doyen" / "words.py").open("a") as file:
        file.write("# changed\n")
    here = os.pathsep.join([str(Path(doyen.__file__).parents[1]), os.environ.get("PYTHONPATH", "")])
    files = write_files(tmp_path / "files", {"pump.md": TEXT})
    expert = make_expert(tmp_path / "expert")
    with two_machines(monkeypatch, PYTHONPATH=os.pathsep.join([str(other), here])):
        monkeypatch.setenv("PYTHONPATH", here)
        command = [sys.executable, "-m", "doyen", "ingest", str(files), "--expert", str(expert), "--on", "ray"]
        # elsewhere: Ray has workers import from the folder of a program first
        ended = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    assert ended.returncode == 1
    assert re.search(r"do not fit together: \S+ .*has doyen 0.*; here it is doyen", ended.stderr), ended.stderr
    assert "hint: install the same on every machine (pip install 'doyen[ray]==" in ended.stderr


def test_an_ingest_by_rays_client_is_the_same(tmp_path, monkeypatch):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    words = words_bert(tmp_path / "words", [TEXT])
    embedder = EmbedderSettings(name=str(words))
    settings = Settings(store=StoreSettings("index"), embedder=embedder, cluster=ClusterSettings(worker_cores=1))
    expert = make_expert(tmp_path / "expert", settings)
    files = write_files(tmp_path / "files", {f"{n}.md": TEXT + f"Pump {n}." for n in range(12)})
    with two_machines(monkeypatch, head={"ray_client_server_port": port}):
        assert len(ingest(expert, [files], on=f"ray://127.0.0.1:{port}").new) == 12
        assert not ingest(expert, [files], on=f"ray://127.0.0.1:{port}").written
