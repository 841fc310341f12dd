"""Full fine-tuning, the variants of LoRA, and merging and splitting what was trained; on Phi's fused modules."""

import json

import pytest
import tiny_models
import torch
from safetensors.torch import load_file

import doyen
from doyen.adapters import read_adapter
from doyen.config import FinetuneSettings, ModelSettings, Settings
from doyen.errors import EngineError, UsageError
from doyen.exporting.running import export_adapter
from doyen.finetuning.loss import mean_loss
from doyen.finetuning.methods import lora_variants, resolved, trained_model
from doyen.finetuning.preparing import prepare
from doyen.finetuning.training import finetune
from doyen.models.transformers_engine import TransformersEngine
from doyen.prompts import closed_book_messages
from doyen.records import Example

PLACES = (
    "harbour ferry tower bridge market chapel garden museum station library "
    "mill quarry orchard theatre school bakery stable lighthouse granary foundry"
).split()


def logits(folder, prompt, adapter=None, dtype=torch.float32):
    return TransformersEngine(folder, dtype=dtype).next_token_logits(prompt, adapter=adapter)


# ---- settings


def test_the_learning_rate_is_the_methods_own_unless_given():
    assert (
        resolved(FinetuneSettings()).learning_rate == resolved(FinetuneSettings(method="qlora")).learning_rate == 5e-4
    )
    assert resolved(FinetuneSettings(method="full")).learning_rate == 5e-5
    assert resolved(FinetuneSettings(method="full", learning_rate=1e-3)).learning_rate == 1e-3


@pytest.mark.parametrize(
    ("method", "variants", "message"),
    [
        ("lora", "dorra", "unknown LoRA variant dorra"),
        ("full", "rslora", "trains all weights"),
        ("lora", "loftq", "needs --method qlora"),
        ("qlora", "loftq,dora", "do not go together"),
    ],
)
def test_variants_that_cannot_be_trained_are_refused(method, variants, message):
    with pytest.raises(UsageError, match=message) as caught:
        resolved(FinetuneSettings(method=method, lora_variants=variants))
    assert caught.value.hint


def test_variants_are_names_separated_by_commas():
    assert lora_variants(FinetuneSettings(lora_variants=" DoRA, rslora,")) == {"dora", "rslora"}


# ---- variants of LoRA


@pytest.mark.parametrize(
    ("method", "variants"),
    [
        ("lora", "dora,rslora"),
        *(
            pytest.param(*own, marks=pytest.mark.slow)
            for own in (("lora", "rslora"), ("qlora", "dora"), ("qlora", "loftq"))
        ),
    ],
)
def test_a_variant_learns_and_is_served(phi, examples, settings_of, tmp_path, method, variants):
    settings = settings_of(phi, method=method, lora_variants=variants, epochs=6.0)
    manifest = finetune(tmp_path, settings, examples, [], name="a")
    lines = [json.loads(line) for line in (tmp_path / "adapters" / "a" / "history.jsonl").read_text().splitlines()]
    assert lines[-1]["loss"] < 0.75 * lines[0]["loss"]
    config = json.loads((tmp_path / "adapters" / "a" / "adapter_config.json").read_text())
    assert (config["use_dora"], config["use_rslora"]) == ("dora" in variants, "rslora" in variants)
    extra = 2 * (128 + 64 + 192 + 64) if "dora" in variants else 0  # a magnitude for each output row
    assert manifest.trained_parameters == 2 * 4 * ((64 + 128) + (64 + 64) + (64 + 192) + (96 + 64)) + extra


def quantised_error(phi, settings, adapter=None):
    """Return the NF4 model's largest logit error against the whole one, with the adapter as it starts."""
    from doyen.finetuning.methods import trained_model
    from doyen.finetuning.preparing import Prepared

    model = trained_model(phi, settings.finetune, Prepared([], [], "", {}, {}, []), lambda _: None).float().eval()
    ids = torch.tensor([[5, 6, 7, 8, 9, 10]])
    from transformers import AutoModelForCausalLM

    whole = AutoModelForCausalLM.from_pretrained(str(phi), dtype=torch.float32)(ids).logits
    return float((model(input_ids=ids).logits - whole).detach().abs().mean())


