"""Text → its words, for comparing texts regardless of case, punctuation and spaces."""

from __future__ import annotations

import re
from collections.abc import Iterable

# Chinese and Japanese write no spaces: there a character counts as a word.
_CJK = "\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
# Marks that belong to a word though Python's \w leaves them out: accents, points of Hebrew and Arabic, vowel signs.
_MARKS = (
    "\u0300-\u036f\u0591-\u05bd\u0610-\u061a\u064b-\u065f\u0670\u0900-\u0963\u0966-\u0dff"
    "\u0e31-\u0e3a\u0e47-\u0e4e\u0eb1-\u0ebc\u0ec8-\u0ece\u102b-\u103e\u17b4-\u17d3\u200c\u200d"
)
_MARK = re.compile(f"[{_MARKS}]")
_WORD = re.compile(rf"[{_CJK}]|[^\W{_CJK}]+")
_MARKED_WORD = re.compile(rf"[{_CJK}]|(?:(?![{_CJK}])[\w{_MARKS}])+")  # ten times as slow
_SIGNS = "›’‘“”–—…•"  # noqa: RUF001 - no words, and often all that keeps a text from being ASCII
_ASCII_WORDS = bytes(ord(chr(c).lower()) if chr(c).isalnum() or c == 0x5F else 0x20 for c in range(128)) + bytes(128)
_PART = re.compile(r"\d+|\D+")
_OPAQUE = re.compile(r"\d{6,}|(?=[a-f]*\d)(?=\d*[a-f])[0-9a-f]{8,}", re.IGNORECASE)
_SHORTEST_TELLING = 4
_CHARACTER_WORDS = 0.6  # of Chinese or Japanese
_LETTERS_A_WORD = 12  # where neither spaces nor characters divide words: Thai, Khmer


def words(text: str) -> list[str]:
    """Return the words of a text in order, case folded."""
    for sign in "" if text.isascii() else _SIGNS:
        text = text.replace(sign, " ")
    if text.isascii():  # four times as fast as the patterns, and most of what is read
        return text.encode().translate(_ASCII_WORDS).decode().split()
    folded = text.casefold()
    pattern = _WORD if not _MARK.search(folded) else _MARKED_WORD
    return pattern.findall(folded)


def telling_words(text: str) -> list[str]:
    """Return the words of four letters or more, those with a digit and those of one CJK character; all if there is none."""
    found = words(text)
    telling = [
        w for w in found if len(w) >= _SHORTEST_TELLING or any(c.isdigit() for c in w) or (len(w) == 1 and w > "\u3000")
    ]
    return telling or found


def length_of(found: Iterable[str]) -> float:
    """Return how many words of English the `words` of a text amount to, whatever its script."""
    return sum(_CHARACTER_WORDS if w >= "\u3040" else max(1.0, len(w) / _LETTERS_A_WORD) for w in found)


def clip(text: str, most: float) -> str:
    """Return the beginning of a text of at most `most` words, up to a space if there is one."""
    end = len(text)
    while end > 1 and length_of(words(text[:end])) > most:
        shorter = end * 3 // 4 if length_of(words(text[:end])) > 1.5 * most else end - 1
        space = text.rfind(" ", 1, shorter)
        end = space if space > end // 2 else shorter
    return text[:end].rstrip()


def find(text: str, phrase: str, start: int = 0, end: int | None = None) -> int:
    """Return where the words of a phrase begin in `text[start:end]`, whatever stands between them; -1 if nowhere."""
    sought = words(phrase)
    if not sought:
        return -1
    pattern = re.compile(r"\W*".join(map(re.escape, sought)), re.IGNORECASE)
    found = pattern.search(text, start, len(text) if end is None else end)
    return found.start() if found else -1


def holds(text: str, phrase: str) -> bool:
    """Whether the words of a phrase stand in a text one after the other; a phrase without words stands nowhere."""
    sought = words(phrase)
    return bool(sought) and f" {' '.join(sought)} " in f" {' '.join(words(text))} "


def parts(word: str) -> list[str]:
    """Return the runs of letters and of digits of a word that has both: FY2018 → FY, 2018; nothing for others."""
    found = _PART.findall(word)
    return found if len(found) > 1 else []


def name_words(document: str) -> list[str]:
    """Return the words of a document's id: of its folders and its name, without the ending and without numbers and hashes
    that only count documents (`reports/3M_2018_10K.pdf` → reports, 3M, 2018, 10K).
    """
    path = re.sub(r"\.[A-Za-z]\w{0,4}$", "", document)
    found = (word for piece in re.split(r"[\W_]+", path) for word in [piece.strip()] if word)
    return [word for word in found if not _OPAQUE.fullmatch(word)]
