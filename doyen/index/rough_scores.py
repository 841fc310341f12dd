"""Vectors in 8 bits → dot products that are nearly right, and how wrong each of them can be at most.

A quarter of the memory to be read, and matrix instructions for it where the processor has some. Enters: unit vectors, queries.
Leaves: rough scores with their bounds, from which joint_scan.py finds what is exactly nearest.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from doyen.index.scanning import Floats

_ROWS = 1 << 13
_ROUNDING = np.float32(1e-4)
"""More than float32 sums of unit vectors are wrong."""


class RoughScores:
    """The rough scores of one matrix `(n, dim)`. Not for two threads at once."""

    def __init__(self, vectors: NDArray[np.float16]) -> None:
        """Round the vectors. Raises ImportError or RuntimeError where OpenVINO cannot compute with them."""
        codes, scales, self.bounds = rounded(vectors)
        self._request = _compiled(codes, scales)

    def __call__(self, queries: Floats) -> Floats:
        """Return the scores `(q, n)` of unit queries `(q, dim)`; each is wrong by at most its row's bound."""
        found: Floats = self._request.infer([queries], share_inputs=True)[0]
        return found


def rounded(vectors: NDArray[np.float16]) -> tuple[NDArray[np.int8], Floats, Floats]:
    """Return the codes `(n, dim)` of vectors, what a step of each row is `(n, 1)`, and the bounds `(n,)` of its scores.

    A row's bound is the length of what rounding took away: by Cauchy and Schwarz a unit query's score changes by no more.
    """
    codes = np.empty(vectors.shape, dtype=np.int8)
    scales = np.empty((len(vectors), 1), dtype=np.float32)
    bounds = np.empty(len(vectors), dtype=np.float32)
    for start in range(0, len(vectors), _ROWS):
        part = vectors[start : start + _ROWS].astype(np.float32)
        scale = np.maximum(np.abs(part).max(axis=1, keepdims=True), 1e-30) / 127
        code = np.round(part / scale)
        codes[start : start + _ROWS], scales[start : start + _ROWS] = code, scale
        bounds[start : start + _ROWS] = np.linalg.norm(part - code * scale, axis=1) + _ROUNDING
    return codes, scales, bounds


def _compiled(codes: NDArray[np.int8], scales: Floats) -> Any:
    import openvino
    from openvino import opset13 as operations

    queries = operations.parameter([-1, codes.shape[1]], np.float32)
    weights = operations.multiply(
        operations.convert(operations.constant(codes), np.float32), operations.constant(scales)
    )
    network = openvino.Model([operations.matmul(queries, weights, False, True)], [queries])
    # One thread: a scan is short, and other searches want the other cores. Queries are not rounded.
    hints = {"INFERENCE_NUM_THREADS": 1, "NUM_STREAMS": 1, "INFERENCE_PRECISION_HINT": "f32"}
    hints |= {"DYNAMIC_QUANTIZATION_GROUP_SIZE": 0}
    return openvino.Core().compile_model(network, "CPU", hints).create_infer_request()
