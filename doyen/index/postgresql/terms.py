"""A text → the terms that it is found by in PostgreSQL, and how often each stands in it.

LanceDB's full-text index divides a text in its own code ("icu/split", English stems, accents folded); this does the same in
Python, so that both stores rank alike. Where no spaces are written, terms are characters and pairs of them here, words of a
dictionary there.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Iterator
from functools import lru_cache
from itertools import pairwise
from typing import Any

from doyen.words import words

_IDEOGRAPH = "\u3040"
_RUNS = re.compile("[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff]")
"""Thai, Lao, Burmese, Khmer."""
_LONGEST = 40
_MOST_KNOWN = 200_000


def counted(text: str) -> Counter[str]:
    """Return the terms of a text with their counts."""
    return Counter(terms(text))


def terms(text: str) -> Iterator[str]:
    """Yield the terms of a text."""
    found = words(text if text.isascii() else unicodedata.normalize("NFKC", text))
    for word, following in pairwise([*found, ""]):
        if word >= _IDEOGRAPH:
            yield word
            if following >= _IDEOGRAPH:
                yield word + following
        elif "_" in word:
            yield from map(_term, filter(None, word.split("_")))
        elif _RUNS.match(word):
            yield from map("".join, pairwise(word))
        elif len(word) <= _LONGEST:
            yield _term(word)


@lru_cache(maxsize=_MOST_KNOWN)
def _term(word: str) -> str:
    stem = str(_stemmer().stemWord(word))
    return stem if stem.isascii() else "".join(c for c in unicodedata.normalize("NFKD", stem) if not _is_accent(c))


def _is_accent(sign: str) -> bool:
    return "\u0300" <= sign <= "\u036f"


@lru_cache(maxsize=1)
def _stemmer() -> Any:
    import Stemmer

    return Stemmer.Stemmer("english", 0)