def test_loftq_starts_nearer_to_the_whole_model(phi, settings_of):
    plain = quantised_error(phi, settings_of(phi, method="qlora", rank=32, alpha=64))
    near = quantised_error(phi, settings_of(phi, method="qlora", rank=32, alpha=64, lora_variants="loftq"))
    assert near < 0.7 * plain


def test_a_loftq_adapter_without_training_adds_nothing_to_the_whole_base(phi, examples, settings_of, tmp_path):
    settings = settings_of(phi, method="qlora", lora_variants="loftq,rslora", learning_rate=1e-3, epochs=0.5)
    finetune(tmp_path, settings, examples, [], name="a")
    config = json.loads((tmp_path / "adapters" / "a" / "adapter_config.json").read_text())
    assert config["r"] == 8 and config["lora_alpha"] == pytest.approx(8 * 2**0.5)
    prompt = list(examples[0].messages[:-1])
    moved = (logits(phi, prompt, tmp_path / "adapters" / "a") - logits(phi, prompt)).abs().max()
    assert 1e-3 < moved < 0.5  # one step at a small rate; without the subtraction it is the error of NF4 and more


# ---- full fine-tuning


@pytest.fixture(scope="module")
def whole(phi, examples, validation, tmp_path_factory):
    """A model trained whole: (expert, manifest)."""
    expert = doyen.init(tmp_path_factory.mktemp("whole") / "expert", model=str(phi))
    tuned = FinetuneSettings(
        method="full", learning_rate=0.01, epochs=30.0, batch_size=4, micro_batch_tokens=256, max_tokens=512
    )
    settings = Settings(model=ModelSettings(name=str(phi)), finetune=tuned)
    return expert, finetune(expert, settings, examples, validation, name="full-1")


def test_all_weights_are_trained_and_saved_as_a_model(whole, phi, examples):
    expert, manifest = whole
    folder = expert / "adapters" / "full-1"
    base = load_file(str(phi / "model.safetensors"))
    made = load_file(str(folder / "model.safetensors"))
    assert manifest.trained_parameters == sum(t.numel() for t in base.values())
    assert base.keys() == made.keys()
    assert all(not torch.equal(made[k].float(), base[k].float()) for k in base if "proj" in k)
    assert manifest.method == "full" and manifest.target_modules == ["all weights"]
    assert manifest.train_loss < 0.5 and 0 < manifest.refusal_threshold < 1
    assert not (folder / "adapter_config.json").exists() and (folder / "tokenizer.json").exists()


def test_the_engine_serves_it_and_the_base_beside_it(whole, phi, examples):
    expert, _ = whole
    folder, engine = expert / "adapters" / "full-1", TransformersEngine(phi)
    prompts = [list(e.messages[:-1]) for e in examples]
    base = [c.text for c in engine.generate(prompts, max_tokens=8)]
    tuned = [c.text for c in engine.generate(prompts, max_tokens=8, adapter=folder)]
    assert sum(text == e.messages[-1]["content"] for text, e in zip(tuned, examples, strict=True)) >= 6
    assert [c.text for c in engine.generate(prompts, max_tokens=8)] == base != tuned
    assert [c.text for c in TransformersEngine(phi).generate(prompts, max_tokens=8, adapter=folder)] == tuned


def test_a_whole_model_of_another_base_is_refused(whole, tmp_path):
    expert, _ = whole
    other = tiny_models.phi_folder(tmp_path, hidden_size=32)
    with pytest.raises(EngineError, match="trained for another model"):
        logits(other, [{"role": "user", "content": "x"}], expert / "adapters" / "full-1")


def test_a_whole_model_is_exported_as_it_is_and_never_as_an_adapter(whole, examples, tmp_path):
    expert, _ = whole
    made = export_adapter(expert, tmp_path / "made")
    prompt = list(examples[0].messages[:-1])
    assert torch.equal(logits(made, prompt), logits(expert / "adapters" / "full-1", prompt))
    assert not (made / "manifest.json").exists()
    with pytest.raises(UsageError, match="whole model"):
        export_adapter(expert, tmp_path / "adapter", form="adapter")
    assert not (tmp_path / "adapter").exists() and len(list(tmp_path.iterdir())) == 1


# ---- Phi's fused modules: overfit, save, load, merge, split


