"""Vectors that the store has already: texts → the vectors of chunks and summaries with the same indexed text.

A 64-bit hash finds the rows, the text itself decides. Knows no embedder.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from doyen.index.rows import chunk_hash, matrix
from doyen.index.tables import PARTS, Tables, rows_of
from doyen.records import indexed_text

_MOST_HASHES = 4096
_PARTS = 64


class StoredVectors:
    """Finds vectors by text in one store. Keeps 8 bytes a chunk in memory, so that new texts cost no search."""

    def __init__(self, tables: Tables) -> None:
        self._tables = tables
        self._parts: list[NDArray[np.int64]] | None = None

    def find(self, texts: Sequence[str]) -> tuple[NDArray[np.bool_], NDArray[np.float32]]:
        """Return which texts have a vector `(n,) bool` and the vectors `(n, dim) float32`, 0 where there is none."""
        found = np.zeros(len(texts), dtype=np.bool_)
        vectors = np.zeros((len(texts), self._tables.dim), dtype=np.float32)
        hashes = np.array([chunk_hash(text) for text in texts], dtype=np.int64)
        there = self._holds(hashes)
        places: dict[int, list[int]] = {}
        for i in np.flatnonzero(there).tolist():
            places.setdefault(int(hashes[i]), []).append(i)
        wanted = list(places)
        for n in range(0, len(wanted), _MOST_HASHES):
            condition = f"hash IN ({', '.join(map(str, wanted[n : n + _MOST_HASHES]))})"
            for stored, keys, own in self._stored(condition):
                for vector, key, text in zip(stored, keys, own, strict=True):
                    for i in places[key]:
                        if not found[i] and texts[i] == text:
                            found[i], vectors[i] = True, vector
        return found, vectors

    def _stored(self, condition: str) -> Iterator[tuple[NDArray[np.float32], list[int], list[str]]]:
        """Yield vectors, hashes and indexed texts of what meets a condition."""
        for batch in rows_of(self._tables.chunks, ("hash", "context", "text", "vector"), condition):
            own = list(map(indexed_text, batch["context"].to_pylist(), batch["text"].to_pylist()))
            yield matrix(batch["vector"], self._tables.dim), batch["hash"].to_pylist(), own
        for batch in rows_of(self._tables.summaries, ("hash", "indexed", "vector"), condition):
            own = batch["indexed"].to_pylist()
            yield matrix(batch["vector"], self._tables.dim), batch["hash"].to_pylist(), own

    def added(self, texts: Sequence[str]) -> None:
        """Take note of texts whose chunks or summaries were written."""
        if self._parts is None or not texts:
            return
        self._parts.append(np.sort(np.array([chunk_hash(text) for text in texts], dtype=np.int64)))
        if len(self._parts) > _PARTS:
            self._parts = [np.unique(np.concatenate(self._parts))]

    def _holds(self, hashes: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Say which hashes the store may have; a hash whose chunk was deleted since costs a search and no more."""
        if self._parts is None:
            tables = [getattr(self._tables, name) for name in PARTS]
            parts = [batch["hash"].to_numpy() for table in tables for batch in rows_of(table, ("hash",))]
            self._parts = [np.unique(np.concatenate(parts))] if parts else []
        held = np.zeros(len(hashes), dtype=np.bool_)
        for part in self._parts:
            at = np.searchsorted(part, hashes).clip(max=len(part) - 1)
            held |= part[at] == hashes if len(part) else False
        return held
