"""safetensors file → arrays, without torch. Knows no architecture."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

_STORED: dict[str, np.dtype[Any]] = {"F32": np.dtype("<f4"), "F16": np.dtype("<f2"), "BF16": np.dtype("<u2")}
_HEAD_PREFIX = re.compile(r"^(bert|roberta|mpnet|distilbert)\.")


def read_weights(path: Path) -> dict[str, NDArray[np.float32]]:
    """Read a safetensors file as float32, by name without the `bert.` of models with a head; float32 stays mapped.

    Format: https://huggingface.co/docs/safetensors — 8 bytes of header length, JSON, data. bfloat16, which numpy
    lacks, is the upper half of a float32.
    """
    with path.open("rb") as file:
        size = int.from_bytes(file.read(8), "little")
        header = json.loads(file.read(size))
    # "c": copy on write, since OpenVINO refuses a read-only array
    data = np.memmap(path, dtype=np.uint8, mode="c", offset=8 + size)
    weights = {}
    for name, tensor in header.items():
        if name == "__metadata__" or tensor["dtype"] not in _STORED:  # position_ids (int64) of older files
            continue
        start, end = tensor["data_offsets"]
        raw = data[start:end].view(_STORED[tensor["dtype"]])
        if tensor["dtype"] == "BF16":
            raw = (raw.astype(np.uint32) << 16).view(np.float32)
        weights[_HEAD_PREFIX.sub("", name)] = raw.astype(np.float32, copy=False).reshape(tensor["shape"])
    return weights
