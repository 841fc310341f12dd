"""Queries of many threads over one matrix of vectors: those that come while a scan is at work go together in the next one.

A scan of 100,000 vectors reads 150 MB of memory, as much for one query as for eight. Enters: a query, how many rows are wanted.
Leaves: the places of the nearest with their cosines, bit for bit the same, alone or together. Knows no table and no file.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from doyen.index.scanning import Floats, Places, best, dots, dots_of_many

MOST_TOGETHER = 16
"""A query's scores take 4 bytes a vector."""
_SLACK = np.float32(1e-5)
"""More than two sums of the same products in another order differ, of unit vectors."""


@dataclass(eq=False, slots=True)
class _Asked:
    query: Floats
    scores: Floats | None = None
    sure: bool = True  # whether the scores are those of a scan for one query


class JointScan:
    """Scans one matrix `(n, dim) float32`, from any number of threads."""

    def __init__(self, vectors: Floats) -> None:
        """Take the vectors, which do not change."""
        self._vectors = vectors
        self._waiting: list[_Asked] = []
        self._lock = threading.Lock()
        self._turn = threading.Lock()

    def nearest(self, query: Floats, limit: int, mask: NDArray[np.bool_] | None = None) -> tuple[Places, Floats]:
        """Return the places of the `limit` rows nearest to a unit query `(dim,)` and their cosines, best first."""
        asked = _Asked(query)
        with self._lock:
            self._waiting.append(asked)
        with self._turn:
            if asked.scores is None:  # nobody scanned for it while it waited
                self._scan(asked)
        scores = asked.scores
        assert scores is not None
        if mask is not None:
            scores = np.where(mask, scores, np.float32(-np.inf))
        limit = min(limit, len(scores) if mask is None else int(mask.sum()))
        return self._exactly(query, scores, limit) if not asked.sure else _first(scores, limit)

    def _scan(self, own: _Asked) -> None:
        with self._lock:
            others = [asked for asked in self._waiting if asked is not own]
            taken = [own, *others[: MOST_TOGETHER - 1]]
            self._waiting = others[MOST_TOGETHER - 1 :]
        if len(taken) == 1:
            own.scores = dots(self._vectors, own.query)
            return
        try:
            found = dots_of_many(self._vectors, np.stack([asked.query for asked in taken]))
        except BaseException:
            with self._lock:  # each of them tries for itself
                self._waiting = [*taken[1:], *self._waiting]
            raise
        for asked, scores in zip(taken, found, strict=True):
            asked.sure, asked.scores = False, scores

    def _exactly(self, query: Floats, scores: Floats, limit: int) -> tuple[Places, Floats]:
        """Return what a scan for this query alone would: the rows that may be among the nearest are scored again."""
        if limit <= 0:
            return _first(scores, 0)
        least = np.partition(scores, len(scores) - limit)[len(scores) - limit]
        places = np.flatnonzero(scores >= least - _SLACK)
        again = np.einsum("ij,j->i", self._vectors[places], query)
        top = best(again, limit)
        return places[top], again[top]


def _first(scores: Floats, limit: int) -> tuple[Places, Floats]:
    top = best(scores, limit)
    return top, scores[top]
