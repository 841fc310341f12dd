"""Base model → the model that a method trains: LoRA (rsLoRA, DoRA), QLoRA (LoftQ), or all weights; and its saved form.

Knows no examples and no optimiser but its constructor.
"""

from __future__ import annotations

import ctypes
import dataclasses
import json
import math
import shutil
import sys
from pathlib import Path
from typing import Any

from doyen.config import FinetuneSettings
from doyen.errors import UsageError
from doyen.finetuning.gates import resolve_targets
from doyen.finetuning.preparing import Prepared, Say
from doyen.models.engine import load_causal_model, quiet_peft, quiet_transformers, working_dtype
from doyen.models.transformers_engine import quantisation

LORA_VARIANTS = ("rslora", "dora", "loftq")
LEARNING_RATE = {"lora": 5e-4, "qlora": 5e-4, "full": 5e-5}
"""LoRA's best rate is about ten times that of full fine-tuning (Schulman et al., "LoRA Without Regret", 2025)."""
_TOKENIZER_FILES = ("tokenizer*", "special_tokens_map.json", "chat_template*", "vocab*", "merges.txt", "added_tokens*")


def resolved(settings: FinetuneSettings) -> FinetuneSettings:
    """Return the settings with the method's own learning rate where none is given; its options are checked.

    Raises:
        UsageError: the options of LoRA are unknown, or do not go with the method or with each other.
    """
    lora_variants(settings)
    if settings.learning_rate > 0:
        return settings
    return dataclasses.replace(settings, learning_rate=LEARNING_RATE[settings.method])


def lora_variants(settings: FinetuneSettings) -> frozenset[str]:
    """Return the names in [finetune] lora_variants. Raises UsageError where PEFT could not train them."""
    names = [name.strip().lower() for name in settings.lora_variants.split(",") if name.strip()]
    known = f"of {', '.join(LORA_VARIANTS)}, separated by commas"
    if unknown := [name for name in names if name not in LORA_VARIANTS]:
        raise UsageError(f"unknown LoRA variant {', '.join(unknown)}", hint=f"[finetune] lora_variants: {known}")
    if names and settings.method == "full":
        raise UsageError(
            f"method full trains all weights: {', '.join(names)} is for LoRA",
            hint="--method lora or qlora, or no [finetune] lora_variants",
        )
    if "loftq" in names and settings.method != "qlora":
        raise UsageError(
            "loftq makes up for what quantising loses: it needs --method qlora", hint="--method qlora, or no loftq"
        )
    if {"loftq", "dora"} <= set(names):
        raise UsageError(
            "loftq and dora do not go together: DoRA takes its magnitudes from weights that LoftQ's start changes",
            hint="one of the two in [finetune] lora_variants",
        )
    return frozenset(names)


def trained_model(folder: Path, settings: FinetuneSettings, prepared: Prepared, say: Say) -> Any:
    """Load the base model as the method needs it; with LoRA, resolve the target modules and add the layers.

    Weights that are trained are float32. `prepared` gets the targets and, with LoftQ, the adapter's first weights.
    """
    quiet_transformers()
    from transformers import set_seed

    model = _base_model(folder, settings.method, "cpu" if settings.shard else None)
    if settings.gradient_checkpointing:
        enable = getattr(model, "activation_checkpointing_enable", None) or model.gradient_checkpointing_enable
        enable({"use_reentrant": False})
    set_seed(settings.seed)
    if settings.method == "full":
        prepared.targets, modules = ["all weights"], 0
    else:
        names = resolve_targets(model, settings.target_modules)
        prepared.targets, modules = sorted({name.rsplit(".", 1)[-1] for name in names}), len(names)
        model = with_adapter(model, settings, names)
        if "loftq" in lora_variants(settings):
            prepared.initial = _loftq_start(model, folder)
    trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
    whole = sum(p.quant_state.shape.numel() if hasattr(p, "quant_state") else p.numel() for p in model.parameters())
    method = "+".join([settings.method, *sorted(lora_variants(settings))])
    where = f"{modules} linear modules ({', '.join(prepared.targets)})" if modules else "all weights"
    say(f"{method}: {where}, {trained:,} of {whole:,} parameters trained")
    prepared.gates["targets"] = {"modules": modules, "trained_parameters": trained}
    return model


