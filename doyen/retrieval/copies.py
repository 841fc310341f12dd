"""Hits → hits without copies of the same passage. Knows no index."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from doyen.records import Hit


def fold_duplicates(hits: Sequence[Hit]) -> list[Hit]:
    """Keep the first of the hits with the same headings and text; it names the other documents in `also`.

    Passages with the same text under other headings stay: of two products, each may weigh 5 kg.
    """
    first: dict[tuple[str, str], int] = {}
    kept: list[Hit] = []
    others: list[dict[str, None]] = []
    for hit in hits:
        place = first.setdefault((hit.chunk.context, hit.chunk.text), len(kept))
        if place == len(kept):
            kept.append(hit)
            others.append({})
        elif hit.chunk.document != kept[place].chunk.document:
            others[place].setdefault(hit.chunk.document)
    return [
        dataclasses.replace(hit, also=tuple(found)) if found else hit for hit, found in zip(kept, others, strict=True)
    ]
