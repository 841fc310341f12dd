"""Tiny models of all families as GGUF: read back by doyen and, where it is installed, by a real llama.cpp."""

import json

import numpy as np
import pytest
import tiny_exports
import tiny_models

from doyen.errors import ModelError, UsageError
from doyen.exporting.gguf_families import woven
from doyen.exporting.gguf_lora import write_gguf_lora
from doyen.exporting.gguf_model import write_gguf
from doyen.exporting.llama_cpp import LlamaCpp, has_llama_cpp
from doyen.exporting.merging import MergedModel
from doyen.exporting.readers import EngineReader
from doyen.exporting.scoring import _dense, _divergence, log_softmax
from doyen.models.gguf_file import GgufFile, unwoven
from doyen.models.gguf_weights import convert_gguf

needs_llama_cpp = pytest.mark.skipif(not has_llama_cpp(), reason="xllamacpp (doyen[export]) is not installed")
IDS = [260, 270, 3, 44, 301, 12, 5, 80, 81, 99]


@pytest.fixture(scope="session", autouse=True)
def one_thread():
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module", params=tiny_exports.FAMILIES)
def made(request, tmp_path_factory):
    """A model's folder, an adapter's, and both merged as a GGUF file in 16 bits."""
    folder = tmp_path_factory.mktemp(request.param)
    model = tiny_exports.model_folder(folder / "model", request.param)
    adapter = tiny_exports.adapter_into(folder / "adapter", model)
    write_gguf(MergedModel(model, adapter), folder / "x.gguf", "f16", {"name": "x"}, lambda *_: None)
    return model, adapter, folder / "x.gguf"


def torch_logits(model, adapter, ids):
    """Logits `(n, vocabulary)` by transformers and PEFT: what all others are judged by."""
    import torch
    from peft import PeftModel

    from doyen.models.engine import load_causal_model, quiet_peft

    whole = load_causal_model(model, dtype=torch.float32)
    if adapter is not None:
        with quiet_peft():
            whole = PeftModel.from_pretrained(whole, str(adapter))
    with torch.inference_mode():
        return whole(input_ids=torch.tensor([ids])).logits[0].numpy()


def divergence(wanted, found):
    return _divergence(log_softmax(wanted), *found)


def test_the_merged_tensors_are_pefts(made):
    import torch
    from peft import PeftModel

    from doyen.models.engine import load_causal_model, quiet_peft

    model, adapter, _ = made
    with quiet_peft():
        whole = PeftModel.from_pretrained(load_causal_model(model, dtype=torch.float32), str(adapter))
        theirs = whole.merge_and_unload().state_dict()
    ours = MergedModel(model, adapter)
    assert set(ours.names) == set(theirs)
    for name in ours.names:
        assert np.allclose(ours.tensor(name), theirs[name].numpy(), atol=1e-6), name


@pytest.mark.parametrize("options", [{"use_dora": True}, {"use_rslora": True, "r": 8}])
def test_dora_and_rslora_are_merged_as_peft_does(tmp_path, options):
    model = tiny_exports.model_folder(tmp_path / "model", "llama")
    adapter = tiny_exports.adapter_into(tmp_path / "adapter", model, **options)
    ours = MergedModel(model, adapter)
    write_gguf(ours, tmp_path / "x.gguf", "f16", {"name": "x"}, lambda *_: None)
    (tmp_path / "back").mkdir()
    convert_gguf(tmp_path / "x.gguf", tmp_path / "back")
    found = torch_logits(tmp_path / "back", None, IDS)[-1]
    wanted = torch_logits(model, adapter, IDS)[-1]
    assert np.linalg.norm(found - wanted) < 0.03 * np.linalg.norm(wanted)


def test_read_back_into_a_folder_the_logits_are_the_same(made, tmp_path):
    model, adapter, path = made
    convert_gguf(path, tmp_path)
    ids = IDS * 30 if "longrope" in str(path) else IDS  # beyond the switch at 256 tokens
    wanted, found = torch_logits(model, adapter, ids)[-1], torch_logits(tmp_path, None, ids)[-1]
    assert np.linalg.norm(found - wanted) < 0.03 * np.linalg.norm(wanted)
    without = torch_logits(model, None, ids)[-1]
    assert np.linalg.norm(without - wanted) > 0.2 * np.linalg.norm(wanted)


@needs_llama_cpp
def test_llama_cpp_gives_the_same_probabilities(made):
    model, adapter, path = made
    with LlamaCpp(path, context=256) as server:
        for length in (1, 4, len(IDS)):
            wanted = torch_logits(model, adapter, IDS[:length])[-1]
            assert divergence(wanted, server.next_token(IDS[:length], 1000)) < 1e-4
        tokens = server.tokens("<|user|>Leave: 27 days, it's <|end|>")
    from doyen.models.chat_tokenizer import open_chat_tokenizer

    text = "<|user|>Leave: 27 days, it's <|end|>"
    assert tokens == open_chat_tokenizer(model)(text, add_special_tokens=False)["input_ids"]


