"""Tensors by name, one at a time → model.safetensors, or shards with their index. Memory stays within one tensor.

Format: https://huggingface.co/docs/safetensors
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from doyen.models.stored_weights import to_bfloat16

Progress = Callable[[str, int, int], None]
"""Called with a stage, how much of it is done, and how much there is."""
_SHARD_BYTES = 4 << 30
_TYPES = {"BF16": 2, "F16": 2, "F32": 4}


def write_safetensors(
    folder: Path,
    names: Sequence[str],
    shape: Callable[[str], tuple[int, ...]],
    tensor: Callable[[str], NDArray[np.float32]],
    kind: str,
    progress: Progress,
    *,
    shard_bytes: int = _SHARD_BYTES,
) -> None:
    """Write tensors into model.safetensors, or shards and their index, one at a time.

    `kind` is "BF16", "F16" or "F32"; `shape` says a tensor's shape without reading it.
    """
    sizes = {name: _TYPES[kind] * int(np.prod(shape(name))) for name in names}
    shards = _shards(sizes, shard_bytes)
    where: dict[str, str] = {}
    done = 0
    for number, shard in enumerate(shards, 1):
        file_name = "model.safetensors"
        if len(shards) > 1:
            file_name = f"model-{number:05}-of-{len(shards):05}.safetensors"
        with (folder / file_name).open("wb") as file:
            file.write(_header(shard, shape, sizes, kind))
            for name in shard:
                file.write(_bytes(tensor(name), kind))
                where[name], done = file_name, done + 1
                progress("merging", done, len(names))
    if len(shards) > 1:
        index = {"metadata": {"total_size": sum(sizes.values())}, "weight_map": where}
        (folder / "model.safetensors.index.json").write_text(json.dumps(index, indent=1), encoding="utf-8")


def _shards(sizes: dict[str, int], most: int) -> list[list[str]]:
    shards: list[list[str]] = [[]]
    held = 0
    for name, size in sizes.items():
        if shards[-1] and held + size > most:
            shards.append([])
            held = 0
        shards[-1].append(name)
        held += size
    return shards


def _header(names: Sequence[str], shape: Callable[[str], tuple[int, ...]], sizes: dict[str, int], kind: str) -> bytes:
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    end = 0
    for name in names:
        start, end = end, end + sizes[name]
        header[name] = {"dtype": kind, "shape": list(shape(name)), "data_offsets": [start, end]}
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text


def _bytes(values: NDArray[np.float32], kind: str) -> memoryview:
    if kind == "BF16":
        return np.ascontiguousarray(to_bfloat16(values)).data
    return np.ascontiguousarray(values, dtype="<f2" if kind == "F16" else "<f4").data
