"""Dense and full-text candidates fused into one ranking.

Enters: questions. Leaves: hits, best first. Scores are convex combinations of the cosine and the BM25 score, each
scaled by the best candidate of this question (Bruch et al. 2023, arXiv 2210.11934: convex combination over rank
fusion); the weight was measured, see LOG.md.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from doyen.config import RetrievalSettings
from doyen.embedding import Embedder
from doyen.errors import StoreError
from doyen.index.lance import Candidate, LanceIndex, same_vectors
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

    def search(self, question: str, k: int = 10) -> list[Hit]:
        """Return the `k` best chunks for one question."""
        return self.search_many([question], k)[0]

    def search_many(self, questions: Sequence[str], k: int = 10) -> list[list[Hit]]:
        """Return the `k` best chunks for each question; the questions are embedded together."""
        vectors = self.embedder.embed(list(questions), kind="query")
        return [self._search(question, vector, k) for question, vector in zip(questions, vectors, strict=True)]

    def _search(self, question: str, vector: NDArray[np.float32], k: int) -> list[Hit]:
        limit = max(self.settings.candidates, k)
        dense = self.index.nearest(vector, limit)
        text = self.index.matching(question, limit)
        return fuse(dense, text, vector, self.settings.dense_weight)[:k]

    def similar(self, document: str, k: int = 10) -> list[Hit]:
        """Return the best chunk of each of the `k` documents most similar to `document` (mean of its vectors)."""
        vectors = self.index.vectors_of(document)
        if not len(vectors):
            self.index.text(document)  # raises if it is not indexed
            return []
        mean = vectors.mean(axis=0)
        mean /= max(float(np.linalg.norm(mean)), 1e-12)
        best: dict[str, Hit] = {}
        for candidate in self.index.nearest(
            mean.astype(np.float32), max(self.settings.candidates, 10 * k), without=document
        ):
            best.setdefault(candidate.chunk.document, Hit(candidate.chunk, candidate.score, candidate.score))
        return list(best.values())[:k]


def fuse(
    dense: Sequence[Candidate], text: Sequence[Candidate], vector: NDArray[np.float32], dense_weight: float
) -> list[Hit]:
    """Merge two candidate lists into hits by `dense_weight * cosine + (1 - dense_weight) * BM25`, each scaled to its best."""
    chunks = {(c.chunk.document, c.chunk.start): c for c in [*text, *dense]}
    lexical = {(c.chunk.document, c.chunk.start): c.score for c in text}
    cosines = {key: float(c.vector @ vector) for key, c in chunks.items()}
    best_cosine = max(max(cosines.values(), default=0.0), 1e-6)
    best_lexical = max(max(lexical.values(), default=0.0), 1e-6)
    hits = []
    for key, candidate in chunks.items():
        bm25 = lexical.get(key, 0.0)
        score = dense_weight * max(cosines[key], 0.0) / best_cosine + (1 - dense_weight) * bm25 / best_lexical
        hits.append(Hit(candidate.chunk, score, cosines[key], bm25))
    return sorted(hits, key=lambda h: (-h.score, h.chunk.document, h.chunk.start))