def _base_model(folder: Path, method: str, device: str | None = None) -> Any:
    """Load the weights: float32 to be trained whole, else frozen, in 16 bits or the linear ones in NF4.

    Where no device is named it is this process's GPU, if there is one.
    """
    import torch

    if device is None:
        device = f"cuda:{torch.cuda.current_device()}" if torch.cuda.is_available() else "cpu"
    if method == "full":
        return load_causal_model(folder, dtype=torch.float32).to(device)
    options = (
        {"quantization_config": quantisation(4, working_dtype()), "device_map": {"": device}}
        if method == "qlora"
        else {}
    )
    model = load_causal_model(folder, dtype=working_dtype(), **options)
    # Not PEFT's prepare_model_for_kbit_training: it doubles the embeddings and norms to float32, LoRA trains without.
    model.requires_grad_(False)
    if method != "qlora":
        return model.to(device)
    if device == "cpu":
        _keep_packing(model)
        _release_file(model)
    return model


def _keep_packing(model: Any) -> None:
    """Forbid bitsandbytes to repack 4-bit weights at the first pass without gradients.

    On processors with AVX-512 bf16 it does so for good, in a form with scales of 16 bits that backward passes do not
    know, and fails where a layer's width is no multiple of 64. Training measures itself in such passes.
    """
    for module in model.modules():
        if hasattr(module, "support_avx512bf16_for_cpu"):
            module.support_avx512bf16_for_cpu = False


def _release_file(model: Any) -> None:
    """Give back what loading in NF4 leaves in memory: the 16-bit file, mapped for the embeddings' sake, and freed heap.

    Measured on a Phi-3 of 0.33 billion weights: 1.46 GiB resident before, 0.66 after, the program itself 0.38 of it.
    """
    for parameter in model.parameters():
        if not hasattr(parameter, "quant_state"):
            parameter.data = parameter.data.clone()
    if sys.platform == "linux":
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # glibc's; musl has none
        if trim:
            trim(0)


def with_adapter(model: Any, settings: FinetuneSettings, names: list[str]) -> Any:
    """Add LoRA layers to the linear modules of these names."""
    from peft import get_peft_model

    with quiet_peft():
        return get_peft_model(model, lora_config(settings, names))


def lora_config(settings: FinetuneSettings, names: list[str]) -> Any:
    """Return PEFT's configuration of an adapter of the modules of these names."""
    from peft import LoraConfig

    variants = lora_variants(settings)
    return LoraConfig(
        r=settings.rank,
        lora_alpha=settings.alpha,
        lora_dropout=settings.dropout,
        target_modules=names,
        use_rslora="rslora" in variants,
        use_dora="dora" in variants,
        bias="none",
        task_type="CAUSAL_LM",
    )


def _loftq_start(model: Any, folder: Path) -> dict[str, Any]:
    """Start a QLoRA adapter from what quantising lost: its best approximation of rank r (LoftQ, arXiv 2310.08659).

    One iteration, as `peft.replace_lora_weights_loftq`, which knows no CPU and leaves the adapter's scaling out.
    Returns the adapter's first weights by name.
    """
    import bitsandbytes
    import torch
    from peft import get_peft_model_state_dict
    from peft.tuners.lora import LoraLayer

    whole = dict(load_causal_model(folder, dtype=working_dtype()).named_modules())
    for name, module in model.get_base_model().named_modules():
        if not isinstance(module, LoraLayer):
            continue
        quantised = module.get_base_layer().weight
        kept = bitsandbytes.functional.dequantize_4bit(quantised.data, quantised.quant_state).float()
        lost = whole[name].weight.detach().to(kept.device).float() - kept
        rank, scaling = module.r["default"], module.scaling["default"]
        u, s, v = torch.svd_lowrank(lost, q=min(rank + 8, *lost.shape), niter=4)
        root = (s[:rank] / scaling).sqrt()
        with torch.no_grad():
            module.lora_B["default"].weight[:, : len(root)] = u[:, :rank] * root
            module.lora_A["default"].weight[: len(root)] = (v[:, :rank] * root).T
    return {name: value.detach().clone() for name, value in get_peft_model_state_dict(model).items()}


