"""Fusion that reads no more passages than are wanted gives what reading all of them gives."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from doyen.config import RetrievalSettings
from doyen.index.rows import FoundRow
from doyen.records import Chunk, Hit
from doyen.retrieval import fusion
from doyen.retrieval.copies import _telling, fold_duplicates
from doyen.retrieval.fusion import Found, name_matches, phrase_match, ranked, shares, weigh
from doyen.retrieval.terms import question_terms, stem_sequence

WORDS = "bicycle yard lamp Yard, repairs tenant mill".split()
TERMS = question_terms("Who repairs the yard lamp of the mill?")
NEAR = 4


def plainly(found, chunks, weights, nearness):
    """All hits, scored and sorted."""
    passages = {f.row.row: stem_sequence(chunks[f.row.row].indexed, TERMS.language) for f in found}
    own = weigh(TERMS, found, chunks, passages, weights, ())
    names = name_matches(TERMS, [chunks[f.row.row] for f in found])
    cosine = max([1e-6, *(f.cosine for f in found)])
    bm25 = max([1e-6, *(f.bm25 for f in found)])
    hits = []
    for f in found:
        if f.cosine < 0.15 and not f.bm25:
            continue
        score = own.dense * max(f.cosine, 0.0) / cosine + own.text * f.bm25 / bm25
        score += weights.phrase_weight * phrase_match(TERMS, passages[f.row.row])
        score += weights.document_weight * (1 + 2 * min(f.row.start / 30_000, 1)) * names.get(f.row.document, 0.0)
        hits.append(
            Hit(chunks[f.row.row], score + weights.summary_weight * shares(nearness)(f.row.document), f.cosine, f.bm25)
        )
    return sorted(hits, key=lambda h: (-h.score, h.chunk.document, h.chunk.start))


def folded(hits, keys):
    kept = {}
    for hit, key in zip(hits, keys, strict=True):
        first = kept.setdefault(key, hit)
        if first is not hit:
            names = [n for n in (hit.chunk.document, *hit.also) if n != first.chunk.document]
            kept[key] = dataclasses.replace(first, also=tuple(dict.fromkeys((*first.also, *names))))
    return list(kept.values())


def folded_plainly(hits):
    """Copies folded, then near-copies among the first NEAR."""
    once = folded(hits, [(h.chunk.context, h.chunk.text) for h in hits])
    seen, keys = set(), []
    for number, hit in enumerate(once):
        key = number if len(seen) >= NEAR else (_telling(hit.chunk.context), _telling(hit.chunk.text))
        seen.add(key)
        keys.append(key)
    return folded(once, keys)


rows = st.tuples(
    st.integers(0, 4),
    st.integers(0, 40_000),
    st.sampled_from([0.0, 0.1, 0.3, 0.5, 0.5001, 0.9]),
    st.sampled_from([0.0, 2.0, 4.0, 8.0]),
    st.lists(st.sampled_from(WORDS), max_size=4).map(" ".join),
    st.sampled_from(["", "Mill", "The yard lamp › Care"]),
)
weights_of = st.builds(
    RetrievalSettings,
    phrase_weight=st.sampled_from([0.0, 0.25, 1.0]),
    document_weight=st.sampled_from([0.2, 0.7]),
    summary_weight=st.sampled_from([0.0, 0.15]),
)


@settings(max_examples=150, deadline=None)
@given(st.lists(rows, max_size=25, unique_by=lambda r: r[:2]), weights_of, st.integers(1, 12))
def test_the_first_hits_are_those_of_all(made, weights, most):
    found, chunks = [], {}
    for row, (document, start, cosine, bm25, text, context) in enumerate(made):
        name = f"mill{document}.txt"
        chunks[row] = Chunk(name, start, start + 1, text, context=context, language="en")
        found.append(Found(FoundRow(row, name, start, 0.0, np.zeros(2, dtype=np.float32)), cosine, bm25))
    nearness = {"mill0.txt": 0.8, "mill3.txt": 0.2}
    lazily = fold_duplicates(ranked(TERMS, found, chunks, weights, (), nearness), most, near=NEAR)
    wanted = folded_plainly(plainly(found, chunks, weights, nearness))
    assert [(h.chunk, h.also) for h in lazily] == [(h.chunk, h.also) for h in wanted[:most]]
    assert [h.score for h in lazily] == pytest.approx([h.score for h in wanted[:most]], abs=1e-12)
    everything = fold_duplicates(ranked(TERMS, found, chunks, weights, (), nearness), near=NEAR)
    assert [(h.chunk, h.also) for h in everything] == [(h.chunk, h.also) for h in wanted]


def test_passages_that_cannot_come_first_are_not_compared(monkeypatch):
    read = []
    monkeypatch.setattr(fusion, "stem_sequence", lambda text, language: read.append(text) or text.split())
    found = [Found(FoundRow(n, f"{n}.txt", 0, 0.0, np.zeros(2, dtype=np.float32)), 1 - n / 50, 0.0) for n in range(40)]
    chunks = {n: Chunk(f"{n}.txt", 0, 1, f"text {n}", language="en") for n in range(40)}
    passages = ranked(TERMS, found, chunks, RetrievalSettings(phrase_weight=0.1))
    assert next(iter(passages))[0].chunk.document == "0.txt"
    assert 1 <= len(read) < 15
