"""Passages and sentences → the probability that the passage entails the sentence. A plug-in: any object with `entails` will do.

The one here runs a cross-encoder trained on natural language inference (`[evaluation] entailment`), through transformers.
Downloads nothing and runs no code of the model's folder.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from doyen.errors import ModelError
from doyen.models.engine import FINETUNE_EXTRA
from doyen.models.fetching import require_model

ENTAILED = 0.5
_BATCH = 16
_MOST_TOKENS = 512


class Entailer(Protocol):
    """What tells whether one text follows from another."""

    name: str

    def entails(self, premises: Sequence[str], hypotheses: Sequence[str]) -> NDArray[np.float32]:
        """Return the probability `(n,) float32` that each premise entails its hypothesis."""
        ...


class NliCrossEncoder:
    """An `Entailer` of a folder of transformers' `…ForSequenceClassification` whose labels name entailment."""

    def __init__(self, folder: Path, *, name: str = "") -> None:
        """Take the folder; its weights are loaded at the first pair.

        Raises: ModelError where its configuration names no label of entailment.
        """
        self.name = name or folder.name
        self._folder = folder
        self._label = _entailment_label(folder, self.name)
        self._loaded: tuple[Any, Any] | None = None

    def entails(self, premises: Sequence[str], hypotheses: Sequence[str]) -> NDArray[np.float32]:
        """Return the probability `(n,) float32` that each premise entails its hypothesis; a long premise is cut at its end."""
        import torch

        tokenizer, model = self._load()
        most = min(_MOST_TOKENS, int(getattr(tokenizer, "model_max_length", _MOST_TOKENS)))
        most = min(most, int(getattr(model.config, "max_position_embeddings", most)))
        out = np.empty(len(premises), dtype=np.float32)
        for start in range(0, len(premises), _BATCH):
            part = slice(start, start + _BATCH)
            rows = tokenizer(
                list(premises[part]),
                list(hypotheses[part]),
                truncation="only_first",
                max_length=most,
                padding=True,
                return_tensors="pt",
            )
            with torch.inference_mode():
                logits = model(**rows.to(model.device)).logits.float()
            out[part] = logits.softmax(-1)[:, self._label].cpu().numpy()
        return out

    def _load(self) -> tuple[Any, Any]:
        if self._loaded is None:
            try:
                from transformers import AutoModelForSequenceClassification, AutoTokenizer
            except ImportError as error:
                raise ModelError(
                    f"{self.name} needs torch and transformers, which are not installed", hint=FINETUNE_EXTRA
                ) from error
            options: dict[str, Any] = {"local_files_only": True, "trust_remote_code": False}
            try:
                tokenizer = AutoTokenizer.from_pretrained(str(self._folder), **options)
                model = AutoModelForSequenceClassification.from_pretrained(
                    str(self._folder), use_safetensors=True, **options
                )
            except (OSError, ValueError) as error:
                raise ModelError(
                    f"{self.name} cannot be loaded: {error}", hint="[evaluation] entailment = NAME"
                ) from error
            self._loaded = tokenizer, model.eval()
        return self._loaded


def open_entailer(name: str) -> NliCrossEncoder:
    """Open the model of a name, a folder or a pulled repository. Raises ModelError where it is not here, or no such model."""
    return NliCrossEncoder(require_model(name), name=name)


def _entailment_label(folder: Path, name: str) -> int:
    """Return the number of the label that means entailment: named so, and not "not entailment"."""
    try:
        labels = json.loads((folder / "config.json").read_text(encoding="utf-8")).get("id2label") or {}
    except (OSError, ValueError) as error:
        raise ModelError(f"{name} has no readable config.json: {error}") from error
    found = [
        int(i) for i, label in labels.items() if str(label).lower() in ("entailment", "entail", "entails", "entailed")
    ]
    if len(found) != 1:
        raise ModelError(
            f"{name} is no model of natural language inference: its labels are {', '.join(map(str, labels.values())) or 'none'}",
            hint="[evaluation] entailment names a cross-encoder with a label 'entailment'",
        )
    return found[0]
