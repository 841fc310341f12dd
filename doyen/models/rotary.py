"""Positions → the cosines and sines that rotary embeddings turn queries and keys by (arXiv 2104.09864), in numpy.

In: a model's config.json. Knows plain RoPE, linear scaling, Llama 3's and LongRoPE (2402.13753), whose frequencies
change once a text is longer than the model was first trained on.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

KINDS = ("default", "linear", "llama3", "longrope")
Floats = NDArray[np.float32]


class Rotary:
    """Makes the tables. `size` numbers of a head are turned; beyond `switch` tokens other frequencies hold."""

    def __init__(self, config: Mapping[str, Any], head_size: int) -> None:
        """Read a config.json in transformers 5's form or older ones; call `rotary_fault` first."""
        self._rope = rope_parameters(config)
        kind = self._rope["rope_type"]
        partial = self._rope.get("partial_rotary_factor") or config.get("partial_rotary_factor") or 1.0
        self.size = int(head_size * partial)
        self.switch = int(self._rope["original_max_position_embeddings"]) if kind == "longrope" else None
        self._scale = 1.0
        steps = np.arange(0, self.size, 2, dtype=np.float32) / self.size
        plain = 1.0 / float(self._rope["rope_theta"]) ** steps.astype(np.float64)
        self._short = self._long = plain
        if kind == "linear":
            self._short = self._long = plain / float(self._rope["factor"])
        elif kind == "llama3":
            self._short = self._long = _llama3(plain, self._rope)
        elif kind == "longrope":
            self._short = plain / np.asarray(self._rope["short_factor"], dtype=np.float64)
            self._long = plain / np.asarray(self._rope["long_factor"], dtype=np.float64)
            self._scale = _longrope_scale(config, self._rope)

    @property
    def frequencies(self) -> NDArray[np.float64]:
        """The frequencies `(size / 2,)` of short texts."""
        return self._short

    def is_long(self, length: int) -> bool:
        """Whether a text of so many tokens takes the other frequencies."""
        return self.switch is not None and length > self.switch

    def tables(self, positions: NDArray[np.int64], long: NDArray[np.bool_]) -> tuple[Floats, Floats]:
        """Return cosines and sines `(n, size) float32` of positions `(n,)`; `long (n,)` says which frequencies."""
        frequencies = np.where(long[:, None], self._long, self._short) if self.switch else self._short
        angles = positions[:, None] * frequencies
        both = np.concatenate([angles, angles], axis=1)
        return (np.cos(both) * self._scale).astype(np.float32), (np.sin(both) * self._scale).astype(np.float32)


def rope_parameters(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return `rope_parameters` as transformers 5 writes them, from older keys where need be."""
    found = dict(config.get("rope_parameters") or config.get("rope_scaling") or {})
    found.setdefault("rope_theta", config.get("rope_theta", 10000.0))
    kind = found.get("rope_type") or found.get("type") or "default"
    found["rope_type"] = "longrope" if kind == "su" else kind  # Phi-3's first name for it
    if found["rope_type"] == "longrope":
        original = config.get("original_max_position_embeddings") or config["max_position_embeddings"]
        found.setdefault("original_max_position_embeddings", original)
    return found


def rotary_fault(config: Mapping[str, Any]) -> str | None:
    """Say what of a config.json's rotary embeddings cannot be computed here."""
    kind = rope_parameters(config)["rope_type"]
    return None if kind in KINDS else f"rope_type is {kind!r}, expected {', '.join(KINDS)}"


def _llama3(frequencies: NDArray[np.float64], rope: Mapping[str, Any]) -> NDArray[np.float64]:
    """Slow the long waves down and leave the short ones, with a ramp between (transformers, modeling_rope_utils.py)."""
    factor, original = float(rope["factor"]), float(rope["original_max_position_embeddings"])
    low, high = float(rope["low_freq_factor"]), float(rope["high_freq_factor"])
    waves = 2 * math.pi / frequencies
    smooth = (original / waves - low) / (high - low)
    between = (1 - smooth) * frequencies / factor + smooth * frequencies
    slow = np.where(waves > original / low, frequencies / factor, frequencies)
    ramp = (waves <= original / low) & (waves >= original / high)
    return np.where(ramp, between, slow)


def _longrope_scale(config: Mapping[str, Any], rope: Mapping[str, Any]) -> float:
    if rope.get("attention_factor") is not None:
        return float(rope["attention_factor"])
    original = float(rope["original_max_position_embeddings"])
    factor = float(rope.get("factor") or config["max_position_embeddings"] / original)
    return 1.0 if factor <= 1 else math.sqrt(1 + math.log(factor) / math.log(original))
