"""Each family of decoders on OpenVINO, in float32, against transformers: prompts in pieces, two texts at once."""

import json

import numpy as np
import pytest
import tiny_models
import torch

from doyen.models.decoder_network import build_decoder, decoder_faults, decoder_shape
from doyen.models.paged import PagedNetwork, Piece
from doyen.models.rotary import Rotary, rope_parameters
from doyen.models.stored_weights import StoredWeights

LLAMA3 = {
    "rope_type": "llama3", "rope_theta": 1e4, "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
    "original_max_position_embeddings": 32,
}  # fmt: skip
PARTIAL = {"rope_type": "default", "rope_theta": 1e4, "partial_rotary_factor": 0.5}
CASES = {
    "llama": ("Llama", {}),
    "llama, tied": ("Llama", {"tie_word_embeddings": True}),
    "llama, biases": ("Llama", {"attention_bias": True, "mlp_bias": True}),
    "llama, llama3 rope": ("Llama", {"rope_parameters": LLAMA3}),
    "llama, linear rope": (
        "Llama",
        {"rope_parameters": {"rope_type": "linear", "rope_theta": 1e4, "factor": 4.0}},
    ),
    "phi3": ("Phi3", {}),
    "phi3, a part turned": ("Phi3", {"rope_parameters": PARTIAL}),
    "phi3, window": ("Phi3", {"sliding_window": 20}),
    "mistral, window": ("Mistral", {"sliding_window": 24}),
    "qwen2": ("Qwen2", {}),
    "qwen3": ("Qwen3", {"head_dim": 32}),
}


def folder_of(folder, family, changes):
    import transformers

    tokenizer = tiny_models.save_tokenizer(folder, tiny_models.CHATML_SPECIALS, tiny_models.CHATML_TEMPLATE)
    classes = (getattr(transformers, f"{family}Config"), getattr(transformers, f"{family}ForCausalLM"))
    return tiny_models._save(folder, tokenizer, *classes, 0, changes)


def network_of(folder, tokens=512, adapter=None, exact=False):
    config = json.loads((folder / "config.json").read_text())
    assert decoder_faults(config) == []
    shape = decoder_shape(config)
    rotary = Rotary(config, shape.head_size)
    weights = StoredWeights(folder, adapter)
    network = PagedNetwork(build_decoder(shape, weights, rotary, exact=exact), rotary, tokens, "f32")
    network.weights = weights  # it reads them where they are
    return network, rotary


def logits_of(folder, ids):
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(str(folder), dtype=torch.float32).eval()
    with torch.inference_mode():
        return model(torch.tensor([ids])).logits[0].numpy()


@pytest.mark.parametrize("case", CASES)
def test_logits_equal_those_of_transformers(case, tmp_path):
    folder = folder_of(tmp_path, *CASES[case])
    network, _ = network_of(folder)
    generator = np.random.default_rng(1)
    first, second = (generator.integers(5, 300, n).tolist() for n in (70, 41))
    expected = logits_of(folder, first), logits_of(folder, second)
    blocks = network.pool.take(4), network.pool.take(4)
    logits = network.step([Piece(first[:40], 0, blocks[0]), Piece(second[:33], 0, blocks[1])])
    np.testing.assert_allclose(logits, [expected[0][39], expected[1][32]], atol=1e-3)
    for i in range(33, 41):
        logits = network.step([Piece(first[i + 7 : i + 8], i + 7, blocks[0]), Piece(second[i : i + 1], i, blocks[1])])
        np.testing.assert_allclose(logits, [expected[0][i + 7], expected[1][i]], atol=1e-3)
    np.testing.assert_allclose(network.step([Piece(first[48:], 48, blocks[0])])[0], expected[0][-1], atol=1e-3)


@pytest.mark.parametrize("family", ["Llama", "Phi3"])
def test_an_adapter_within_the_weights_product_equals_one_beside_it(family, make_adapter, tmp_path):
    folder = folder_of(tmp_path, family, {"tie_word_embeddings": True})
    adapter, ids = make_adapter(folder, 3), list(range(5, 45))
    found = []
    for exact in (False, True):
        network, _ = network_of(folder, adapter=adapter, exact=exact)
        found.append(network.step([Piece(ids, 0, network.pool.take(2))])[0].copy())
    np.testing.assert_allclose(found[0], found[1], atol=1e-4)
    assert np.abs(found[0] - logits_of(folder, ids)[-1]).max() > 0.1


def test_rows_behind_a_stored_tensor_take_its_type(tmp_path):
    weights = StoredWeights(folder_of(tmp_path, "Llama", {}))
    rows = np.array([[1.0, 1 + 2**-12]], dtype=np.float32)
    stored = np.full((1, 2), 0x4000, dtype=np.uint16)  # 2.0 in bfloat16
    np.testing.assert_array_equal(weights.behind(stored, rows), [[0x4000, 0x4000], [0x3F80, 0x3F80]])
    np.testing.assert_array_equal(weights.behind(rows, rows), [rows[0], rows[0]])


@pytest.mark.parametrize("length", [47, 48, 49, 70])
def test_longrope_takes_the_frequencies_of_the_texts_length(length, tmp_path):
    folder = tiny_models.longrope_phi_folder(tmp_path, switch=48)
    network, rotary = network_of(folder)
    ids = np.random.default_rng(2).integers(5, 300, length).tolist()
    found = network.step([Piece(ids, 0, network.pool.take(3), rotary.is_long(length))])[0]
    np.testing.assert_allclose(found, logits_of(folder, ids)[-1], atol=1e-3)
    assert rotary.is_long(length) == (length > 48)


def test_half_precision_is_near_and_not_rounded_to_sixteen_bits(tmp_path):
    folder = folder_of(tmp_path, "Llama", {"initializer_range": 0.05})
    config = json.loads((folder / "config.json").read_text())
    shape = decoder_shape(config)
    rotary, weights = Rotary(config, shape.head_size), StoredWeights(folder)
    network = PagedNetwork(build_decoder(shape, weights, rotary), rotary, 64)
    ids = list(range(5, 50))
    found = network.step([Piece(ids, 0, network.pool.take(2))])[0]
    np.testing.assert_allclose(found, logits_of(folder, ids)[-1], atol=0.05)
    assert np.any(found.view(np.uint32) & 0xFFFF)


def test_what_cannot_be_computed_is_named():
    config = {"model_type": "gpt2"}
    assert "gpt2" in decoder_faults(config)[0]
    known = {
        "model_type": "llama",
        "hidden_act": "gelu",
        "rope_scaling": {"type": "yarn"},
        "quantization_config": {"a": 1},
    }
    faults = "; ".join(decoder_faults(known))
    assert "yarn" in faults and "gelu" in faults and "quantised" in faults


def test_older_names_of_rotary_settings_are_read():
    old = {
        "rope_theta": 5e5, "max_position_embeddings": 131072, "original_max_position_embeddings": 4096,
        "rope_scaling": {"type": "su", "short_factor": [1.0], "long_factor": [2.0]},
    }  # fmt: skip
    found = rope_parameters(old)
    assert (found["rope_type"], found["rope_theta"]) == ("longrope", 5e5)
    assert found["original_max_position_embeddings"] == 4096
    assert rope_parameters({"model_type": "llama"})["rope_theta"] == 10000.0
