"""Text → its words, for comparing texts regardless of case, punctuation and spaces."""

from __future__ import annotations

import re

# Chinese and Japanese write no spaces: there a character counts as a word.
_CJK = "\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
_WORD = re.compile(rf"[{_CJK}]|[^\W{_CJK}]+")
_SHORTEST_TELLING = 4


def words(text: str) -> list[str]:
    """Return the words of a text in order, case folded."""
    return _WORD.findall(text.casefold())


def telling_words(text: str) -> list[str]:
    """Return the words of four letters or more, those with a digit and those of one CJK character; all if there is none."""
    found = words(text)
    telling = [
        w for w in found if len(w) >= _SHORTEST_TELLING or any(c.isdigit() for c in w) or (len(w) == 1 and w > "\u3000")
    ]
    return telling or found


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