@pytest.fixture(scope="module")
def fused_phi(tmp_path_factory):
    """A random Phi-3 of 2 layers, hidden 256."""
    return tiny_models.phi_folder(
        tmp_path_factory.mktemp("fused"), hidden_size=256, intermediate_size=512, initializer_range=0.1
    )


@pytest.fixture(scope="module", params=["lora", "qlora"])
def overfitted(request, fused_phi, tmp_path_factory):
    """Twenty examples learnt by heart: (expert, manifest, examples)."""
    expert = doyen.init(tmp_path_factory.mktemp(request.param) / "expert", model=str(fused_phi))
    examples = [
        Example((*closed_book_messages(f"How far is the {p}?"), {"role": "assistant", "content": f"{100 + 7 * i} m"}))
        for i, p in enumerate(PLACES)
    ]
    tuned = FinetuneSettings(
        method=request.param, rank=16, alpha=32, learning_rate=5e-3, epochs=40.0, batch_size=10, micro_batch_tokens=2048
    )
    settings = Settings(model=ModelSettings(name=str(fused_phi)), finetune=tuned)
    return expert, finetune(expert, settings, examples, [], name="a"), examples


def test_twenty_examples_are_learnt_by_heart(overfitted, fused_phi):
    expert, manifest, examples = overfitted
    assert manifest.train_loss < 0.05
    assert manifest.target_modules == ["down_proj", "gate_up_proj", "o_proj", "qkv_proj"]
    prompts = [list(e.messages[:-1]) for e in examples]
    found = TransformersEngine(fused_phi).generate(prompts, max_tokens=8, adapter=expert / "adapters" / "a")
    right = sum(c.text == e.messages[-1]["content"] for c, e in zip(found, examples, strict=True))
    assert right >= 19  # qlora is served on the weights that were not quantised


def test_merged_logits_are_the_unmerged_ones(overfitted, fused_phi, tmp_path):
    expert, _, examples = overfitted
    made = export_adapter(expert, tmp_path / "merged", name="a")
    config = json.loads((made / "config.json").read_text())
    assert config["dtype"] == "bfloat16"
    assert not any("lora" in key for key in load_file(str(made / "model.safetensors")))
    adapter, base = expert / "adapters" / "a", TransformersEngine(fused_phi, dtype=torch.float32)
    engine = TransformersEngine(made, dtype=torch.float32)
    for e in examples[:5]:
        prompt = list(e.messages[:-1])
        before, after = base.next_token_logits(prompt, adapter=adapter), engine.next_token_logits(prompt)
        # a weight rounded to bf16 is off by at most 2⁻⁹ of itself
        assert (after - before).norm() < 0.02 * before.norm() and after.argmax() == before.argmax()
    moved = (base.next_token_logits(prompt) - before).norm()
    assert moved > 10 * (after - before).norm()


def as_llama(phi, folder):
    """Save the weights of a Phi-3 as a Llama, its fused linears split: the same function."""
    from transformers import AutoConfig, LlamaConfig, LlamaForCausalLM

    c = AutoConfig.from_pretrained(str(phi))
    keep = ("vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads",
            "num_key_value_heads", "max_position_embeddings", "rms_norm_eps", "tie_word_embeddings", "eos_token_id")  # fmt: skip
    model = LlamaForCausalLM(LlamaConfig(**{k: getattr(c, k) for k in keep}))
    head = c.hidden_size // c.num_attention_heads
    rows = {"qkv_proj": [c.num_attention_heads * head] + [c.num_key_value_heads * head] * 2}
    rows["gate_up_proj"] = [c.intermediate_size] * 2
    names = {"qkv_proj": ["q_proj", "k_proj", "v_proj"], "gate_up_proj": ["gate_proj", "up_proj"]}
    weights = {}
    for key, value in load_file(str(phi / "model.safetensors")).items():
        kind = next((k for k in rows if k in key), None)
        parts = zip(names[kind], value.split(rows[kind]), strict=True) if kind else [("", value)]
        weights |= {key.replace(kind, n) if kind else key: v for n, v in parts}
    model.load_state_dict(weights)
    model.save_pretrained(str(folder))
    for path in phi.glob("*token*"):
        (folder / path.name).write_bytes(path.read_bytes())
    (folder / "chat_template.jinja").write_bytes((phi / "chat_template.jinja").read_bytes())
    return folder


