"""A model family in transformers' terms ↔ in llama.cpp's: the architecture's name, its settings, tensors, order of rows.

Enters: config.json. Leaves: what `gguf` writes. Knows no weights' values and no tokenizer. What each key means:
https://github.com/ggml-org/ggml/blob/master/docs/gguf.md
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from doyen.errors import ModelError
from doyen.models.rotary import Rotary, rope_parameters

ARCHITECTURES = {"llama": "llama", "mistral": "llama", "qwen2": "qwen2", "qwen3": "qwen3", "phi3": "phi3"}
"""transformers' `model_type` → llama.cpp's architecture."""
_ROPES = {"llama": ("default", "linear", "llama3"), "phi3": ("default", "longrope")}
_ENDS = (".weight", ".bias")


def architecture(config: Mapping[str, Any]) -> str:
    """Return llama.cpp's name of a model's architecture.

    Raises:
        ModelError: the family, or its rotary embeddings, cannot be written as GGUF here.
    """
    kind = config.get("model_type")
    if kind not in ARCHITECTURES:
        raise ModelError(
            f"models of the family {kind!r} cannot be written as GGUF here; known: {', '.join(ARCHITECTURES)}",
            hint="--format merged, then llama.cpp's own convert_hf_to_gguf.py",
        )
    rope, known = rope_parameters(config)["rope_type"], _ROPES.get(ARCHITECTURES[kind], ("default", "linear"))
    if rope not in known:
        raise ModelError(
            f"rotary embeddings of type {rope!r} cannot be written as GGUF for {kind}; known: {', '.join(known)}",
            hint="--format merged, then llama.cpp's own convert_hf_to_gguf.py",
        )
    return ARCHITECTURES[kind]


class TensorNames:
    """transformers' tensor names → GGUF's, and rows in llama.cpp's order."""

    def __init__(self, config: Mapping[str, Any]) -> None:
        """Read a config.json. Raises ModelError as `architecture`."""
        from gguf import MODEL_ARCH, get_tensor_name_map

        self._architecture = architecture(config)
        heads = int(config["num_attention_heads"])
        self._heads = {"q_proj": heads, "k_proj": int(config.get("num_key_value_heads") or heads)}
        self._map = get_tensor_name_map(MODEL_ARCH[self._architecture.upper()], int(config["num_hidden_layers"]))

    def name(self, name: str) -> str:
        """Return a tensor's name. Raises ModelError for one that llama.cpp does not know."""
        found = self._map.get_name(name, try_suffixes=_ENDS)
        if found is None:
            raise ModelError(
                f"llama.cpp's architecture {self._architecture} has no tensor {name}", hint="--format merged"
            )
        return str(found)

    def rows(self, name: str, values: NDArray[Any]) -> NDArray[Any]:
        """Return a tensor whose rows are outputs (a weight, a bias, an adapter's B) in the order llama.cpp wants.

        For Llama it turns neighbours by one angle, transformers a head's two halves.
        """
        part = next((part for part in self._heads if f".{part}." in name), None)
        if self._architecture != "llama" or part is None:
            return values
        return woven(values, self._heads[part])


def woven(values: NDArray[Any], heads: int) -> NDArray[Any]:
    """Put the rows of each head's halves next to each other."""
    half = values.shape[0] // heads // 2
    return values.reshape(heads, 2, half, *values.shape[1:]).swapaxes(1, 2).reshape(values.shape)


def add_settings(writer: Any, config: Mapping[str, Any]) -> None:
    """Add what llama.cpp needs to know of an architecture to a `gguf.GGUFWriter`."""
    kind = architecture(config)
    heads, hidden = int(config["num_attention_heads"]), int(config["hidden_size"])
    head = int(config.get("head_dim") or hidden // heads)
    writer.add_block_count(int(config["num_hidden_layers"]))
    writer.add_context_length(int(config["max_position_embeddings"]))
    writer.add_embedding_length(hidden)
    writer.add_feed_forward_length(int(config["intermediate_size"]))
    writer.add_head_count(heads)
    writer.add_head_count_kv(int(config.get("num_key_value_heads") or heads))
    writer.add_rope_freq_base(float(rope_parameters(config)["rope_theta"]))
    writer.add_layer_norm_rms_eps(float(config["rms_norm_eps"]))
    writer.add_vocab_size(int(config["vocab_size"]))
    if head * heads != hidden or kind == "qwen3":
        writer.add_key_length(head)
        writer.add_value_length(head)
    if kind in ("llama", "phi3"):
        writer.add_rope_dimension_count(Rotary(config, head).size)
    _add_rope_scaling(writer, config, kind)


def _add_rope_scaling(writer: Any, config: Mapping[str, Any], kind: str) -> None:
    from gguf import RopeScalingType

    rope = rope_parameters(config)
    if rope["rope_type"] == "linear":
        writer.add_rope_scaling_type(RopeScalingType.LINEAR)
        writer.add_rope_scaling_factor(float(rope["factor"]))
    if kind != "phi3":
        return
    original = rope.get("original_max_position_embeddings") or config.get("original_max_position_embeddings")
    original = int(original or config["max_position_embeddings"])
    writer.add_rope_scaling_orig_ctx_len(original)
    writer.add_sliding_window(int(config.get("sliding_window") or 0))
    if rope["rope_type"] == "longrope":
        scale = int(config["max_position_embeddings"]) / original
        factor = math.sqrt(1 + math.log(scale) / math.log(original)) if scale > 1 else 1.0
        writer.add_rope_scaling_attn_factors(float(rope.get("attention_factor") or factor))


def rope_tensors(config: Mapping[str, Any]) -> dict[str, NDArray[np.float32]]:
    """Return the tensors of rotary frequencies that GGUF keeps beside the weights: divisors of the plain frequencies."""
    rope = rope_parameters(config)
    if rope["rope_type"] == "longrope":
        return {
            f"rope_factors_{length}.weight": np.asarray(rope[f"{length}_factor"], np.float32)
            for length in ("long", "short")
        }
    if rope["rope_type"] != "llama3":
        return {}
    heads = int(config["num_attention_heads"])
    head = int(config.get("head_dim") or int(config["hidden_size"]) // heads)
    plain = dict(config, rope_parameters={"rope_type": "default", "rope_theta": rope["rope_theta"]}, rope_scaling=None)
    divisors = Rotary(plain, head).frequencies / Rotary(config, head).frequencies
    return {"rope_freqs.weight": divisors.astype(np.float32)}


def unread_settings(config: Mapping[str, Any]) -> list[str]:
    """Say what of a model llama.cpp does not do as transformers does."""
    found = []
    window = int(config.get("sliding_window") or 0)
    windowed = config.get("model_type") in ("mistral", "phi3") or config.get("use_sliding_window")
    if window and windowed and window < int(config["max_position_embeddings"]):
        found.append(f"llama.cpp knows no sliding window here: prompts of more than {window} tokens are read otherwise")
    rope = rope_parameters(config)
    if rope["rope_type"] == "longrope":
        switch = int(rope["original_max_position_embeddings"])
        found.append(
            f"llama.cpp takes the rotary frequencies of long texts for all of them once its context is set beyond {switch} "
            f"tokens (-c, num_ctx): set at most {switch} where prompts are shorter"
        )
    return found
