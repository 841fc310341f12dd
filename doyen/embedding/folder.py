"""A model folder in sentence-transformers' format → what an embedder must know of it. Loads no weights and no network.

Read: config.json, modules.json, the folders of its modules (pooling, dense layers), sentence_bert_config.json.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from doyen.embedding.tokens import read_json
from doyen.embedding.weights import read_weights
from doyen.errors import ModelError
from doyen.models.fetching import read_manifest, sha256_of

NO_CODE_MODELS = "bge-small-en-v1.5, multilingual-e5-small or all-minilm-l6-v2"
_SIMPLE = {"Transformer", "Pooling", "Normalize", "Dense"}
_POOLINGS = {"mean_tokens": "mean", "cls_token": "cls", "lasttoken": "lasttoken", "max_tokens": "max"}
_ONNX = ("onnx/model.onnx", "model.onnx")


@dataclass(frozen=True, slots=True)
class DenseLayer:
    """sentence-transformers' Dense module: a linear layer after pooling, and its activation."""

    weight: NDArray[np.float32]
    bias: NDArray[np.float32] | float
    tanh: bool

    def __call__(self, pooled: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return `(n, out)` from `(n, in)`."""
        out = (pooled @ self.weight.T + self.bias).astype(np.float32)
        return np.tanh(out) if self.tanh else out


@dataclass(frozen=True, slots=True)
class EncoderFolder:
    """What a folder holds."""

    path: Path
    config: dict[str, Any]
    pooling: str
    dense: tuple[Path, ...]
    weights: tuple[Path, ...]
    """safetensors files of the encoder, sorted."""
    onnx: Path | None

    @property
    def model_type(self) -> str:
        """config.json's `model_type`."""
        return str(self.config.get("model_type"))

    @property
    def needs_code(self) -> bool:
        """Whether the repository brings its own Python code for the encoder."""
        return bool(self.config.get("auto_map"))

    def dense_layers(self) -> list[DenseLayer]:
        """Load the layers after pooling."""
        return [_dense(folder) for folder in self.dense]

    def digest(self, encoder: tuple[Path, ...]) -> str:
        """Return a SHA-256 of the encoder's files and the layers after pooling."""
        known = read_manifest(self.path).get("files", {})
        files = [*encoder, *(folder / "model.safetensors" for folder in self.dense)]
        found = [known.get(p.relative_to(self.path).as_posix()) or sha256_of(p) for p in files]
        return found[0] if len(found) == 1 else hashlib.sha256("".join(found).encode()).hexdigest()


def read_folder(path: Path) -> EncoderFolder:
    """Read a folder; raises ModelError where it is broken or has modules that doyen does not know."""
    try:
        config = json.loads((path / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ModelError(f"{path / 'config.json'} cannot be read: {error}") from error
    if not (path / "tokenizer.json").is_file():
        raise ModelError(
            f"{path} holds no tokenizer.json.",
            hint="save it with transformers' AutoTokenizer.from_pretrained(FOLDER).save_pretrained(FOLDER)",
        )
    modules = _modules(path)
    weights = tuple(sorted(path.glob("*.safetensors")))
    onnx = next((path / name for name in _ONNX if (path / name).is_file()), None)
    if not weights and onnx is None:
        raise ModelError(
            f"{path} holds no model.safetensors and no model.onnx.", hint="save the model with safe serialization"
        )
    pooling = next((folder for kind, folder in modules if kind == "Pooling"), path / "1_Pooling")
    dense = tuple(folder for kind, folder in modules if kind == "Dense")
    return EncoderFolder(path, config, _pooling(pooling), dense, weights, onnx)


def _modules(path: Path) -> list[tuple[str, Path]]:
    """Return (kind, folder) of each module; without modules.json, none."""
    file = path / "modules.json"
    if not file.is_file():
        return []
    listed = json.loads(file.read_text(encoding="utf-8"))
    modules = [(str(m["type"]).rpartition(".")[2], path / str(m.get("path", ""))) for m in listed]
    other = sorted({kind for kind, _ in modules} - _SIMPLE)
    if other:
        raise ModelError(
            f"{path} has modules that doyen does not compute: {', '.join(other)}; it knows Transformer, Pooling, "
            "Dense and Normalize.",
            hint=f"take another embedder: {NO_CODE_MODELS}",
        )
    return modules


def _pooling(folder: Path) -> str:
    """Return how states become one vector; the mean where the folder does not say."""
    config = read_json(folder / "config.json")
    if mode := config.get("pooling_mode"):  # sentence-transformers from 5.3
        return str(mode)
    on = [key.removeprefix("pooling_mode_") for key, value in config.items() if key.startswith("pooling_") and value]
    on = [key for key in on if key not in ("pooling_mode",)]
    return " + ".join(_POOLINGS.get(key, key) for key in on) or "mean"


def _dense(folder: Path) -> DenseLayer:
    config = read_json(folder / "config.json")
    activation = str(config.get("activation_function", "torch.nn.modules.activation.Tanh")).rpartition(".")[2]
    if activation not in ("Tanh", "Identity"):
        raise ModelError(f"{folder} has the activation {activation}; doyen knows Tanh and Identity.")
    path = folder / "model.safetensors"
    if not path.is_file():
        raise ModelError(f"{path} is missing.", hint="save the model with safe serialization")
    weights = read_weights(path)
    return DenseLayer(weights["linear.weight"], weights.get("linear.bias", 0.0), activation == "Tanh")
