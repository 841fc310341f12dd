"""Two candidate lists of one question → one ranking. Knows no index and no embedder.

A convex combination of cosine and BM25, each scaled to its best candidate (Bruch et al. 2023, arXiv 2210.11934), whose
weights follow the evidence, plus phrases of the question in the passage, the match with the document's name, and the
nearness of its summary. See LOG.md for the measurements.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, lru_cache, partial
from heapq import heappop, heappush
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from doyen.config import RetrievalSettings
from doyen.index.rows import FoundRow
from doyen.records import Chunk, Hit
from doyen.retrieval.terms import Terms, stem_sequence, stems_of
from doyen.words import name_words

_JUDGED = 5
"""Best full-text candidates by which the full-text search is judged."""
_LOOKED_AT = 50
"""Rows at least, by each order, whose chunks are read to weigh them."""
_DEEP_CHARACTERS = 30_000
_FOREIGN = 0.25
"""What is left of the embedding's weight where passages are in a language that the embedder was not trained on."""
_LEAST_SIMILARITY = 0.15
"""Below this cosine, and without a word in common, a passage says nothing about the question."""


@dataclass(frozen=True, slots=True)
class Weights:
    """What the two searches count for one question; their sum is 1."""

    dense: float
    text: float


@dataclass(frozen=True, slots=True)
class Found:
    """A row with its cosine and its BM25 score (0 where no word matched)."""

    row: FoundRow
    cosine: float
    bm25: float


def merged(dense: Sequence[FoundRow], text: Sequence[FoundRow], vector: NDArray[np.float32]) -> list[Found]:
    """Return the rows of both lists, each once; `vector` `(dim,)` is the question's."""
    rows = {(row.document, row.start): row for row in (*text, *dense)}
    bm25 = {(row.document, row.start): row.score for row in text}
    return [Found(row, float(row.vector @ vector), bm25.get(place, 0.0)) for place, row in rows.items()]


def foremost(found: Sequence[Found], count: int) -> list[Found]:
    """Return those rows that can come to be among the first `count` hits: the best by cosine, by BM25, and by both."""
    count = max(count, _LOOKED_AT)
    best_cosine, best_bm25 = _best(found)
    orders = (
        lambda f: -f.cosine,
        lambda f: -f.bm25,
        lambda f: -f.cosine / best_cosine - f.bm25 / best_bm25,
    )
    kept = {id(f): f for order in orders for f in sorted(found, key=order)[:count]}
    return list(kept.values())


def _best(found: Sequence[Found]) -> tuple[float, float]:
    cosine = max((f.cosine for f in found), default=0.0)
    return max(cosine, 1e-6), max(max((f.bm25 for f in found), default=0.0), 1e-6)


def ranked(
    terms: Terms,
    found: Sequence[Found],
    chunks: Mapping[int, Chunk],
    settings: RetrievalSettings,
    languages: Collection[str] = (),
    nearness: Mapping[str, float] | None = None,
) -> Iterator[list[Hit]]:
    """Yield the passages among the rows found for a question, best first; rows without a chunk are gone.

    A passage is all hits with the same headings and text, best first. Only as many are compared with the question's phrases
    as those that are taken need: a passage waits until no other can come before it with all phrases in it.
    `languages` are those that the embedder was trained on (empty: all), `nearness` the cosines of documents' summaries.
    """
    found = [f for f in found if f.row.row in chunks]
    passages = _Passages(chunks, terms.language)
    weights = weigh(terms, found, chunks, passages, settings, languages)
    names = name_matches(terms, [chunks[f.row.row] for f in found]) if settings.document_weight else {}
    best_cosine, best_bm25 = _best(found)
    about = shares(nearness or {})

    def score(f: Found, phrases: float) -> float:
        own = weights.dense * max(f.cosine, 0.0) / best_cosine + weights.text * f.bm25 / best_bm25
        own += settings.phrase_weight * phrases
        own += settings.document_weight * _apart(f.row.start) * names.get(f.row.document, 0.0)
        return own + settings.summary_weight * about(f.row.document)

    def hits(same: Sequence[Found]) -> list[Hit]:
        phrases = phrase_match(terms, passages[same[0].row.row])
        scored = [Hit(chunks[f.row.row], score(f, phrases), f.cosine, f.bm25) for f in same]
        return sorted(scored, key=_order)

    most = float(bool(terms.pairs))
    copies = _copies([f for f in found if f.cosine >= _LEAST_SIMILARITY or f.bm25], chunks)
    return _lazily([(max(score(f, most) for f in same), partial(hits, same)) for same in copies])


