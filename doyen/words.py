"""Text → its words, for comparing texts regardless of case, punctuation and spaces."""

from __future__ import annotations

import re

_WORD = re.compile(r"\w+")


def words(text: str) -> list[str]:
    """Return the words of a text in order, case folded."""
    return _WORD.findall(text.casefold())


def holds(text: str, phrase: str) -> bool:
    """Whether the words of a phrase stand in a text one after the other; a phrase without words stands nowhere."""
    sought = words(phrase)
    return bool(sought) and f" {' '.join(sought)} " in f" {' '.join(words(text))} "
