"""A LoRA adapter → llama.cpp's adapter file: A and B of each linear, in float32, the scaling folded into B."""

from __future__ import annotations

import json
from pathlib import Path

from doyen.errors import UsageError
from doyen.exporting.gguf_families import TensorNames, architecture
from doyen.exporting.gguf_model import add_info, begin_tensors, open_writer
from doyen.models.safetensors_writing import Progress
from doyen.models.stored_weights import StoredWeights, open_tensors


def write_gguf_lora(base: Path, adapter: Path, path: Path, name: str, progress: Progress) -> int:
    """Write an adapter into a GGUF file for `llama-server --lora`; return how many linears it adapts.

    llama.cpp computes W·x + (alpha / rank)·B·A·x: alpha is written as the largest rank, and what the adapter scales by
    otherwise (rsLoRA, alpha patterns) is in B.

    Raises:
        UsageError: a DoRA adapter, whose lengths have no place in this form.
        ModelError: the family is not known as GGUF.
    """
    config = json.loads((base / "config.json").read_text(encoding="utf-8"))
    names, weights = TensorNames(config), StoredWeights(base, adapter)
    found = {}
    for key in open_tensors(adapter, "adapter_model"):
        if not key.endswith(".lora_A.weight"):
            continue
        module = key.removeprefix("base_model.model.").removesuffix(".lora_A.weight")
        low = weights.low_rank(module)
        if low is not None and low.scale is not None:
            raise UsageError(
                f"{name} is a DoRA adapter: llama.cpp's adapters have no place for its lengths",
                hint="--format gguf merges it",
            )
        if low is not None:
            found[f"{module}.weight"] = low
    alpha = max(len(low.a) for low in found.values())
    writer = open_writer(path, architecture(config))
    writer.add_type("adapter")
    writer.add_name(name)
    writer.add_string("adapter.type", "lora")
    writer.add_float32("adapter.lora.alpha", float(alpha))
    for key, low in found.items():
        add_info(writer, f"{names.name(key)}.lora_a", low.a.shape, "F32")
        add_info(writer, f"{names.name(key)}.lora_b", low.b.shape, "F32")
    begin_tensors(writer)
    for done, (key, low) in enumerate(found.items(), 1):
        writer.write_tensor_data(low.a)
        writer.write_tensor_data(names.rows(key, low.b * (len(low.a) / alpha)))
        progress("writing GGUF", done, len(found))
    writer.close()
    return len(found)
