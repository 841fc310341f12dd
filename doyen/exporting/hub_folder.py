"""A merged model → a folder in Hugging Face's form: 16-bit safetensors in shards, config.json, the tokenizer."""

from __future__ import annotations

import json
from pathlib import Path

from doyen.exporting.merging import MergedModel
from doyen.finetuning.methods import copy_tokenizer
from doyen.models.safetensors_writing import Progress, write_safetensors


def own_type(model: MergedModel) -> str:
    """Return the 16 bits that a model's config.json names, "bf16" or "f16"; "bf16" where it names none."""
    return "f16" if "float16" in (model.config.get("dtype"), model.config.get("torch_dtype")) else "bf16"


def write_hub_folder(model: MergedModel, made: Path, kind: str, progress: Progress) -> None:
    """Write all of a model, rounded once to "bf16" or "f16"."""
    half = kind == "f16"
    write_safetensors(made, model.names, model.shape, model.tensor, "F16" if half else "BF16", progress)
    config = {key: value for key, value in model.config.items() if key not in ("dtype", "torch_dtype")}
    config["dtype"] = "float16" if half else "bfloat16"
    (made / "config.json").write_text(json.dumps(config, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    copy_tokenizer(model.base, made)
    generation = model.base / "generation_config.json"
    if generation.is_file():
        (made / generation.name).write_bytes(generation.read_bytes())