def _copies(found: Sequence[Found], chunks: Mapping[int, Chunk]) -> Collection[list[Found]]:
    """Return the rows by passage: those with the same headings and text together."""
    copies: dict[tuple[str, str], list[Found]] = {}
    for f in found:
        chunk = chunks[f.row.row]
        copies.setdefault((chunk.context, chunk.text), []).append(f)
    return copies.values()


def _lazily(passages: Sequence[tuple[float, Callable[[], list[Hit]]]]) -> Iterator[list[Hit]]:
    """Yield passages by their best hit; each comes with the most that it can score, and what makes its hits."""
    ready: list[tuple[tuple[float, str, int], int, list[Hit]]] = []
    for number, (most, hits) in enumerate(sorted(passages, key=lambda passage: -passage[0])):
        while ready and -ready[0][0][0] > most:
            yield heappop(ready)[2]
        made = hits()
        heappush(ready, (_order(made[0]), number, made))
    while ready:
        yield heappop(ready)[2]


def _order(hit: Hit) -> tuple[float, str, int]:
    return -hit.score, hit.chunk.document, hit.chunk.start


class _Passages(dict[int, list[str]]):
    """Row → the terms of its chunk, found when they are asked for."""

    def __init__(self, chunks: Mapping[int, Chunk], language: str) -> None:
        self._chunks, self._language = chunks, language

    def __missing__(self, row: int) -> list[str]:
        self[row] = terms = stem_sequence(self._chunks[row].indexed, self._language)
        return terms


def shares(nearness: Mapping[str, float]) -> Callable[[str], float]:
    """Return document → how near its summary is, as a share of the nearest; the mean of the others where it has none."""
    best_ = max([1e-6, *nearness.values()])
    scaled = {document: max(cosine, 0.0) / best_ for document, cosine in nearness.items()}
    mean = sum(scaled.values()) / max(len(scaled), 1)
    return lambda document: scaled.get(document, mean)


def _apart(start: int) -> float:
    """Return how much more a document's name counts for a passage that begins at character `start`, 1 to 3.

    The first pages of a document say what it is about, as its name does; passages deep within a long one no more.
    """
    return 1.0 + 2.0 * min(start / _DEEP_CHARACTERS, 1.0)


def weigh(
    terms: Terms,
    found: Sequence[Found],
    chunks: Mapping[int, Chunk],
    passages: Mapping[int, Sequence[str]],
    settings: RetrievalSettings,
    languages: Collection[str],
) -> Weights:
    """Weigh the two searches of one question by their evidence; `passages` has the terms of each row.

    Full text counts by the share of the question's terms that its best passages hold: in a long question with many
    words beside the point, rare ones among them lead astray. In a language that the embedder does not know, its
    similarities say little, and full text counts in full.
    """
    own = settings.dense_weight
    text = sorted((f for f in found if f.bm25), key=lambda f: -f.bm25)[:_JUDGED]
    best = text or sorted(found, key=lambda f: -f.cosine)[:_JUDGED]
    known = _share_in(languages, [chunks[f.row.row].language for f in best])
    coverage = max((len(terms.stems.intersection(passages[f.row.row])) for f in text), default=0) / max(
        len(terms.stems), 1
    )
    a = own * (known + _FOREIGN * (1 - known))
    b = (1 - own) * (known * coverage + (1 - known))
    total = a + b or 1.0
    return Weights(a / total, b / total)


def _share_in(languages: Collection[str], found: Sequence[str]) -> float:
    """Return the share of passages in one of some languages; those of no known language count as such."""
    if not languages or not found:
        return 1.0
    return sum(language in languages or not language for language in found) / len(found)


def phrase_match(terms: Terms, passage: Sequence[str]) -> float:
    """Return the share of the question's pairs of terms that stand next to each other in a passage's terms, 0..1."""
    if not terms.pairs:
        return 0.0
    return len(terms.pairs.intersection(pairwise(passage))) / len(terms.pairs)


def name_matches(terms: Terms, chunks: Sequence[Chunk]) -> dict[str, float]:
    """Return how well each document's name and title match the question, 0..1, by document.

    The geometric mean of two shares: of the question that the name holds, and of the name that the question holds;
    the better of title alone and of title and file name. Words count by their rarity among these documents' names.
    """
    one_of = {c.document: c for c in chunks}
    named = {d: _names(d, c.context, c.section or "", terms.language) for d, c in one_of.items()}
    counts = Counter(stem for whole, title in named.values() for stem in whole | title)
    total = len(named)

    @cache
    def rarity(stem: str) -> float:
        return math.log1p((total - counts[stem] + 0.5) / (counts[stem] + 0.5))

    def mass(stems: Collection[str]) -> float:
        return sum(map(rarity, stems))

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
    title = stems_of(head, language)
    return frozenset(title | stems_of(" ".join(name_words(document)), language)), frozenset(title)
