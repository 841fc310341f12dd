"""The plan's arithmetic against the models themselves, built without weights, and what it says of known cases."""

import json
from dataclasses import replace

import pytest
import tiny_models

import doyen
from doyen.errors import ModelError, UsageError
from doyen.finetuning.data import TokenisedExample
from doyen.models.catalogue import CATALOGUE
from doyen.planning.devices import GPUS, read_machine, this_machine
from doyen.planning.memory import NF4_BYTES, Training, check_bytes, layer_bytes, parts
from doyen.planning.shapes import SHAPES, find_shape, read_shape
from doyen.planning.timing import dequantise_s, step_flops, tokens_per_s

# ---- shapes


@pytest.mark.parametrize("name", ["phi-4-mini-instruct", "phi-3.5-mini-instruct", "phi-3-mini-4k-instruct"])
def test_the_built_in_shapes_have_the_catalogues_parameters(name):
    assert SHAPES[name].parameters == CATALOGUE[name].parameters


def test_known_sizes():
    assert SHAPES["llama-70b"].parameters == 70_553_706_496  # Llama 3 70B's model card
    assert SHAPES["llama-8b"].parameters == 8_030_261_248
    assert SHAPES["phi-4"].parameters == 14_659_507_200
    assert SHAPES["phi-3-mini"].adapter_parameters(16) == 25_165_824  # 25.2 million (PhiCookBook#185)


def built(kind, **changes):
    """Build a model without weights and return (its configuration as JSON, its number of parameters, linear shapes)."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    sizes = {"vocab_size": 500, "hidden_size": 64, "intermediate_size": 160, "num_hidden_layers": 3,
             "num_attention_heads": 4, "num_key_value_heads": 2, "pad_token_id": 0}  # fmt: skip
    config = AutoConfig.for_model(kind, **(sizes | changes))
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config)
    return json.loads(config.to_json_string(use_diff=False)), sum(p.numel() for p in model.parameters()), model


@pytest.mark.parametrize(
    ("kind", "changes"),
    [
        ("phi3", {}),
        ("llama", {"tie_word_embeddings": True}),
        ("llama", {"tie_word_embeddings": False}),
        ("mistral", {"head_dim": 32}),
        ("qwen2", {}),
        ("qwen3", {"head_dim": 16}),
    ],
)
def test_parameters_are_those_of_the_model(kind, changes):
    config, parameters, model = built(kind, **changes)
    shape = read_shape(config, "x")
    assert shape.parameters == parameters
    import torch

    found = {
        n.rsplit(".", 1)[-1]: (m.in_features, m.out_features)
        for n, m in model.named_modules()
        if isinstance(m, torch.nn.Linear) and n != "lm_head"
    }
    assert found == shape.linears


def test_a_folder_and_the_expert_default(tmp_path):
    folder = tiny_models.phi_folder(tmp_path / "phi")
    shape = find_shape(str(folder))
    assert (shape.hidden, shape.fused, shape.layers) == (64, True, 2)
    (folder / "model.safetensors").unlink()  # no weights needed
    assert find_shape(str(folder)) == shape


def test_models_that_cannot_be_counted(tmp_path):
    with pytest.raises(ModelError, match="no model or shape 'llama-7'") as caught:
        find_shape("llama-7")
    assert "did you mean llama-70b" in caught.value.hint
    with pytest.raises(ModelError, match="not on this machine"):
        find_shape("someone/unheard-of")
    with pytest.raises(ModelError, match="architecture 'mamba'"):
        read_shape({"model_type": "mamba"}, "m")
    with pytest.raises(ModelError, match="has no 'hidden_size'"):
        read_shape({"model_type": "llama", "num_attention_heads": 4}, "m")
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(ModelError, match="not valid JSON"):
        find_shape(str(tmp_path))


# ---- machines


def test_machines():
    two = read_machine("2x24")
    assert (two.count, two.device.memory_gib, two.device.name) == (2, 24.0, "GPU")
    assert read_machine("24GB", 4).count == 4
    assert read_machine("H100").device is GPUS["h100"] and read_machine("2xA100").device is GPUS["a100-80"]
    assert read_machine("4090").device is GPUS["rtx-4090"]
    assert all(g.source.startswith("https://") and g.tera_flops and g.bandwidth_gb_s for g in GPUS.values())
    for wrong in ("h1000", "0x24", "0", "", "2x"):
        with pytest.raises(UsageError, match="unknown GPU"):
            read_machine(wrong)
    with pytest.raises(UsageError, match="names 2 GPUs"):
        read_machine("2x24", 4)


def test_this_machine_is_measured():
    here = this_machine()
    assert here.count >= 1 and here.device.memory_gib > 1 and here.device.tera_flops > 0


# ---- memory, against autograd itself


@pytest.mark.parametrize("make", [tiny_models.phi_folder, tiny_models.llama_folder])
@pytest.mark.parametrize("method", ["lora", "qlora", "full"])
def test_what_a_layer_keeps_is_what_autograd_keeps(tmp_path, make, method):
    """Count the storages that autograd keeps for one more layer: weights' copies aside, the formula is exact."""
    import torch

    from doyen.config import FinetuneSettings
    from doyen.finetuning.loss import answer_loss
    from doyen.finetuning.methods import trained_model
    from doyen.finetuning.preparing import Prepared

    rows, width, kept = 2, 128, {}
    for layers in (1, 2):
        folder = make(tmp_path / str(layers), hidden_size=128, intermediate_size=320, num_hidden_layers=layers)
        settings = FinetuneSettings(method=method, rank=16)
        model = trained_model(folder, settings, Prepared([], [], "", {}, {}, []), lambda _: None).train()
        weights = {p.untyped_storage().data_ptr() for p in model.parameters()}
        storages, alive = {}, []

        def keep(tensor, weights=weights, storages=storages, alive=alive):
            storage = tensor.untyped_storage()
            if storage.data_ptr() not in weights:
                storages[storage.data_ptr()] = storage.nbytes()
                alive.append(tensor)  # so that no address is used again
            return tensor

        examples = [TokenisedExample(tuple([5] * width), width - 4) for _ in range(rows)]
        with (
            torch.autograd.graph.saved_tensors_hooks(keep, lambda t: t),
            torch.autocast("cpu", dtype=torch.bfloat16),
        ):
            answer_loss(model, examples)
        kept[layers] = sum(storages.values())
    shape = find_shape(str(folder))
    how = Training(method=method, tokens=rows * width, length=width, gpu=False)
    trained = shape.linear_parameters if method == "full" else shape.adapter_parameters(16)
    copies = 2 * trained / shape.layers
    assert kept[2] - kept[1] == pytest.approx(layer_bytes(shape, how) * rows * width + copies, rel=0.04)


