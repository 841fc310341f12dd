"""Hits → the documents that they stand in, best first. Knows no index."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from doyen.records import Hit

_PASSAGES = 5
_DECAY = 0.4
"""What each further passage of a document counts, of the one before; see benchmarks/results/summaries.json."""
_SUMMARY_ALONE = 1e-3


def best_documents(
    hits: Sequence[Hit], nearness: Mapping[str, float], k: int
) -> list[tuple[str, float, tuple[Hit, ...]]]:
    """Return `k` documents with their scores and best passages (at most 5), best first.

    `hits` come best first; copies of a passage (`also`) count for each document that holds it. `nearness` has the cosines
    of summaries: documents that have no hit follow by them.
    """
    found: dict[str, list[Hit]] = {}
    for hit in hits:
        for document in (hit.chunk.document, *hit.also):
            found.setdefault(document, []).append(hit)
    scores = {d: sum(h.score * _DECAY**place for place, h in enumerate(own[:_PASSAGES])) for d, own in found.items()}
    least = min(scores.values(), default=1.0)
    scores |= {d: _SUMMARY_ALONE * least * max(near, 0.0) for d, near in nearness.items() if d not in scores}
    ranked = sorted(scores, key=lambda d: (-scores[d], d))[:k]
    return [(d, scores[d], tuple(h for h in found.get(d, ())[:_PASSAGES] if h.chunk.document == d)) for d in ranked]
