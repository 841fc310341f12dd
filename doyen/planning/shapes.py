"""A model's configuration → its shape: what planning counts with. No weights, no torch.

Enters: a catalogue name, a folder, a built-in name, or the content of a `config.json`. Leaves: a ModelShape.
"""

from __future__ import annotations

import difflib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from doyen.errors import ModelError
from doyen.models.catalogue import EndpointSource, find_entry
from doyen.models.fetching import model_folder

_FUSED = ("phi3",)
_SPLIT = ("llama", "mistral", "qwen2", "qwen3", "smollm3")
_QKV_BIAS = ("qwen2",)
_QK_NORM = ("qwen3",)


@dataclass(frozen=True, slots=True)
class ModelShape:
    """Sizes of a decoder of the Llama family (gated MLP, RMS norms); `inner` is the MLP's width.

    `fused` means that query, key, value and gate, up are one linear module each, as in Phi-3.
    """

    name: str
    layers: int
    hidden: int
    inner: int
    heads: int
    kv_heads: int
    head_dim: int
    vocabulary: int
    tied: bool
    fused: bool
    context: int
    qkv_bias: bool = False
    qk_norm: bool = False

    @property
    def query(self) -> int:
        """Width of all query heads together."""
        return self.heads * self.head_dim

    @property
    def key(self) -> int:
        """Width of all key heads together (and of the value heads)."""
        return self.kv_heads * self.head_dim

    @property
    def linears(self) -> dict[str, tuple[int, int]]:
        """The linear modules of one layer: name → (inputs, outputs)."""
        h, q, k, i = self.hidden, self.query, self.key, self.inner
        if self.fused:
            first = {"qkv_proj": (h, q + 2 * k)}
            second = {"gate_up_proj": (h, 2 * i)}
        else:
            first = {"q_proj": (h, q), "k_proj": (h, k), "v_proj": (h, k)}
            second = {"gate_proj": (h, i), "up_proj": (h, i)}
        return {**first, "o_proj": (q, h), **second, "down_proj": (i, h)}

    @property
    def linear_parameters(self) -> int:
        """Weights of all layers' linear modules: what NF4 quantises."""
        return self.layers * sum(a * b for a, b in self.linears.values())

    @property
    def vocabulary_parameters(self) -> int:
        """Weights of the embedding, and of the output layer where it is another."""
        return self.vocabulary * self.hidden * (1 if self.tied else 2)

    @property
    def small_parameters(self) -> int:
        """Norms and biases."""
        bias = self.query + 2 * self.key if self.qkv_bias else 0
        norms = 2 * self.hidden + (2 * self.head_dim if self.qk_norm else 0)
        return self.layers * (bias + norms) + self.hidden

    @property
    def parameters(self) -> int:
        """All weights."""
        return self.linear_parameters + self.vocabulary_parameters + self.small_parameters

    def adapter_parameters(self, rank: int, *, dora: bool = False) -> int:
        """Weights of LoRA on all linear modules; DoRA adds a magnitude for each output."""
        one = sum(rank * (a + b) + (b if dora else 0) for a, b in self.linears.values())
        return self.layers * one


def _phi3(name: str, heads: int, kv_heads: int, head_dim: int, vocabulary: int, tied: bool, context: int) -> ModelShape:
    return ModelShape(name, 32, 3072, 8192, heads, kv_heads, head_dim, vocabulary, tied, True, context)


_SHAPES = (
    # From the config.json of the model's repository on the Hugging Face Hub.
    _phi3("phi-4-mini-instruct", 24, 8, 128, 200_064, True, 131_072),
    _phi3("phi-3.5-mini-instruct", 32, 32, 96, 32_064, False, 131_072),
    _phi3("phi-3-mini-4k-instruct", 32, 32, 96, 32_064, False, 4_096),
    ModelShape("phi-3-medium", 40, 5120, 17_920, 40, 10, 128, 32_064, False, True, 4_096),
    ModelShape("phi-4", 40, 5120, 17_920, 40, 10, 128, 100_352, False, True, 16_384),
    ModelShape("smollm2-135m-instruct", 30, 576, 1536, 9, 3, 64, 49_152, True, False, 8_192),
    ModelShape("llama-8b", 32, 4096, 14_336, 32, 8, 128, 128_256, False, False, 131_072),
    ModelShape("llama-70b", 80, 8192, 28_672, 64, 8, 128, 128_256, False, False, 131_072),
)
SHAPES = {shape.name: shape for shape in _SHAPES} | {
    alias: next(s for s in _SHAPES if s.name == name)
    for alias, name in (
        ("phi-3-mini", "phi-3-mini-4k-instruct"),
        ("phi-3.5-mini", "phi-3.5-mini-instruct"),
        ("phi-4-mini", "phi-4-mini-instruct"),
    )
}


def find_shape(name: str) -> ModelShape:
    """Return the shape of a built-in name, a folder with a config.json, or a model that is in the cache.

    Raises:
        ModelError: the name is unknown, the model's configuration is not here, or it is of another family.
    """
    if name.lower() in SHAPES:
        return SHAPES[name.lower()]
    folder = Path(name).expanduser()
    if not (folder / "config.json").is_file():
        folder = _cached(name)
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except ValueError as error:
        raise ModelError(f"{folder / 'config.json'} is not valid JSON: {error}") from error
    return read_shape(config, folder.name)


def _cached(name: str) -> Path:
    near = difflib.get_close_matches(name.lower(), SHAPES, n=1)
    guess = f"did you mean {near[0]}? " if near else ""
    hint = f"{guess}doyen models pull NAME, a folder with a config.json, or one of {', '.join(SHAPES)}"
    try:
        entry = find_entry(name)
    except ModelError as error:
        raise ModelError(f"there is no model or shape '{name}'", hint=hint) from error
    if isinstance(entry.source, EndpointSource):
        raise ModelError(f"{name} is behind an API: it cannot be trained here", hint=hint)
    folder = model_folder(entry)
    if not (folder / "config.json").is_file():
        raise ModelError(f"the configuration of {name} is not on this machine", hint=hint)
    return folder


def read_shape(config: dict[str, Any], name: str) -> ModelShape:
    """Read the content of a `config.json`.

    Raises:
        ModelError: the architecture is not of the Llama family, or a size is missing.
    """
    kind = str(config.get("model_type", ""))
    if kind not in _FUSED + _SPLIT:
        raise ModelError(
            f"{name} is of the architecture '{kind or 'unknown'}', which doyen plan cannot count",
            hint=f"it knows {', '.join(_FUSED + _SPLIT)}",
        )
    try:
        heads, hidden = int(config["num_attention_heads"]), int(config["hidden_size"])
        return ModelShape(
            name=name,
            layers=int(config["num_hidden_layers"]),
            hidden=hidden,
            inner=int(config["intermediate_size"]),
            heads=heads,
            kv_heads=int(config.get("num_key_value_heads") or heads),
            head_dim=int(config.get("head_dim") or hidden // heads),
            vocabulary=int(config["vocab_size"]),
            tied=bool(config.get("tie_word_embeddings", False)),
            fused=kind in _FUSED,
            context=int(config.get("max_position_embeddings") or 0),
            qkv_bias=kind in _QKV_BIAS or bool(config.get("attention_bias", False)),
            qk_norm=kind in _QK_NORM,
        )
    except KeyError as error:
        raise ModelError(
            f"the configuration of {name} has no {error}", hint="take the model's own config.json"
        ) from error
