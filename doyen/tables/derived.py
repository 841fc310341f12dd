"""A question that makes a column of two others (`"Spread", the difference between High and Low`) → that column.

Enters: the question, the columns that it names. Leaves: a Column with its SQL, and the words that make it.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from doyen.tables.asked import Asked
from doyen.tables.executing import quoted
from doyen.tables.loading import Column
from doyen.tables.mentions import LOOSE, ColumnMention, column_mentions

_MAKES = re.compile(
    r"\b(?:new|create|creating|generate|generating|add) (?:an? )?(?:new )?(?:\w+ )?(?:feature|column|variable|field)",
    re.IGNORECASE,
)
_NAMED = re.compile(
    r"(?:feature|column|variable|field)?\s*(?:called|named)\s+(?P<q>[\"'“])(.+?)[\"'”]|(?:feature|column|variable|field)\s+[\"'“](.+?)[\"'”]",
    re.IGNORECASE,
)
_REFERRED = re.compile(
    r"\b(?:this|the|that) (?:new|newly created|created|added|resulting) (?:feature|column|variable|field)",
    re.IGNORECASE,
)
_SIGNS = (
    ("-", re.compile(r"difference|subtract\w*|minus", re.IGNORECASE)),
    ("/", re.compile(r"ratio|divid\w+", re.IGNORECASE)),
    ("*", re.compile(r"product|multipl\w+", re.IGNORECASE)),
    ("+", re.compile(r"\bsum\w*|\badding|combin\w+|\bplus", re.IGNORECASE)),
)
_END = re.compile(r"[.;?!](?:\s|$)|,? then\b", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Derived:
    """A column made of two others; `made` are the words that make it, `mentions` those that name it elsewhere."""

    column: Column
    made: frozenset[int]
    mentions: tuple[ColumnMention, ...]


def derived_column(asked: Asked, columns: Sequence[Column]) -> Derived | None:
    """Return the column that a question makes; None where it makes none of two columns by + - * /."""
    makes = _MAKES.search(asked.text)
    if makes is None:
        return None
    ends = _END.search(asked.text, makes.end())
    end = ends.start() if ends else len(asked.text)
    named = _NAMED.search(asked.text, makes.start())
    name = next((g for g in (named[2], named[3]) if g), "new column") if named else "new column"
    sign, at = next(((s, m.start()) for s, p in _SIGNS if (m := p.search(asked.text, makes.start(), end))), ("", 0))
    parts = [
        m
        for m in column_mentions(asked, [c for c in columns if c.is_number])
        if m.score >= LOOSE
        and makes.start() <= asked.words[m.first].start < end
        and not (named and named.start() <= asked.words[m.first].start < named.end())
    ]
    after = [m for m in parts if asked.words[m.first].start > at]
    own = after if len(after) >= 2 else parts
    if not sign or len(own) != 2:
        return None
    first, second = own
    between = asked.text[asked.words[first.last].end : asked.words[second.first].start]
    if sign == "-" and re.search(r"\bfrom\b", between):
        first, second = second, first
    right = quoted(second.column.name)
    sql = f"({quoted(first.column.name)} {sign} {f'nullif({right}, 0)' if sign == '/' else right})"
    column = Column(name, "number", filled=1, sql=sql)
    made = asked.at(makes.start(), end)
    mentions = [ColumnMention(column, words, 1.0, quoted=True) for words in _references(asked, name, end)]
    return Derived(column, made, tuple(mentions))


def _references(asked: Asked, name: str, start: int) -> list[frozenset[int]]:
    """Return the words after some place that name the new column, or speak of it."""
    found = [asked.at(*m.span()) for m in _REFERRED.finditer(asked.text, start)]
    if name != "new column":
        found += [asked.at(*m.span()) for m in re.compile(re.escape(name)).finditer(asked.text, start)]
    return [words for words in found if words]
