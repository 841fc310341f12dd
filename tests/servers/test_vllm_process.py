"""How vLLM is started, watched and stopped, with a stand-in for its program."""

import json
import time

import pytest

from doyen.errors import EngineError, ModelError, UsageError
from doyen.serving.vllm_process import (
    Start,
    free_port,
    installed_version,
    is_fused,
    needs_split,
    start_vllm,
    unservable,
)


def adapter_of(folder, **config):
    folder.mkdir(parents=True)
    (folder / "adapter_config.json").write_text(json.dumps({"r": 16} | config))
    return folder


def start_of(tmp_path, adapters=None, **options):
    given = {
        "folder": tmp_path,
        "name": "m",
        "adapters": adapters or {},
        "host": "127.0.0.1",
        "port": free_port("127.0.0.1", 0),
    }
    return Start(**given | options)


def test_the_command_line(tmp_path):
    adapters = {"a": adapter_of(tmp_path / "a"), "b": adapter_of(tmp_path / "b", r=24, rank_pattern={"x": 40})}
    command = start_of(tmp_path, adapters, port=8123, more=["--dtype", "float16"]).command("vllm")
    said = " ".join(command)
    assert said.startswith(f"vllm serve {tmp_path} --served-model-name m --host 127.0.0.1 --port 8123 --enable-lora")
    assert "--max-loras 2 --max-lora-rank 64" in said
    assert said.endswith(f"--lora-modules a={tmp_path / 'a'} b={tmp_path / 'b'} --dtype float16")
    assert "lora" not in " ".join(start_of(tmp_path).command("vllm"))


def test_one_that_dies_is_said_with_its_last_lines(vllm, monkeypatch):
    monkeypatch.setenv("FAKE_VLLM", "dies")
    process = start_vllm(start_of(vllm), vllm / "log")
    with pytest.raises(EngineError, match=r"ended with code 1 before it was ready:\n(?s:.*)no GPU here") as caught:
        process.wait_ready(30, print)
    assert str(vllm / "log") in caught.value.hint
    process.stop()


def test_one_that_is_never_ready_is_given_up_and_stopped(vllm, monkeypatch):
    monkeypatch.setenv("FAKE_VLLM", "hangs")
    process = start_vllm(start_of(vllm), vllm / "log")
    while "load model" not in process.last_lines():
        time.sleep(0.02)
    with pytest.raises(EngineError, match=r"not ready after 0 s:\n.*load model"):
        process.wait_ready(0.1, print)
    process.stop()
    assert process.process.poll() is not None
    told = json.loads((vllm / "calls").read_text())["environment"]  # it sends no reports, and fetches nothing
    assert told == {"VLLM_NO_USAGE_STATS": "1", "DO_NOT_TRACK": "1", "HF_HUB_OFFLINE": "1"}


def test_without_vllm_it_is_said_how_to_get_it(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ModelError, match="not installed") as caught:
        start_vllm(start_of(tmp_path), tmp_path / "log")
    assert "pip install vllm" in caught.value.hint and "--endpoint" in caught.value.hint


def test_the_version_says_whether_phis_modules_are_split(vllm, monkeypatch):
    assert installed_version() == (0, 11) and not needs_split((0, 11))
    monkeypatch.setenv("FAKE_VLLM_VERSION", "0.6.6.post1")
    assert installed_version() == (0, 6) and needs_split((0, 6))
    assert not needs_split(())


def test_a_taken_port_is_said():
    import socket

    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(UsageError, match="cannot be had") as caught:
            free_port("127.0.0.1", taken.getsockname()[1])
    assert "--endpoint" in caught.value.hint


def test_adapters_that_vllm_cannot_serve(tmp_path):
    assert unservable(adapter_of(tmp_path / "lora")) == ""
    assert "DoRA" in unservable(adapter_of(tmp_path / "dora", use_dora=True))
    assert "whole modules" in unservable(adapter_of(tmp_path / "saved", modules_to_save=["lm_head"]))
    (tmp_path / "full").mkdir()
    assert "whole model" in unservable(tmp_path / "full")


def test_fused_modules_are_seen_in_names(tmp_path):
    assert is_fused(adapter_of(tmp_path / "a", target_modules=["model.layers.0.self_attn.qkv_proj", "o_proj"]))
    assert not is_fused(adapter_of(tmp_path / "b", target_modules=["q_proj", "o_proj"]))
    assert not is_fused(adapter_of(tmp_path / "c", target_modules="all-linear"))
