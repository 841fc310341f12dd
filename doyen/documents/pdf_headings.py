"""Blocks of PDF text → headings: numbered ones by their wording, others by larger or bold type.

Knows text, size and weight of a block's first line; no PDF library and no positions on the page.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

_MAX_HEADING_CHARS = 80
_MAX_STYLED_CHARS = 140
_MAX_NAMED_CHARS = 160  # "Item 5. Market for Registrant's Common Equity, …" is a heading by its first words
_LARGER = 1.12
_MAX_RUN = 3  # more headings without text below them are a cover, a list or an address
_SMALLEST = 0.9
_COMMON_SHARE = 0.3
_MAX_LEVEL = 6
_MIN_USES = 3  # types used less often, as on a cover, set nothing below them
_NUMBERED = re.compile(r"(\d{1,2}(?:\.\d{1,2}){0,4})\.?[ \t]+(?=[^\W\d_])")
_NAMED = re.compile(
    r"(part|chapter|article|section|clause|item|note|appendix|annex|schedule|exhibit)[ \t]+"
    r"(\d{1,3}(?:\.\d{1,2}){0,4}[A-Za-z]?|[IVX]{1,6}|[A-Z])\b[ \t]*[.:–—-]?[ \t]*(.*)$",
    re.IGNORECASE,
)
_TOP_WORDS = frozenset(("part", "chapter", "appendix", "annex", "schedule", "exhibit"))
_SENTENCE_END = (".", ";", ",", ":", "!", "?")


Style = tuple[float, int]  # size and emphasis


@dataclass(frozen=True, slots=True)
class Styled:
    """A block of text with its type; `is_row` marks the rows of tables, which are no headings."""

    text: str
    size: float = 0.0
    bold: bool = False
    is_row: bool = False


def heading_levels(blocks: Sequence[Styled]) -> list[int]:
    """Return the level of every block that is a heading, 1 the highest, and 0 for the others.

    Runs of numbered candidates of one level are lists, tables or a table of contents and count nothing; so do long runs
    of blocks in heading type.
    """
    usual = _usual_type(blocks)
    styles = [_style(block, usual) for block in blocks]
    found = [_numbered(block, style) for block, style in zip(blocks, styles, strict=True)]
    numbered = [
        level if style or level not in around else 0
        for level, style, around in zip(found, styles, _neighbours(found), strict=True)
    ]
    _drop_runs(styles, numbered)
    levels = _style_levels(blocks, styles, numbered)
    return [n or (levels[style] if style else 0) for n, style in zip(numbered, styles, strict=True)]


def _numbered(block: Styled, style: Style | None) -> int:
    """Return the level of a numbered heading; one in heading type may end with a full stop."""
    if block.is_row:
        return 0
    return heading_level(block.text.rstrip(".") if style else block.text)


def _neighbours(levels: Sequence[int]) -> list[tuple[int, int]]:
    padded = [0, *levels, 0]
    return list(zip(padded[:-2], padded[2:], strict=True))


def _usual_type(blocks: Sequence[Styled]) -> tuple[float, int]:
    """Return the size of most of the text, and the most emphasis that is common in it and so means nothing."""
    sizes: Counter[float] = Counter()
    emphases: Counter[int] = Counter()
    for block in blocks:
        sizes[_rounded(block.size)] += len(block.text)
        emphases[_emphasis(block)] += len(block.text)
    common = (e for e, chars in emphases.items() if chars > _COMMON_SHARE * emphases.total())
    return (sizes.most_common(1)[0][0] if sizes else 0.0), max(common, default=0)


def _rounded(size: float) -> float:
    return round(size * 2) / 2


def _emphasis(block: Styled) -> int:
    """Return 0 for plain text, 1 for bold, 2 for capitals, 3 for both."""
    return block.bold + 2 * block.text.isupper()


def _style(block: Styled, usual: tuple[float, int]) -> Style | None:
    """Return size and emphasis of a block that looks like a heading."""
    size, common = usual
    if block.is_row or not block.size or not 2 < len(block.text) <= _MAX_STYLED_CHARS or not _is_title(block.text):
        return None
    emphasis = _emphasis(block)
    if block.size >= _LARGER * size or (emphasis > common and block.size >= _SMALLEST * size):
        return (_rounded(block.size), emphasis)
    return None


def _is_title(text: str) -> bool:
    letters = sum(map(str.isalpha, text))
    if letters < 3 or 2 * letters < len(text) or text.endswith((";", ",", ":")):
        return False
    return (text[0].isalnum() and not text[0].islower()) or text[0] in '“"('


def _drop_runs(styles: list[Style | None], numbered: Sequence[int]) -> None:
    """Clear long runs of blocks in heading type."""
    start = 0
    for at in range(len(styles) + 1):
        if at < len(styles) and styles[at] is not None and not numbered[at]:
            continue
        if at - start > _MAX_RUN:
            styles[start:at] = [None] * (at - start)
        start = at + 1


def _style_levels(
    blocks: Sequence[Styled], styles: Sequence[Style | None], numbered: Sequence[int]
) -> dict[Style, int]:
    """Return the level of each heading type: below larger types, and below numbered headings of the same size."""
    levels: dict[Style, int] = {}
    above = 0
    counts = Counter(style for style in styles if style)
    for style in sorted(counts, reverse=True):
        over = [n for b, n in zip(blocks, numbered, strict=True) if n and _rounded(b.size) >= style[0]]
        usual = Counter(over).most_common(1)[0][0] if over else 0
        levels[style] = min(max(above, usual) + 1, _MAX_LEVEL)
        if counts[style] >= _MIN_USES:
            above = levels[style]
    return levels


def heading_level(line: str) -> int:
    """Return the level of a numbered heading such as `3.2 Water damage` or `Section 4 – Claims`, else 0."""
    if not 3 < len(line) < _MAX_NAMED_CHARS or re.search(r"\.{4}|(\. ){3}", line):
        return 0
    if re.search(r"[a-z)]\s+\d{1,3}$", line):  # a table of contents: the title and its page
        return 0
    if match := _NAMED.match(line):
        return _named_level(line, *match.groups())
    if len(line) >= _MAX_HEADING_CHARS or line.endswith(_SENTENCE_END):
        return 0
    if match := _NUMBERED.match(line):
        title = line[match.end() :]
        is_title = title[0].isupper() or not title[0].islower()
        return match.group(1).count(".") + 1 if is_title and not re.search(r"\d.*\d{3}|[%$€£]", title) else 0
    return 0


def _named_level(line: str, word: str, number: str, title: str) -> int:
    if not word[0].isupper() or (title and not (title[0].isupper() or title[0] in '"“(')):
        return 0
    if line.endswith(_SENTENCE_END) and title or len(line) >= _MAX_HEADING_CHARS and word.lower() != "item":
        return 0
    return 1 if word.lower() in _TOP_WORDS else number.count(".") + 2
