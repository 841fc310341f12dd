"""Weights in 8 and 4 bits: near the stored ones, exact where these were of so few bits, kept in the cache, served."""

import json
import os
import shutil

import numpy as np
import pytest
import tiny_models
from safetensors.numpy import load_file, save_file
from test_openvino_engine import PROMPTS, engine_of, texts

from doyen.models.openvino_engine import OpenVINOEngine
from doyen.models.packed_weights import GROUP, PackedWeights, pack, packed_linears, stack
from doyen.models.stored_weights import StoredWeights, open_tensors
from doyen.models.transformers_engine import TransformersEngine


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("DOYEN_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "packed"


@pytest.fixture
def weight():
    return np.random.default_rng(1).standard_normal((3, 4 * GROUP)).astype(np.float32)


@pytest.mark.parametrize(("bits", "most"), [(8, 0.51 / 127), (4, 0.52 / 15)])
def test_each_number_is_within_half_a_step(bits, most, weight):
    packed = pack(weight, bits)
    grouped = weight.reshape(3, 4, GROUP)
    span = np.abs(grouped).max(axis=2) if bits == 8 else np.ptp(grouped, axis=2)
    error = np.abs(packed.numbers() - weight).reshape(grouped.shape).max(axis=2)
    assert packed.shape == weight.shape
    assert np.all(error <= most * span)
    assert error.max() > 0
    assert packed.values.nbytes == weight.size * bits // 8


@pytest.mark.parametrize("bits", [8, 4])
def test_what_was_packed_before_stays_as_it_was(bits, weight):
    once = pack(weight, bits).numbers()
    np.testing.assert_allclose(pack(once, bits).numbers(), once, atol=2e-3)


@pytest.mark.parametrize("bits", [8, 4])
@pytest.mark.parametrize("value", [0.0, 0.25, -3.0])
def test_equal_numbers_stay(bits, value):
    weight = np.full((2, GROUP), value, dtype=np.float32)
    np.testing.assert_allclose(pack(weight, bits).numbers(), weight, rtol=2e-3)


def test_weights_behind_each_other(weight):
    both = stack([pack(weight, 4), pack(2 * weight, 4)])
    np.testing.assert_array_equal(both.numbers(), np.concatenate([pack(w, 4).numbers() for w in (weight, 2 * weight)]))


def test_the_linears_of_layers_are_packed_once_and_anew_when_the_model_changes(phi, cache, tmp_path):
    folder = shutil.copytree(phi, tmp_path / "model")
    tensors = open_tensors(folder)
    made = packed_linears(folder, tensors, 4)
    assert {name.split(".")[-2] for name in made} == {"qkv_proj", "o_proj", "gate_up_proj", "down_proj"}
    (kept,) = cache.iterdir()
    assert kept.name.startswith("model-") and kept.name.endswith("-4bit.safetensors")
    times = kept.stat().st_mtime_ns
    again = packed_linears(folder, {}, 4)  # from the file: no tensor is asked for
    assert all(np.array_equal(again[name].numbers(), made[name].numbers()) for name in made)
    assert kept.stat().st_mtime_ns == times
    os.utime(folder / "model.safetensors", ns=(1, 1))
    packed_linears(folder, tensors, 4)
    assert len(list(cache.iterdir())) == 2


def test_a_broken_file_in_the_cache_is_made_anew(phi, cache):
    made = packed_linears(phi, open_tensors(phi), 8)
    (kept,) = cache.iterdir()
    half = kept.read_bytes()[:100]
    kept.unlink()  # what is mapped stays whole
    kept.write_bytes(half)
    again = packed_linears(phi, open_tensors(phi), 8)
    assert all(np.array_equal(again[name].numbers(), made[name].numbers()) for name in made)


def test_without_room_in_the_cache_they_stay_in_memory(phi, cache):
    cache.parent.mkdir(parents=True)
    cache.write_text("a file where the folder would be")
    assert packed_linears(phi, open_tensors(phi), 4)
    assert cache.is_file()


def test_embeddings_and_the_output_layer_stay(phi):
    weights = PackedWeights(phi, None, 4)
    assert weights.packed(["model.embed_tokens.weight"]) is None
    assert weights.packed(["model.layers.0.self_attn.o_proj.weight"]) is not None
    assert StoredWeights(phi).packed(["model.layers.0.self_attn.o_proj.weight"]) is None


@pytest.mark.parametrize("bits", [8, 4])
@pytest.mark.parametrize("adapted", [False, True])
def test_packed_logits_are_those_of_the_numbers_that_they_stand_for(bits, adapted, phi, make_adapter, tmp_path):
    """The same engine with the unpacked weights says what the packed one must say, adapter beside them included."""
    adapter = make_adapter(phi, 3) if adapted else None
    engine = OpenVINOEngine(phi, precision="f32", bits=bits)
    packed = engine.next_token_logits(PROMPTS[0], adapter=adapter)
    linears, folder = packed_linears(phi, open_tensors(phi), bits), shutil.copytree(phi, tmp_path / "model")
    path = folder / "model.safetensors"
    tensors = load_file(path) | {name: linear.numbers() for name, linear in linears.items()}
    save_file(tensors, path, metadata={"format": "pt"})
    unpacked = engine_of(folder).next_token_logits(PROMPTS[0], adapter=adapter)
    stored = engine_of(phi).next_token_logits(PROMPTS[0], adapter=adapter)
    np.testing.assert_allclose(packed, unpacked, atol=2e-3 * np.ptp(unpacked))
    assert np.abs(packed - stored).max() > 2 * np.abs(packed - unpacked).max()
    assert engine.kind == f"openvino-{bits}bit"
    assert texts(engine.generate(PROMPTS[:2], max_tokens=4, adapter=adapter))


@pytest.mark.parametrize("bits", [8, 4])
def test_transformers_loads_fewer_bits_too(bits, make_adapter, caplog, tmp_path):
    folder = tiny_models.llama_folder(tmp_path, hidden_size=128, intermediate_size=256, initializer_range=0.05)
    adapter = make_adapter(folder, 3)
    whole, packed = TransformersEngine(folder), TransformersEngine(folder, bits=bits)
    assert packed.kind == f"transformers-{bits}bit"
    for chosen in (None, adapter):
        ours, theirs = (np.asarray(e.next_token_logits(PROMPTS[0], adapter=chosen)) for e in (packed, whole))
        assert 0 < np.abs(ours - theirs).max() < 0.5 * np.ptp(theirs)
    assert "MatMul8bitLt" not in caplog.text


def test_columns_that_make_no_whole_groups_stay_as_they_are(tmp_path):
    folder = tiny_models.llama_folder(tmp_path)
    config = json.loads((folder / "config.json").read_text())
    tensors = {"model.layers.0.mlp.up_proj.weight": np.zeros((4, config["hidden_size"] + 1), dtype=np.float32)}
    assert packed_linears(folder, tensors, 4) == {}
