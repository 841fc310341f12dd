"""Encoders without a network of doyen's own, computed by transformers and torch (extra `finetune`); no remote code.

In: a model folder. Out: pooled states `(n, hidden) float32`. Slower than the networks of `network.py` on a CPU, and
on a GPU where torch finds one.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from doyen.embedding.folder import NO_CODE_MODELS, EncoderFolder
from doyen.embedding.network import TOKENS
from doyen.embedding.runtime import batches, pad
from doyen.errors import ModelError
from doyen.models.engine import FINETUNE_EXTRA

T = TypeVar("T")
BATCH_TOKENS = 4096
POOLINGS = ("mean", "cls", "lasttoken", "max", TOKENS)


class TorchNetwork:
    """Runs an encoder of transformers; `run` is that of `BatchedNetwork`."""

    def __init__(self, folder: EncoderFolder, precision: str | None = None) -> None:
        """Load the folder's encoder in "f32" (also where `precision` is None) or "bf16".

        Raises: ModelError where torch is not installed, transformers lacks the architecture, or the pooling is unknown.
        """
        if folder.pooling not in POOLINGS:
            raise ModelError(f"{folder.path} pools by {folder.pooling}; doyen knows {', '.join(POOLINGS)}.")
        torch, transformers = load_transformers(folder)
        self._torch = torch
        self._device = "cuda" if torch.cuda.is_available() else "cpu"
        dtype = torch.bfloat16 if precision == "bf16" else torch.float32
        model = read_model(folder, transformers.AutoModel, dtype)
        self._model: Any = model.eval().to(self._device)
        self._pooling = folder.pooling
        self.size = int(model.config.hidden_size)
        self.backend = f"torch-{precision or 'f32'}"
        self._lock = threading.Lock()

    def run(
        self,
        items: Sequence[T],
        encode: Callable[[Sequence[T]], Sequence[Any]],
        progress: Callable[[int], None] | None = None,
    ) -> NDArray[np.float32]:
        """Return one row an item `(n, size) float32`, in their order."""
        out = np.empty((len(items), self.size), dtype=np.float32)
        with self._lock:
            for batch, rows in batches(items, encode, BATCH_TOKENS):
                out[batch] = self._pooled(rows)
                if progress is not None:
                    progress(len(batch))
        return out

    def run_tokens(
        self, items: Sequence[T], encode: Callable[[Sequence[T]], Sequence[Any]]
    ) -> list[NDArray[np.float32]]:
        """Return the states of an item's tokens `(width, size) float32`, padding included."""
        out: dict[int, NDArray[np.float32]] = {}
        with self._lock:
            for batch, rows in batches(items, encode, BATCH_TOKENS):
                out.update(zip(batch, self._pooled(rows), strict=True))
        return [out[i] for i in range(len(items))]

    def _pooled(self, rows: Sequence[Any]) -> Any:
        torch = self._torch
        ids, _, shown = pad(rows)
        inputs = torch.from_numpy(ids.astype(np.int64)).to(self._device)
        mask = torch.from_numpy(shown.astype(np.int64)).to(self._device)
        with torch.inference_mode():
            states = self._model(input_ids=inputs, attention_mask=mask).last_hidden_state.float()
        return self._pool(states, mask).cpu().numpy()

    def _pool(self, states: Any, mask: Any) -> Any:
        torch = self._torch
        if self._pooling == TOKENS:
            return states
        shown = mask.unsqueeze(2).float()
        if self._pooling == "mean":
            return (states * shown).sum(1) / shown.sum(1).clamp(min=1)
        if self._pooling == "max":
            return states.masked_fill(shown == 0, -1e9).max(1).values
        rows = torch.arange(len(states), device=states.device)
        return states[rows, 0 if self._pooling == "cls" else mask.sum(1) - 1]


class TorchClassifier:
    """Runs a `…ForSequenceClassification` of transformers: one logit a pair; `run` is that of `BatchedNetwork`."""

    def __init__(self, folder: EncoderFolder, precision: str | None = None) -> None:
        torch, transformers = load_transformers(folder)
        self._torch = torch
        self._device = "cuda" if torch.cuda.is_available() else "cpu"
        dtype = torch.bfloat16 if precision == "bf16" else torch.float32
        model = read_model(folder, transformers.AutoModelForSequenceClassification, dtype)
        self._model: Any = model.eval().to(self._device)
        self._segments = int(getattr(model.config, "type_vocab_size", 0) or 0) > 1
        self.backend = f"torch-{precision or 'f32'}"
        self._lock = threading.Lock()

    def run(self, items: Sequence[T], encode: Callable[[Sequence[T]], Sequence[Any]]) -> NDArray[np.float32]:
        """Return one logit an item `(n, 1) float32`, in their order."""
        torch, out = self._torch, np.empty((len(items), 1), dtype=np.float32)
        with self._lock, torch.inference_mode():
            for batch, rows in batches(items, encode, BATCH_TOKENS):
                ids, segments, mask = (torch.from_numpy(a.astype(np.int64)).to(self._device) for a in pad(rows))
                more = {"token_type_ids": segments} if self._segments else {}
                out[batch] = self._model(input_ids=ids, attention_mask=mask, **more).logits.float().cpu().numpy()
        return out


def read_model(folder: EncoderFolder, kind: Any, dtype: Any) -> Any:
    """Load a model of one of transformers' Auto classes; raises ModelError where the folder lacks some of its weights."""
    from huggingface_hub.errors import StrictDataclassError

    try:
        model, found = kind.from_pretrained(
            folder.path,
            local_files_only=True,
            trust_remote_code=False,
            dtype=dtype,
            use_safetensors=True,
            output_loading_info=True,
        )
    except (OSError, ValueError, TypeError, KeyError, RuntimeError, ImportError, StrictDataclassError) as error:
        words = " ".join(str(error).split())[:300]
        raise ModelError(
            f"transformers cannot open {folder.path}: {words}", hint=f"take another embedder: {NO_CODE_MODELS}"
        ) from error
    missing = sorted(key for key in found["missing_keys"] if "pooler" not in key)
    if missing:
        raise ModelError(
            f"{folder.path} lacks {len(missing)} tensors of its {folder.model_type}, {missing[0]} among them.",
            hint=f"take another embedder: {NO_CODE_MODELS}",
        )
    return model


def load_transformers(folder: EncoderFolder) -> tuple[Any, Any]:
    """Import torch and transformers for a model folder.

    Raises: ModelError where they are not installed, or do not know the architecture without code of the repository.
    """
    try:
        import torch
        import transformers
        from transformers.models.auto.configuration_auto import CONFIG_MAPPING_NAMES
    except ImportError as error:
        raise ModelError(
            f"The model in {folder.path} is of architecture {folder.model_type!r}, which doyen computes with torch and "
            "transformers; they are not installed.",
            hint=FINETUNE_EXTRA,
        ) from error
    if folder.model_type not in CONFIG_MAPPING_NAMES:
        raise code_needed(folder)
    return torch, transformers


def code_needed(folder: EncoderFolder) -> ModelError:
    """Return the error for a model that only its repository's own Python code can compute."""
    return ModelError(
        f"The model in {folder.path} ({folder.model_type!r}) needs Python code from its repository, which doyen never "
        "runs, and the folder holds no onnx/model.onnx, which would do without.",
        hint=f"add the model's ONNX file as onnx/model.onnx, or take another embedder: {NO_CODE_MODELS}",
    )
