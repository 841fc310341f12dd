"""A model folder's safetensors → tensors by name, without torch; and what an adapter adds to them.

Enters: model.safetensors or its shards, and perhaps a PEFT adapter's folder. Leaves: arrays that are read when asked
for, 16-bit ones as they are stored. Knows no architecture but the names of Phi's fused modules.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from doyen.errors import EngineError, ModelError

_STORED: dict[str, np.dtype[Any]] = {"F32": np.dtype("<f4"), "F16": np.dtype("<f2"), "BF16": np.dtype("<u2")}
_ADAPTED = re.compile(r"^base_model\.model\.(?P<module>.+)\.lora_A\.weight$")
Array = NDArray[Any]


@dataclass(frozen=True, slots=True)
class LowRank:
    """What an adapter makes of a linear: `scale ∘ (W·x + b·(a·x))`; `a (rank, in)`, `b (out, rank)`, `scale (out,)`."""

    a: NDArray[np.float32]
    b: NDArray[np.float32]
    scale: NDArray[np.float32] | None = None


class StoredWeights:
    """The tensors of a model folder, mapped, and what a LoRA or DoRA adapter adds to them.

    It owns the memory of what it returns: a network that is built on it must not outlive it.
    """

    def __init__(self, folder: Path, adapter: Path | None = None) -> None:
        """Open the files.

        Raises:
            ModelError: there are no weights in safetensors.
            EngineError: the adapter adapts modules that the model lacks, or in a way that is not known here.
        """
        self._tensors = open_tensors(folder)
        self._adapter = _Adapter(adapter) if adapter is not None else None
        self._stacks: dict[str, Array] = {}
        self._made: list[Array] = []
        if self._adapter:
            missing = [m for m in self._adapter.modules if f"{m}.weight" not in self._tensors]
            if missing:
                raise EngineError(
                    f"adapter {adapter.name if adapter else ''} adapts modules that this model lacks: {missing[0]}",
                    hint="set [model] name back, or doyen finetune again",
                )

    @property
    def names(self) -> list[str]:
        """The names of the base's tensors."""
        return list(self._tensors)

    def __contains__(self, name: str) -> bool:
        return name in self._tensors

    def __getitem__(self, name: str) -> Array:
        """Return one tensor of the base: float32, float16, or uint16 that holds bfloat16's bits."""
        return self._tensors[name]

    def low_rank(self, module: str) -> LowRank | None:
        """Return what the adapter adds to a linear, None where it adds nothing."""
        if self._adapter is None or module not in self._adapter.modules:
            return None
        return self._adapter.low_rank(module, self._tensors[f"{module}.weight"])

    def stacked(self, names: Sequence[str]) -> Array:
        """Return tensors of one type behind each other, by their first dimension."""
        if len(names) == 1:
            return self[names[0]]
        key = "+".join(names)
        if key not in self._stacks:
            self._stacks[key] = np.concatenate([self[name] for name in names])
        return self._stacks[key]

    def behind(self, stored: Array, rows: NDArray[np.float32]) -> Array:
        """Return a tensor with more rows behind it, rounded to its type."""
        more = to_bfloat16(rows) if stored.dtype == np.uint16 else rows.astype(stored.dtype)
        self._made.append(np.concatenate([stored, more]))
        return self._made[-1]

    def packed(self, names: Sequence[str]) -> Any:
        """Return None: nothing is packed here (see `packed_weights.py`)."""
        return None

    def numbers(self, name: str) -> NDArray[np.float32]:
        """Return one tensor as float32."""
        return as_float32(self[name])


