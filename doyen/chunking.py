"""Document → Chunks: passages that follow the document's structure and never exceed a size.

Knows no tokenizer (sizes are estimated from bytes), no embedding and no store.
"""

from __future__ import annotations

import re
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from doyen.records import Chunk, Document

BYTES_PER_TOKEN = 4
SECTION_SEPARATOR = " › "
MAX_CONTEXT_CHARS = 200
_NEW_SECTION_SHARE = 0.25  # a heading starts a new chunk once the current one is that full
_TINY_SHARE = 0.1
_TOP_LEVEL = 2  # headings up to this level always start a new chunk

# The kinds of a piece, from coarse to fine; dividing a piece gives pieces of the next kind. A negative kind is a
# heading of that level.
_BODY, _PARAGRAPH, _LINE, _SENTENCE, _SOFT_LINE, _WORD = range(6)
_RECORD = 6

_NONSPACE = re.compile(r"\S")
_BLANK_LINE = re.compile(r"\n[^\S\n]*\n\s*")
_SPACE = re.compile(r"\s+")
_LINE_START = re.compile(r"\n[^\S\n]*(?=(\S?))")
_SENTENCE_END = re.compile(r"(?<![.!?।])[.!?।]+[\"'”’»)\]*_]*(?:\s+|$)|[。！？]+[”’」』）]*\s*")
_SETEXT = re.compile(r"\n {0,3}(?:=+|-+)[ \t]*(?=\n|\Z)")
_ABBREVIATION = re.compile(
    r"(?:\b(?:e\.g|i\.e|etc|no|nos|mr|mrs|ms|dr|prof|st|vs|cf|fig|figs|eq|sec|art|vol|pp|approx|ca|al|inc|corp|ltd|co"
    r"|jr|sr|u\.s|u\.k|u\.n|z\.b|d\.h|bzw|ggf|nr|abs|bspw|usw|sog|inkl|evtl|p\. ex|sra|srta|núm|pág"
    r"|jan|feb|mar|apr|jun|jul|aug|sep|sept|oct|nov|dec)|\b[^\W\d_]|(?:^|\n)[^\S\n]*(?:[-*] )?\d{1,3})\.$",
    re.IGNORECASE,
)

Span = tuple[int, int]
Piece = tuple[int, int, int]  # start, end, kind


