"""Questions → hits, best first: dense and full-text candidates of one index, fused, perhaps reranked."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from doyen.config import RetrievalSettings
from doyen.embedding import Embedder
from doyen.errors import StoreError
from doyen.index.filtering import Where
from doyen.index.rows import FoundRow
from doyen.index.store import Index, VectorQuery, same_vectors
from doyen.records import DocumentHit, Hit
from doyen.reranking import Reranker, best_first
from doyen.retrieval.by_document import best_documents
from doyen.retrieval.copies import fold_duplicates
from doyen.retrieval.fusion import Found, foremost, merged, ranked
from doyen.retrieval.neighbours import MOST_CHUNKS, hits_for, join_neighbours
from doyen.retrieval.terms import question_terms

_BESIDE = ThreadPoolExecutor(os.cpu_count(), thread_name_prefix="doyen-search")
"""Where full text is searched while the vectors are."""
TOGETHER = 8
"""Questions that go through the index together: its vectors are read once for all, and so are their chunks."""
_TEXTS = 64
_NEAR = 10
"""Passages of a result among which near-copies are looked for: that costs 0.1 ms each."""


@dataclass(frozen=True, slots=True)
class Sought:
    """A question, how many chunks are sought for it, and what they must meet (see `LanceIndex.filter_condition`)."""

    question: str
    k: int = 10
    where: Where | None = None


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
        """Return the `k` best chunks for each question."""
        return list(self.search_each([Sought(question, k, where) for question in questions]))

    def search_each(self, sought: Sequence[Sought]) -> Iterator[list[Hit]]:
        """Yield what `search` returns of each; they are embedded together, and searched for some at a time."""
        vectors = self.embedder.embed([one.question for one in sought], kind="query")
        for first in range(0, len(sought), TOGETHER):
            some = sought[first : first + TOGETHER]
            wanted = [max(one.k, self.reranked) if self.reranker else one.k for one in some]
            passages = self._passages(some, vectors[first : first + TOGETHER], wanted)
            for one, most, own in zip(some, wanted, passages, strict=True):
                yield self._reranked(one.question, fold_duplicates(own, most, near=_NEAR))[: one.k]

    def _passages(
        self, sought: Sequence[Sought], vectors: NDArray[np.float32], wanted: Sequence[int]
    ) -> Iterator[Iterable[list[Hit]]]:
        """Yield for each question its passages by fused score (see `ranked`), of which the first `wanted` are sure."""
        terms = [question_terms(one.question) for one in sought]
        limits = [max(self.settings.candidates, most) for most in wanted]
        asked = [i for i, own in enumerate(terms) if own.stems]
        text = {
            i: _BESIDE.submit(self.index.matching_rows, terms[i].text, limits[i], where=sought[i].where) for i in asked
        }
        dense = self.index.nearest_rows_of_many([VectorQuery(vectors[i], limits[i], sought[i].where) for i in asked])
        found: dict[int, list[Found]] = {}
        for i, near in zip(asked, dense, strict=True):
            found[i] = foremost(merged(near, text[i].result(), vectors[i]), wanted[i])
        chunks = self.index.chunks_at(list(dict.fromkeys(one.row.row for own in found.values() for one in own)))
        for i, own in enumerate(terms):
            rows = found.get(i, [])
            about = self._nearness(vectors[i], [one.row.document for one in rows])
            yield ranked(own, rows, chunks, self.settings, self.embedder.languages, about)

    def _nearness(self, vector: NDArray[np.float32], documents: Sequence[str]) -> dict[str, float]:
        asked = documents and self.settings.summary_weight
        return self.index.summary_nearness(vector, documents) if asked else {}

    def documents(self, question: str, k: int = 10, *, where: Where | None = None) -> list[DocumentHit]:
        """Return the `k` documents that tell most about a question, with their summaries.

        Several passages of a document count together, so that a broad question finds what treats it at length; a document
        of which only the summary is near follows those with passages.
        """
        vector = self.embedder.embed([question], kind="query")[0]
        most = max(k, self.settings.candidates)
        (passages,) = self._passages([Sought(question, k, where)], vector[None], [most])
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
