"""A cross-encoder's folder → a reranker: question and passage go through the network as one sequence, one logit comes out.

In: a folder of transformers' `…ForSequenceClassification` with one label. Doyen's own networks on OpenVINO compute the
BERT family, torch (extra `finetune`) the rest. Downloads nothing and runs no code of the folder.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from doyen.embedding.folder import EncoderFolder, read_folder
from doyen.embedding.network import FAMILIES, build_classifier, config_faults, encoder_shape
from doyen.embedding.prefixes import plain_name
from doyen.embedding.runtime import BatchedNetwork
from doyen.embedding.tokens import encodable, open_tokenizer, read_limit
from doyen.embedding.torch_network import TorchClassifier, code_needed
from doyen.embedding.weights import read_weights
from doyen.errors import ModelError

T = TypeVar("T")


class Network(Protocol):
    """Pairs of sequences → logits `(n, 1)`."""

    backend: str

    def run(self, items: Sequence[T], encode: Callable[[Sequence[T]], Sequence[Any]]) -> NDArray[np.float32]:
        """Return one row an item."""
        ...


class CrossEncoder:
    """A `Reranker` (see `doyen.reranking`) of a folder on this machine."""

    weight: float | None = None

    def __init__(self, path: Path, *, name: str, precision: str | None = None) -> None:
        """Load the folder.

        Raises: ModelError where it is no cross-encoder, has several labels, or no backend can compute it.
        """
        folder = read_folder(path)
        _require_one_label(folder, name)
        self.name = name
        self.max_tokens = read_limit(path)
        self._tokenizer = open_tokenizer(path / "tokenizer.json")
        self._tokenizer.enable_truncation(self.max_tokens, strategy="longest_first")
        self._network = _network(folder, precision)
        digest = folder.digest(folder.weights)
        self.fingerprint = f"{plain_name(name)}@{digest[:12]}/{self._network.backend}"

    def score(self, question: str, passages: Sequence[str]) -> NDArray[np.float32]:
        """Return the sigmoid of each pair's logit `(n,) float32`, in the passages' order.

        What is longer than `max_tokens` together is cut, the longer of the two first. Calls from several threads wait for
        each other.
        """

        def encode(group: Sequence[str]) -> Any:
            return self._tokenizer.encode_batch([(asked, encodable(passage)) for passage in group])

        asked = self._first_tokens(encodable(question))
        logits = self._network.run(passages, encode)[:, 0].astype(np.float64)
        return (1.0 / (1.0 + np.exp(-logits))).astype(np.float32)

    def _first_tokens(self, question: str) -> str:
        """Cut a question of thousands of words, which would be tokenised with every passage."""
        if len(question) <= self.max_tokens:
            return question
        offsets = self._tokenizer.encode(question, add_special_tokens=False).offsets  # truncated to max_tokens
        return question[: offsets[-1][1]] if offsets else question


def _require_one_label(folder: EncoderFolder, name: str) -> None:
    config = folder.config
    architectures = " ".join(config.get("architectures") or ())
    if "ForSequenceClassification" not in architectures:
        raise ModelError(
            f"{name} is no cross-encoder: its architecture is {architectures or folder.model_type}, expected one "
            "…ForSequenceClassification.",
            hint='set [rerank] name = "ms-marco-minilm-l6-v2"',
        )
    labels = config.get("num_labels", len(config.get("id2label") or {"0": 0, "1": 1}))
    if labels != 1:
        raise ModelError(f"{name} has {labels} labels; a reranker has one score.", hint="take another reranker")


def _network(folder: EncoderFolder, precision: str | None) -> Network:
    if folder.model_type not in FAMILIES:
        return TorchClassifier(folder, precision)
    faults = config_faults(folder.config)
    if folder.needs_code:
        raise code_needed(folder)
    if len(folder.weights) != 1:
        faults.append(f"it holds {len(folder.weights)} safetensors files, expected one")
    if faults:
        raise ModelError(f"{folder.path} is not a cross-encoder that doyen can run: {'; '.join(faults)}.")
    shape = encoder_shape(folder.config)
    try:
        model = build_classifier(shape, read_weights(folder.weights[0]))
    except KeyError as error:
        raise ModelError(
            f"{folder.weights[0]} lacks the tensor {error}: it is not a whole {folder.model_type} classifier."
        ) from error

    def feed(ids: Any, segments: Any, mask: Any) -> Any:
        return (ids, segments, mask) if shape.family == "bert" else (ids, mask)

    return BatchedNetwork(model, feed, 1, precision)
