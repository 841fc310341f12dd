"""Question → the terms that it is searched and compared by; a text → its stems. Knows no index.

A term is a word without its inflection (Snowball stemmer of the language), folded to lower case without accents of Latin
letters; where no spaces are written (Chinese, Japanese) it is a pair of characters.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from typing import Any

from doyen.retrieval.function_words import FUNCTION_WORDS
from doyen.words import parts, words

MOST_WORDS = 100
"""Words of a question that are searched for, of the different ones that tell something."""
_ALGORITHMS = {
    "ar": "arabic", "ca": "catalan", "da": "danish", "de": "german", "el": "greek", "es": "spanish", "et": "estonian",
    "eu": "basque", "fi": "finnish", "fr": "french", "ga": "irish", "hi": "hindi", "hu": "hungarian",
    "hy": "armenian", "id": "indonesian", "it": "italian", "lt": "lithuanian", "ne": "nepali", "nl": "dutch",
    "no": "norwegian", "pt": "portuguese", "ro": "romanian", "ru": "russian", "sr": "serbian", "sv": "swedish",
    "ta": "tamil", "tr": "turkish", "yi": "yiddish",
}  # fmt: skip
_MOST_STEMS = 100_000
_DIGITS_OF_A_GROUP = 3
_IDEOGRAPH = "\u3040"  # from here on, a word of doyen.words is a single character
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]+")


@dataclass(frozen=True, slots=True)
class Terms:
    """What a question is searched by: `text` for the full-text index, `stems` for comparing with passages."""

    text: str
    stems: frozenset[str]
    names: frozenset[str]
    """The stems, and pairs of words written together, as in names of files: best buy → bestbuy; Latin letters only."""
    pairs: frozenset[tuple[str, str]] = frozenset()
    """Terms that follow each other, function words left out."""
    language: str = "en"
    """By whose rules passages are stemmed to be compared with the question."""


def question_terms(question: str) -> Terms:
    """Return the terms of a question, without the function words of its language; all of them if nothing else is left."""
    clean = _CONTROL.sub(" ", unicodedata.normalize("NFKC", question))
    found = words(clean)
    language = _language_of(found)
    function = FUNCTION_WORDS.get(language, frozenset())
    telling = [w for w in dict.fromkeys(found) if w not in function][:MOST_WORDS]
    if not telling:
        telling, language = list(dict.fromkeys(found))[:MOST_WORDS], ""
    kept = set(telling)
    together = [(a, b) for a, b in pairwise(found) if a in kept and b in kept and f"{a}{b}".isascii()]
    joined = [a + b for a, b in together]
    split = [part for word in telling for part in parts(word)]
    sequence = stem_sequence(clean if _runs(found) else " ".join(w for w in found if w in kept), language)
    stems = frozenset(sequence)
    names = stems.union(map(_stems(language).__getitem__, (*joined, *split)))
    # "200,000" may be written as one number, "30, 2019" may not.
    said = [a + b for a, b in together if not (a.isdigit() and b.isdigit()) or len(b) == _DIGITS_OF_A_GROUP]
    return Terms(_searched(clean, kept, [*split, *said]), stems, names, frozenset(pairwise(sequence)), language)


def stem_sequence(text: str, language: str) -> list[str]:
    """Return the terms of a text in their order, without the function words of a language."""
    found = words(text if text.isascii() else unicodedata.normalize("NFKC", text))
    stems = _stems(language, telling=True).__getitem__
    if not _runs(found):
        return list(filter(None, map(stems, found)))
    followed = [*found[1:], ""]
    terms = (
        stems(a) if a < _IDEOGRAPH else a + b if b >= _IDEOGRAPH else "" for a, b in zip(found, followed, strict=True)
    )
    return list(filter(None, terms))


def stems_of(text: str, language: str = "") -> frozenset[str]:
    """Return the different terms of a text, function words too."""
    found = words(unicodedata.normalize("NFKC", text))
    spaced = frozenset(_stems(language)[w] for w in found if w < _IDEOGRAPH)
    return spaced.union(a + b for a, b in pairwise(found) if a >= _IDEOGRAPH and b >= _IDEOGRAPH)


def _searched(text: str, kept: Iterable[str], more: list[str]) -> str:
    """Return the kept words of a text in their order and script, then further ones.

    Characters that are written without spaces stay together: the index divides them by a dictionary.
    """
    kept = set(kept)
    runs: list[str] = []
    glued = False
    for word in words(text):
        ideograph = word >= _IDEOGRAPH
        if ideograph and glued:
            runs[-1] += word
        elif word in kept:
            runs.append(word)
        glued = ideograph
    return " ".join([*dict.fromkeys(runs), *dict.fromkeys(more)])


def _runs(found: list[str]) -> bool:
    return max(found, default="") >= _IDEOGRAPH


def _language_of(found: list[str]) -> str:
    """Return the language that most words of a question are function words of."""
    counts = {code: sum(word in known for word in found) for code, known in FUNCTION_WORDS.items()}
    best = max(counts, key=lambda code: counts[code])
    return best if counts[best] else "en"


class _Stems(dict[str, str]):
    """Word → its stem by one language's rules; "" for a function word. A dictionary, since it is asked 20,000 times a search."""

    def __init__(self, language: str, function: frozenset[str] = frozenset()) -> None:
        self._stemmer = _stemmer(_ALGORITHMS.get(language, "english"))
        self._function = function

    def __missing__(self, word: str) -> str:
        if len(self) >= _MOST_STEMS:
            self.clear()
        stem = "" if word in self._function else str(self._stemmer.stemWord(_plain(word)))
        self[word] = stem
        return stem


def _plain(word: str) -> str:
    return "".join(c for c in unicodedata.normalize("NFKD", word.casefold()) if not "\u0300" <= c <= "\u036f")


@lru_cache(maxsize=64)
def _stems(language: str, *, telling: bool = False) -> _Stems:
    """Return the stems of a language; with `telling` without function words."""
    return _Stems(language, FUNCTION_WORDS.get(language, frozenset()) if telling else frozenset())


@lru_cache(maxsize=32)
def _stemmer(algorithm: str) -> Any:
    import Stemmer

    return Stemmer.Stemmer(algorithm)