def estimate_tokens(text: str) -> int:
    """Estimate the tokens of a text without a tokenizer: UTF-8 bytes / 4, rounded up.

    English has about 4 bytes a token; a character of a 3-byte script (Chinese, Hindi) counts 3/4 token.
    """
    return -(-_size(text) // BYTES_PER_TOKEN)


def chunk_document(document: Document, *, max_tokens: int = 200) -> list[Chunk]:
    """Cut a document into chunks of at most `max_tokens` by `estimate_tokens`.

    Chunks keep to one page, whole table rows, and headings together with their text; they break at headings, blank
    lines, line ends, sentence ends and spaces, in this order, and do not overlap.
    """
    if max_tokens < 1:
        raise ValueError(f"max_tokens is {max_tokens}, expected at least 1")
    limit = max_tokens * BYTES_PER_TOKEN
    outline = _Outline(document)
    chunks: list[Chunk] = []
    for start, end, page in _regions(document):
        spans = _pack(document.text, outline.pieces(start, end), limit)
        spans = _merge_tiny_tail(document.text, spans, limit)
        chunks += [outline.chunk(span, page) for span in spans]
    return chunks


def sentence_spans(text: str) -> list[Span]:
    """Return the `[start, end)` of a text's sentences, headings and rows, without the spaces between them."""
    spans: list[Span] = [(0, len(text))]
    for kind in (_BODY, _PARAGRAPH, _LINE):
        spans = [(a, b) for start, end in spans for a, b, _ in _divide(text, start, end, kind)]
    return [span for span in (_strip(text, a, b) for a, b in spans) if span[0] < span[1]]


def _regions(document: Document) -> Iterator[tuple[int, int, int | None]]:
    """Yield the spans that no chunk may leave, with their page numbers; text between pages has none."""
    position = 0
    for page in document.pages:
        start, end = max(position, page.start), min(page.end, len(document.text))
        if position < start:
            yield position, start, None
        if start < end:
            yield start, end, page.number
        position = max(position, end)
    if position < len(document.text):
        yield position, len(document.text), None


class _Outline:
    """The document's headings and rows as marks in its text, and the section path of every heading."""

    def __init__(self, document: Document) -> None:
        self.document = document
        self.marks = _marks(document)
        self.starts = [mark[0] for mark in self.marks]
        self.paths = self._paths()
        self.heading_starts = [start for start, _ in self.paths]
        self.record_starts = [record.start for record in document.records]

    def _paths(self) -> list[tuple[int, tuple[str, ...]]]:
        """Return every heading's start with the titles of the headings in force there, itself the last."""
        paths: list[tuple[int, tuple[str, ...]]] = []
        open_: list[tuple[int, str]] = []
        title = self.document.title.casefold().split()
        for heading in sorted(self.document.headings, key=lambda h: h.start):
            while open_ and open_[-1][0] >= heading.level:
                open_.pop()
            open_.append((heading.level, heading.title))
            paths.append((heading.start, tuple(t for _, t in open_ if t and t.casefold().split() != title)))
        return paths

    def pieces(self, start: int, end: int) -> list[Piece]:
        """Return the headings, rows and bodies between them in `[start, end)`, in order and without gaps."""
        pieces: list[Piece] = []
        position = start
        first = max(bisect_right(self.starts, start) - 1, 0)
        for mark_start, mark_end, kind in self.marks[first : bisect_left(self.starts, end)]:
            mark_start, mark_end = max(mark_start, position), min(mark_end, end)
            if mark_start >= mark_end:
                continue
            pieces += [(position, mark_start, _BODY), (mark_start, mark_end, kind)]
            position = mark_end
        return [*pieces, (position, end, _BODY)]

    def chunk(self, span: Span, page: int | None) -> Chunk:
        start, end = span
        document = self.document
        path = self._section(start, end)
        return Chunk(
            document=document.id,
            start=start,
            end=end,
            text=document.text[start:end],
            context=_context(document.title, path),
            pages=() if page is None else (page,),
            section=SECTION_SEPARATOR.join(path) or None,
            record=self._record(start, end),
            sha256=document.sha256,
            version=document.version,
            language=document.language,
            labels=document.labels,
        )

    def _section(self, start: int, end: int) -> tuple[str, ...]:
        """Return the headings in force at the first text that is no heading itself."""
        position = start
        index = bisect_left(self.starts, position)
        while index < len(self.marks) and self.marks[index][0] == position and self.marks[index][2] < 0:
            found = _NONSPACE.search(self.document.text, self.marks[index][1], end)
            if found is None:
                break
            position, index = found.start(), index + 1
        at = bisect_right(self.heading_starts, position) - 1
        return self.paths[at][1] if at >= 0 else ()

    def _record(self, start: int, end: int) -> str | None:
        """Return the key of the row in the span, or `first-last` of several."""
        records = self.document.records
        first = max(bisect_right(self.record_starts, start) - 1, 0)
        last = bisect_left(self.record_starts, end)
        keys = [record.key for record in records[first:last] if record.end > start]
        if not keys:
            return None
        return keys[0] if len(keys) == 1 else f"{keys[0]}-{keys[-1]}"


def _marks(document: Document) -> list[Piece]:
    """Return rows and heading lines in order; a heading inside a row is part of the row."""
    text = document.text
    marks: list[Piece] = [(r.start, min(r.end, len(text)), _RECORD) for r in document.records]
    for heading in document.headings:
        end = text.find("\n", heading.start)
        end = len(text) if end < 0 else end
        underline = _SETEXT.match(text, end)
        marks.append((heading.start, underline.end() if underline else end, -max(heading.level, 1)))
    marks.sort(key=lambda mark: (mark[0], -mark[2]))
    kept: list[Piece] = []
    for mark in marks:
        if mark[0] < mark[1] and (not kept or mark[0] >= kept[-1][1]):
            kept.append(mark)
    return kept


@dataclass(slots=True)
class _Open:
    """The chunk being filled; `tail` is where its trailing headings begin, -1 if it ends with text."""

    text: str
    limit: int
    spans: list[Span] = field(default_factory=list)
    start: int = 0
    end: int = 0
    size: int = 0
    tail: int = -1

    @property
    def is_heading_only(self) -> bool:
        return self.size > 0 and self.tail == self.start

    def room(self, start: int) -> int:
        """Return the bytes left for a piece at `start`, after the gap before it."""
        return self.limit - self.size - (_size(self.text[self.end : start]) if self.size else 0)

    def add(self, start: int, end: int, size: int, is_heading: bool) -> None:
        if not self.size:
            self.start = start
            self.size = size
        else:
            self.size = self.limit - self.room(start) + size
        self.end = end
        if not is_heading:
            self.tail = -1
        elif self.tail < 0:
            self.tail = start
        if self.tail >= 0 and _size(self.text[self.tail : end]) > self.limit // 2:
            self.tail = -1  # headings this long stand by themselves

    def close(self) -> None:
        """Emit what is open; trailing headings after text stay open for the text that they announce."""
        if self.size and self.tail > self.start:
            self.spans.append(_strip(self.text, self.start, self.tail))
            self.start, self.size = self.tail, _size(self.text[self.tail : self.end])
        elif self.size:
            self.spans.append((self.start, self.end))
            self.start, self.size, self.tail = self.end, 0, -1


def _pack(text: str, pieces: Sequence[Piece], limit: int) -> list[Span]:
    """Fill chunks greedily; a piece that does not fit starts the next chunk, or is divided if it must be."""
    open_ = _Open(text, limit)
    stack = list(reversed(pieces))
    while stack:
        start, end, kind = stack.pop()
        start, end = _strip(text, start, end)
        if start >= end:
            continue
        size = _size(text[start:end])
        if kind < 0 and _opens_chunk(open_, -kind):
            open_.close()
        room = open_.room(start)
        if size <= room:
            open_.add(start, end, size, kind < 0)
        elif _must_divide(open_, kind, size):
            stack += reversed(_divide(text, start, end, kind, room, limit))
        else:
            open_.close()
            stack.append((start, end, kind))
    open_.tail = -1
    open_.close()
    return open_.spans


def _opens_chunk(open_: _Open, level: int) -> bool:
    if not open_.size or open_.is_heading_only:
        return False
    return level <= _TOP_LEVEL or open_.size >= _NEW_SECTION_SHARE * open_.limit


def _must_divide(open_: _Open, kind: int, size: int) -> bool:
    """Decide about a piece that does not fit: divide it to fill the chunk, or close the chunk first."""
    if not open_.size:
        return True
    if kind in (_RECORD, _WORD) or kind < 0:
        return open_.is_heading_only and size > open_.limit
    nearly_empty = open_.size < _NEW_SECTION_SHARE * open_.limit and kind < _SENTENCE
    return size > open_.limit or open_.is_heading_only or (nearly_empty and open_.tail < 0)


def _divide(text: str, start: int, end: int, kind: int, room: int = 0, limit: int = 0) -> list[Piece]:
    """Cut a piece into pieces of the next finer kind; a word is cut after `room` bytes, then every `limit` bytes."""
    if kind == _WORD:
        return [(a, b, _WORD) for a, b in _hard_cuts(text, start, end, room, limit)]
    if kind == _RECORD or kind < 0:
        kind = _PARAGRAPH
    cuts = [start, *(cut for cut in _CUTS[kind](text, start, end) if start < cut < end), end]
    return [(a, b, kind + 1) for a, b in zip(cuts, cuts[1:], strict=False)]


def _hard_cuts(text: str, start: int, end: int, room: int, limit: int) -> Iterator[Span]:
    while start < end:
        window = text[start : min(start + max(room, 1), end)].encode("utf-8", "replace")
        cut = start + max(1, len(window[: max(room, 0)].decode("utf-8", "ignore")))
        yield start, cut
        start, room = cut, limit


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
    _BODY: _pattern_cuts(_BLANK_LINE),
    _PARAGRAPH: _line_cuts,
    _LINE: _sentence_cuts,
    _SENTENCE: _pattern_cuts(re.compile(r"\n")),
    _SOFT_LINE: _pattern_cuts(_SPACE),
}


