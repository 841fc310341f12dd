"""An expert's model on a vLLM that is started, or joined: gates, where it is written down, and its end."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from chat_server import RealModel

import doyen
from doyen.adapters import AdapterManifest
from doyen.config import SERVER_FILE, load_settings
from doyen.errors import EndpointError, EngineError, UsageError
from doyen.expert import open_engine
from doyen.models.chat_tokenizer import open_chat_tokenizer
from doyen.models.engine import golden_tokens, template_hash
from doyen.models.fitting import fingerprint_of_config
from doyen.models.serving import local_engine
from doyen.models.transformers_engine import TransformersEngine
from doyen.prompts import closed_book_messages
from doyen.serving.model_server import serve_model

PROMPT = closed_book_messages("How many days of leave?")


@pytest.fixture
def tuned(tmp_path, phi, adapter):
    """An expert on a tiny Phi-3 with an adapter of its fused modules, and one that vLLM cannot serve."""
    expert = doyen.init(tmp_path / "expert", model=str(phi))
    toml = expert / "doyen.toml"
    toml.write_text(toml.read_text().replace('# engine = "auto"', 'engine = "server"'))
    tokenizer = open_chat_tokenizer(phi)
    for name in ("legal", "dora"):
        folder = shutil.copytree(adapter, expert / "adapters" / name)
        head = (name, "phi", fingerprint_of_config(phi), "lora", template_hash(tokenizer), "2026-01-01T00:00:00")
        rest = ({}, {}, [], [], 10, 5, 100, 1.0, 0.5, 1.25, None)
        AdapterManifest(*head, *rest, golden_tokens=golden_tokens(tokenizer)).write(folder)
    config = expert / "adapters" / "dora" / "adapter_config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {"use_dora": True}))
    return expert


def alive(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


@pytest.mark.slow
@pytest.mark.parametrize("version", ["0.11.0", "0.6.3"])
def test_started_with_adapters_and_found_by_other_commands(vllm, tuned, phi, monkeypatch, version):
    import torch

    monkeypatch.setenv("FAKE_VLLM_VERSION", version)
    said = []
    with serve_model(tuned, timeout_s=120, say=said.append) as served:
        call = json.loads((vllm / "calls").read_text().splitlines()[-1])
        assert served.effects["legal"] > 1 and "no DoRA" in served.left_out["dora"]
        module = call["arguments"][call["arguments"].index("--lora-modules") + 1].removeprefix("legal=")
        split = version == "0.6.3"
        assert (module != str(tuned / "adapters" / "legal")) == split == any("are split" in line for line in said)
        if split:
            targets = json.loads((Path(module) / "adapter_config.json").read_text())["target_modules"]
            assert {t.rpartition(".")[2] for t in targets} == {
                "q_proj",
                "k_proj",
                "v_proj",
                "gate_proj",
                "up_proj",
                "o_proj",
                "down_proj",
            }
        settings = load_settings(tuned)
        assert settings.model.endpoint == served.endpoint
        engine = open_engine(settings)
        local = TransformersEngine(phi, dtype=torch.float32)
        for folder in (None, tuned / "adapters" / "legal"):
            here, there = (e.generate([PROMPT], max_tokens=8, adapter=folder)[0].text for e in (local, engine))
            assert here == there
    assert not alive(call["pid"]) and not (tuned / SERVER_FILE).exists()
    assert load_settings(tuned).model.endpoint == ""


@pytest.mark.slow
def test_a_server_that_ignores_the_adapter_does_not_pass(vllm, tuned, monkeypatch):
    monkeypatch.setenv("FAKE_VLLM", "ignores adapters")
    with pytest.raises(EngineError, match="gate: .* changes no answer there"), serve_model(tuned, timeout_s=120):
        pass
    assert not alive(json.loads((vllm / "calls").read_text())["pid"]) and not (tuned / SERVER_FILE).exists()


def test_one_that_does_not_start_leaves_nothing(vllm, tuned, monkeypatch):
    monkeypatch.setenv("FAKE_VLLM", "dies")
    with pytest.raises(EngineError, match="no GPU here"), serve_model(tuned, timeout_s=30):
        pass
    assert not (tuned / SERVER_FILE).exists() and "no GPU here" in (tuned / "server.log").read_text()


@pytest.fixture
def there(make_server, phi):
    """A vLLM that runs already, without the adapter, and may load it."""
    import torch

    server = make_server(RealModel(TransformersEngine(phi, dtype=torch.float32)), model=phi.name, context=2048)
    server.loads = True
    return server


def test_joining_loads_the_adapter_checks_it_and_stays(there, tuned):
    with serve_model(tuned, endpoint=there.url) as served:
        assert (served.endpoint, served.process, served.kind) == (there.url, None, "vllm")
        assert served.effects["legal"] > 1
    assert load_settings(tuned).model.endpoint == there.url
    assert open_engine(load_settings(tuned)).generate([PROMPT], max_tokens=4)


def test_joining_an_old_one_loads_the_split_adapter(there, tuned, phi):
    import fake_vllm

    there.version = "0.6.3"
    put = there.brain.adapters
    there.brain.adapters = _Fusing(lambda path: fake_vllm.fused(phi, path), put)
    with serve_model(tuned, endpoint=there.url) as served:
        assert served.effects["legal"] > 1


class _Fusing(dict):
    def __init__(self, fuse, given):
        super().__init__(given)
        self._fuse = fuse

    def __setitem__(self, name, path):
        super().__setitem__(name, self._fuse(path))


def test_another_model_there_is_said(there, tuned):
    there.model = "gpt-9"
    with pytest.raises(Exception, match=r"has no model 'phi\d'; it has gpt-9"), serve_model(tuned, endpoint=there.url):
        pass


def test_the_bases_template_is_checked(there, tuned, tmp_path):
    import tiny_models
    import torch

    other = tiny_models.phi_folder(tmp_path / "other", template=tiny_models.PHI_TEMPLATE.replace("|>\n'", "|>'"))
    there.brain.engine = TransformersEngine(other, dtype=torch.float32)
    with pytest.raises(EngineError, match="golden tokens"), serve_model(tuned, endpoint=there.url):
        pass


def test_nobody_to_join(tuned):
    with pytest.raises(EndpointError, match="no connection"), serve_model(tuned, endpoint="http://127.0.0.1:9/v1"):
        pass


def test_others_reach_it_only_with_a_key(tuned):
    with pytest.raises(UsageError, match="others reach 0.0.0.0"), serve_model(tuned, host="0.0.0.0"):
        pass


def test_a_second_one_is_refused(tuned):
    (tuned / SERVER_FILE).write_text(json.dumps({"endpoint": "http://127.0.0.1:1/v1", "pid": os.getpid()}))
    with pytest.raises(UsageError, match="serves this expert already"), serve_model(tuned):
        pass


def test_what_a_server_left_that_is_gone_does_not_count(tuned):
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    (tuned / SERVER_FILE).write_text(json.dumps({"endpoint": "http://127.0.0.1:1/v1", "pid": gone.pid}))
    assert load_settings(tuned).model.endpoint == ""


@pytest.mark.parametrize("endpoint", ["http://evil.example/v1", "https://127.0.0.1.evil.example/v1", 5, None])
def test_an_experts_folder_sends_questions_to_this_machine_only(tuned, endpoint):
    (tuned / SERVER_FILE).write_text(json.dumps({"endpoint": endpoint}))
    assert load_settings(tuned).model.endpoint == ""


def test_what_needs_weights_stays_here_beside_a_server(tuned):
    settings = load_settings(tuned).model
    assert settings.engine == "server" and local_engine(settings).kind in ("openvino", "transformers")


def test_the_command_knows_its_engines():
    done = subprocess.run(
        [sys.executable, "-m", "doyen", "serve", "--engine", "sglang"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 2 and "--engine vllm" in done.stderr


@pytest.mark.slow
@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM])
def test_the_command_serves_until_it_is_stopped(vllm, tuned, sent):
    command = [sys.executable, "-m", "doyen", "serve", "--engine", "vllm", "--expert", str(tuned), "--json"]
    command += ["--", "--max-model-len", "1024"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        text = ""
        while not text.endswith("}\n"):
            line = process.stdout.readline()
            assert line, process.stderr.read()
            text += line if line.startswith(("{", " ", "}")) else ""
        row = json.loads(text)
        assert row["started"] and row["adapters"]["legal"] > 1 and row["log"] == str(tuned / "server.log")
        call = json.loads((vllm / "calls").read_text().splitlines()[-1])
        assert call["arguments"][-2:] == ["--max-model-len", "1024"]
        process.send_signal(sent)
        begun = time.monotonic()
        assert process.wait(30) == 0, process.stderr.read()
        assert time.monotonic() - begun < 15
        assert "gate: adapter legal changes" in process.stderr.read()
    assert not alive(call["pid"]) and not (tuned / SERVER_FILE).exists()
