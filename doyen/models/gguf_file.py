"""A GGUF file → its metadata, and its tensors in transformers' names and order of rows, one at a time, in float32.

Knows the architectures llama (also Mistral's), qwen2, qwen3 and phi3. Numbers are dequantised by the package `gguf`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from doyen.errors import ModelError

ARCHITECTURES = ("llama", "qwen2", "qwen3", "phi3")
_NAMES = {
    "token_embd": "model.embed_tokens",
    "output_norm": "model.norm",
    "output": "lm_head",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_qkv": "self_attn.qkv_proj",
    "attn_q_norm": "self_attn.q_norm",
    "attn_k_norm": "self_attn.k_norm",
    "attn_output": "self_attn.o_proj",
    "attn_norm": "input_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
    "ffn_norm": "post_attention_layernorm",
}
_TENSOR = re.compile(r"^(?:blk\.(?P<layer>\d+)\.)?(?P<part>\w+)\.(?P<end>weight|bias)(?P<lora>\.lora_[ab])?$")


class GgufFile:
    """An open GGUF file; metadata values are decoded once (the vocabulary takes a second)."""

    def __init__(self, path: Path, heads: Sequence[int] | None = None) -> None:
        """Open the file; `heads` are the numbers of query and key heads, which an adapter's file does not say.

        Raises:
            ModelError: it cannot be read, or is of an architecture that is not known here.
        """
        from gguf import GGUFReader

        self.path = path
        self._heads = heads
        self._values: dict[str, Any] = {}
        try:
            reader = GGUFReader(path)
            self._fields = reader.fields
            self.architecture: str = self["general.architecture"]
        except (OSError, ValueError, KeyError, IndexError) as error:
            raise ModelError(f"{path.name} is no GGUF file that can be read: {error}") from error
        if self.architecture not in ARCHITECTURES:
            raise ModelError(
                f"The GGUF's architecture is {self.architecture}; known: {', '.join(ARCHITECTURES)}.",
                hint="use the model's Hugging Face folder instead",
            )
        self._tensors = {tensor.name: tensor for tensor in reader.tensors}
        self._names = dict(self._known())

    def __contains__(self, key: str) -> bool:
        return key in self._fields

    def __getitem__(self, key: str) -> Any:
        """Return a metadata value."""
        if key not in self._values:
            self._values[key] = self._fields[key].contents()
        return self._values[key]

    def setting(self, key: str, default: Any = None) -> Any:
        """Return a value of the architecture's own settings, `default` where there is none."""
        full = f"{self.architecture}.{key}"
        return self[full] if full in self else default

    def _known(self) -> Iterator[tuple[str, str]]:
        for tensor in self._tensors:
            match = _TENSOR.match(tensor)
            if match is None or match["part"] not in _NAMES:
                continue  # rope_freqs and the like are no weights
            part = _NAMES[match["part"]]
            if self.architecture == "phi3" and match["part"] == "ffn_up":
                part = "mlp.gate_up_proj"
            layer = f"model.layers.{match['layer']}." if match["layer"] else ""
            lora = {".lora_a": ".lora_A.weight", ".lora_b": ".lora_B.weight"}.get(match["lora"] or "")
            yield f"{layer}{part}{lora or '.' + match['end']}", tensor

    @property
    def names(self) -> list[str]:
        """The weights' names, as transformers has them."""
        return list(self._names)

    def shape(self, name: str) -> tuple[int, ...]:
        """Return a weight's shape."""
        return tuple(int(n) for n in reversed(self._tensors[self._names[name]].shape))

    def tensor(self, name: str) -> NDArray[np.float32]:
        """Return a weight in float32."""
        values = self.extra(self._names[name])
        part = next((part for part in ("q_proj", "k_proj") if f".{part}." in name), None)
        if self.architecture != "llama" or part is None or name.endswith(".lora_A.weight"):
            return values
        query, key = self._heads or (self.setting("attention.head_count"), self.setting("attention.head_count_kv"))
        return unwoven(values, query if part == "q_proj" else key)

    def extra(self, name: str) -> NDArray[np.float32]:
        """Return a tensor by its name in the file."""
        from gguf.quants import dequantize

        tensor = self._tensors[name]
        return np.ascontiguousarray(dequantize(tensor.data, tensor.tensor_type), dtype=np.float32)

    def has(self, tensor: str) -> bool:
        """Whether the file has a tensor, by its name there."""
        return tensor in self._tensors


def unwoven(values: NDArray[Any], heads: int) -> NDArray[Any]:
    """Undo llama.cpp's order of query and key rows: it turns neighbours by one angle, transformers a head's halves."""
    half = values.shape[0] // heads // 2
    return values.reshape(heads, half, 2, *values.shape[1:]).swapaxes(1, 2).reshape(values.shape)
