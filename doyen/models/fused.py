"""Phi-3's fused linears: which parts they have, and an adapter's tensors with these split, or joined again.

Enters: config.json, an adapter's tensors by PEFT's names (numpy or torch). Leaves: the same under other names.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any


def fused_parts(config: Mapping[str, Any]) -> dict[str, dict[str, int]]:
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


def split_weights(weights: Mapping[str, Any], parts: Mapping[str, Mapping[str, int]]) -> dict[str, Any]:
    """Return an adapter's tensors by name with those of fused modules cut; `parts` as of `fused_parts`.

    A is the same for each part, B (and DoRA's magnitude) is cut by output rows.
    """
    split: dict[str, Any] = {}
    for key, value in weights.items():
        kind = next((name for name in parts if f".{name}." in key), None)
        if kind is None:
            split[key] = value
            continue
        start = 0
        for name, rows in parts[kind].items():
            cut = value if ".lora_A." in key else value[start : start + rows]
            split[key.replace(f".{kind}.", f".{name}.")] = cut
            start += rows
        if ".lora_A." not in key and start != value.shape[0]:
            raise ValueError(f"{key} has {value.shape[0]} rows, its parts {start}")
    return split


def joined_weights(
    weights: Mapping[str, Any],
    parts: Mapping[str, Mapping[str, int]],
    concatenate: Callable[[Sequence[Any]], Any],
) -> dict[str, Any]:
    """Return what `split_weights` cut, joined again; `concatenate` puts tensors behind each other by rows."""
    joined: dict[str, Any] = {}
    for key, value in weights.items():
        found = next(((kind, part) for kind, names in parts.items() for part in names if f".{part}." in key), None)
        if found is None:
            joined[key] = value
            continue
        kind, part = found
        cuts = [weights[key.replace(f".{part}.", f".{name}.")] for name in parts[kind]]
        joined[key.replace(f".{part}.", f".{kind}.")] = cuts[0] if ".lora_A." in key else concatenate(cuts)
    return joined
