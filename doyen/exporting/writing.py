"""Base and adapter → the files of one exported form. Knows no expert and checks nothing that was written."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from doyen.errors import EngineError, ModelError, UsageError
from doyen.exporting.card import Exported
from doyen.exporting.gguf_families import architecture, unread_settings
from doyen.exporting.gguf_lora import write_gguf_lora
from doyen.exporting.gguf_model import write_gguf
from doyen.exporting.hub_folder import own_type, write_hub_folder
from doyen.exporting.llama_cpp import has_llama_cpp
from doyen.exporting.merging import MergedModel
from doyen.exporting.modelfile import modelfile
from doyen.exporting.quantising import BITS
from doyen.models.chat_tokenizer import open_chat_tokenizer
from doyen.models.checks import is_whole_model
from doyen.models.engine import stop_token_ids
from doyen.models.fused import fused_parts, split_weights
from doyen.models.safetensors_writing import Progress
from doyen.models.stored_weights import open_tensors

_CONFIG, _WEIGHTS = "adapter_config.json", "adapter_model.safetensors"


@dataclass(frozen=True, slots=True)
class Order:
    """What is to be written where; `name` is the adapter's, `about` is what a GGUF file says of itself."""

    base: Path
    adapter: Path
    name: str
    made: Path
    form: str
    quantisation: str
    about: Mapping[str, str]


def write_form(order: Order, progress: Progress) -> Exported:
    """Write the files of a form.

    Raises:
        UsageError: the form cannot be had of this adapter.
        ModelError: the family or the tokenizer is not known in that form.
        EngineError: the adapter does not fit.
    """
    if order.form != "merged" and order.form != "gguf" and is_whole_model(order.adapter):
        raise UsageError(f"{order.name} is a whole model, no adapter", hint="--format merged")
    if not is_whole_model(order.adapter):
        _require_readable(order.adapter)
    return {
        "merged": _merged,
        "adapter": _adapter,
        "split": _split,
        "gguf": _gguf,
        "gguf-lora": _gguf_lora,
    }[order.form](order, progress)


def _require_readable(adapter: Path) -> None:
    try:
        open_tensors(adapter, "adapter_model")
        json.loads((adapter / _CONFIG).read_text(encoding="utf-8"))
    except (ModelError, OSError, ValueError) as error:
        raise EngineError(
            f"the adapter in {adapter} cannot be read: {error}", hint="doyen finetune --name NAME trains a new one"
        ) from error


def needed_bytes(order: Order) -> int:
    """Return about how many bytes the export takes on the disk, with what reading it back takes beside it."""
    if order.form in ("adapter", "split"):
        return 2 * (order.adapter / _WEIGHTS).stat().st_size if (order.adapter / _WEIGHTS).exists() else 0
    numbers = MergedModel(order.base, None).parameters
    bits = 16 if order.form != "gguf" else BITS[order.quantisation] + (1 if has_llama_cpp() else 33)
    return numbers * bits // 8


def _merged(order: Order, progress: Progress) -> Exported:
    model = MergedModel(order.base, order.adapter)
    kind = order.quantisation or own_type(model)
    write_hub_folder(model, order.made, kind, progress)
    return Exported("merged", kind, "", {kind.upper(): len(model.names)}, ())


def _adapter(order: Order, progress: Progress) -> Exported:
    for name in (_CONFIG, _WEIGHTS):
        shutil.copyfile(order.adapter / name, order.made / name)
    return Exported("adapter", "", "", {}, ())


def _split(order: Order, progress: Progress) -> Exported:
    from safetensors.numpy import load_file, save_file

    parts = fused_parts(json.loads((order.base / "config.json").read_text(encoding="utf-8")))
    weights = load_file(order.adapter / _WEIGHTS)
    fused = {name: rows for name, rows in parts.items() if any(f".{name}." in key for key in weights)}
    if not fused:
        raise UsageError(f"{order.name} adapts no fused module: there is nothing to split", hint="--format adapter")
    split = {key: np.ascontiguousarray(value) for key, value in split_weights(weights, fused).items()}
    save_file(split, order.made / _WEIGHTS, metadata={"format": "pt"})
    config = json.loads((order.adapter / _CONFIG).read_text(encoding="utf-8"))
    config["target_modules"] = sorted(part for name in config["target_modules"] for part in _split_name(name, parts))
    (order.made / _CONFIG).write_text(json.dumps(config, indent=2), encoding="utf-8")
    return Exported("split", "", "", {}, ())


def _split_name(name: str, parts: Mapping[str, Mapping[str, int]]) -> list[str]:
    stem, _, last = name.rpartition(".")
    return [f"{stem}.{part}" if stem else part for part in parts.get(last, {last: 0})]


def _gguf(order: Order, progress: Progress) -> Exported:
    model = MergedModel(order.base, order.adapter)
    file = f"{order.name}.{order.quantisation}.gguf"
    types = write_gguf(model, order.made / file, order.quantisation, order.about, progress)
    tokenizer = open_chat_tokenizer(order.base)
    stops = tokenizer.convert_ids_to_tokens(stop_token_ids(tokenizer, order.base))
    context = int(model.config["max_position_embeddings"])
    (order.made / "Modelfile").write_text(modelfile(file, tokenizer, stops, context), encoding="utf-8")
    remarks = unread_settings(model.config)
    if order.quantisation == "q4_k_m" and (other := {k: n for k, n in types.items() if k in ("Q5_0", "Q5_1")}):
        remarks.append(
            f"{sum(other.values())} tensors have rows that do not divide by 256: they are kept in "
            f"{' and '.join(other)}, which takes more room"
        )
    return Exported("gguf", order.quantisation, file, types, remarks)


def _gguf_lora(order: Order, progress: Progress) -> Exported:
    file = f"{order.name}.lora.gguf"
    architecture(json.loads((order.base / "config.json").read_text(encoding="utf-8")))
    count = write_gguf_lora(order.base, order.adapter, order.made / file, order.about["name"], progress)
    return Exported("gguf-lora", "", file, {"F32": 2 * count}, ())
