"""A model's linears in 8 or 4 bits: made once from the 16-bit weights, kept in doyen's cache, mapped from there.

Groups of 32 numbers of a row share a scale, and with 4 bits a zero too (as llama.cpp's Q8_0 and Q4_1 do). Embeddings,
the output layer, norms and biases stay as they are stored.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from doyen.errors import ModelError
from doyen.models.fetching import cache_folder
from doyen.models.stored_weights import StoredWeights, as_float32, mapped_tensors

GROUP = 32
_LINEAR = re.compile(r"\.layers\.\d+\..+\.weight$")
_ROWS = 1024  # of a tensor worked on at a time
Array = NDArray[Any]


@dataclass(frozen=True, slots=True)
class Packed:
    """A linear's weight: `scale · (values − zero)`, group by group.

    `values` are int8 `(rows, columns)`, or uint8 `(rows, columns / 2)` with two 4-bit numbers a byte, the first one in
    the lower half. `scale` and `zero` are float16 `(rows, columns / GROUP)`; 8 bits have no zero.
    """

    values: Array
    scale: NDArray[np.float16]
    zero: NDArray[np.float16] | None = None

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns of the weight."""
        return self.scale.shape[0], self.scale.shape[1] * GROUP

    def numbers(self) -> NDArray[np.float32]:
        """Return the weight `(rows, columns)` that these stand for."""
        values = self.values
        if self.zero is not None:
            values = np.stack([values & 15, values >> 4], axis=2)
        grouped = values.reshape(len(values), -1, GROUP).astype(np.float32)
        if self.zero is not None:
            grouped -= self.zero[..., None]
        return (grouped * self.scale[..., None]).reshape(self.shape)


class PackedWeights(StoredWeights):
    """The tensors of a model folder whose linears are in 8 or 4 bits; what an adapter adds is not packed."""

    def __init__(self, folder: Path, adapter: Path | None, bits: int) -> None:
        """Open the files; the first time, the linears are packed, which takes seconds for each 100 million weights."""
        super().__init__(folder, adapter)
        self._packed = packed_linears(folder, self._tensors, bits)
        self._packed_stacks: list[Packed] = []

    def packed(self, names: Sequence[str]) -> Packed | None:
        """Return linears behind each other, None where one of them is not packed."""
        if not all(name in self._packed for name in names):
            return None
        self._packed_stacks.append(stack([self._packed[name] for name in names]))
        return self._packed_stacks[-1]


def pack(weight: NDArray[np.float32], bits: int) -> Packed:
    """Return a weight `(rows, columns)` in 8 or 4 bits, each group spread over all values; columns: a multiple of GROUP."""
    grouped = weight.reshape(len(weight), -1, GROUP)
    if bits == 8:
        scale = _usable(np.abs(grouped).max(axis=2) / 127)
        values = np.clip(np.rint(grouped / scale[..., None].astype(np.float32)), -127, 127)
        return Packed(values.astype(np.int8).reshape(weight.shape), scale)
    low, high = grouped.min(axis=2), grouped.max(axis=2)
    scale = _usable((high - low) / 15)
    zero = (-low / scale.astype(np.float32)).astype(np.float16)
    codes = np.rint(grouped / scale[..., None].astype(np.float32) + zero[..., None])
    flat = np.clip(codes, 0, 15).astype(np.uint8).reshape(len(weight), -1)
    return Packed(flat[:, 0::2] | flat[:, 1::2] << 4, scale, zero)


def _usable(scale: NDArray[np.float32]) -> NDArray[np.float16]:
    half = scale.astype(np.float16)
    half[half == 0] = 1  # all numbers of the group are equal (or too small for float16)
    return half


def stack(parts: Sequence[Packed]) -> Packed:
    """Return weights behind each other, by rows."""
    if len(parts) == 1:
        return parts[0]
    zeros = [part.zero for part in parts if part.zero is not None]
    values, scale = np.concatenate([p.values for p in parts]), np.concatenate([p.scale for p in parts])
    return Packed(values, scale, np.concatenate(zeros) if zeros else None)


def packed_linears(folder: Path, tensors: Mapping[str, Array], bits: int) -> dict[str, Packed]:
    """Return the linears of a model's layers by name, in `bits` bits, from the cache or made and kept there.

    Those whose columns are no multiple of GROUP are left out. What is kept is made anew when the model's files change;
    where it cannot be written, it is in memory only.
    """
    path = cache_folder() / "packed" / f"{folder.name}-{_identity(folder)}-{bits}bit.safetensors"
    if path.is_file():
        try:
            return _read(path)
        except ModelError:
            path.unlink(missing_ok=True)
    made = {name: _packed(tensors[name], bits) for name in tensors if _fits(name, tensors[name])}
    try:
        _write(made, path)
    except OSError:
        return made
    return _read(path)


def _fits(name: str, tensor: Array) -> bool:
    return bool(_LINEAR.search(name)) and tensor.ndim == 2 and tensor.shape[1] % GROUP == 0


def _packed(stored: Array, bits: int) -> Packed:
    rows = range(0, len(stored), _ROWS)
    return stack([pack(as_float32(stored[start : start + _ROWS]), bits) for start in rows])


def _identity(folder: Path) -> str:
    """Return what changes with the weights: path, sizes and times of their files."""
    files = sorted(folder.resolve().glob("model*.safetensors"))
    rows = [[str(f), f.stat().st_size, f.stat().st_mtime_ns] for f in files]
    return hashlib.sha256(json.dumps(rows).encode()).hexdigest()[:12]


def _read(path: Path) -> dict[str, Packed]:
    kinds: dict[str, np.dtype[Any]] = {"I8": np.dtype("i1"), "U8": np.dtype("u1"), "F16": np.dtype("<f2")}
    tensors = mapped_tensors(path, kinds)
    names = [name.removesuffix("/values") for name in tensors if name.endswith("/values")]
    return {n: Packed(tensors[f"{n}/values"], tensors[f"{n}/scale"], tensors.get(f"{n}/zero")) for n in names}


def _write(linears: Mapping[str, Packed], path: Path) -> None:
    """Write all of them, or nothing. Raises OSError."""
    from safetensors import SafetensorError
    from safetensors.numpy import save_file

    tensors: dict[str, Array] = {}
    for name, packed in linears.items():
        tensors |= {f"{name}/values": packed.values, f"{name}/scale": packed.scale}
        tensors |= {} if packed.zero is None else {f"{name}/zero": packed.zero}
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent)
    os.close(handle)
    try:
        save_file(tensors, temporary)
        os.replace(temporary, path)
    except SafetensorError as error:
        raise OSError(str(error)) from error
    finally:
        Path(temporary).unlink(missing_ok=True)
