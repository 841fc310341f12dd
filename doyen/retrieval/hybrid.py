"""Questions → hits, best first: dense and full-text candidates of one index, fused."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from doyen.config import RetrievalSettings
from doyen.embedding import Embedder
from doyen.errors import StoreError
from doyen.index.lance import LanceIndex, same_vectors
from doyen.records import Hit
from doyen.retrieval.fusion import fuse
from doyen.retrieval.terms import question_terms


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
        terms = question_terms(question)
        if not terms.stems:
            return []
        limit = max(self.settings.candidates, k)
        dense = self.index.nearest(vector, limit)
        text = self.index.matching(terms.text, limit)
        languages = getattr(self.embedder, "languages", ())
        return fuse(terms, dense, text, vector, self.settings, languages)[:k]

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
