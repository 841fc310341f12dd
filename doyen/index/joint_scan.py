"""Queries of many threads over one matrix of vectors: those that come while a scan is at work go together in the next one.

A scan reads the whole matrix, for one query as for eight. It is in float32 at first; of a matrix that is searched often 8-bit
copies are made, whose scores have bounds: what may be among the nearest by them is scored exactly. Enters: a query, how many
rows are wanted. Leaves: the places of the nearest with their cosines, bit for bit the same in each of these ways. Knows no
table and no file.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from doyen.index.rough_scores import RoughScores
from doyen.index.scanning import Floats, Places, best, cosines_at, dots, dots_of_many

MOST_TOGETHER = 16
"""A query's scores take 4 bytes a vector."""
OFTEN = 24
"""Scans after which the copies are made: that takes as long as some fifty scans do."""
_LEAST_ROWS = 10_000
_SLACK = np.float32(1e-5)
"""More than two sums of the same products in another order differ, of unit vectors."""
log = logging.getLogger(__name__)


@dataclass(eq=False, slots=True)
class _Asked:
    query: Floats
    scores: Floats | None = None
    bounds: Floats | np.float32 | None = None  # how wrong the scores may be; None: not at all


class JointScan:
    """Scans one matrix `(n, dim) float16`, from any number of threads."""

    def __init__(self, vectors: NDArray[np.float16], *, often: int = OFTEN) -> None:
        """Take the vectors, which do not change."""
        self._vectors = vectors
        self._floats: Floats | None = None
        self._rough: RoughScores | None = None
        self._left = often if len(vectors) >= _LEAST_ROWS else -1  # scans until the copies are made
        self._waiting: list[_Asked] = []
        self._lock = threading.Lock()
        self._turn = threading.Lock()

    def nearest(self, query: Floats, limit: int, mask: NDArray[np.bool_] | None = None) -> tuple[Places, Floats]:
        """Return the places of the `limit` rows nearest to a unit query `(dim,)` and their cosines, best first."""
        return self.nearest_many([query], [limit], [mask])[0]

    def nearest_many(
        self, queries: Sequence[Floats], limits: Sequence[int], masks: Sequence[NDArray[np.bool_] | None]
    ) -> list[tuple[Places, Floats]]:
        """Return what `nearest` does of several queries, which go together."""
        asked = [_Asked(query) for query in queries]
        with self._lock:
            self._waiting += asked
        with self._turn:
            try:
                for own in asked:
                    if own.scores is None:  # nobody scanned for it while it waited
                        self._scan(own)
            finally:
                with self._lock:
                    self._waiting = [other for other in self._waiting if other not in asked]
        return [self._best(*one) for one in zip(asked, limits, masks, strict=True)]

    def _best(self, asked: _Asked, limit: int, mask: NDArray[np.bool_] | None) -> tuple[Places, Floats]:
        scores = asked.scores
        assert scores is not None
        if mask is not None:
            scores = np.where(mask, scores, np.float32(-np.inf))
        limit = min(limit, len(scores) if mask is None else int(mask.sum()))
        if limit <= 0:
            return np.empty(0, dtype=np.intp), np.empty(0, dtype=np.float32)
        if asked.bounds is None:
            top = best(scores, limit)
            return top, scores[top]
        return self._exactly(asked.query, scores, asked.bounds, limit)

    def _scan(self, own: _Asked) -> None:
        with self._lock:
            others = [asked for asked in self._waiting if asked is not own]
            taken = [own, *others[: MOST_TOGETHER - 1]]
            self._waiting = others[MOST_TOGETHER - 1 :]
        self._score(taken)  # where it fails, each of the others finds no scores in its turn, and scans for itself
        self._left -= 1
        if self._left == 0:
            threading.Thread(target=self._copy, daemon=True, name="doyen-copying").start()

    def _score(self, taken: list[_Asked]) -> None:
        rough = self._rough
        if rough is None and len(taken) == 1:
            taken[0].scores = dots(self._in_float32(), taken[0].query)
            return
        queries = np.stack([asked.query for asked in taken])
        found = rough(queries) if rough else dots_of_many(self._in_float32(), queries)
        for asked, scores in zip(taken, found, strict=True):
            asked.bounds, asked.scores = rough.bounds if rough else _SLACK, scores

    def _in_float32(self) -> Floats:
        """Return the vectors in float32, which processors multiply many times faster: 1.5 KiB a chunk of 384 dimensions."""
        if self._floats is None:
            self._floats = self._vectors.astype(np.float32)
        return self._floats

    def _copy(self) -> None:
        """Make the 8-bit copies, which take the place of those in float32."""
        try:
            rough = RoughScores(self._vectors)
        except (ImportError, RuntimeError, MemoryError) as error:
            log.warning("searches stay in float32: %s", error)
            return
        with self._turn:
            self._rough, self._floats = rough, None

    def _exactly(self, query: Floats, scores: Floats, bounds: Floats | np.float32, limit: int) -> tuple[Places, Floats]:
        """Return what a scan for this query alone in float32 would: what may be among the nearest is scored again."""
        sure = scores - bounds
        least = np.partition(sure, len(sure) - limit)[len(sure) - limit]
        places = np.flatnonzero(scores + bounds >= least)
        again = cosines_at(self._vectors, query, places)
        top = best(again, limit)
        return places[top], again[top]
