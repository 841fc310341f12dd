"""Reading safetensors without torch, and adapters that add what PEFT merges."""

import json

import numpy as np
import pytest
import tiny_models
import torch

from doyen.errors import EngineError, ModelError
from doyen.models.safetensors_writing import write_safetensors
from doyen.models.stored_weights import StoredWeights, as_float32, open_tensors, to_bfloat16


def test_bfloat16_is_rounded_as_torch_rounds():
    values = np.random.default_rng(0).normal(size=10_000).astype(np.float32)
    values[:4] = [1.00390625, 1.01171875, 0.0, -3.0e38]  # two ties
    expected = torch.from_numpy(values).to(torch.bfloat16)
    assert np.array_equal(to_bfloat16(values), expected.view(torch.uint16).numpy())
    assert np.array_equal(as_float32(to_bfloat16(values)), expected.float().numpy())


@pytest.mark.parametrize("shard_bytes", [1 << 30, 12])
@pytest.mark.parametrize("kind", ["BF16", "F16", "F32"])
def test_what_is_written_is_read_by_safetensors(tmp_path, kind, shard_bytes):
    from safetensors.torch import load_file

    tensors = {"b": np.arange(6, dtype=np.float32).reshape(2, 3), "a": np.ones(5, np.float32)}
    write_safetensors(
        tmp_path,
        ["b", "a"],
        lambda n: tensors[n].shape,
        tensors.__getitem__,
        kind,
        lambda *_: None,
        shard_bytes=shard_bytes,
    )
    files = sorted(tmp_path.glob("*.safetensors"))
    assert len(files) == (1 if shard_bytes > 12 else 2)
    theirs = {name: tensor for path in files for name, tensor in load_file(str(path)).items()}
    wanted = {"BF16": torch.bfloat16, "F16": torch.float16, "F32": torch.float32}[kind]
    assert theirs["b"].dtype == wanted and theirs["b"].tolist() == [[0, 1, 2], [3, 4, 5]]
    ours = open_tensors(tmp_path)
    assert np.array_equal(as_float32(ours["a"]), tensors["a"]) and ours.keys() == theirs.keys()


def test_shards_are_read_as_one(tmp_path):
    folder = tiny_models.llama_folder(tmp_path)
    whole = {name: as_float32(values).copy() for name, values in open_tensors(folder).items()}
    from transformers import AutoModelForCausalLM

    AutoModelForCausalLM.from_pretrained(str(folder)).save_pretrained(str(folder), max_shard_size="100KB")
    (folder / "model.safetensors").unlink()
    assert (folder / "model.safetensors.index.json").exists()
    shards = open_tensors(folder)
    assert shards.keys() == whole.keys() and all(np.array_equal(shards[name], whole[name]) for name in whole)


def test_a_broken_file_is_named(tmp_path):
    (tmp_path / "model.safetensors").write_bytes(b"\x08\0\0\0\0\0\0\0nonsense")
    with pytest.raises(ModelError, match="cannot be read"):
        open_tensors(tmp_path)


VARIANTS = {
    "lora": {},
    "rslora": {"use_rslora": True, "lora_alpha": 5},
    "dora": {"use_dora": True},
    "patterns": {"alpha_pattern": {"layers.0.mlp.gate_up_proj": 3}, "rank_pattern": {"layers.0.mlp.gate_up_proj": 2}},
}


@pytest.mark.parametrize("variant", VARIANTS)
def test_an_adapter_adds_what_peft_merges(variant, phi, tmp_path):
    from peft import LoraConfig, get_peft_model

    from doyen.models.engine import load_causal_model, quiet_peft

    with torch.random.fork_rng(), quiet_peft():
        torch.manual_seed(3)
        options = {"r": 4, "target_modules": "all-linear", "init_lora_weights": False} | VARIANTS[variant]
        model = get_peft_model(
            load_causal_model(phi, dtype=torch.float32), LoraConfig(task_type="CAUSAL_LM", **options)
        )
        model.save_pretrained(str(tmp_path))
        expected = {k: v.numpy() for k, v in model.merge_and_unload().state_dict().items()}
    weights = StoredWeights(phi, tmp_path)
    changed = 0
    for name in expected:
        whole, part = weights.numbers(name), weights.low_rank(name.removesuffix(".weight"))
        if part is not None:
            whole = whole + part.b @ part.a
            whole = whole if part.scale is None else part.scale[:, None] * whole
        np.testing.assert_allclose(whole, expected[name], atol=2e-5)
        changed += part is not None
    assert changed == 2 * 4
    assert StoredWeights(phi).low_rank("model.layers.0.mlp.gate_up_proj") is None


def test_what_is_not_known_is_refused_by_name(phi, make_adapter):
    adapter = make_adapter(phi, 5)
    path = adapter / "adapter_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"modules_to_save": ["lm_head"]}))
    with pytest.raises(EngineError, match="modules_to_save") as caught:
        StoredWeights(phi, adapter)
    assert "transformers" in caught.value.hint


def test_an_adapter_of_another_architecture_is_refused(phi, llama, make_adapter):
    with pytest.raises(EngineError, match="lacks"):
        StoredWeights(llama, make_adapter(phi, 6))