class _Adapter:
    """A PEFT adapter: module → what is added to its weight."""

    def __init__(self, folder: Path) -> None:
        self._config = json.loads((folder / "adapter_config.json").read_text(encoding="utf-8"))
        self._refuse_unknown(folder)
        self._tensors = open_tensors(folder, "adapter_model")
        self.modules = {m["module"] for name in self._tensors if (m := _ADAPTED.match(name))}

    def _refuse_unknown(self, folder: Path) -> None:
        config = self._config
        unknown = [key for key in ("modules_to_save", "fan_in_fan_out", "trainable_token_indices") if config.get(key)]
        unknown += [f"bias = {config['bias']}"] if config.get("bias", "none") != "none" else []
        unknown += [f"peft_type = {config.get('peft_type')}"] if config.get("peft_type", "LORA") != "LORA" else []
        if unknown:
            raise EngineError(
                f"adapter {folder.name} has what the OpenVINO engine does not know: {', '.join(unknown)}",
                hint='set [model] engine = "transformers"',
            )

    def low_rank(self, module: str, stored: Array) -> LowRank:
        """Return a module's part, with the scaling in it (LoRA: arXiv 2106.09685; DoRA: 2402.09353)."""
        a, b, magnitude = (self._part(module, part) for part in ("lora_A", "lora_B", "lora_magnitude_vector"))
        if a is None or b is None:
            raise EngineError(f"the adapter's weights for {module} are not whole", hint="doyen finetune again")
        if a.shape[1] != stored.shape[1] or b.shape[0] != stored.shape[0]:
            raise EngineError(
                f"the adapter is for another model: for '{module}' it has {a.shape[1]} inputs and {b.shape[0]} outputs, "
                f"the model {stored.shape[1]} and {stored.shape[0]}",
                hint="doyen finetune --name NAME trains an adapter for this model",
            )
        b = np.asarray(self._scaling(module, a.shape[0]) * b, dtype=np.float32)
        if magnitude is None:
            return LowRank(a, b)
        norms = np.linalg.norm(as_float32(stored) + b @ a, axis=1)
        return LowRank(a, b, np.asarray(magnitude.reshape(-1) / norms, dtype=np.float32))

    def _scaling(self, module: str, rank: int) -> np.float32:
        patterns: Mapping[str, float] = self._config.get("alpha_pattern") or {}
        alpha = next((v for k, v in patterns.items() if re.search(rf"(^|\.){k}$", module)), self._config["lora_alpha"])
        return np.float32(alpha / (math.sqrt(rank) if self._config.get("use_rslora") else rank))

    def _part(self, module: str, part: str) -> NDArray[np.float32] | None:
        for end in (".weight", ""):  # PEFT writes DoRA's magnitudes without ".weight"
            if (stored := self._tensors.get(f"base_model.model.{module}.{part}{end}")) is not None:
                return as_float32(stored)
        return None


def open_tensors(folder: Path, stem: str = "model") -> dict[str, Array]:
    """Map all tensors of `stem`.safetensors, or of the shards that its index names."""
    index = folder / f"{stem}.safetensors.index.json"
    names = [f"{stem}.safetensors"]
    if index.is_file():
        names = sorted(set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()))
    found: dict[str, Array] = {}
    for name in names:
        found |= mapped_tensors(folder / name)
    return found


def tensor_names(path: Path) -> list[str]:
    """Return the names of all tensors of a safetensors file."""
    return [name for name in _header(path)[0] if name != "__metadata__"]


def mapped_tensors(path: Path, kinds: Mapping[str, np.dtype[Any]] = _STORED) -> dict[str, Array]:
    """Map the tensors of one safetensors file that are of one of `kinds`; others are left out.

    Format: https://huggingface.co/docs/safetensors — 8 bytes of header length, JSON, data.

    Raises:
        ModelError: the file is missing or broken.
    """
    header, start = _header(path)
    try:
        # "c": copy on write, since OpenVINO refuses a read-only array
        data = np.memmap(path, dtype=np.uint8, mode="c", offset=start)
        wanted = {name: row for name, row in header.items() if name != "__metadata__" and row["dtype"] in kinds}
        return {
            name: data[slice(*row["data_offsets"])].view(kinds[row["dtype"]]).reshape(row["shape"])
            for name, row in wanted.items()
        }
    except (OSError, ValueError, KeyError) as error:
        raise _unreadable(path, error) from error


def _header(path: Path) -> tuple[dict[str, Any], int]:
    """Return what a file's header says, and where the data begins."""
    try:
        with path.open("rb") as file:
            size = int.from_bytes(file.read(8), "little")
            return json.loads(file.read(size)), 8 + size
    except (OSError, ValueError, OverflowError, MemoryError) as error:
        raise _unreadable(path, error) from error


def _unreadable(path: Path, error: Exception) -> ModelError:
    return ModelError(f"the weights in {path} cannot be read: {error}", hint="fetch or train the model again")


def as_float32(stored: Array) -> NDArray[np.float32]:
    """Return stored numbers as float32; bfloat16 is the upper half of one."""
    if stored.dtype == np.uint16:
        return (stored.astype(np.uint32) << 16).view(np.float32)
    return stored.astype(np.float32, copy=False)


def to_bfloat16(values: NDArray[np.float32]) -> NDArray[np.uint16]:
    """Return the bits of float32 numbers rounded to bfloat16, ties to even."""
    bits = np.ascontiguousarray(values).view(np.uint32)
    rounded = bits >> 16
    rounded &= 1
    rounded += 0x7FFF
    rounded += bits
    rounded >>= 16
    return rounded.astype(np.uint16)
