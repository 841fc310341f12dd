"""An adapter and the base that serves it: other weights, another tokenizer, other shapes and broken files are refused."""

import json
import shutil

import pytest
import tiny_models
import torch
from safetensors.torch import load_file, save_file

from doyen.errors import EngineError
from doyen.models.engine import golden_tokens, load_tokenizer, template_hash
from doyen.models.fitting import fingerprint_of_config, weights_fingerprint
from doyen.models.transformers_engine import TransformersEngine

PROMPT = [{"role": "user", "content": "How many days?"}]


@pytest.fixture
def adapter(phi, make_adapter, tmp_path):
    """A copy of an adapter for `phi`, with what training writes of its base."""
    folder = shutil.copytree(make_adapter(phi, 1), tmp_path / "adapter")
    content = {
        "name": "a",
        "model": "tiny",
        "model_fingerprint": fingerprint_of_config(phi),
        "weights_fingerprint": weights_fingerprint(phi),
        "template_hash": template_hash(load_tokenizer(phi)),
        "golden_tokens": golden_tokens(load_tokenizer(phi)),
    }
    (folder / "manifest.json").write_text(json.dumps(content))
    return folder


def serve(base, adapter):
    return TransformersEngine(base).next_token_logits(PROMPT, adapter=adapter)


def changed(phi, tmp_path, change):
    """Copy a model and change its tokenizer.json."""
    folder = shutil.copytree(phi, tmp_path / "changed")
    content = json.loads((folder / "tokenizer.json").read_text())
    change(content)
    (folder / "tokenizer.json").write_text(json.dumps(content))
    return folder


def test_its_own_base_is_served(phi, adapter):
    assert not torch.equal(serve(phi, adapter), TransformersEngine(phi).next_token_logits(PROMPT))


def test_other_weights_of_the_same_architecture_are_refused(phi, adapter, tmp_path):
    other = tiny_models.phi_folder(tmp_path / "other", seed=1)
    assert fingerprint_of_config(other) == fingerprint_of_config(phi)
    with pytest.raises(EngineError, match=r"trained on other weights of tiny .* the architecture is the same"):
        serve(other, adapter)


def test_the_weights_fingerprint_knows_no_files_and_no_width(phi, tmp_path):
    weights = load_file(str(phi / "model.safetensors"))
    names = sorted(weights)
    halves = {"a": names[::2], "b": names[1::2]}
    for part, held in halves.items():
        save_file({n: weights[n] for n in held}, str(tmp_path / f"model-{part}.safetensors"))
    before = weights_fingerprint(tmp_path)
    assert before == weights_fingerprint(phi)
    shutil.rmtree(tmp_path)
    tmp_path.mkdir()
    save_file({n: w.bfloat16() for n, w in weights.items()}, str(tmp_path / "model.safetensors"))
    assert weights_fingerprint(tmp_path) == before
    weights["lm_head.weight"][0, 0] += 1
    save_file(weights, str(tmp_path / "model.safetensors"))
    assert weights_fingerprint(tmp_path) != before
    assert weights_fingerprint(tmp_path / "nowhere") == ""


def test_a_tokenizer_that_splits_numbers_otherwise_is_refused_though_the_template_is_the_same(phi, adapter, tmp_path):
    def digits_apart(content):
        content["pre_tokenizer"] = {
            "type": "Sequence",
            "pretokenizers": [{"type": "Digits", "individual_digits": True}, content["pre_tokenizer"]],
        }

    other = changed(phi, tmp_path, digits_apart)
    manifest = json.loads((adapter / "manifest.json").read_text())
    with pytest.raises(
        EngineError, match=r"another tokenizer or chat template .* golden tokens the one at \d+ differs"
    ):
        serve(other, adapter)
    del manifest["golden_tokens"]  # as adapters before had it: the short hash alone
    (adapter / "manifest.json").write_text(json.dumps(manifest))
    assert serve(phi, adapter) is not None


def test_a_missing_merge_is_refused(phi, adapter, tmp_path):
    def without_some_merges(content):
        content["model"]["merges"] = content["model"]["merges"][:-40]

    with pytest.raises(EngineError, match="golden tokens"):
        serve(changed(phi, tmp_path, without_some_merges), adapter)


def test_golden_tokens_of_a_template_without_system_or_turns(tmp_path):
    template = "{% if messages|length > 2 or messages[0].role == 'system' %}{{ raise_exception('no') }}{% endif %}"
    folder = tiny_models.phi_folder(tmp_path, template=template + tiny_models.PHI_TEMPLATE)
    assert golden_tokens(load_tokenizer(folder)).count(-1) == 1


# ---- files copied from elsewhere: PEFT's, without a manifest


def test_a_copied_adapter_that_fits_is_served(phi, make_adapter):
    assert serve(phi, make_adapter(phi, 1)) is not None


def test_a_copied_adapter_of_another_width_or_kind_is_refused(phi, llama, make_adapter, tmp_path):
    wider = tiny_models.phi_folder(tmp_path / "wider", hidden_size=96)
    with pytest.raises(EngineError, match=r"for another model: for '.*proj' it has \d+ (in|out)puts, the model \d+"):
        serve(wider, make_adapter(phi, 1))
    with pytest.raises(EngineError, match="is no linear module here"):
        serve(llama, make_adapter(phi, 1))


@pytest.mark.parametrize("size", [0, 5, 200, -1])
def test_an_adapter_cut_off_is_refused(phi, make_adapter, tmp_path, size):
    folder = shutil.copytree(make_adapter(phi, 1), tmp_path / "adapter")
    path = folder / "adapter_model.safetensors"
    path.write_bytes(path.read_bytes()[:size])
    with pytest.raises(EngineError, match="cannot be read"):
        serve(phi, folder)


def test_a_broken_manifest_is_said(phi, adapter):
    (adapter / "manifest.json").write_text("{")
    with pytest.raises(EngineError, match="manifest in .* is broken"):
        serve(phi, adapter)
