"""A question → its words with stems, what stands in quotes, its numbers; a column's name → the words in it.

Knows no table. English; other languages keep their words as they are.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from doyen.retrieval.function_words import FUNCTION_WORDS

_TOKEN = re.compile(r"\d{1,3}(?:,\d{3})+(?:\.\d+)?|\d+(?:\.\d+)?(?![\w.]*[^\W\d_])|[^\W_]+")
_QUOTED = re.compile("\"([^\"]{1,120})\"|“([^”]{1,120})”|(?<!\\w)'([^']{1,80})'(?!\\w)|`([^`]{1,120})`")
_NAME_PART = re.compile(r"[A-Z]+(?=[A-Z][a-z])|[A-Z]?[a-z]+|[A-Z]+|\d+(?:\.\d+)?|[^\W\d_]+")
_INSTRUCTIONS = re.compile(r"\s(?:Constraints?|Answer format|Format|Note)\s*:\s", re.IGNORECASE)
_LEADING_NUMBER = re.compile(r"^\s*(?:question\s*)?\d{1,2}\s*[.):]\s+", re.IGNORECASE)
STOPWORDS = FUNCTION_WORDS["en"] | frozenset(
    (
        *"among between within across over under than more less also any all each every per no not only out up".split(),
        *"there here very much many both either one some other same own across during since until while about".split(),
        *"please tell me give show us let want know like need whether may might must used using use via".split(),
    )
)
SCALES = {"k": 1e3, "thousand": 1e3, "m": 1e6, "million": 1e6, "bn": 1e9, "billion": 1e9}
_SPELT = {w: n for n, w in enumerate("zero one two three four five six seven eight nine ten eleven twelve".split())}
ORDINALS = {
    w: n for n, w in enumerate("first second third fourth fifth sixth seventh eighth ninth tenth".split(), start=1)
} | {f"{n}{'st' if n == 1 else 'nd' if n == 2 else 'rd' if n == 3 else 'th'}": n for n in range(1, 21)}


@dataclass(frozen=True, slots=True)
class Word:
    """A word of a question: characters `[start, end)`, in lower case, and its stem; `number` where it is one."""

    text: str
    lower: str
    stem: str
    start: int
    end: int
    number: float | None = None

    @property
    def is_stop(self) -> bool:
        """Whether it says nothing about what is asked for."""
        return self.lower in STOPWORDS


@dataclass(frozen=True, slots=True)
class Asked:
    """A question: its text without instructions on the answer's form (`instructions`), words, and quoted places."""

    text: str
    words: tuple[Word, ...]
    quoted: tuple[tuple[int, int], ...]
    instructions: str = ""

    def at(self, start: int, end: int) -> frozenset[int]:
        """Return the numbers of the words that stand within some characters."""
        return frozenset(n for n, w in enumerate(self.words) if w.start >= start and w.end <= end)


def read_question(text: str) -> Asked:
    """Read a question; what follows `Constraints:` or `Answer format:` are instructions."""
    text = _LEADING_NUMBER.sub("", text)
    parting = _INSTRUCTIONS.search(text)
    main, rest = (text[: parting.start()], text[parting.end() :]) if parting else (text, "")
    found = tuple(_word(m) for m in _TOKEN.finditer(main))
    spans = [next(m.span(n) for n in range(1, 5) if m[n] is not None) for m in _QUOTED.finditer(main)]
    return Asked(main, _scaled(found), tuple(spans), rest)


def _word(match: re.Match[str]) -> Word:
    text = match[0]
    lower = text.lower()
    number: float | None = None
    if text[0].isdigit() and re.fullmatch(r"[\d,.]+", text):
        number = float(text.replace(",", ""))
    elif re.fullmatch(r"\d+(?:\.\d+)?(k|m|bn)", lower):
        digits = re.match(r"[\d.]+", lower)
        number = float(digits[0]) * SCALES[lower[digits.end() :]] if digits else None
    elif lower in _SPELT:
        number = float(_SPELT[lower])
    return Word(text, lower, stem(lower), match.start(), match.end(), number)


def _scaled(found: tuple[Word, ...]) -> tuple[Word, ...]:
    """Take `2 million` as one number; its second word keeps its place."""
    words = list(found)
    for n, word in enumerate(words[1:], start=1):
        before = words[n - 1]
        if word.lower in ("thousand", "million", "billion") and before.number is not None:
            number = before.number * SCALES[word.lower]
            words[n - 1] = Word(before.text, before.lower, before.stem, before.start, before.end, number)
    return tuple(words)


def name_parts(name: str) -> list[str]:
    """Return the words of a column's name in lower case: `MedianHouse_value (EUR)` → median, house, value, eur."""
    return [part.lower() for part in _NAME_PART.findall(name)]


def tokens(text: str) -> list[str]:
    """Return the words of a text in lower case, parted as those of a question."""
    return [m[0].lower() for m in _TOKEN.finditer(text)]


@lru_cache(maxsize=50_000)
def stem(word: str) -> str:
    """Return the stem of an English word in lower case."""
    return str(_stemmer().stemWord(word))


@lru_cache(maxsize=1)
def _stemmer() -> Any:
    import Stemmer

    return Stemmer.Stemmer("english")