@needs_llama_cpp
def test_llama_cpp_adds_the_adapter_to_the_base(made, tmp_path):
    model, adapter, _ = made
    write_gguf(MergedModel(model, None), tmp_path / "base.gguf", "f16", {"name": "x"}, lambda *_: None)
    assert write_gguf_lora(model, adapter, tmp_path / "lora.gguf", "a", lambda *_: None) > 7
    wanted, base = torch_logits(model, adapter, IDS)[-1], torch_logits(model, None, IDS)[-1]
    with LlamaCpp(tmp_path / "base.gguf", lora=tmp_path / "lora.gguf", context=256) as server:
        found = server.next_token(IDS, 1000)
    assert divergence(wanted, found) < 1e-4 < 1e-2 < divergence(base, found)


@pytest.mark.parametrize("options", [{"use_rslora": True, "r": 16}, {"alpha_pattern": {"q_proj": 32}}])
def test_other_scalings_are_folded_into_b(tmp_path, options):
    model = tiny_exports.model_folder(tmp_path / "model", "llama")
    adapter = tiny_exports.adapter_into(tmp_path / "adapter", model, **options)
    write_gguf_lora(model, adapter, tmp_path / "lora.gguf", "a", lambda *_: None)
    file, merged = GgufFile(tmp_path / "lora.gguf", (6, 2)), MergedModel(model, adapter)
    plain, name = MergedModel(model, None), "model.layers.1.self_attn.q_proj"
    a, b = file.tensor(f"{name}.lora_A.weight"), file.tensor(f"{name}.lora_B.weight")
    scale = file["adapter.lora.alpha"] / len(a)
    assert np.allclose(scale * b @ a, merged.tensor(f"{name}.weight") - plain.tensor(f"{name}.weight"), atol=1e-5)


def test_dora_has_no_place_in_a_gguf_adapter(tmp_path):
    model = tiny_exports.model_folder(tmp_path / "model", "llama")
    adapter = tiny_exports.adapter_into(tmp_path / "adapter", model, use_dora=True)
    with pytest.raises(UsageError, match="DoRA") as caught:
        write_gguf_lora(model, adapter, tmp_path / "x.gguf", "a", lambda *_: None)
    assert "--format gguf" in caught.value.hint


@pytest.mark.parametrize("quantisation", ["bf16", "q8_0", "q4_k_m"])
def test_fewer_bits_stay_near(tmp_path, quantisation):
    model = tiny_exports.model_folder(
        tmp_path / "model", "phi3", hidden_size=256, intermediate_size=256, num_attention_heads=4
    )
    types = write_gguf(MergedModel(model, None), tmp_path / "x.gguf", quantisation, {"name": "x"}, lambda *_: None)
    main = {"bf16": "BF16", "q8_0": "Q8_0", "q4_k_m": "Q4_K"}[quantisation]
    assert types[main] >= 2 and (quantisation != "q4_k_m" or (types["Q6_K"] >= 1 and types["Q5_K"] == 2))
    wanted = torch_logits(model, None, IDS)[-1]
    (tmp_path / "back").mkdir()
    convert_gguf(tmp_path / "x.gguf", tmp_path / "back")
    own = torch_logits(tmp_path / "back", None, IDS)[-1]
    # twelve quantised products in a row, of random weights
    most = {"bf16": 0.02, "q8_0": 0.03, "q4_k_m": 0.25}[quantisation]
    assert np.linalg.norm(own - wanted) < most * np.linalg.norm(wanted)
    if has_llama_cpp():
        with LlamaCpp(tmp_path / "x.gguf", context=256) as server:
            assert divergence(own, server.next_token(IDS, 1000)) < 2e-3


def test_rows_that_do_not_divide_by_256_fall_back(made, tmp_path):
    types = write_gguf(MergedModel(made[0], None), tmp_path / "x.gguf", "q4_k_m", {"name": "x"}, lambda *_: None)
    assert set(types) <= {"F32", "Q5_0", "Q5_1", "Q8_0"} and types["Q5_0"] > 3


