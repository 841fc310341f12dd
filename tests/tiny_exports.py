"""Tiny experts for tests of exports: a random model of each family with a random adapter and a manifest, no training."""

import dataclasses
import json

import tiny_models

import doyen
from doyen.adapters import AdapterManifest
from doyen.models.chat_tokenizer import open_chat_tokenizer
from doyen.models.engine import golden_tokens, template_hash
from doyen.models.fitting import fingerprint_of_config, weights_fingerprint

FAMILIES = ("llama", "mistral", "qwen2", "qwen3", "phi3", "longrope")


def model_folder(folder, family, **changes):
    """Save a random model of a family whose rows divide by 32; a third of the heads for keys and values."""
    import transformers as t

    wide = {"hidden_size": 96, "intermediate_size": 128, "num_attention_heads": 6, "num_key_value_heads": 2}
    wide |= {"initializer_range": 0.05, "max_position_embeddings": 512} | changes
    if family == "longrope":
        factors = {"short_factor": [1.0 + i / 8 for i in range(8)], "long_factor": [2.0 + i for i in range(8)]}
        rope = {"rope_type": "longrope", "rope_theta": 10000.0, "original_max_position_embeddings": 256} | factors
        wide |= {"original_max_position_embeddings": 256, "rope_parameters": rope, "sliding_window": None}
    if family == "phi3":
        wide |= {"sliding_window": None}
    if family in ("phi3", "longrope"):
        return tiny_models.phi_folder(folder, **wide)
    classes = {
        "llama": (t.LlamaConfig, t.LlamaForCausalLM),
        "mistral": (t.MistralConfig, t.MistralForCausalLM),
        "qwen2": (t.Qwen2Config, t.Qwen2ForCausalLM),
        "qwen3": (t.Qwen3Config, t.Qwen3ForCausalLM),
    }
    wide |= {"head_dim": 32} if family == "qwen3" else {}
    wide |= {"sliding_window": None} if family == "mistral" else {}
    tokenizer = tiny_models.save_tokenizer(folder, tiny_models.CHATML_SPECIALS, tiny_models.CHATML_TEMPLATE)
    return tiny_models._save(folder, tokenizer, *classes[family], 0, wide)


def adapter_into(folder, model, *, seed=1, **options):
    """Save a random LoRA adapter of a model into a folder."""
    import torch
    from peft import LoraConfig, get_peft_model

    from doyen.models.engine import load_causal_model, quiet_peft

    with torch.random.fork_rng(), quiet_peft():
        torch.manual_seed(seed)
        config = LoraConfig(
            **{"r": 4, "lora_alpha": 8, "target_modules": "all-linear", "task_type": "CAUSAL_LM"} | options,
            init_lora_weights=False,
        )
        adapted = get_peft_model(load_causal_model(model, dtype=torch.float32), config)
        for name, weight in adapted.named_parameters():
            if ".lora_B." in name:
                weight.data *= 0.3
    adapted.save_pretrained(str(folder))
    return folder


def expert_of(folder, model, name="a", **options):
    """Make an expert with a random adapter whose manifest fits; return its folder."""
    expert = doyen.init(folder, model=str(model))
    adapter_into(expert / "adapters" / name, model, **options)
    write_manifest(expert / "adapters" / name, model, name)
    return expert


def write_manifest(adapter, model, name):
    """Write the manifest of an adapter that nothing trained."""
    tokenizer = open_chat_tokenizer(model)
    fields = {f.name: None for f in dataclasses.fields(AdapterManifest) if f.default is dataclasses.MISSING}
    fields = {key: value for key, value in fields.items() if key not in ("calibration", "gates", "versions")}
    fields |= {key: {} for key in ("settings", "examples", "calibration", "gates", "held_out", "forgetting", "machine")}
    fields |= {
        "name": name,
        "model": str(model),
        "model_fingerprint": fingerprint_of_config(model),
        "weights_fingerprint": weights_fingerprint(model),
        "template_hash": template_hash(tokenizer),
        "golden_tokens": golden_tokens(tokenizer),
        "created": "2026-11-28T10:00:00+00:00",
        "method": "lora",
        "settings": {"method": "lora", "rank": 4, "alpha": 8, "seed": 7},
        "examples": {"train": 12, "validation": 3, "sha256": "abc"},
        "sources": [{"document": "secret-name.pdf", "sha256": "00ff"}],
        "versions": {"doyen": "0.1.0"},
        "stages": [],
    }
    AdapterManifest(**fields).write(adapter)


def vary_config(model, **changes):
    """Change keys of a model folder's config.json."""
    path = model / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes), encoding="utf-8")