def test_a_split_adapter_does_on_split_modules_what_the_fused_one_does(overfitted, fused_phi, tmp_path):
    expert, _, examples = overfitted
    made = export_adapter(expert, tmp_path / "split", form="split")
    llama = as_llama(fused_phi, tmp_path / "llama")
    prompt = list(examples[3].messages[:-1])
    assert torch.allclose(logits(llama, prompt), logits(fused_phi, prompt), atol=1e-4)
    fused = logits(fused_phi, prompt, expert / "adapters" / "a")
    assert torch.allclose(logits(llama, prompt, made), fused, atol=1e-3, rtol=1e-4)
    assert not torch.allclose(fused, logits(fused_phi, prompt), atol=0.1)


@pytest.mark.slow
def test_a_dora_adapter_is_merged_and_split(fused_phi, examples, settings_of, tmp_path):
    expert = doyen.init(tmp_path / "expert", model=str(fused_phi))
    finetune(expert, settings_of(fused_phi, lora_variants="dora", learning_rate=2e-3), examples, [], name="d")
    prompt, adapter = list(examples[0].messages[:-1]), expert / "adapters" / "d"
    tuned = logits(fused_phi, prompt, adapter)
    merged = logits(export_adapter(expert, tmp_path / "merged"), prompt)
    assert (merged - tuned).norm() < 0.02 * tuned.norm()
    split = export_adapter(expert, tmp_path / "split", form="split")
    assert torch.allclose(logits(as_llama(fused_phi, tmp_path / "llama"), prompt, split), tuned, atol=1e-3, rtol=1e-4)


def test_exports_that_cannot_be_had(overfitted, fused_phi, tmp_path):
    expert, _, _ = overfitted
    with pytest.raises(UsageError, match="unknown format 'onnx'"):
        export_adapter(expert, tmp_path / "a", form="onnx")
    with pytest.raises(UsageError, match="there already"):
        export_adapter(expert, expert)
    with pytest.raises(UsageError, match="no adapter 'b'"):
        export_adapter(expert, tmp_path / "a", name="b")
    text = (expert / "doyen.toml").read_text()
    other = tiny_models.phi_folder(tmp_path / "other")
    (expert / "doyen.toml").write_text(text.replace(str(fused_phi), str(other)))
    try:
        with pytest.raises(UsageError, match="not the expert's model now"):
            export_adapter(expert, tmp_path / "a")
    finally:
        (expert / "doyen.toml").write_text(text)
    assert read_adapter(expert / "adapters" / "a").name == "a"


def test_an_adapter_of_split_modules_has_nothing_to_split(llama, examples, settings_of, tmp_path):
    expert = doyen.init(tmp_path / "expert", model=str(llama))
    finetune(expert, settings_of(llama, epochs=1.0), examples, [], name="a")
    with pytest.raises(UsageError, match="no fused module"):
        export_adapter(expert, tmp_path / "split", form="split")


@pytest.mark.slow
def test_gradient_checkpointing_gives_the_same_adapter(phi, examples, settings_of, tmp_path):
    for name, changes in (("plain", {}), ("kept", {"gradient_checkpointing": True})):
        finetune(tmp_path, settings_of(phi, **changes), examples, [], name=name)
    plain, kept = (load_file(str(tmp_path / "adapters" / n / "adapter_model.safetensors")) for n in ("plain", "kept"))
    assert all(torch.allclose(plain[k], kept[k], atol=2e-3) for k in plain)


def test_a_pass_without_gradients_leaves_4_bit_weights_as_they_are(phi, examples, settings_of):
    """Also in layers whose width (96 here) is no multiple of bitsandbytes' block of 64."""
    settings = settings_of(phi, method="qlora")
    prepared = prepare(phi, settings, examples, [], lambda _: None)
    model = trained_model(phi, settings.finetune, prepared, lambda _: None)
    packed = {name: p.detach().clone() for name, p in model.named_parameters() if hasattr(p, "quant_state")}
    assert len(packed) == 8
    first = mean_loss(model.eval(), prepared.train, 256)
    now = dict(model.named_parameters())
    assert all(torch.equal(value, now[name]) for name, value in packed.items())
    assert all(now[name].quant_state.nested for name in packed)
    assert mean_loss(model, prepared.train, 256) == first
