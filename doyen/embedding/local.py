"""A model folder on this machine → an embedder.

In: a folder in Hugging Face or sentence-transformers' format, and the embedder's settings. Out: a `LocalEmbedder`. The
first backend that can compute the folder is taken: doyen's own networks on OpenVINO, its ONNX file on OpenVINO, torch.
Downloads nothing and runs no code of the folder.
"""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from doyen.config import EmbedderSettings
from doyen.embedding.folder import DenseLayer, EncoderFolder, read_folder
from doyen.embedding.languages import trained_languages
from doyen.embedding.network import FAMILIES, POOLINGS, TOKENS, build_embedder, config_faults, encoder_shape
from doyen.embedding.onnx import read_onnx
from doyen.embedding.prefixes import Kind, plain_name, read_prefixes, vector_marks
from doyen.embedding.runtime import BatchedNetwork
from doyen.embedding.tokens import TokenCounter, TokenizerCounter, encodable, open_tokenizer, read_json, read_limit
from doyen.embedding.torch_network import TorchNetwork, code_needed
from doyen.embedding.weights import read_weights
from doyen.errors import ModelError

Progress = Callable[[int], None]


class Network(Protocol):
    """Sequences of tokens → pooled states."""

    size: int
    backend: str

    def run(
        self, items: Sequence[Any], encode: Callable[[Sequence[Any]], Sequence[Any]], progress: Progress | None = None
    ) -> NDArray[np.float32]:
        """Return `(n, size) float32`."""
        ...

    def run_tokens(
        self, items: Sequence[Any], encode: Callable[[Sequence[Any]], Sequence[Any]]
    ) -> list[NDArray[np.float32]]:
        """Return `(width, size) float32` an item, of a network that pools nothing."""
        ...


class LocalEmbedder:
    """An `Embedder` (see `doyen.embedding`) of a folder on this machine."""

    def __init__(
        self, folder: EncoderFolder, network: Network, encoder: tuple[Path, ...], name: str, settings: EmbedderSettings
    ) -> None:
        self.name = name
        self._prefixes = read_prefixes(folder.path, name, query=settings.query_prefix, passage=settings.passage_prefix)
        self.languages = trained_languages(
            folder.path, name, str(read_json(folder.path / "config.json").get("_name_or_path", ""))
        )
        self._network = network
        self._folder = folder
        self._precision = network.backend.rpartition("-")[2]
        self._tokens: Network | None = None
        self._opening = threading.Lock()
        self._dense = folder.dense_layers()
        full = len(self._dense[-1].weight) if self._dense else network.size
        if settings.dimensions > full:
            raise ModelError(
                f"[embedder] dimensions = {settings.dimensions}: the vectors of {name} have {full}.",
                hint=f"set dimensions to at most {full}, or 0",
            )
        self.dim = settings.dimensions or full
        tokenizer = folder.path / "tokenizer.json"
        self.max_tokens = read_limit(folder.path)
        self.counter: TokenCounter = TokenizerCounter(tokenizer, self.max_tokens, self._prefixes.passage)
        self._tokenizer = open_tokenizer(tokenizer)
        self._tokenizer.enable_truncation(self.max_tokens)
        marks = vector_marks(self._prefixes, folder.pooling, self.dim if self.dim < full else 0)
        self.fingerprint = f"{plain_name(name)}@{folder.digest(encoder)[:12]}{marks}/{network.backend}"

    def embed(
        self, texts: Sequence[str], *, kind: Kind = "passage", progress: Progress | None = None
    ) -> NDArray[np.float32]:
        """Return one unit vector a text, in their order; a text's end beyond `max_tokens` tokens is not read.

        `progress` is called with the number of texts done since its last call. Calls from several threads wait for
        each other, since each uses all cores.
        """
        prefix = self._prefixes.before(kind)

        def encode(group: Sequence[str]) -> Any:
            return self._tokenizer.encode_batch_fast([prefix + encodable(text) for text in group])

        return finished(self._network.run(texts, encode, progress), self._dense, self.dim)

    def token_states(self, texts: Sequence[str], *, kind: Kind = "passage") -> list[NDArray[np.float32]]:
        """Return the unit vectors of each text's tokens `(tokens, hidden) float32`, special tokens and prefix left out.

        The states of the last layer, before pooling: the network is opened once more without it, at the first call.

        Raises: ModelError where the folder's network cannot be had without its pooling (some ONNX files).
        """
        with self._opening:
            if self._tokens is None:
                self._tokens, _ = _opened(dataclasses.replace(self._folder, pooling=TOKENS), self._precision, self.name)
        prefix = self._prefixes.before(kind)
        rows: list[Any] = []

        def encode(group: Sequence[str]) -> Any:
            found = self._tokenizer.encode_batch([prefix + encodable(text) for text in group])
            rows.extend(found)
            return found

        return [
            _unit(states[_own_tokens(row, len(prefix))])
            for states, row in zip(self._tokens.run_tokens(texts, encode), rows, strict=True)
        ]


