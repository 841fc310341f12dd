"""Dense and full-text candidates fused into one ranking.

Enters: questions. Leaves: hits, best first. Scores are convex combinations of the cosine and the BM25 score, each
scaled by the best candidate of this question (Bruch et al. 2023, arXiv 2210.11934: convex combination over rank
fusion); the weight was measured, see LOG.md.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from doyen.config import RetrievalSettings
from doyen.embedding import Embedder
from doyen.errors import StoreError
from doyen.index.filtering import Where
from doyen.index.lance import LanceIndex, same_vectors
from doyen.index.searching import FoundRow
from doyen.records import Hit


class Retriever:
    """Finds the passages of one index for a question."""

    def __init__(self, index: LanceIndex, embedder: Embedder, settings: RetrievalSettings | None = None) -> None:
        self.index = index
        self.embedder = embedder
        self.settings = settings or RetrievalSettings()
        if not same_vectors(index.manifest.fingerprint, embedder.fingerprint) or index.manifest.dim != embedder.dim:
            raise StoreError(
                f"this index was made with embedder '{index.manifest.embedder}' ({index.manifest.fingerprint}), "
                f"not {embedder.name} ({embedder.fingerprint})",
                hint="doyen ingest --rebuild SOURCE… makes it anew, or set [embedder] name back",
            )

    def search(self, question: str, k: int = 10, *, where: Where | None = None) -> list[Hit]:
        """Return the `k` best chunks for one question, of those that meet `where` (see `LanceIndex.filter_condition`)."""
        return self.search_many([question], k, where=where)[0]

    def search_many(self, questions: Sequence[str], k: int = 10, *, where: Where | None = None) -> list[list[Hit]]:
        """Return the `k` best chunks for each question; the questions are embedded together."""
        vectors = self.embedder.embed(list(questions))
        return [self._search(question, vector, k, where) for question, vector in zip(questions, vectors, strict=True)]

    def _search(self, question: str, vector: NDArray[np.float32], k: int, where: Where | None) -> list[Hit]:
        limit = max(self.settings.candidates, k)
        dense = self.index.nearest_rows(vector, limit, where=where)
        text = self.index.matching_rows(question, limit, where=where)
        best = fuse(dense, text, vector, self.settings.dense_weight)[:k]
        chunks = self.index.chunks_at([found.row.row for found in best])
        return [
            Hit(chunks[found.row.row], found.score, found.cosine, found.bm25)
            for found in best
            if found.row.row in chunks
        ]

    def similar(self, document: str, k: int = 10, *, where: Where | None = None) -> list[Hit]:
        """Return the best chunk of each of the `k` documents most similar to `document` (mean of its vectors)."""
        vectors = self.index.vectors_of(document)
        if not len(vectors):
            self.index.text(document)  # raises if it is not indexed
            return []
        mean = vectors.mean(axis=0)
        mean /= max(float(np.linalg.norm(mean)), 1e-12)
        limit = max(self.settings.candidates, 10 * k)
        best: dict[str, FoundRow] = {}
        for row in self.index.nearest_rows(mean.astype(np.float32), limit, where=where, without=document):
            best.setdefault(row.document, row)
        found = list(best.values())[:k]
        chunks = self.index.chunks_at([row.row for row in found])
        return [Hit(chunks[row.row], row.score, row.score) for row in found if row.row in chunks]


@dataclass(frozen=True, slots=True)
class Fused:
    """A row with its fused score, its cosine and its BM25 score (0 where no word matched)."""

    row: FoundRow
    score: float
    cosine: float
    bm25: float


def fuse(
    dense: Sequence[FoundRow], text: Sequence[FoundRow], vector: NDArray[np.float32], dense_weight: float
) -> list[Fused]:
    """Merge two lists of rows into one by `dense_weight * cosine + (1 - dense_weight) * BM25`, each scaled to its best."""
    rows = {(row.document, row.start): row for row in [*text, *dense]}
    lexical = {(row.document, row.start): row.score for row in text}
    cosines = {key: float(row.vector @ vector) for key, row in rows.items()}
    best_cosine = max(max(cosines.values(), default=0.0), 1e-6)
    best_lexical = max(max(lexical.values(), default=0.0), 1e-6)
    fused = []
    for key, row in rows.items():
        bm25 = lexical.get(key, 0.0)
        score = dense_weight * max(cosines[key], 0.0) / best_cosine + (1 - dense_weight) * bm25 / best_lexical
        fused.append(Fused(row, score, cosines[key], bm25))
    return sorted(fused, key=lambda f: (-f.score, f.row.document, f.row.start))