def _merge_tiny_tail(text: str, spans: list[Span], limit: int) -> list[Span]:
    """Merge a tiny last chunk of a page into the one before it where both fit into one."""
    if len(spans) < 2 or _size(text[spans[-1][0] : spans[-1][1]]) >= _TINY_SHARE * limit:
        return spans
    merged = (spans[-2][0], spans[-1][1])
    return [*spans[:-2], merged] if _size(text[merged[0] : merged[1]]) <= limit else spans


def _context(title: str, path: tuple[str, ...]) -> str:
    """Join title and section; where that is too long the middle of the path goes first."""
    parts = [title, *path]
    while len(parts) > 2 and len(SECTION_SEPARATOR.join(parts)) > MAX_CONTEXT_CHARS:
        del parts[1]
    if len(parts) > 1:
        parts[0] = parts[0][: MAX_CONTEXT_CHARS // 2]
    return SECTION_SEPARATOR.join(filter(None, parts))[:MAX_CONTEXT_CHARS].rstrip()


def _size(text: str) -> int:
    return len(text) if text.isascii() else len(text.encode("utf-8", "replace"))


def _strip(text: str, start: int, end: int) -> Span:
    """Move both ends inwards over whitespace."""
    found = _NONSPACE.search(text, start, end)
    if found is None:
        return end, end
    while text[end - 1].isspace():
        end -= 1
    return found.start(), end
