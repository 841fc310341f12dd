"""Held-out documents → how well an embedder finds them: nDCG@10 a query, over documents. Knows no torch.

Half of the held-out documents are searched without their context, for the titles and headings that it is made of; the
other half as they are indexed, but for the sentences that are asked. None of these documents was trained on.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from doyen.embedding import Kind
from doyen.errors import ExamplesError
from doyen.finetuning.retriever.pairs import Pair, body
from doyen.records import Chunk

LEAST_QUERIES = 20
MOST_QUERIES = 600
MOST_PASSAGES = 1200
CUTOFF = 10


class Embed(Protocol):
    """Texts → unit vectors `(n, dim) float32`."""

    def __call__(self, texts: Sequence[str], *, kind: Kind) -> NDArray[np.float32]:
        """Return one row a text."""
        ...


@dataclass(frozen=True, slots=True)
class HeldOut:
    """Queries with the document each should find, and the passages to be searched with theirs."""

    queries: Sequence[str]
    kinds: Sequence[str]
    gold: Sequence[str]
    passages: Sequence[str]
    documents: Sequence[str]

    def scores(self, embed: Embed) -> NDArray[np.float64]:
        """Return nDCG@10 of each query `(queries,)`, the documents ranked by their nearest passage."""
        queries, passages = embed(self.queries, kind="query"), embed(self.passages, kind="passage")
        return _ndcg(rank_documents(queries, passages, self.documents), self.gold)

    def counts(self) -> dict[str, int]:
        """Return how much is measured with."""
        return {"queries": len(self.queries), "passages": len(self.passages)}


def ndcg_of(held_out: HeldOut, orders: Sequence[Sequence[int]]) -> NDArray[np.float64]:
    """Return nDCG@10 of each query `(queries,)` from its passages' places, best first; a document counts once."""
    rows = [list(dict.fromkeys(held_out.documents[i] for i in order))[:CUTOFF] for order in orders]
    return _ndcg(rows, held_out.gold)


def _ndcg(rows: Sequence[Sequence[str]], gold: Sequence[str]) -> NDArray[np.float64]:
    ranks = [list(row).index(g) + 1 if g in row else 0 for row, g in zip(rows, gold, strict=True)]
    return np.array([1 / np.log2(rank + 1) if rank else 0.0 for rank in ranks])


def rank_documents(
    queries: NDArray[np.float32], passages: NDArray[np.float32], documents: Sequence[str], most: int = CUTOFF
) -> list[list[str]]:
    """Return the `most` documents of the passages nearest to each query, best first."""
    names, owner = np.unique(np.asarray(documents), return_inverse=True)
    order = np.argsort(owner, kind="stable")
    starts = np.searchsorted(owner[order], np.arange(len(names)))
    found = []
    for query in queries:
        best = np.maximum.reduceat((passages @ query)[order], starts)
        found.append([str(names[i]) for i in np.argsort(-best, kind="stable")[:most]])
    return found


def hold_out(
    chunks: Sequence[Chunk],
    pairs: Sequence[Pair],
    *,
    seed: int = 7,
    most_queries: int = MOST_QUERIES,
    most_passages: int = MOST_PASSAGES,
) -> HeldOut:
    """Make queries from pairs of held-out documents, and the passages to search: theirs, and others as distractors.

    Raises: ExamplesError where they are too few to measure anything.
    """
    rng = random.Random(seed)
    chosen: dict[int, Pair] = {}
    for pair in rng.sample(list(pairs), len(pairs)):
        bare = _is_bare(pair.document)
        if pair.kind != "words" and (bare or pair.kind in ("sentence", "question")) and len(chosen) < most_queries:
            chosen.setdefault(pair.chunk, pair)
    if len(chosen) < LEAST_QUERIES:
        raise ExamplesError(
            f"the documents give {len(chosen)} queries to measure with, at least {LEAST_QUERIES} are needed",
            hint="a retriever learns from some 100 documents with text; ingest more, or import questions",
        )
    asked = {pair.document for pair in chosen.values()}
    own = [i for i, chunk in enumerate(chunks) if chunk.document in asked]
    others = [i for i, chunk in enumerate(chunks) if chunk.document not in asked]
    # All passages that are asked for, then as many others as there is room for
    rest = [i for i in own if i not in chosen] + rng.sample(others, len(others))
    places = [*chosen, *rest[: max(0, most_passages - len(chosen))]]
    passages = [_shown(chunks[i], chosen.get(i)) for i in places]
    found = list(chosen.values())
    return HeldOut(
        [p.query for p in found],
        [p.kind for p in found],
        [p.document for p in found],
        passages,
        [chunks[i].document for i in places],
    )


def _shown(chunk: Chunk, pair: Pair | None) -> str:
    if _is_bare(chunk.document):
        return body(chunk) if pair is None or pair.kind != "sentence" else _without_context(chunk, pair)
    if pair is None or pair.kind == "question":
        return chunk.indexed
    left = _without_context(chunk, pair)
    return f"{chunk.context}\n{left}" if chunk.context else left


def _without_context(chunk: Chunk, pair: Pair) -> str:
    return pair.text.removeprefix(f"{chunk.context}\n") if chunk.context else pair.text


def _is_bare(document: str) -> bool:
    return hashlib.sha256(f"bare {document}".encode()).digest()[0] < 128
