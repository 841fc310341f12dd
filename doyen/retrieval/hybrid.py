"""Questions → hits, best first: dense and full-text candidates of one index, fused, perhaps reranked."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from doyen.config import RetrievalSettings
from doyen.embedding import Embedder
from doyen.errors import StoreError
from doyen.index.filtering import Where
from doyen.index.rows import FoundRow
from doyen.index.store import Index, same_vectors
from doyen.records import DocumentHit, Hit
from doyen.reranking import Reranker, best_first
from doyen.retrieval.by_document import best_documents
from doyen.retrieval.copies import fold_duplicates
from doyen.retrieval.fusion import foremost, merged, ranked
from doyen.retrieval.neighbours import MOST_CHUNKS, hits_for, join_neighbours
from doyen.retrieval.terms import question_terms

_BESIDE = ThreadPoolExecutor(os.cpu_count(), thread_name_prefix="doyen-search")
"""Where full text is searched while the vectors are."""
_TEXTS = 64
_NEAR = 10
"""Passages of a result among which near-copies are looked for: that costs 0.1 ms each."""


class Retriever:
    """Finds the passages of one index for a question; with a reranker, its order counts for the first `reranked`."""

    def __init__(
        self,
        index: Index,
        embedder: Embedder,
        settings: RetrievalSettings | None = None,
        *,
        reranker: Reranker | None = None,
        reranked: int = 30,
    ) -> None:
        self.index = index
        self.embedder = embedder
        self.settings = settings or RetrievalSettings()
        self.reranker = reranker
        self.reranked = reranked
        # A content's text never changes; questions asked together stand on the same documents.
        self._read_text = lru_cache(maxsize=_TEXTS)(lambda document, sha256: index.text(document, sha256)[0])
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
        vectors = self.embedder.embed(list(questions), kind="query")
        return [self._search(question, vector, k, where) for question, vector in zip(questions, vectors, strict=True)]

    def _search(self, question: str, vector: NDArray[np.float32], k: int, where: Where | None) -> list[Hit]:
        wanted = max(k, self.reranked) if self.reranker else k
        passages = self._passages(question, vector, wanted, where)
        return self._reranked(question, fold_duplicates(passages, wanted, near=_NEAR))[:k]

    def _passages(
        self, question: str, vector: NDArray[np.float32], wanted: int, where: Where | None
    ) -> Iterable[list[Hit]]:
        """Return passages by fused score (see `ranked`), of which the first `wanted` are sure."""
        terms = question_terms(question)
        if not terms.stems:
            return []
        limit = max(self.settings.candidates, wanted)
        text = _BESIDE.submit(self.index.matching_rows, terms.text, limit, where=where)
        dense = self.index.nearest_rows(vector, limit, where=where)
        found = foremost(merged(dense, text.result(), vector), wanted)
        chunks = self.index.chunks_at([one.row.row for one in found])
        near = self._nearness(vector, [one.row.document for one in found])
        return ranked(terms, found, chunks, self.settings, self.embedder.languages, near)

    def _nearness(self, vector: NDArray[np.float32], documents: Sequence[str]) -> dict[str, float]:
        return self.index.summary_nearness(vector, documents) if self.settings.summary_weight else {}

    def documents(self, question: str, k: int = 10, *, where: Where | None = None) -> list[DocumentHit]:
        """Return the `k` documents that tell most about a question, with their summaries.

        Several passages of a document count together, so that a broad question finds what treats it at length; a document
        of which only the summary is near follows those with passages.
        """
        vector = self.embedder.embed([question], kind="query")[0]
        passages = self._passages(question, vector, max(k, self.settings.candidates), where)
        hits = fold_duplicates(passages, near=_NEAR)
        near = self.index.nearest_summaries(vector, k, where=where)
        ranked = best_documents(hits, near, k)
        ids = [document for document, _, _ in ranked]
        titles, summaries = self.index.titles_of(ids), self.index.summaries_of(ids)
        return [
            DocumentHit(document, titles[document], score, tuple(summaries.get(document, ())), found)
            for document, score, found in ranked
            if document in titles
        ]

    def _reranked(self, question: str, hits: list[Hit]) -> list[Hit]:
        """Put the first hits into the reranker's order; their scores are its scores."""
        if self.reranker is None or not hits:
            return hits
        texts, found = [h.chunk.indexed for h in hits], [h.score for h in hits]
        order, scores = best_first(self.reranker, question, texts, self.reranked, found)
        first = [dataclasses.replace(hits[i], score=float(scores[i])) for i in order[: len(scores)]]
        return first + [hits[i] for i in order[len(scores) :]]

    def passages(self, hits: Sequence[Hit], count: int) -> list[Hit]:
        """Return `count` passages of the first `hits_for(count)` hits, as a model is shown them: neighbours are joined.

        Reads the texts of documents that two hits adjoin in. Where the hits run out, there are fewer.
        """
        most = MOST_CHUNKS * self.index.manifest.chunk_tokens
        return join_neighbours(hits[: hits_for(count)], count, self._text_of, self.embedder.counter.count, most)

    def _text_of(self, document: str, sha256: str) -> str | None:
        """Return the text of one content of a document, None where it was replaced or removed since the search."""
        try:
            return self._read_text(document, sha256)
        except StoreError:
            return None

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
