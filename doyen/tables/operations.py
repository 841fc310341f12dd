"""A question → what is to be calculated: mean, count, correlation, the row with the highest value, …

Words that name a column are not looked at ("Average Price" is no average). Knows no table.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TypeAlias

from doyen.tables.asked import Asked

Kind: TypeAlias = str
"""What is calculated: a name of _PATTERNS, or of those below."""
STRONG = frozenset(
    "mean median std var corr missing missing_share skew kurtosis range mode outliers normal quantile strongest".split()
)
"""Calculations that are asked of tables only, as good as never of texts."""
UNCOLUMNED = frozenset(("count", "share", "sum"))
"""Calculations that may be asked for without naming a column."""
_MISSING = r"(?:missing|null|nan|empty|blank)\s+(?:values?|entries|data|cells?)|(?:is|are|has|have|having) (?:missing|null|nan|empty|blank)"
_PATTERNS: tuple[tuple[Kind, str], ...] = (
    ("strongest", r"(?:strongest|highest|largest) (?:\w+ )?correlat\w+ with|correlates? (?:most|best) with"),
    ("corr", r"(?:pearson'?s? )?correlation(?: coefficient)?s?|correlat(?:e|es|ed)"),
    (
        "missing_share",
        rf"(?:percentages?|percent|proportion|share|rate|ratio|fraction) of (?:the )?(?:{_MISSING}|missing)",
    ),
    ("missing", _MISSING),
    ("std", r"standard[- ]deviations?|std\.? ?dev(?:iation)?s?|stdev|std"),
    ("var", r"variance"),
    ("mean", r"average|mean|averages|means|avg\.?"),
    ("median", r"medians?"),
    ("quantile", r"(?:(\d{1,2})(?:st|nd|rd|th) percentile|(?:lower|first|upper|third) quartile)"),
    ("skew", r"skew(?:ness|ed)?"),
    ("kurtosis", r"kurtosis"),
    ("normal", r"normal(?:ly)? distribut\w+|normality|distribut\w+ (?:is |are )?normal(?:ly)?"),
    ("outliers", r"outliers?"),
    ("range", r"ranges? of|value range|range"),
    ("mode", r"most (?:common|frequent|frequently (?:occurring|appearing))|mode|modal"),
    ("distinct", r"(?:how many|number of|count of)?(?: \w+)? ?(?:unique|different|distinct)"),
    (
        "share",
        r"what (?:percentage|percent|proportion|share|fraction)|(?:percentage|percent|proportion|share|fraction) of",
    ),
    ("max", r"maxim(?:um|al)s?|max|highest|largest|greatest|biggest|most|longest|oldest|latest|best|top|peak|heaviest"),
    ("min", r"minim(?:um|al)s?|min|lowest|smallest|least|shortest|youngest|earliest|fewest|worst|cheapest|bottom"),
    ("sum", r"total number of|totals?(?! number)|sum(?:med)?|altogether|combined"),
    ("count", r"how many|number of|counts?|how often"),
)
_COMPILED = tuple((kind, re.compile(rf"(?<![\w]){pattern}(?![\w])", re.IGNORECASE)) for kind, pattern in _PATTERNS)


@dataclass(frozen=True, slots=True)
class Operation:
    """A calculation with the numbers of the words that ask for it; `detail` is the matched text in lower case."""

    kind: Kind
    words: frozenset[int]
    detail: str = ""

    @property
    def first(self) -> int:
        """The number of its first word."""
        return min(self.words)


def operations(asked: Asked, named: frozenset[int]) -> list[Operation]:
    """Return the calculations that words other than the `named` ones ask for, in their order."""
    found: list[Operation] = []
    used = set(named)
    for kind, pattern in _COMPILED:
        for match in pattern.finditer(asked.text):
            words = asked.at(*match.span())
            if not words or words & used or _is_bound(asked, match.start()):
                continue
            found.append(Operation(kind, words, match[0].lower()))
            used |= words
    return sorted(found, key=lambda o: o.first)


def _is_bound(asked: Asked, start: int) -> bool:
    """Whether `most` or `least` belongs to a bound: at most 5."""
    return asked.text[max(0, start - 3) : start].lower() == "at "
