"""`export_adapter` on tiny experts: every form is written, loaded back, scored and described, or nothing is left."""

import json
import shutil

import pytest
import tiny_exports
import tiny_models
import yaml
from typer.testing import CliRunner

from doyen.cli import app
from doyen.errors import DoyenError, EngineError, ModelError, UsageError
from doyen.exporting import readers, running
from doyen.exporting.llama_cpp import has_llama_cpp
from doyen.exporting.modelfile import known_form
from doyen.exporting.running import export_adapter
from doyen.models.chat_tokenizer import open_chat_tokenizer
from doyen.models.gguf_file import GgufFile
from doyen.prompts import closed_book_messages


@pytest.fixture(scope="session", autouse=True)
def one_thread():
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def phi_expert(tmp_path_factory):
    """An expert of a tiny Phi-3 with a random adapter 'a' and three held-out examples."""
    folder = tmp_path_factory.mktemp("phi")
    model = tiny_exports.model_folder(folder / "model", "phi3", initializer_range=0.02)
    expert = tiny_exports.expert_of(folder / "expert", model)
    rows = [
        {
            "messages": [
                *closed_book_messages(f"How many days does {t} take?"),
                {"role": "assistant", "content": "27 days"},
            ]
        }
        for t in ("the crane", "the guild", "the lock")
    ]
    tiny_models.write_jsonl(expert / "examples" / "validation.jsonl", rows)
    tiny_models.write_jsonl(expert / "examples" / "train.jsonl", rows)
    return expert


def exported(expert, out, **options):
    said = []
    made = export_adapter(expert, out, say=said.append, **options)
    assert sorted(p.name for p in out.parent.iterdir()) == [out.name], "something was left beside the export"
    return made, json.loads((made / "exported.json").read_text()), said


@pytest.mark.parametrize("form", ["merged", "adapter", "split", "gguf", "gguf-lora"])
def test_every_form_is_loaded_back_and_scored(phi_expert, tmp_path, form):
    made, row, said = exported(phi_expert, tmp_path / "out", form=form)
    score = row["score"]
    assert row["checked"] and score["mean_kl"] < 1e-3 < score["base_kl"]
    assert score["examples"] == score["questions"] == 3 and score["positions"] > 6
    assert score["engine"].startswith("llama.cpp" if "gguf" in form and has_llama_cpp() else "doyen's openvino engine")
    assert said == [] or has_llama_cpp() is False or form == "merged"
    assert made == (tmp_path / "out").resolve()


@pytest.mark.parametrize("form", ["gguf", "gguf-lora"])
def test_without_llama_cpp_doyen_reads_the_file_and_says_so(phi_expert, tmp_path, monkeypatch, form):
    for module in (readers, running):
        monkeypatch.setattr(module, "has_llama_cpp", lambda: False)
    _, row, said = exported(phi_expert, tmp_path / "out", form=form)
    assert row["score"]["engine"].startswith("doyen's openvino engine, the GGUF")
    assert row["score"]["mean_kl"] < 1e-3
    assert any("llama.cpp is not" in line and "doyen[export]" in line for line in said)


def test_the_card_says_where_it_comes_from_and_names_no_document(phi_expert, tmp_path):
    made, _, _ = exported(phi_expert, tmp_path / "out", form="gguf", quantise="q8_0")
    text = (made / "README.md").read_text()
    _, front, body = text.split("---\n", 2)
    head = yaml.safe_load(front)
    assert head["library_name"] == "gguf" and head["tags"] == ["doyen", "lora", "gguf"] and head["language"] == ["en"]
    for part in (
        "Confidentiality",
        "was trained on your documents",
        "12 trained on (hash abc)",
        "| documents | 1 (hash",
    ):
        assert part in body
    assert "llama-server -m a.q8_0.gguf" in body and "mean KL divergence" in body and "Token F1 on 3 held-out" in body
    assert str(phi_expert.parent) not in (made / "exported.json").read_text()
    assert "secret-name" not in text and str(phi_expert.parent) not in text


def test_the_modelfile_asks_as_the_expert_does(phi_expert, tmp_path):
    made, _, _ = exported(phi_expert, tmp_path / "out", form="gguf", check=False)
    text = (made / "Modelfile").read_text()
    assert text.startswith("FROM ./a.f16.gguf\nTEMPLATE ")
    assert "{{ range .Messages }}<|{{ .Role }}|>\n{{ .Content }}<|end|>\n{{ end }}<|assistant|>\n" in text
    assert 'PARAMETER stop "<|end|>"' in text and "PARAMETER temperature 0" in text and "num_ctx 512" in text
    assert json.loads((made / "exported.json").read_text())["checked"] is False
    assert "not checked" in (made / "README.md").read_text()
    assert (made / "a.f16.gguf").stat().st_mode & 0o444 == 0o444


def test_a_template_that_is_not_known_is_left_to_ollama(tmp_path):
    for template, form in (
        (tiny_models.CHATML_TEMPLATE, "chatml"),
        (tiny_models.PHI_TEMPLATE, "phi3"),
        ("{{ messages[0]['content'] }}", None),
    ):
        folder = tmp_path / str(form)
        folder.mkdir()
        tiny_models.save_tokenizer(folder, tiny_models.CHATML_SPECIALS, template)
        assert known_form(open_chat_tokenizer(folder)) == form


