"""Hits → hits without copies of the same passage. Knows no index."""

from __future__ import annotations

import dataclasses
import re
import unicodedata
from collections.abc import Hashable, Sequence

from doyen.records import Hit

_TELLING = re.compile(
    r"\d+(?:[.,:]\d+)*"  # numbers, with what stands within them
    r"|[^\W\d_]+"  # words
    r"|[-\u2212\u2013](?=\s?\d)|\((?=\s?[-\u2212$€£]?\s?\d)"  # signs of a number: -5, and (5) in accounts
    r"|[^\w\s().,;:!?\"'…“”\u2018\u2019«»`·•_\u00ad\u2010-\u2015-]"  # all other signs: %, <, €, #, accents written apart
)
"""What of a text may not differ between copies; white space, letter case and plain punctuation may."""


def fold_duplicates(hits: Sequence[Hit], near: int = 0) -> list[Hit]:
    """Keep the first of the hits with the same headings and text; it names the other documents in `also`.

    Among the first `near` that are left, those with the same words, numbers and signs in the same order are folded too:
    they differ in white space, letter case and punctuation alone. Passages with the same text under other headings stay:
    of two products, each may weigh 5 kg.
    """
    kept = _folded(hits, [(hit.chunk.context, hit.chunk.text) for hit in hits])
    if near < 2:
        return kept
    keys: list[Hashable] = []
    seen: set[Hashable] = set()
    for hit in kept:
        # Words are looked at until there are enough passages: of a thousand candidates it would cost more than the search.
        key: Hashable = id(hit) if len(seen) >= near else (_telling(hit.chunk.context), _telling(hit.chunk.text))
        seen.add(key)
        keys.append(key)
    return _folded(kept, keys)


def _telling(text: str) -> tuple[str, ...]:
    return tuple(_TELLING.findall(unicodedata.normalize("NFC", text).casefold()))


def _folded(hits: Sequence[Hit], keys: Sequence[Hashable]) -> list[Hit]:
    """Keep the first hit of each key; it names the documents of the others, and those that they named."""
    first: dict[Hashable, int] = {}
    kept: list[Hit] = []
    others: list[dict[str, None]] = []
    for hit, key in zip(hits, keys, strict=True):
        place = first.setdefault(key, len(kept))
        if place == len(kept):
            kept.append(hit)
            others.append(dict.fromkeys(hit.also))
        else:
            names = (hit.chunk.document, *hit.also)
            others[place] |= dict.fromkeys(name for name in names if name != kept[place].chunk.document)
    return [dataclasses.replace(hit, also=tuple(found)) for hit, found in zip(kept, others, strict=True)]
