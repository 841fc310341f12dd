"""Numbers → llama.cpp's types: which tensor is kept in which, and its bytes.

The mixes are those of llama.cpp's llama-quantize: some tensors of a 4-bit file have more bits, and rows that do
not divide by 256 fall back to types of 32 numbers a block.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
from numpy.typing import NDArray

from doyen.exporting.k_quants import BLOCK, quantise_k

QUANTISATIONS = ("f16", "bf16", "q8_0", "q4_k_m")
FILE_TYPES = {"f16": "MOSTLY_F16", "bf16": "MOSTLY_BF16", "q8_0": "MOSTLY_Q8_0", "q4_k_m": "MOSTLY_Q4_K_M"}
BITS = {"f16": 16, "bf16": 16, "q8_0": 8, "q4_k_m": 4}
_MAIN = {"f16": "F16", "bf16": "BF16", "q8_0": "Q8_0", "q4_k_m": "Q4_K"}
_FALLBACK = {"Q4_K": "Q5_0", "Q5_K": "Q5_1", "Q6_K": "Q8_0"}
_K_BITS = {"Q4_K": 4, "Q5_K": 5, "Q6_K": 6}
_ROWS_AT_ONCE = 1 << 21  # numbers


def tensor_type(name: str, shape: Sequence[int], quantisation: str, layers: int, *, tied: bool) -> str:
    """Return the type that llama.cpp would keep a tensor in; `tied`: the embeddings are the output's weights too."""
    if len(shape) == 1 or not name.endswith(".weight"):
        return "F32"
    kind = _MAIN[quantisation]
    if quantisation == "q4_k_m":
        kind = _more_bits(name, kind, layers, tied)
    if kind in _FALLBACK and shape[-1] % BLOCK:
        kind = _FALLBACK[kind]
    return "F16" if kind not in ("F16", "BF16") and shape[-1] % 32 and kind not in _K_BITS else kind


def _more_bits(name: str, kind: str, layers: int, tied: bool) -> str:
    if name == ("token_embd.weight" if tied else "output.weight"):
        return "Q6_K"
    match = re.match(r"blk\.(\d+)\.(\w+)\.weight", name)
    if not match:
        return kind
    layer, eighth = int(match[1]), layers // 8
    if match[2] == "attn_qkv":
        return "Q5_K"
    more = layer < eighth or layer >= 7 * layers // 8 or (layer - eighth) % 3 == 2
    return "Q6_K" if more and match[2] in ("attn_v", "ffn_down") else kind


def quantised(values: NDArray[np.float32], kind: str) -> NDArray[Any]:
    """Return a tensor as the bytes (or float32, float16) of a type, some rows at a time on all processors."""
    if kind == "F32":
        return np.ascontiguousarray(values, np.float32)
    if kind == "F16":
        return np.ascontiguousarray(values, np.float16)
    step = max(1, _ROWS_AT_ONCE // values.shape[-1])
    parts = [values[i : i + step] for i in range(0, len(values), step)]
    with ThreadPoolExecutor() as pool:
        return np.concatenate(list(pool.map(lambda part: _bytes(np.ascontiguousarray(part), kind), parts)))


def _bytes(values: NDArray[np.float32], kind: str) -> NDArray[np.uint8]:
    from gguf import GGMLQuantizationType, quants

    if kind in _K_BITS:
        return quantise_k(values, _K_BITS[kind])
    made: NDArray[np.uint8] = quants.quantize(values, GGMLQuantizationType[kind])
    return made