def test_nf4_is_what_bitsandbytes_keeps():
    import torch
    from bitsandbytes.functional import quantize_4bit

    packed, state = quantize_4bit(torch.randn(2048, 4096), quant_type="nf4", compress_statistics=True, blocksize=64)
    size = packed.nbytes + state.absmax.nbytes + state.state2.absmax.nbytes
    assert size / (2048 * 4096) == pytest.approx(NF4_BYTES, rel=1e-3)


def test_parts_follow_what_they_are_of():
    shape, how = SHAPES["phi-3-mini"], Training("lora", tokens=4096, length=2048)
    lora, qlora = parts(shape, how), parts(shape, replace(how, method="qlora"))
    full = parts(shape, replace(how, method="full"))
    assert lora["weights"] == shape.parameters * 2
    assert qlora["weights"] / lora["weights"] < 0.31
    assert full["weights"] + full["gradients"] + full["optimiser"] > shape.parameters * 16  # 16 bytes and bf16 copies
    assert parts(shape, replace(how, tokens=8192))["activations"] == 2 * lora["activations"]
    assert parts(shape, replace(how, checkpointing=True))["activations"] < 0.11 * lora["activations"]
    assert parts(shape, replace(how, supervised_share=0.2))["logits and loss"] == 2 * lora["logits and loss"]
    halves = parts(shape, replace(how, shards=2))
    assert halves["weights"] == lora["weights"] / 2 and halves["gathered layers"] > 0
    assert parts(shape, replace(how, shards=2, offload=True))["weights"] == 0
    assert check_bytes(shape, replace(how, method="qlora")) > shape.parameters * 2


# ---- time


def test_operations_and_tokens_a_second():
    shape, how = SHAPES["llama-8b"], Training("lora", tokens=2048, length=512)
    full, checkpointed = replace(how, method="full"), replace(how, checkpointing=True)
    assert 1.4 < step_flops(shape, full) / step_flops(shape, how) < 1.5
    assert 1.4 < step_flops(shape, checkpointed) / step_flops(shape, how) < 1.55
    one, two = read_machine("h100"), read_machine("2xh100")
    assert tokens_per_s(shape, how, two) == 2 * tokens_per_s(shape, how, one)
    assert tokens_per_s(shape, how, read_machine("80")) is None


