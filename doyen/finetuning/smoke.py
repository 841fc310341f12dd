"""Adapted model, before training → whether what it will be trained to can be exported. Trains and writes nothing that stays.

One layer of each kind is merged, and split where it is fused, with random weights in place of trained ones.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from doyen.config import FinetuneSettings
from doyen.errors import DoyenError, GateError
from doyen.finetuning.methods import lora_config
from doyen.models.engine import quiet_peft
from doyen.models.fused import fused_parts, split_weights

_TOLERANCE = 1e-3
_ROWS = 4


def require_exportable(
    model: Any, base: Path, settings: FinetuneSettings, place: Path, say: Callable[[str], None]
) -> dict[str, Any]:
    """Gate "cannot be exported": the folder can be written, and one layer of each kind gives merged what it gives unmerged.

    Args:
        model: the model to be trained; only read.
        base: the base model's folder.
        settings: those of the training.
        place: the folder of the adapters, made if it is not there.
        say: told where fused modules cannot be split; the other forms of export are possible then.

    Raises:
        GateError: an adapter of this model cannot be merged.
        DoyenError: the folder cannot be written.
    """
    _require_writable(place)
    if not hasattr(model, "peft_config"):
        return {"whole": True}
    import torch

    worst, split = 0.0, []
    parts = fused_parts(json.loads((base / "config.json").read_text(encoding="utf-8")))
    with torch.random.fork_rng(), torch.no_grad():
        torch.manual_seed(0)
        for kind, layer in _one_of_each_kind(model).items():
            linear = _whole_linear(layer.get_base_layer())
            worst = max(worst, _merged_difference(kind, linear, settings))
            if kind in parts:
                split.append(_splits(kind, linear, parts[kind], settings))
    if not all(split):
        say(
            "warning: this model's fused modules cannot be split for other engines; merged and adapter exports can be had"
        )
    return {"largest_relative_difference": float(f"{worst:.1e}"), "split": all(split) if split else None}


def _require_writable(place: Path) -> None:
    try:
        place.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=place, prefix=".writable-"):
            pass
    except OSError as error:
        raise DoyenError(
            f"the folder for adapters cannot be written: {error}", hint=f"give yourself the right to write in {place}"
        ) from error


def _one_of_each_kind(model: Any) -> dict[str, Any]:
    """Return the first adapted layer of each name."""
    from peft.tuners.lora import LoraLayer

    found: dict[str, Any] = {}
    for name, module in model.named_modules():
        if isinstance(module, LoraLayer):
            found.setdefault(name.rsplit(".", 1)[-1], module)
    return found


def _whole_linear(layer: Any) -> Any:
    """Return a copy of a linear layer in float32, as export merges it; 4-bit weights are dequantised."""
    import torch

    weight = layer.weight
    if hasattr(weight, "quant_state"):
        import bitsandbytes

        weight = bitsandbytes.functional.dequantize_4bit(weight.data, weight.quant_state)
    copy = torch.nn.Linear(weight.shape[1], weight.shape[0], bias=layer.bias is not None, device=weight.device)
    copy.weight.copy_(weight.float())
    if layer.bias is not None:
        copy.bias.copy_(layer.bias.float())
    return copy


def _adapted(kind: str, linear: Any, settings: FinetuneSettings) -> Any:
    """Return a model of this one layer with an adapter of random weights."""
    import torch
    from peft import get_peft_model

    alone = torch.nn.Module()
    alone.add_module(kind, linear)
    config = lora_config(settings, [kind])
    config.task_type, config.init_lora_weights = None, False
    with quiet_peft():
        return get_peft_model(alone, config)


def _merged_difference(kind: str, linear: Any, settings: FinetuneSettings) -> float:
    """Return by how much the merged layer differs from the unmerged one, as a share of the largest output.

    Raises:
        GateError: more than rounding explains, or PEFT cannot merge it.
    """
    import torch

    adapted = _adapted(kind, linear, settings).eval()
    inputs = torch.randn(_ROWS, linear.in_features, device=linear.weight.device)
    try:
        unmerged = getattr(adapted.get_base_model(), kind)(inputs)
        merged = getattr(adapted.merge_and_unload(safe_merge=True), kind)(inputs)
        found = float((merged - unmerged).abs().max() / unmerged.abs().max().clamp_min(1e-30))
    except (RuntimeError, ValueError, NotImplementedError) as error:
        raise _cannot(kind, str(error)) from error
    if not found <= _TOLERANCE:
        raise _cannot(kind, f"merged and unmerged outputs differ by {found:.1%}")
    return found


def _cannot(kind: str, why: str) -> GateError:
    return GateError(
        f"an adapter of this model could not be exported: merging '{kind}' fails ({why})",
        hint="fewer [finetune] target_modules or no lora_variants; are the base model's weights sound?",
    )


def _splits(kind: str, linear: Any, parts: dict[str, int], settings: FinetuneSettings) -> bool:
    """Whether the split adapter of a fused layer gives, one part below the other, what the fused one gives."""
    import torch

    if sum(parts.values()) != linear.out_features:
        return False
    layer = getattr(_adapted(kind, linear, settings).get_base_model(), kind)
    a, b = layer.lora_A["default"].weight, layer.lora_B["default"].weight
    cut = split_weights({f"x.{kind}.lora_A.weight": a, f"x.{kind}.lora_B.weight": b}, {kind: parts})
    pieces: Sequence[Any] = [cut[f"x.{n}.lora_B.weight"] @ cut[f"x.{n}.lora_A.weight"] for n in parts]
    return bool(torch.allclose(torch.cat(list(pieces)), b @ a, rtol=1e-4, atol=1e-6))
