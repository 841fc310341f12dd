"""An adapter's folder and a base model's → they belong together, or why not.

Knows manifests as plain values, tokenizers by the tokens that they make, weights by samples. Loads no model.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from doyen.errors import EngineError
from doyen.models.stored_weights import as_float32, mapped_tensors, tensor_names, to_bfloat16

GOLDEN = (
    {"role": "system", "content": "Answer in as few words as possible: a name, a number with its unit, yes or no."},
    {
        "role": "user",
        "content": "[1] Tariff › Limits\nFrom 1 January 2024 the limit is €12,500.75 (10 %); see § 4(b).\n\n"
        "[2] Grüße aus Zürich, naïve café — ½ Größe, İstanbul, Ελλάδα, Привет, 北京の天気, 한국, العربية, हिन्दी 🚢\n"
        "\tdef f(x):  return x**2 != 0  # tab, two spaces\n\nQuestion: how many days' leave?",
    },
    {"role": "assistant", "content": "14 days [1]"},
    {"role": "user", "content": "Question: Is it 3.5 or 1000000 kg?"},
    {"role": "assistant", "content": "Not in the documents."},
)
"""What is made into golden tokens: passages, numbers, several scripts, white space, two turns."""
_SAMPLED_TENSORS, _SAMPLED_VALUES = 16, 1024
_AGAIN = "doyen finetune again, or put the model's tokenizer and chat template back"


def fingerprint_of_config(folder: Path) -> str:
    """Return the first 16 hex digits of the SHA-256 of a model's `config.json`."""
    return hashlib.sha256((folder / "config.json").read_bytes()).hexdigest()[:16]


def weights_fingerprint(folder: Path) -> str:
    """Return a hash of samples of a model's weights, "" where there are none in safetensors.

    The first values of some tensors, in bfloat16: another fine-tune of the same architecture differs in them, another
    division into files or a wider precision does not.
    """
    where = {name: path for path in sorted(folder.glob("*.safetensors")) for name in tensor_names(path)}
    if not where:
        return ""
    names = sorted(where)
    mapped = cache(mapped_tensors)
    digest = hashlib.sha256()
    for name in dict.fromkeys(names[i * (len(names) - 1) // (_SAMPLED_TENSORS - 1)] for i in range(_SAMPLED_TENSORS)):
        values = mapped(where[name]).get(name)
        if values is not None and values.ndim:
            rows = values[: max(1, _SAMPLED_VALUES // max(1, *values.shape[1:], 1))].reshape(-1)[:_SAMPLED_VALUES]
            bits = to_bfloat16(as_float32(rows))
            digest.update(f"{name}:{list(values.shape)}:".encode() + bits.tobytes())
    return digest.hexdigest()[:16]


def require_same_base(manifest: Mapping[str, Any], folder: Path, adapter: str, model: str) -> None:
    """Refuse an adapter of another base: by its configuration's hash, then by its weights'.

    Raises:
        EngineError: naming both.
    """
    config = fingerprint_of_config(folder)
    if manifest.get("model_fingerprint", config) != config:
        raise EngineError(
            f"adapter {adapter} was trained for another model ({manifest.get('model')}) than {model}",
            hint="set [model] name back, or doyen finetune again",
        )
    trained_on = manifest.get("weights_fingerprint")
    if trained_on and (found := weights_fingerprint(folder)) and found != trained_on:
        raise EngineError(
            f"adapter {adapter} was trained on other weights of {manifest.get('model')} ({trained_on}) than those in "
            f"{folder} ({found}): the architecture is the same, the model is not",
            hint="set [model] name back to the model that it was trained on, or doyen finetune again",
        )


def require_same_tokens(
    manifest: Mapping[str, Any], golden: Sequence[int], template: str, names: Any, model: str
) -> None:
    """Refuse an adapter where serving makes other tokens of the same conversation than training did.

    Args:
        manifest: the adapter's; old ones have no golden tokens.
        golden: `golden_tokens` of the tokenizer that serves.
        template: `template_hash` of the same.
        names: from a list of token ids to their names (`tokenizer.convert_ids_to_tokens`).
        model: the serving model's name, for the message.

    Raises:
        EngineError: naming the first token that differs.
    """
    adapter = manifest.get("name", "")
    before = list(manifest.get("golden_tokens") or golden)
    if before != list(golden):
        at = next(
            (i for i, (a, b) in enumerate(zip(before, golden, strict=False)) if a != b), min(len(before), len(golden))
        )
        here, there = (names(list(ids[at : at + 3])) for ids in (golden, before))
        raise EngineError(
            f"adapter {adapter} was trained with another tokenizer or chat template than {model} has now: of {len(before)} "
            f"golden tokens the one at {at + 1} differs (now {here}, by today's names; in training {there})",
            hint=_AGAIN,
        )
    trained_with = manifest.get("template_hash")
    if trained_with and trained_with != template:
        raise EngineError(
            f"adapter {adapter} was trained with another chat template ({trained_with}) than {model} has now ({template})",
            hint=_AGAIN,
        )


def require_shapes(adapter: Path, model: Any) -> None:
    """Refuse PEFT files that are broken, or whose matrices do not fit the base model's modules, before PEFT loads them.

    Raises:
        EngineError: naming the file, or the first module and both shapes.
    """
    from safetensors import SafetensorError, safe_open

    path = adapter / "adapter_model.safetensors"
    hint = "doyen finetune --name NAME trains an adapter for this model"
    try:
        with safe_open(str(path), framework="pt") as file:
            shapes = {key: tuple(file.get_slice(key).get_shape()) for key in file.keys()}  # noqa: SIM118 - no mapping
        json.loads((adapter / "adapter_config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError, SafetensorError) as error:
        raise EngineError(f"the adapter in {adapter} cannot be read: {error}", hint=hint) from error
    modules = dict(model.named_modules())
    for key, shape in shapes.items():
        name, _, part = key.removeprefix("base_model.model.").partition(".lora_")
        if part[:1] not in ("A", "B") or len(shape) != 2:
            continue
        module = modules.get(name)
        if module is None or not hasattr(module, "in_features"):
            raise EngineError(
                f"the adapter in {adapter} is for another model: it has weights for '{name}', which is no linear module here",
                hint=hint,
            )
        wanted = module.in_features if part[0] == "A" else module.out_features
        given = shape[1] if part[0] == "A" else shape[0]
        if given != wanted:
            side = "inputs" if part[0] == "A" else "outputs"
            raise EngineError(
                f"the adapter in {adapter} is for another model: for '{name}' it has {given} {side}, the model {wanted}",
                hint=hint,
            )