@needs_llama_cpp
def test_llama_3s_scaled_frequencies(tmp_path):
    rope = {"rope_type": "llama3", "rope_theta": 1000.0, "factor": 8.0, "low_freq_factor": 1.0}
    rope |= {"high_freq_factor": 4.0, "original_max_position_embeddings": 64}
    model = tiny_exports.model_folder(tmp_path / "model", "llama", rope_parameters=rope)
    write_gguf(MergedModel(model, None), tmp_path / "x.gguf", "f16", {"name": "x"}, lambda *_: None)
    ids = IDS * 9
    with LlamaCpp(tmp_path / "x.gguf", context=256) as server:
        assert divergence(torch_logits(model, None, ids)[-1], server.next_token(ids, 1000)) < 1e-4


@needs_llama_cpp
def test_longrope_beyond_and_below_its_switch(tmp_path):
    """llama.cpp takes the long frequencies where the context, not the prompt, is longer than the switch."""
    model = tiny_exports.model_folder(tmp_path / "model", "longrope")
    write_gguf(MergedModel(model, None), tmp_path / "x.gguf", "f16", {"name": "x"}, lambda *_: None)
    for ids, context in ((IDS, 256), (IDS * 30, 512)):
        with LlamaCpp(tmp_path / "x.gguf", context=context) as server:
            assert divergence(torch_logits(model, None, ids)[-1], server.next_token(ids, 1000)) < 1e-4


def test_the_order_of_rows_goes_there_and_back():
    values = np.arange(3 * 8 * 5).reshape(24, 5)
    assert np.array_equal(unwoven(woven(values, 3), 3), values)
    assert woven(values, 3)[:4, 0].tolist() == [0, 20, 5, 25]


def test_a_family_that_llama_cpp_is_not_written_for(tmp_path):
    model = tiny_models.llama_folder(tmp_path / "model")
    tiny_exports.vary_config(model, model_type="gpt_neox")
    with pytest.raises(ModelError, match="'gpt_neox' cannot be written as GGUF here; known: llama, mistral"):
        write_gguf(MergedModel(model, None), tmp_path / "x.gguf", "f16", {"name": "x"}, lambda *_: None)
    rope = {"rope_type": "yarn", "rope_theta": 1.0, "factor": 4.0}
    tiny_exports.vary_config(model, model_type="llama", rope_parameters=rope)
    with pytest.raises(ModelError, match="'yarn' cannot be written"):
        write_gguf(MergedModel(model, None), tmp_path / "x.gguf", "f16", {"name": "x"}, lambda *_: None)


def test_a_split_without_a_name_is_refused(tmp_path):
    model = tiny_models.llama_folder(tmp_path / "model")
    content = json.loads((model / "tokenizer.json").read_text())
    content["pre_tokenizer"] = {"type": "Whitespace"}
    (model / "tokenizer.json").write_text(json.dumps(content))
    with pytest.raises(ModelError, match="no known name in llama.cpp; known: smollm, gpt-2, qwen2"):
        write_gguf(MergedModel(model, None), tmp_path / "x.gguf", "f16", {"name": "x"}, lambda *_: None)


def test_broken_and_foreign_gguf_files_are_told(made, tmp_path):
    (tmp_path / "x.gguf").write_bytes(made[2].read_bytes()[:900])
    with pytest.raises(ModelError, match="no GGUF file that can be read"):
        convert_gguf(tmp_path / "x.gguf", tmp_path)
    (tmp_path / "y.gguf").write_bytes(b"not a model")
    with pytest.raises(ModelError, match="no GGUF file that can be read"):
        convert_gguf(tmp_path / "y.gguf", tmp_path)
    from gguf import GGUFWriter

    writer = GGUFWriter(tmp_path / "z.gguf", "mamba")
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    writer.close()
    with pytest.raises(ModelError, match="architecture is mamba; known: llama, qwen2"):
        convert_gguf(tmp_path / "z.gguf", tmp_path)


def test_a_divergence_of_some_tokens_is_never_more_than_of_all():
    rng = np.random.default_rng(0)
    p, q = (log_softmax(rng.normal(size=50).astype(np.float32)) for _ in range(2))
    every = np.arange(50)
    whole = _divergence(p, every, q)
    assert whole == pytest.approx(float(np.sum(np.exp(p) * (p - q))))
    top = np.argsort(-q)[:10]
    assert 0 < _divergence(p, top, q[top]) < whole
    assert _divergence(p, every, p) == pytest.approx(0, abs=1e-12)
    assert _dense(np.array([2, 0]), np.array([-1.0, -2.0])).tolist() == [-2.0, -np.inf, -1.0]


def test_an_engine_reads_as_transformers_does(made):
    model, adapter, _ = made
    reader = EngineReader(model, adapter)
    ids, logs = reader.log_probabilities(IDS[:-2], IDS[-2:])[-1]
    assert divergence(torch_logits(model, adapter, IDS)[-1], (ids, logs)) < 1e-4
