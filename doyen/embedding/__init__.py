"""Texts → vectors `(n, dim) float32`, unit length. Knows no documents and no store."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from doyen.embedding.tokens import ByteCounter, TokenCounter, TokenizerCounter, read_limit
from doyen.errors import ModelError
from doyen.models.catalogue import find_entry
from doyen.models.fetching import read_manifest, require_model, sha256_of

__all__ = [
    "BACKENDS",
    "ByteCounter",
    "Embedder",
    "TokenCounter",
    "TokenizerCounter",
    "load_counter",
    "load_embedder",
    "recorded_precision",
]


class Embedder(Protocol):
    """What turns texts into vectors."""

    name: str
    """The name under which it was asked for."""
    dim: int
    """Length of a vector."""
    max_tokens: int
    """Tokens of a text that are read; what comes after them does not change the vector."""
    fingerprint: str
    """`<model>@<weights hash>/<backend>-<precision>`. Vectors compare where the part before the `/` is the same; an
    index is written by one fingerprint only."""
    counter: TokenCounter
    """What sizes the chunks of texts for this embedder."""

    def embed(self, texts: Sequence[str], *, progress: Callable[[int], None] | None = None) -> NDArray[np.float32]:
        """Return one unit vector a text, `(n, dim) float32`, in the texts' order.

        `progress` is called with the number of texts done since its last call.
        """
        ...


def load_embedder(
    name: str, *, precision: str | None = None, recorded: str | None = None, cache: Path | None = None
) -> Embedder:
    """Load the embedder of that catalogue name, folder or Hub repository; it must have been pulled.

    `precision` "f32" or "bf16" (None: what the CPU computes in natively). `recorded` is the fingerprint of the index
    that it will work on: its precision is taken where none is given. `cache` is doyen's cache folder.

    Raises: ModelError where the model is unknown, not here, or of an architecture without a backend.
    """
    precision = precision or recorded_precision(recorded)
    folder = require_model(name, cache)
    weights = folder / "model.safetensors"
    if not weights.is_file():
        raise ModelError(f"{folder} holds no model.safetensors.", hint="save the model with safe serialization")
    model_type = json.loads((folder / "config.json").read_text(encoding="utf-8")).get("model_type")
    if model_type not in BACKENDS:
        raise ModelError(
            f"The embedder {name} is of architecture {model_type!r}; supported: {', '.join(BACKENDS)}.",
            hint="set embedder = 'all-minilm-l6-v2'",
        )
    recorded = read_manifest(folder).get("files", {}).get(weights.name)
    digest: str = recorded or sha256_of(weights)
    return BACKENDS[model_type](folder, find_entry(name).name, digest, precision)


def load_counter(name: str, *, cache: Path | None = None) -> TokenCounter:
    """Open the token counter of an embedder without loading its network."""
    folder = require_model(name, cache)
    return TokenizerCounter(folder / "tokenizer.json", read_limit(folder))


def recorded_precision(fingerprint: str | None) -> str | None:
    """Return the precision in an index's fingerprint, None where no backend here computes in it."""
    found = (fingerprint or "").rpartition("/openvino-")[2]
    return found if found in PRECISIONS else None


def _openvino_bert(folder: Path, name: str, weights_sha256: str, precision: str | None) -> Embedder:
    from doyen.embedding.openvino_bert import OpenVINOBert

    return OpenVINOBert(folder, name=name, weights_sha256=weights_sha256, precision=precision)


PRECISIONS = ("f32", "bf16")
BACKENDS: dict[str, Callable[[Path, str, str, str | None], Embedder]] = {"bert": _openvino_bert}
"""config.json's `model_type` → what loads it: (folder, name, SHA-256 of the weights, precision)."""
