"""A trained adapter → a form that other engines load: merged into 16-bit weights, as it is, or with fused modules split.

Enters: an expert's adapter. Leaves: a new folder. Trains nothing.
"""

from __future__ import annotations

import dataclasses
import json
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from doyen.adapters import AdapterManifest, adapter_folder, read_adapter
from doyen.config import load_settings
from doyen.errors import UsageError
from doyen.finetuning.methods import copy_tokenizer
from doyen.finetuning.preparing import require_extra
from doyen.models.checks import is_whole_model
from doyen.models.engine import (
    golden_tokens,
    load_causal_model,
    load_tokenizer,
    quiet_peft,
    quiet_transformers,
    template_hash,
)
from doyen.models.fetching import require_model
from doyen.models.fitting import fingerprint_of_config, require_same_base, require_same_tokens, require_shapes

_OWN_FILES = (
    "manifest.json",
    "lineage.jsonl",
    "history.jsonl",
    "documents_history.jsonl",
    "replay.jsonl",
    "training.html",
)


def export_adapter(expert: Path | str, out: Path | str, *, name: str = "", form: str = "merged") -> Path:
    """Write adapter `name` ('': the newest) of an expert into the new folder `out`, and return its absolute path.

    `merged` is a model folder: base and adapter added in float32, rounded once to 16 bits. `adapter` is PEFT's files.
    `split` is the same with Phi's fused modules (`qkv_proj`, `gate_up_proj`) as engines want them that split these
    (vllm#4715, llama.cpp#7164). The folder appears when it is whole, or not at all.

    Raises:
        UsageError: the form is unknown, `out` exists, there is no such adapter, it was trained on another model, or its
            form cannot be had.
        ModelError: the base model or a package is not here.
        EngineError: the base's weights, tokenizer or template have changed since the training, or the files are broken.
    """
    if form not in FORMS:
        raise UsageError(f"unknown format '{form}'", hint=f"--format {', '.join(FORMS)}")
    final = Path(out).expanduser().resolve()
    if final.exists() and (not final.is_dir() or any(final.iterdir())):
        raise UsageError(f"{final} is there already", hint="--out: a folder that does not exist yet")
    folder = adapter_folder(Path(expert), name)
    manifest = read_adapter(folder)
    base = require_model(load_settings(Path(expert)).model.name)
    _require_fit(manifest, base)
    final.parent.mkdir(parents=True, exist_ok=True)
    partial = Path(tempfile.mkdtemp(prefix=f".{final.name}-", dir=final.parent))
    try:
        FORMS[form](base, folder, partial)
        row = {"model": manifest.model, "adapter": manifest.name, "form": form, "template_hash": manifest.template_hash}
        (partial / "exported.json").write_text(json.dumps(row, indent=1), encoding="utf-8")
        partial.chmod(0o755)
        partial.replace(final)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return final


def _require_fit(manifest: AdapterManifest, base: Path) -> None:
    """Refuse to export what was trained on another model, or with another tokenizer, than the expert has now."""
    if manifest.model_fingerprint != fingerprint_of_config(base):
        raise UsageError(
            f"adapter {manifest.name} was trained on {manifest.model}, which is not the expert's model now",
            hint="set [model] name back",
        )
    row = dataclasses.asdict(manifest)
    require_same_base(row, base, manifest.name, base.name)
    tokenizer = load_tokenizer(base)
    names = tokenizer.convert_ids_to_tokens
    require_same_tokens(row, golden_tokens(tokenizer), template_hash(tokenizer), names, base.name)


def _merged(base: Path, adapter: Path, made: Path) -> None:
    if is_whole_model(adapter):
        shutil.copytree(adapter, made, dirs_exist_ok=True, ignore=shutil.ignore_patterns(*_OWN_FILES))
        return
    import torch

    require_extra("lora")
    quiet_transformers()
    from peft import PeftModel

    stored = json.loads((base / "config.json").read_text(encoding="utf-8"))
    half = "float16" in (stored.get("dtype"), stored.get("torch_dtype"))
    whole = load_causal_model(base, dtype=torch.float32)
    require_shapes(adapter, whole)
    with quiet_peft():
        model = PeftModel.from_pretrained(whole, str(adapter))
        merged: Any = model.merge_and_unload(safe_merge=True)
    merged.to(torch.float16 if half else torch.bfloat16).save_pretrained(str(made))
    copy_tokenizer(base, made)


def _as_it_is(base: Path, adapter: Path, made: Path) -> None:
    if is_whole_model(adapter):
        raise UsageError(f"{adapter.name} is a whole model, no adapter", hint="--format merged")
    for name in ("adapter_config.json", "adapter_model.safetensors"):
        shutil.copyfile(adapter / name, made / name)


def _split(base: Path, adapter: Path, made: Path) -> None:
    """Split adapters of fused linears: A is the same for each part, B (and DoRA's magnitude) is cut by output rows."""
    from safetensors.torch import load_file, save_file

    _as_it_is(base, adapter, made)
    parts = fused_parts(json.loads((base / "config.json").read_text(encoding="utf-8")))
    weights = load_file(str(made / "adapter_model.safetensors"))
    fused = [name for name in parts if any(f".{name}." in key for key in weights)]
    if not fused:
        raise UsageError(f"{adapter.name} adapts no fused module: there is nothing to split", hint="--format adapter")
    split = split_weights(weights, {name: parts[name] for name in fused})
    save_file(split, str(made / "adapter_model.safetensors"), metadata={"format": "pt"})
    config = json.loads((made / "adapter_config.json").read_text(encoding="utf-8"))
    targets = [part for name in config["target_modules"] for part in _split_name(name, parts)]
    config["target_modules"] = sorted(targets)
    (made / "adapter_config.json").write_text(json.dumps(config, indent=2), encoding="utf-8")


def split_weights(weights: dict[str, Any], parts: dict[str, dict[str, int]]) -> dict[str, Any]:
    """Return an adapter's tensors by name with those of fused modules cut; `parts` as of `fused_parts`."""
    split: dict[str, Any] = {}
    for key, value in weights.items():
        kind = next((name for name in parts if f".{name}." in key), None)
        if kind is None:
            split[key] = value
            continue
        names, rows = list(parts[kind]), list(parts[kind].values())
        cut = [value] * len(names) if ".lora_A." in key else value.split(rows, dim=0)
        split |= {key.replace(f".{kind}.", f".{n}."): v.clone().contiguous() for n, v in zip(names, cut, strict=True)}
    return split


def fused_parts(config: dict[str, Any]) -> dict[str, dict[str, int]]:
    """Return Phi-3's fused linears: name → parts in order → their output rows; none for a configuration unlike Phi's."""
    if not {"num_attention_heads", "hidden_size", "intermediate_size"} <= config.keys():
        return {}
    heads = int(config["num_attention_heads"])
    head = int(config.get("head_dim") or config["hidden_size"] // heads)
    keys = int(config.get("num_key_value_heads") or heads) * head
    inner = int(config["intermediate_size"])
    return {
        "qkv_proj": {"q_proj": heads * head, "k_proj": keys, "v_proj": keys},
        "gate_up_proj": {"gate_proj": inner, "up_proj": inner},
    }


def _split_name(name: str, parts: dict[str, dict[str, int]]) -> list[str]:
    stem, _, last = name.rpartition(".")
    return [f"{stem}.{part}" if stem else part for part in parts.get(last, {last: 0})]


FORMS: dict[str, Callable[[Path, Path, Path], None]] = {"merged": _merged, "adapter": _as_it_is, "split": _split}
