"""Base model + adapter → one model's tensors, in float32, one at a time: `W + s·B·A`, with DoRA's lengths.

Memory stays within one tensor and its update. Knows no file format that is written.
"""

from __future__ import annotations

import json
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from doyen.models.checks import is_whole_model
from doyen.models.stored_weights import StoredWeights


class MergedModel:
    """The tensors of a fine-tuned model by transformers' names.

    `adapter` is a PEFT adapter's folder, a model that was trained whole, or None for the base as it is.
    """

    def __init__(self, base: Path, adapter: Path | None) -> None:
        """Open the files.

        Raises:
            ModelError: there are no weights in safetensors.
            EngineError: the adapter does not fit.
        """
        whole = adapter is not None and is_whole_model(adapter)
        self.base = base
        self.folder = adapter if whole and adapter else base
        self._weights = StoredWeights(self.folder, None if whole else adapter)
        tied = self.config.get("tie_word_embeddings") and "model.embed_tokens.weight" in self._weights
        self.names = [name for name in self._weights.names if not (tied and name == "lm_head.weight")]

    @cached_property
    def config(self) -> dict[str, Any]:
        """What config.json says."""
        config: dict[str, Any] = json.loads((self.folder / "config.json").read_text(encoding="utf-8"))
        return config

    @property
    def parameters(self) -> int:
        """How many numbers the model has."""
        return sum(self._weights[name].size for name in self.names)

    def shape(self, name: str) -> tuple[int, ...]:
        """Return a tensor's shape without reading it."""
        return tuple(self._weights[name].shape)

    def tensor(self, name: str) -> NDArray[np.float32]:
        """Return one tensor with what the adapter makes of it."""
        stored = self._weights.numbers(name)
        low = self._weights.low_rank(name.removesuffix(".weight")) if name.endswith(".weight") else None
        if low is None:
            return stored
        merged = low.b @ low.a
        merged += stored
        if low.scale is not None:
            merged *= low.scale[:, None]
        return merged