def make_optimiser(model: Any, settings: FinetuneSettings) -> Any:
    """Return AdamW over the trained weights; with qlora on an NVIDIA GPU its paged 8-bit form (arXiv 2305.14314)."""
    import torch

    options: dict[str, Any] = {"lr": settings.learning_rate, "betas": (0.9, 0.99), "weight_decay": 0.0}
    trainable = [p for p in model.parameters() if p.requires_grad]
    if settings.method == "qlora" and trainable[0].device.type == "cuda":
        from bitsandbytes.optim import PagedAdamW8bit

        return PagedAdamW8bit(trainable, **options)
    return torch.optim.AdamW(trainable, **options)


def save_trained(model: Any, made: Path, base: Path, prepared: Prepared, weights: dict[str, Any] | None = None) -> None:
    """Save the adapter, or the whole model (16 bits, with the base's tokenizer), into an empty folder.

    `weights` are the trained ones by name where the model holds only parts of them.
    """
    if not hasattr(model, "peft_config"):
        _save_whole(model if weights is None else _put_together(base, weights), made, base)
        return
    model.save_pretrained(str(made), save_embedding_layers=False, state_dict=weights)
    (made / "README.md").unlink(missing_ok=True)
    if prepared.initial:
        _subtract_initial(made, prepared.initial)


def _save_whole(model: Any, made: Path, base: Path) -> None:
    """Turn a model into the precision that it is served in and save it, with the base's tokenizer."""
    model.to(working_dtype()).save_pretrained(str(made))
    copy_tokenizer(base, made)


def _put_together(base: Path, weights: dict[str, Any]) -> Any:
    """Return the base model, on the processor, with these weights in place of its own."""
    import torch

    model = load_causal_model(base, dtype=torch.float32)
    model.load_state_dict(weights, strict=False)
    return model


def copy_tokenizer(base: Path, made: Path) -> None:
    """Copy a model folder's tokenizer and template into another."""
    for pattern in _TOKENIZER_FILES:
        for path in base.glob(pattern):
            if path.is_file():
                shutil.copyfile(path, made / path.name)


def _subtract_initial(made: Path, initial: dict[str, Any]) -> None:
    """Turn an adapter that began as B₀A₀ ≠ 0 into BA − B₀A₀, of twice the rank: what is to be added to the whole base.

    As `peft`'s subtract_mutated_init. The scaling stays: alpha doubles with the rank, or grows by √2 with rsLoRA.
    """
    import torch
    from safetensors.torch import load_file, save_file

    path = made / "adapter_model.safetensors"
    weights = load_file(str(path))
    for name, value in weights.items():
        first = initial[name].cpu().to(value.dtype)
        pair = [value, first] if ".lora_A." in name else [value, -first]
        weights[name] = torch.cat(pair, dim=0 if ".lora_A." in name else 1).contiguous()
    save_file(weights, str(path), metadata={"format": "pt"})
    config = json.loads((made / "adapter_config.json").read_text(encoding="utf-8"))
    config["lora_alpha"] *= math.sqrt(2) if config["use_rslora"] else 2
    config["r"] *= 2
    (made / "adapter_config.json").write_text(json.dumps(config, indent=2), encoding="utf-8")
