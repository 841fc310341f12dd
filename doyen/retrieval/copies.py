"""Hits → hits without copies of the same passage. Knows no index."""

from __future__ import annotations

import dataclasses
import re
import unicodedata
from collections.abc import Hashable, Iterable, Sequence

from doyen.records import Hit

_TELLING = re.compile(
    r"\d+(?:[.,:]\d+)*"  # numbers, with what stands within them
    r"|[^\W\d_]+"  # words
    r"|[-\u2212\u2013](?=\s?\d)|\((?=\s?[-\u2212$€£]?\s?\d)"  # signs of a number: -5, and (5) in accounts
    r"|[^\w\s().,;:!?\"'…“”\u2018\u2019«»`·•_\u00ad\u2010-\u2015-]"  # all other signs: %, <, €, #, accents written apart
)
"""What of a text may not differ between copies; white space, letter case and plain punctuation may."""


def fold_duplicates(passages: Iterable[Sequence[Hit]], most: int | None = None, near: int = 0) -> list[Hit]:
    """Return the first hit of each passage, of `most` passages; it names the other documents in `also`.

    A passage is the hits with the same headings and text, best first. Among the first `near` that are left, those with the
    same words, numbers and signs in the same order are folded too: they differ in white space, letter case and punctuation
    alone. Passages with the same text under other headings stay: of two products, each may weigh 5 kg. No more passages are
    taken than that needs.
    """
    places: dict[Hashable, int] = {}
    kept: list[Hit] = []
    others: list[dict[str, None]] = []
    for first, *copies in passages:
        # Words are looked at until there are enough passages: of a thousand candidates it would cost more than the search.
        telling = 2 <= near and len(places) < near
        key: Hashable = (_telling(first.chunk.context), _telling(first.chunk.text)) if telling else len(places)
        place = places.setdefault(key, len(kept))
        if place == len(kept):
            kept.append(first)
            others.append({})
        names = (hit.chunk.document for hit in (first, *copies))
        others[place] |= dict.fromkeys(name for name in names if name != kept[place].chunk.document)
        if most is not None and len(kept) >= max(most, near):
            break
    found = zip(kept[:most], others, strict=False)
    return [dataclasses.replace(hit, also=tuple(names)) if names else hit for hit, names in found]


def _telling(text: str) -> tuple[str, ...]:
    return tuple(_TELLING.findall(unicodedata.normalize("NFC", text).casefold()))
