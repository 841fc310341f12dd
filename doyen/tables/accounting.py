"""A question and the words that a plan uses → how much of the question the plan accounts for, and what it must not miss.

A number, a negation or a comparison that a plan passes over changes the answer, however many words it accounts for.
Knows no table.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from functools import lru_cache

from doyen.tables.asked import Asked, stem

_GENERIC = frozenset(
    stem(w)
    for w in (
        *"dataset data table tables column columns value values record records row rows entry entries file csv sheet".split(),
        *"calculate compute find determine identify list report check get recorded given provided whole entire overall".split(),
        *"register extract individual observations observation calculated following respective corresponding variable".split(),
        *"field attribute number amount total exist exists present received".split(),
    )
)
_NEGATIONS = frozenset(
    "not no never none neither nor without except excluding didn don doesn weren wasn isn aren hasn haven".split()
)
_STATED = re.compile(r"decimal|digits? after|threshold|significance|alpha|p-?value|z-?scores?", re.IGNORECASE)
"""What numbers that set how an answer is calculated or rounded stand by."""
_NEAR = 30


@lru_cache(maxsize=1)
def _beyond() -> re.Pattern[str]:
    """Return what speaks of a calculation that no plan makes."""
    ordinal = r"(?:second|third|fourth|fifth|\d+(?:nd|rd|th))[- ](?:most|least|fewest|(?:high|low|larg|small|long|short|old|young|cheap)est)"
    return re.compile(
        r"\b(?:differences?|differs?|ratios?|growth|grew|grown|increased?|decreased?|changed?|trends?|cumulative|running"
        r"|compared|versus|vs|twice|half|halves|(?:last|past|previous|next)(?: \w+)? (?:day|week|month|quarter|year)s?"
        rf"|(?:two|three|four|five|six|seven|eight|nine|ten|\d+) (?:\w+est|most)|{ordinal})\b",
        re.IGNORECASE,
    )


def coverage(asked: Asked, explained: Collection[int]) -> tuple[float, tuple[int, ...]]:
    """Return the share of the telling words that are explained, and the numbers of the others."""
    telling = [n for n, w in enumerate(asked.words) if not w.is_stop and w.stem not in _GENERIC]
    left = tuple(n for n in telling if n not in explained)
    return (1.0 - len(left) / len(telling) if telling else 1.0), left


def misses(asked: Asked, explained: Collection[int]) -> bool:
    """Whether a number, a negation, a comparison or a calculation beyond plans is not explained."""
    for n, word in enumerate(asked.words):
        if n in explained:
            continue
        if word.lower == "than" or (word.lower in _NEGATIONS and not asked.text[: word.start].endswith("or ")):
            return True
        around = asked.text[max(0, word.start - _NEAR) : word.end + _NEAR]
        if word.text[0].isdigit() and word.number is not None and not _STATED.search(around):
            return True
    return any(not asked.at(*m.span()) <= set(explained) for m in _beyond().finditer(asked.text))