def test_what_quantising_costs_falls_with_the_tokens_of_a_step():
    shape, machine = SHAPES["phi-4-mini"], read_machine("h100")

    def slowdown(tokens):
        how = Training("lora", tokens=tokens, length=512)
        return tokens_per_s(shape, how, machine) / tokens_per_s(shape, replace(how, method="qlora"), machine) - 1

    assert slowdown(512) > 4 * slowdown(8192) > 0
    assert dequantise_s(shape, Training("lora"), machine) == 0


# ---- plans


def test_70b_on_one_card_of_141_gb():
    made = doyen.plan("llama-70b", gpu="h200", micro_batch_tokens=8192)
    full, lora, qlora = made.methods
    assert not full.way.fits and not lora.way.fits and qlora.way.fits
    assert qlora.way.checkpointing and 50 < qlora.way.total_gib < 65
    assert 34 < qlora.way.parts_gib["weights"] < 40
    assert made.advice[0].startswith("qlora, gradient checkpointing")


def test_70b_on_two_cards_of_24_gb_needs_the_machines_own_memory():
    made = doyen.plan("llama-70b", gpu="2x24", max_tokens=512, micro_batch_tokens=512)
    qlora = made.methods[2]
    assert qlora.way.placement == "FSDP with CPU offload" and 36 < qlora.way.host_gib < 45
    tried = {w.placement: w for w in qlora.tried if w.checkpointing}
    assert tried["DDP"].total_gib > 40 and not tried["FSDP"].fits and tried["FSDP"].total_gib < 30
    text = " ".join(made.advice)
    assert made.advice[0].startswith("qlora, FSDP with CPU offload") and "arithmetic" in text and "16 bits" in text
    assert qlora.tokens_per_s is None


def test_on_several_gpus_the_plan_names_the_command():
    two, shared, in_parts = (
        doyen.plan("phi-4-mini", gpu="2x24", method="lora").advice,
        doyen.plan("llama-70b", gpu="8xh100", method="lora", max_tokens=512, micro_batch_tokens=512).advice,
        doyen.plan("llama-70b", gpu="2x40", method="qlora", max_tokens=512, micro_batch_tokens=512),
    )
    assert "doyen finetune --method lora --processes 2" in two
    assert "doyen finetune --method lora --processes 8 --shard" in shared
    assert in_parts.methods[0].way.placement == "FSDP"
    assert "qlora, FSDP, gradient checkpointing is arithmetic: doyen finetune does not do it" in in_parts.advice
    assert not [line for line in doyen.plan("phi-4-mini", gpu="24").advice if "--processes" in line]


def test_the_lightest_way_that_fits_is_taken():
    roomy, tight = (doyen.plan("phi-4-mini", gpu=g, method="lora").methods[0] for g in ("h100", "16"))
    assert not roomy.way.checkpointing and tight.way.checkpointing and tight.way.fits
    assert tight.trained_parameters == roomy.trained_parameters
    none = doyen.plan("phi-4-mini", gpu="8", method="full")
    assert not none.methods[0].way.fits and none.advice[0].startswith("nothing fits")
    small = doyen.plan("phi-4-mini", gpu="12")
    assert small.advice[0].startswith("lora") or small.advice[0].startswith("qlora")


def test_hours_are_tokens_by_pace():
    made = doyen.plan("llama-8b", gpu="h100", method="lora", total_tokens=36_000_000).methods[0]
    assert made.hours == pytest.approx(36_000_000 / made.tokens_per_s / 3600, rel=0.01)


def test_a_plan_is_json():
    row = json.loads(json.dumps(doyen.plan("phi-4-mini", gpu="h100").as_dict()))
    assert [m["method"] for m in row["methods"]] == ["full", "lora", "qlora"]
    for found in row["methods"]:
        assert found["total_gib"] == pytest.approx(sum(found["parts_gib"].values()), abs=0.02)


def test_numbers_that_make_no_sense():
    for wrong in (
        {"micro_batch_tokens": 0},
        {"rank": -1},
        {"gpus": 2},
        {"supervised_share": 0.0},
        {"method": "prompt"},
    ):
        with pytest.raises(UsageError) as caught:
            doyen.plan("phi-4-mini", measure=False, **wrong)
        assert caught.value.hint
