"""Vectors of one store scanned for the nearest to a query: exactly, or by binary codes whose best are scored exactly.

Enters: float16 vectors, 1-bit codes of them, a query. Leaves: places and cosines. Knows no table and no file. A code holds
the signs of a random orthogonal projection (Charikar 2002, Similarity estimation techniques from rounding algorithms;
Gao & Long 2024, RaBitQ, arXiv 2405.12497), so it needs no training and none of it changes when rows come or go.
"""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

_BLOCK = 1 << 15  # codes at once: stays in a core's cache
_ROWS = 1 << 13
_LEAST_BITS = 256
_CORES = min(8, os.cpu_count() or 1)
_NEVER = np.uint16(np.iinfo(np.uint16).max)

Places = NDArray[np.intp]
Floats = NDArray[np.float32]


def projection(dim: int, seed: int = 7) -> Floats:
    """Return a random projection `(dim, bits)`, orthogonal in blocks of `dim`; `bits` is a multiple of 64."""
    bits = -(-max(dim, _LEAST_BITS) // 64) * 64
    rng = np.random.default_rng(seed)
    blocks = [np.linalg.qr(rng.standard_normal((dim, dim)))[0] for _ in range(-(-bits // dim))]
    return np.ascontiguousarray(np.concatenate(blocks, axis=1)[:, :bits], dtype=np.float32)


def codes_of(vectors: Floats, projected: Floats) -> NDArray[np.uint64]:
    """Return the codes `(n, bits / 64)` of vectors `(n, dim)`."""
    if len(vectors) == 1:  # a query: without BLAS, see `dots`
        return np.packbits(np.einsum("ij,jk->ik", vectors, projected) > 0, axis=1).view(np.uint64)
    return np.packbits(vectors @ projected > 0, axis=1).view(np.uint64)


def hamming(codes: NDArray[np.uint64], code: NDArray[np.uint64]) -> NDArray[np.uint16]:
    """Return how many bits of each code differ from `code`; `codes` is `(bits / 64, n)`, a row for each word."""
    count = codes.shape[1]
    found = np.zeros(count, dtype=np.uint16)
    differing = np.empty(min(_BLOCK, count), dtype=np.uint64)
    bits = np.empty(len(differing), dtype=np.uint8)
    for start in range(0, count, _BLOCK):
        part = found[start : start + _BLOCK]
        for words, word in zip(codes[:, start : start + _BLOCK], code, strict=True):
            np.bitwise_xor(words, word, out=differing[: len(part)])
            np.bitwise_count(differing[: len(part)], out=bits[: len(part)])
            np.add(part, bits[: len(part)], out=part)
    return found


def near_codes(
    codes: NDArray[np.uint64], code: NDArray[np.uint64], count: int, mask: NDArray[np.bool_] | None = None
) -> Places:
    """Return at least `count` places of least Hamming distance (all of the last distance), in order of place.

    With fewer than `count` places in the mask, those are all of them.
    """
    distances = hamming(codes, code)
    if mask is not None:
        distances[~mask] = _NEVER
    if count < len(distances):
        totals = np.bincount(distances, minlength=1)  # a selection by counting: the distances are few
        most = int(np.searchsorted(np.cumsum(totals), count))
        return np.flatnonzero(distances <= min(most, int(_NEVER) - 1))
    return np.flatnonzero(distances != _NEVER)


def cosines_at(vectors: NDArray[np.float16], query: Floats, places: Places | None = None) -> Floats:
    """Return the cosines of unit vectors `(n, dim)` to a unit query, of all or of some places, in float32."""
    count = len(vectors) if places is None else len(places)
    found = np.empty(count, dtype=np.float32)
    for start in range(0, count, _ROWS):
        part = vectors[start : start + _ROWS] if places is None else vectors[places[start : start + _ROWS]]
        np.einsum("ij,j->i", part.astype(np.float32), query, out=found[start : start + _ROWS])
    return found


def dots(vectors: Floats, query: Floats) -> Floats:
    """Return the dot products `(n,)` of float32 vectors `(n, dim)` and a query, on all cores.

    By einsum, not by BLAS: its threads wait for more work in a busy loop, at the cost of whatever the query does next
    (embedding and full text take 60 instead of 30 ms of processor time). And a row's sum does not depend on its place.
    """
    found = np.empty(len(vectors), dtype=np.float32)
    step = max(_ROWS, -(-len(vectors) // _CORES))
    parts = [slice(start, start + step) for start in range(0, len(vectors), step)]
    list(_pool().map(lambda part: np.einsum("ij,j->i", vectors[part], query, out=found[part]), parts))
    return found


def dots_of_many(vectors: Floats, queries: Floats) -> Floats:
    """Return the dot products `(q, n)` of float32 vectors `(n, dim)` and several queries `(q, dim)`, on all cores.

    By BLAS, whose sums are in another order than those of `dots`; `doyen serve` keeps it to one thread a call.
    """
    found = np.empty((len(queries), len(vectors)), dtype=np.float32)
    turned = np.ascontiguousarray(queries.T)

    def part(start: int) -> None:
        found[:, start : start + _ROWS] = (vectors[start : start + _ROWS] @ turned).T

    list(_pool().map(part, range(0, len(vectors), _ROWS)))
    return found


@lru_cache(maxsize=1)
def _pool() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(_CORES, thread_name_prefix="scanning")


def best(scores: Floats, limit: int) -> Places:
    """Return the places of the `limit` highest scores, best first, the first of equal ones first."""
    if limit <= 0:
        return np.empty(0, dtype=np.intp)
    if limit < len(scores):
        least = np.partition(scores, len(scores) - limit)[len(scores) - limit]
        places = np.flatnonzero(scores >= least)
    else:
        places = np.arange(len(scores))
    return places[np.argsort(-scores[places], kind="stable")][:limit]


def nearest_of_many(vectors: NDArray[np.float16], queries: Floats, limit: int) -> Places:
    """Return the places `(q, limit)` of the nearest vectors of several queries, exactly; at least `limit` are there."""
    kept_scores = np.full((len(queries), 0), -np.inf, dtype=np.float32)
    kept = np.empty((len(queries), 0), dtype=np.intp)
    for start in range(0, len(vectors), _ROWS):
        scores = queries @ vectors[start : start + _ROWS].astype(np.float32).T
        places = np.broadcast_to(np.arange(start, start + scores.shape[1]), scores.shape)
        scores, places = np.concatenate([kept_scores, scores], 1), np.concatenate([kept, places], 1)
        order = np.argpartition(-scores, min(limit, scores.shape[1]) - 1, axis=1)[:, :limit]
        kept_scores, kept = np.take_along_axis(scores, order, 1), np.take_along_axis(places, order, 1)
    order = np.argsort(-kept_scores, axis=1, kind="stable")
    return np.take_along_axis(kept, order, 1)