def test_an_export_without_the_adapter_is_refused_and_nothing_is_left(phi_expert, tmp_path, monkeypatch):
    from doyen.exporting import writing
    from doyen.exporting.merging import MergedModel

    monkeypatch.setattr(writing, "MergedModel", lambda base, adapter: MergedModel(base, None))
    with pytest.raises(EngineError, match="is not the expert: mean KL divergence"):
        export_adapter(phi_expert, tmp_path / "out", form="gguf")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(not has_llama_cpp(), reason="xllamacpp (doyen[export]) is not installed")
def test_another_vocabulary_in_the_file_is_refused(phi_expert, tmp_path, monkeypatch):
    from doyen.exporting import gguf_tokenizer

    monkeypatch.setattr(gguf_tokenizer, "_split_name", lambda _: "llama-bpe")
    with pytest.raises(EngineError, match="llama.cpp makes other tokens of a conversation"):
        export_adapter(phi_expert, tmp_path / "out", form="gguf")
    assert list(tmp_path.iterdir()) == []


def test_bfloat16_that_rounds_too_far_becomes_float16(tmp_path):
    model = tiny_exports.model_folder(tmp_path / "in" / "model", "llama", initializer_range=0.3)
    tiny_exports.vary_config(model, dtype="bfloat16")
    expert = tiny_exports.expert_of(tmp_path / "in" / "expert", model)
    (tmp_path / "made").mkdir()
    _, row, said = exported(expert, tmp_path / "made" / "out")
    assert row["quantisation"] == "f16" and row["score"]["mean_kl"] < 1e-3
    assert any("kept in float16" in line for line in said)
    with pytest.raises(EngineError, match="is not the expert"):
        export_adapter(expert, tmp_path / "made" / "bf16", quantise="bf16")
    assert not (tmp_path / "made" / "bf16").exists()


def test_four_bits_say_what_fell_back(phi_expert, tmp_path):
    _, row, said = exported(phi_expert, tmp_path / "out", form="gguf", quantise="q4_k_m")
    assert row["tensors"]["Q5_0"] >= 3 and any("do not divide by 256" in line for line in said)


def test_wrong_words_are_told(phi_expert, tmp_path):
    with pytest.raises(UsageError, match="unknown quantisation 'q3' of format gguf") as caught:
        export_adapter(phi_expert, tmp_path / "x", form="gguf", quantise="q3")
    assert "q4_k_m" in caught.value.hint
    with pytest.raises(UsageError, match="of format merged"):
        export_adapter(phi_expert, tmp_path / "x", quantise="q8_0")
    with pytest.raises(UsageError, match="of format adapter"):
        export_adapter(phi_expert, tmp_path / "x", form="adapter", quantise="f16")
    assert list(tmp_path.iterdir()) == []


def test_a_disk_without_room_is_told_before(phi_expert, tmp_path, monkeypatch):
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=1 << 20))
    with pytest.raises(DoyenError, match="not enough disk space"):
        export_adapter(phi_expert, tmp_path / "x", form="gguf")
    assert list(tmp_path.iterdir()) == []


def test_a_dora_adapter_is_merged_but_no_gguf_adapter(tmp_path):
    model = tiny_exports.model_folder(tmp_path / "in" / "model", "qwen2", initializer_range=0.02)
    expert = tiny_exports.expert_of(tmp_path / "in" / "expert", model, use_dora=True)
    (tmp_path / "made").mkdir()
    with pytest.raises(UsageError, match="DoRA"):
        export_adapter(expert, tmp_path / "made" / "x", form="gguf-lora")
    _, row, _ = exported(expert, tmp_path / "made" / "out", form="gguf")
    assert row["score"]["mean_kl"] < 1e-3


def test_a_family_that_gguf_has_no_place_for(tmp_path, monkeypatch):
    model = tiny_models.llama_folder(tmp_path / "model")
    tiny_exports.vary_config(model, rope_parameters={"rope_type": "yarn", "rope_theta": 1e4, "factor": 2.0})
    expert = tiny_exports.expert_of(tmp_path / "expert", model)
    with pytest.raises(ModelError, match="'yarn' cannot be written as GGUF for llama"):
        export_adapter(expert, tmp_path / "out", form="gguf")
    assert not (tmp_path / "out").exists()


def test_the_command_prints_the_score(phi_expert, tmp_path):
    command = [
        "export",
        "--expert",
        str(phi_expert),
        "--format",
        "gguf",
        "--quantise",
        "q8_0",
        "--out",
        str(tmp_path / "o"),
    ]
    found = CliRunner().invoke(app, [*command, "--json"])
    assert found.exit_code == 0, found.output
    row = json.loads(found.stdout)
    assert row["form"] == "gguf" and row["score"]["positions"] > 6 and row["folder"] == str((tmp_path / "o").resolve())
    assert GgufFile(tmp_path / "o" / "a.q8_0.gguf")["general.name"] == "model a"
    found = CliRunner().invoke(app, [*command[:-1], str(tmp_path / "p"), "--no-check"])
    assert found.stdout.splitlines()[-1] == "not checked"
