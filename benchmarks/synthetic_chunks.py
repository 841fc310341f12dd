"""A small real index → any number of chunks like its own: vectors with the same neighbour distances, texts of its words.

Embedding a million chunks takes hours on two cores; search does not care whether a vector was embedded. A synthetic
vector is a real one moved within the span of its nearest neighbours; how far is fitted, so that a synthetic query has its
10th neighbour at the same cosine among n synthetic chunks as a real chunk has among the real ones.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

_NEIGHBOURS = 32
_MIXED = 8
_QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)
_BLOCK = 8192


@dataclass(frozen=True)
class Synthesis:
    """What vectors are made from: real ones `(n, dim)`, their neighbours `(n, 32)`, and how far they are moved."""

    vectors: NDArray[np.float32]
    neighbours: NDArray[np.intp]
    spread: float = 1.0

    @classmethod
    def of(cls, vectors: NDArray[np.float32]) -> Synthesis:
        """Find the neighbours of real vectors; equal vectors count once."""
        vectors = np.unique(vectors.astype(np.float16), axis=0).astype(np.float32)
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True).clip(1e-9)
        return cls(vectors, nearest_cosines(vectors, vectors, _NEIGHBOURS + 1)[0][:, 1:])

    def make(self, count: int, rng: np.random.Generator, spread: float | None = None) -> NDArray[np.float32]:
        """Return `count` unit vectors `(count, dim)`."""
        spread = self.spread if spread is None else spread
        made = np.empty((count, self.vectors.shape[1]), dtype=np.float32)
        for start in range(0, count, _BLOCK):
            part = made[start : start + _BLOCK]
            seeds = rng.integers(len(self.vectors), size=len(part))
            part[:] = self.vectors[seeds]
            for _ in range(_MIXED):
                other = self.neighbours[seeds, rng.integers(_NEIGHBOURS, size=len(part))]
                weight = rng.standard_normal((len(part), 1)).astype(np.float32) * (spread / _MIXED**0.5)
                part += weight * (self.vectors[other] - self.vectors[seeds])
            part /= np.linalg.norm(part, axis=1, keepdims=True).clip(1e-9)
        return made

    def fitted(self, count: int, rng: np.random.Generator, *, queries: int = 200) -> Synthesis:
        """Return the synthesis whose spread gives the real median cosine of the 10th neighbour at `count` vectors."""
        sought = float(np.median(neighbour_cosines(self.vectors, self.vectors[:: max(1, len(self.vectors) // 1000)])))
        low, high = 0.05, 3.0
        for _ in range(7):
            spread = (low * high) ** 0.5
            stored = self.make(count, rng, spread)
            found = float(np.median(nearest_cosines(self.make(queries, rng, spread), stored, 10)[1][:, -1]))
            low, high = (spread, high) if found > sought else (low, spread)
        return Synthesis(self.vectors, self.neighbours, (low * high) ** 0.5)


def neighbour_cosines(vectors: NDArray[np.float32], queries: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the cosine of each query's 10th neighbour, itself left out where it is stored."""
    cosines = nearest_cosines(queries, vectors, 11)[1]
    own = cosines[:, 0] > 0.9999
    return np.where(own, cosines[:, 10], cosines[:, 9])


def nearest_cosines(
    queries: NDArray[np.float32], vectors: NDArray[np.float32], count: int
) -> tuple[NDArray[np.intp], NDArray[np.float32]]:
    """Return places and cosines `(q, count)` of the nearest vectors, best first, exactly."""
    places = np.empty((len(queries), count), dtype=np.intp)
    cosines = np.empty((len(queries), count), dtype=np.float32)
    step = max(1, 2**27 // max(len(vectors), 1))
    for start in range(0, len(queries), step):
        scores = queries[start : start + step] @ vectors.T
        best = np.argpartition(scores, -count, axis=1)[:, -count:]
        best = np.take_along_axis(best, np.argsort(-np.take_along_axis(scores, best, 1), axis=1), 1)
        places[start : start + step], cosines[start : start + step] = best, np.take_along_axis(scores, best, 1)
    return places, cosines


def quantiles(values: NDArray[np.float32]) -> dict[str, float]:
    """Return quantiles by name, for a report."""
    return {f"q{round(100 * q):02d}": round(float(np.quantile(values, q)), 4) for q in _QUANTILES}


class Texts:
    """Texts with the lengths and the word frequencies of real ones."""

    def __init__(self, texts: Sequence[str]) -> None:
        parts = [text.split() for text in texts if text.strip()]
        self._lengths = np.array([len(words) for words in parts])
        self._words = np.array([word for words in parts for word in words], dtype=object)

    def make(self, count: int, rng: np.random.Generator) -> list[str]:
        """Return `count` texts: runs of about eight words that stand together somewhere, as many as a real text has."""
        made = []
        lengths = self._lengths[rng.integers(len(self._lengths), size=count)]
        for length in lengths:
            starts = rng.integers(max(1, len(self._words) - 8), size=max(1, round(length / 8)))
            made.append(" ".join(word for start in starts for word in self._words[start : start + 8]))
        return made

    def questions(self, count: int, rng: np.random.Generator) -> list[str]:
        """Return `count` questions of 10 to 20 words, drawn as texts are."""
        made = []
        for words in rng.integers(10, 21, size=count):
            starts = rng.integers(max(1, len(self._words) - 8), size=3)
            made.append(" ".join([w for s in starts for w in self._words[s : s + 8]][:words]))
        return made