def _own_tokens(row: Any, prefix: int) -> list[int]:
    """Return the places of those tokens of an encoding that belong to the text after its prefix."""
    marks = zip(row.special_tokens_mask, row.offsets, strict=True)
    return [i for i, (special, (_, end)) in enumerate(marks) if not special and end > prefix]


def _unit(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    unit: NDArray[np.float32] = vectors / np.linalg.norm(vectors, axis=1, keepdims=True).clip(1e-12)
    return unit


Opened = tuple[Network, tuple[Path, ...]]


def load_local(path: Path, name: str, settings: EmbedderSettings, precision: str | None) -> LocalEmbedder:
    """Load the embedder in a folder, in `precision` ("f32", "bf16", None: what the CPU computes in natively).

    Raises: ModelError where no backend can compute it: all that is wrong is named.
    """
    folder = read_folder(path)
    architectures = " ".join(folder.config.get("architectures") or ())
    if "ForSequenceClassification" in architectures:
        raise ModelError(f"{name} is a reranker ({architectures}), not an embedder.", hint=f'[rerank] name = "{name}"')
    network, encoder = _opened(folder, precision, name)
    return LocalEmbedder(folder, network, encoder, name, settings)


def needs_torch(path: Path) -> bool:
    """Whether the embedder in a folder is computed by torch: in f32 where nothing else is asked for, and on a GPU if it can be."""
    folder = read_folder(path)
    return bool(_faults(folder)) and _onnx_file(folder) is None


def _opened(folder: EncoderFolder, precision: str | None, name: str) -> Opened:
    """Return the network of the first backend that can compute a folder. Raises ModelError: all that is wrong is named."""
    for backend in BACKENDS:
        if opened := backend(folder, precision):
            return opened
    raise ModelError(
        f"{folder.path} is not an embedder that doyen can run: {'; '.join(_faults(folder))}.",
        hint="set [embedder] name = 'all-minilm-l6-v2'",
    )


def finished(pooled: NDArray[np.float32], dense: Sequence[DenseLayer], dim: int) -> NDArray[np.float32]:
    """Return unit vectors `(n, dim) float32`: dense layers, the first `dim` numbers, division by the L2 norm.

    Shorter vectors keep their meaning where the model was trained for it (Matryoshka, arXiv 2205.13147).
    """
    for layer in dense:
        pooled = layer(pooled)
    return _unit(pooled[:, :dim])


# --- backends: (folder, precision) → a network and the files it is made of, None where it cannot compute the folder ----


def _faults(folder: EncoderFolder) -> list[str]:
    """Say why doyen's own networks cannot compute a folder."""
    faults = config_faults(folder.config)
    if folder.needs_code:
        faults.append("it needs Python code from its repository (auto_map), which doyen never runs")
    if folder.pooling not in (*POOLINGS, TOKENS):
        faults.append(f"pooling is {folder.pooling!r}, expected 'mean' or 'cls'")
    if len(folder.weights) != 1:
        faults.append(f"it holds {len(folder.weights)} safetensors files, expected one")
    return faults


def _own_network(folder: EncoderFolder, precision: str | None) -> Opened | None:
    if _faults(folder):
        return None
    shape = encoder_shape(folder.config)
    try:
        model = build_embedder(shape, read_weights(folder.weights[0]), folder.pooling)
    except KeyError as error:
        raise ModelError(
            f"{folder.weights[0]} lacks the tensor {error}: it is not a whole {folder.model_type}."
        ) from error
    return BatchedNetwork(model, lambda ids, _, mask: (ids, mask), shape.hidden, precision), folder.weights


def _onnx_file(folder: EncoderFolder) -> Path | None:
    return folder.onnx if folder.pooling in (*POOLINGS, TOKENS) else None


def _onnx(folder: EncoderFolder, precision: str | None) -> Opened | None:
    if (file := _onnx_file(folder)) is None:
        return None
    model, feed, size = read_onnx(file, folder.pooling)
    data = file.with_name(f"{file.name}_data")  # where the weights of a large model lie
    return BatchedNetwork(model, feed, size, precision), (file, *([data] if data.is_file() else []))


def _torch(folder: EncoderFolder, precision: str | None) -> Opened | None:
    if folder.needs_code and folder.model_type in FAMILIES:
        raise code_needed(folder)
    if folder.model_type in FAMILIES or not folder.weights:
        return None
    return TorchNetwork(folder, precision), folder.weights


BACKENDS: tuple[Callable[[EncoderFolder, str | None], Opened | None], ...] = (_own_network, _onnx, _torch)
