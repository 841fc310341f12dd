"""Text → ever finer pieces: paragraphs, lines, sentences, words; table rows; lines of code. Knows no sizes."""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Sequence

# The kinds of a piece, from coarse to fine; dividing a piece gives pieces of the next kind. A negative kind is a
# heading of that level.
BODY, PARAGRAPH, LINE, SENTENCE, SOFT_LINE, WORD = range(6)
RECORD, CODE_LINE, CODE, TABLE = WHOLE = range(6, 10)  # these may fill a chunk to the brim before they are divided

NONSPACE = re.compile(r"\S")
_BLANK_LINE = re.compile(r"\n[^\S\n]*\n\s*")
_SPACE = re.compile(r"\s+")
_NEWLINE = re.compile(r"\n")
_LINE_START = re.compile(r"\n[^\S\n]*(?=(\S?))")
_SENTENCE_END = re.compile(r"(?<![.!?।])[.!?।]+[\"'”’»)\]*_]*(?:\s+|$)|[。！？]+[”’」』）]*\s*")
_ABBREVIATION = re.compile(
    r"(?:\b(?:e\.g|i\.e|etc|no|nos|mr|mrs|ms|dr|prof|st|vs|cf|fig|figs|eq|sec|art|vol|pp|approx|ca|al|inc|corp|ltd|co"
    r"|jr|sr|u\.s|u\.k|u\.n|z\.b|d\.h|bzw|ggf|nr|abs|bspw|usw|sog|inkl|evtl|p\. ex|sra|srta|núm|pág"
    r"|jan|feb|mar|apr|jun|jul|aug|sep|sept|oct|nov|dec)|\b[^\W\d_]|(?:^|\n)[^\S\n]*(?:[-*] )?\d{1,3})\.$",
    re.IGNORECASE,
)

Span = tuple[int, int]
Piece = tuple[int, int, int]  # start, end, kind


def sentence_spans(text: str) -> list[Span]:
    """Return the `[start, end)` of a text's sentences, headings and rows, without the spaces between them."""
    spans: list[Span] = [(0, len(text))]
    for kind in (BODY, PARAGRAPH, LINE):
        spans = [(a, b) for start, end in spans for a, b, _ in divide(text, start, end, kind)]
    return [span for span in (strip_span(text, a, b) for a, b in spans) if span[0] < span[1]]


def divide(text: str, start: int, end: int, kind: int) -> list[Piece]:
    """Cut a piece into pieces of the next finer kind, in order and without gaps.

    The first two lines of a code block and the last two stay together, so that no fence stands alone. Words cannot be
    divided here: they are cut by size.
    """
    if kind in (CODE, RECORD):
        lines = [match.end() for match in _NEWLINE.finditer(text, start, end)]
        if kind == CODE:
            return _pieces(start, end, lines[1:-1], CODE_LINE)
        return _pieces(start, end, lines, RECORD) if lines else divide(text, start, end, LINE)
    if kind == CODE_LINE:
        kind = SOFT_LINE
    if kind < 0:
        kind = PARAGRAPH
    return _pieces(start, end, _CUTS[kind](text, start, end), kind + 1)


def divide_table(text: str, start: int, end: int, is_first: bool, records: Sequence[Span]) -> list[Piece]:
    """Cut a table into its rows: its lines, or the records in it, which may have several lines.

    Where this `is_first` of the table, what stands above the first record, or the header line (with Markdown's rule
    under it), stays with the row after it.
    """
    inside = [span for span in records if start <= span[0] < end]
    starts = [a for a, _ in inside]
    cuts = []
    for match in _NEWLINE.finditer(text, start, end):
        before = bisect_left(starts, match.end()) - 1
        if before < 0 or match.end() >= inside[before][1]:
            cuts.append(match.end())
    if is_first and inside:
        cuts = [cut for cut in cuts if cut > inside[0][0]]
    elif is_first and cuts:
        has_rule = len(cuts) > 1 and set(text[cuts[0] : cuts[1]].strip()) <= set("|-: ")
        cuts = cuts[2 if has_rule else 1 :]
    return _pieces(start, end, cuts, RECORD)


def _pieces(start: int, end: int, cuts: Iterable[int], kind: int) -> list[Piece]:
    places = [start, *(cut for cut in cuts if start < cut < end), end]
    return [(a, b, kind) for a, b in zip(places, places[1:], strict=False)]


def _line_cuts(text: str, start: int, end: int) -> Iterator[int]:
    """Yield line starts, except those in lower case: there a hard-wrapped sentence goes on."""
    for match in _LINE_START.finditer(text, start, end):
        if not match.group(1).islower():
            yield match.start() + 1


def _sentence_cuts(text: str, start: int, end: int) -> Iterator[int]:
    """Yield sentence starts; a full stop after an abbreviation or before lower case ends no sentence."""
    for match in _SENTENCE_END.finditer(text, start, end):
        following = text[match.end() : match.end() + 1]
        if match.group().startswith("."):
            before = text[max(start, match.start() - 12) : match.start() + 1]
            if following.islower() or _ABBREVIATION.search(before):
                continue
        yield match.end()


def _pattern_cuts(pattern: re.Pattern[str]) -> Callable[[str, int, int], Iterator[int]]:
    return lambda text, start, end: (match.end() for match in pattern.finditer(text, start, end))


_CUTS: dict[int, Callable[[str, int, int], Iterator[int]]] = {
    BODY: _pattern_cuts(_BLANK_LINE),
    PARAGRAPH: _line_cuts,
    LINE: _sentence_cuts,
    SENTENCE: _pattern_cuts(_NEWLINE),
    SOFT_LINE: _pattern_cuts(_SPACE),
}


def strip_span(text: str, start: int, end: int) -> Span:
    """Move both ends inwards over whitespace."""
    found = NONSPACE.search(text, start, end)
    if found is None:
        return end, end
    while text[end - 1].isspace():
        end -= 1
    return found.start(), end
