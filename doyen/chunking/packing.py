"""Pieces → spans: fills each chunk up to a size and divides what does not fit. Sizes are tokens of the whole text.

Knows no headers and no contexts, only how many tokens they leave for the text of a chunk.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import chain

from doyen.chunking.dividing import (
    RECORD,
    SENTENCE,
    TABLE,
    WHOLE,
    WORD,
    Piece,
    Span,
    divide,
    divide_table,
    strip_span,
)
from doyen.chunking.outline import Outline
from doyen.embedding.tokens import TokenCounter

_NEW_SECTION_SHARE = 0.25  # a heading starts a new chunk once the current one is that full
_TINY_SHARE = 0.1
_TOP_LEVEL = 2  # headings up to this level always start a new chunk
_LONGEST_TOKEN_CHARS = 32
_CHARS_PER_UNKNOWN = 8


class Ruler:
    """Sizes of spans of one text, which was tokenised once as a whole."""

    def __init__(self, text: str, counter: TokenCounter, offset: int = 0) -> None:
        """Measure `text`, which begins at character `offset` of the document."""
        self.offset = offset
        self.starts = _bounded(counter.starts(text), len(text))

    def tokens(self, start: int, end: int) -> int:
        """Return how many tokens begin in `[start, end)`."""
        return bisect_left(self.starts, end - self.offset) - bisect_left(self.starts, start - self.offset)

    def cuts(self, start: int, end: int, room: int, limit: int) -> Iterator[Span]:
        """Cut a word after `room` tokens, then every `limit` tokens."""
        while start < end:
            at = bisect_left(self.starts, start - self.offset) + max(room, 1)
            cut = min(self.offset + self.starts[at], end) if at < len(self.starts) else end
            cut = max(cut, start + 1)
            yield start, cut
            start, room = cut, limit


def _bounded(starts: Sequence[int], length: int) -> Sequence[int]:
    """Add places where a token is too long to be one: to BERT, a word of 100,000 letters is a single unknown token.

    So a chunk is never longer than 32 characters a token, whatever a tokenizer makes of it.
    """
    if isinstance(starts, range) or length <= _LONGEST_TOKEN_CHARS:
        return starts
    bounded = array("I")
    last = 0
    for start in chain(starts, (length,)):
        if start - last > _LONGEST_TOKEN_CHARS:
            bounded.extend(range(last + _CHARS_PER_UNKNOWN, start, _CHARS_PER_UNKNOWN))
        bounded.append(start)
        last = start
    bounded.pop()
    return bounded


@dataclass(frozen=True, slots=True)
class Limits:
    """The sizes of a chunk's text: what it is filled up to, and what a row or code block alone may have."""

    filled: int
    whole: int
    at: Callable[[int], int]
    """The tokens that a chunk from this character on is filled up to: less where a table's header is repeated."""


@dataclass(slots=True)
class _Open:
    """The chunk being filled; `tail` is where its trailing headings begin, -1 if it ends with text."""

    text: str
    ruler: Ruler
    limits: Limits
    spans: list[Span] = field(default_factory=list)
    start: int = -1
    end: int = -1
    tail: int = -1

    @property
    def is_empty(self) -> bool:
        return self.start < 0

    @property
    def is_heading_only(self) -> bool:
        return not self.is_empty and self.tail == self.start

    @property
    def size(self) -> int:
        return 0 if self.is_empty else self.ruler.tokens(self.start, self.end)

    def limit(self, start: int) -> int:
        return self.limits.at(start if self.is_empty else self.start)

    def used(self, start: int) -> int:
        """Return the tokens before a piece at `start`."""
        return 0 if self.is_empty else self.ruler.tokens(self.start, start)

    def add(self, start: int, end: int, is_heading: bool) -> None:
        if self.is_empty:
            self.start = start
        self.end = end
        if not is_heading:
            self.tail = -1
        elif self.tail < 0:
            self.tail = start
        if self.tail >= 0 and self.ruler.tokens(self.tail, end) > self.limits.filled // 2:
            self.tail = -1  # headings this long stand by themselves

    def close(self) -> None:
        """Emit what is open; trailing headings after text stay open for the text that they announce."""
        if self.is_empty:
            return
        if self.tail > self.start:
            self.spans.append(strip_span(self.text, self.start, self.tail))
            self.start = self.tail
        else:
            self.spans.append((self.start, self.end))
            self.start = self.end = self.tail = -1


def pack(outline: Outline, ruler: Ruler, span: Span, limits: Limits) -> list[Span]:
    """Fill chunks greedily; a piece that does not fit starts the next chunk, or is divided if it must be."""
    text = outline.document.text
    open_ = _Open(text, ruler, limits)
    stack = list(reversed(outline.pieces(*span)))
    while stack:
        start, end, kind = stack.pop()
        start, end = strip_span(text, start, end)
        if start >= end:
            continue
        if kind < 0 and _opens_chunk(open_, -kind):
            open_.close()
        size, used, limit = ruler.tokens(start, end), open_.used(start), open_.limit(start)
        alone = kind in WHOLE and (open_.is_empty or open_.is_heading_only)
        if used + size <= (max(limit, limits.whole) if alone else limit):
            open_.add(start, end, kind < 0)
        elif _must_divide(open_, kind, size, limits):
            stack += reversed(_divide(outline, ruler, (start, end, kind), limit - used, limits))
        else:
            open_.close()
            stack.append((start, end, kind))
    open_.tail = -1
    open_.close()
    return _merge_tiny_tail(open_, limits)


def _opens_chunk(open_: _Open, level: int) -> bool:
    if open_.is_empty or open_.is_heading_only:
        return False
    return level <= _TOP_LEVEL or open_.size >= _NEW_SECTION_SHARE * open_.limits.filled


def _must_divide(open_: _Open, kind: int, size: int, limits: Limits) -> bool:
    """Decide about a piece that does not fit: divide it to fill the chunk, or close the chunk first."""
    if open_.is_empty:
        return True
    if kind in (RECORD, WORD) or kind < 0:
        return open_.is_heading_only and size > limits.whole
    if size > limits.whole:
        return True
    if kind in WHOLE:
        return kind == TABLE and open_.is_heading_only
    nearly_empty = open_.size < _NEW_SECTION_SHARE * limits.filled and kind < SENTENCE
    return size > limits.filled or open_.is_heading_only or (nearly_empty and open_.tail < 0)


def _divide(outline: Outline, ruler: Ruler, piece: Piece, room: int, limits: Limits) -> list[Piece]:
    """Cut a piece into finer ones; a word after `room` tokens."""
    start, end, kind = piece
    if kind == WORD:
        return [(a, b, WORD) for a, b in ruler.cuts(start, end, room, limits.at(start))]
    if kind == TABLE:
        table = outline.table(start)
        return divide_table(outline.document.text, start, end, table is None or start <= table.start, outline.records)
    return divide(outline.document.text, start, end, kind)


def _merge_tiny_tail(open_: _Open, limits: Limits) -> list[Span]:
    """Merge a tiny last chunk of a page into the one before it where both fit into one."""
    spans = open_.spans
    if len(spans) < 2 or open_.ruler.tokens(*spans[-1]) >= _TINY_SHARE * limits.filled:
        return spans
    merged = (spans[-2][0], spans[-1][1])
    return [*spans[:-2], merged] if open_.ruler.tokens(*merged) <= limits.at(merged[0]) else spans
