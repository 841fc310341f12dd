"""Two candidate lists of one question → one ranking. Knows no index and no embedder.

A convex combination of cosine and BM25, each scaled to its best candidate (Bruch et al. 2023, arXiv 2210.11934), whose
weights follow the evidence, plus the match between the question and the document's name. See LOG.md for the measurements.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from doyen.config import RetrievalSettings
from doyen.index.lance import Candidate
from doyen.records import Chunk, Hit
from doyen.retrieval.terms import Terms, stems_of
from doyen.words import name_words

_JUDGED = 5
"""Best full-text candidates by which the full-text search is judged."""
_FOREIGN = 0.25
"""What is left of the embedding's weight where passages are in a language that the embedder was not trained on."""
_LEAST_SIMILARITY = 0.15
"""Below this cosine, and without a word in common, a passage says nothing about the question."""


@dataclass(frozen=True, slots=True)
class Weights:
    """What the two searches and the names of the documents count for one question."""

    dense: float
    text: float
    document: float


def fuse(
    terms: Terms,
    dense: Sequence[Candidate],
    text: Sequence[Candidate],
    vector: NDArray[np.float32],
    settings: RetrievalSettings,
    languages: Collection[str] = (),
) -> list[Hit]:
    """Merge two candidate lists of a question with its unit `vector` `(dim,)` into hits, best first.

    `languages` are those that the embedder was trained on (empty: all).
    """
    chunks = {_place(c.chunk): c for c in (*text, *dense)}
    bm25 = {_place(c.chunk): c.score for c in text}
    cosines = {place: float(c.vector @ vector) for place, c in chunks.items()}
    weights = weigh(terms, dense, text, settings, languages)
    names = name_matches(terms, [c.chunk for c in chunks.values()]) if weights.document else {}
    best_cosine = max(max(cosines.values(), default=0.0), 1e-6)
    best_bm25 = max(max(bm25.values(), default=0.0), 1e-6)
    hits = []
    for place, candidate in chunks.items():
        cosine, lexical = cosines[place], bm25.get(place, 0.0)
        if cosine < _LEAST_SIMILARITY and not lexical:
            continue
        score = weights.dense * max(cosine, 0.0) / best_cosine + weights.text * lexical / best_bm25
        score += weights.document * names.get(candidate.chunk.document, 0.0)
        hits.append(Hit(candidate.chunk, score, cosine, lexical))
    return sorted(hits, key=lambda h: (-h.score, h.chunk.document, h.chunk.start))


def weigh(
    terms: Terms,
    dense: Sequence[Candidate],
    text: Sequence[Candidate],
    settings: RetrievalSettings,
    languages: Collection[str],
) -> Weights:
    """Weigh the two searches of one question by their evidence; dense and text sum to 1.

    Full text counts by the share of the question's terms that its best passages hold: in a long question with many
    words beside the point, rare ones among them lead astray. In a language that the embedder does not know, its
    similarities say little, and full text counts in full.
    """
    own = settings.dense_weight
    best = text[:_JUDGED] or dense[:_JUDGED]
    known = _share_in(languages, [c.chunk.language for c in best])
    coverage = max((_coverage(terms, c.chunk) for c in text[:_JUDGED]), default=0.0)
    a = own * (known + _FOREIGN * (1 - known))
    b = (1 - own) * (known * coverage + (1 - known))
    total = a + b or 1.0
    return Weights(a / total, b / total, settings.document_weight)


def _share_in(languages: Collection[str], found: Sequence[str]) -> float:
    """Return the share of passages in one of some languages; those of no known language count as such."""
    if not languages or not found:
        return 1.0
    return sum(language in languages or not language for language in found) / len(found)


def _coverage(terms: Terms, chunk: Chunk) -> float:
    held = terms.stems & stems_of(chunk.indexed, terms.language)
    return len(held) / max(len(terms.stems), 1)


def name_matches(terms: Terms, chunks: Sequence[Chunk]) -> dict[str, float]:
    """Return how well each document's name and title match the question, 0..1, by document.

    The geometric mean of two shares: of the question that the name holds, and of the name that the question holds;
    the better of title alone and of title and file name. Words count by their rarity among these documents' names.
    """
    named = {c.document: _names(c.document, c.context, c.section or "", terms.language) for c in chunks}
    counts = Counter(stem for whole, title in named.values() for stem in whole | title)
    total = len(named)

    def mass(stems: Collection[str]) -> float:
        return sum(math.log1p((total - counts[s] + 0.5) / (counts[s] + 0.5)) for s in stems)

    asked = mass(terms.stems) or 1.0
    found = {}
    for document, variants in named.items():
        best = 0.0
        for stems in variants:
            if shared := terms.names & stems:
                best = max(best, mass(shared) ** 2 / (asked * mass(stems)))
        found[document] = min(math.sqrt(best), 1.0)
    return found


@lru_cache(maxsize=20_000)
def _names(document: str, context: str, section: str, language: str) -> tuple[frozenset[str], frozenset[str]]:
    """Return the stems of a document's name with its title, and of its title alone."""
    head = context.partition("\n")[0].removesuffix(section).rstrip(" ›")
    title = stems_of(head.rpartition(" › ")[2], language)
    return frozenset(title | stems_of(" ".join(name_words(document)), language)), frozenset(title)


def _place(chunk: Chunk) -> tuple[str, int]:
    return chunk.document, chunk.start
