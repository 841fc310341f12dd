"""Document → Chunks: passages that follow the document's structure, with a context, within the embedder's limit.

Knows the embedder's tokenizer only as a `TokenCounter`; no vectors and no store.
"""

from __future__ import annotations

from collections.abc import Iterator

from doyen.chunking.dividing import Span, strip_span
from doyen.chunking.outline import Outline, regions
from doyen.chunking.packing import Limits, Ruler, pack
from doyen.embedding.tokens import TokenCounter
from doyen.records import Chunk, Document

SECTION_SEPARATOR = " › "
MAX_CONTEXT_TOKENS = 64
_LEAST_CONTEXT_SHARE = 8  # 1/8 of the embedder's limit is kept for the context, whatever `max_tokens` says
_MOST_HEADER_SHARE = 4
_WHOLE_FACTOR = 4  # a row or code block may be this many times `max_tokens` where the embedder reads it


def chunk_document(document: Document, counter: TokenCounter, *, max_tokens: int = 200) -> list[Chunk]:
    """Cut a document into chunks of at most `max_tokens` that the embedder reads whole, together with their context.

    Chunks keep to one page and break at headings, blank lines, line ends, sentence ends and spaces, in this order;
    they do not overlap. A table row or code block alone may be longer, up to what the embedder reads; only beyond that
    is it cut. A chunk that begins within a table repeats the table's header in its context.
    """
    if max_tokens < 1:
        raise ValueError(f"max_tokens is {max_tokens}, expected at least 1")
    return _Cutter(document, counter, max_tokens).chunks()


class _Cutter:
    """One document being cut: its outline, its sizes, and the contexts made so far."""

    def __init__(self, document: Document, counter: TokenCounter, max_tokens: int) -> None:
        self.document = document
        self.counter = counter
        self.outline = Outline(document)
        readable = counter.limit - counter.special - 1  # one for the line end between context and text
        least = counter.limit // _LEAST_CONTEXT_SHARE
        self.context_tokens = min(MAX_CONTEXT_TOKENS, max(readable - max_tokens, least))
        whole = max(min(readable - self.context_tokens, _WHOLE_FACTOR * max_tokens), 1)
        self.limits = Limits(min(max_tokens, whole), whole, self._limit_at)
        self._contexts: dict[tuple[str, ...], str] = {}
        self._headers: dict[str, tuple[str, int]] = {}

    def chunks(self) -> list[Chunk]:
        ruler = Ruler(self.document.text, self.counter)
        found: list[Chunk] = []
        for start, end, page in regions(self.document):
            for span in pack(self.outline, ruler, (start, end), self.limits):
                found += self._fitted(span, page)
        return found

    def _limit_at(self, start: int) -> int:
        header = self.outline.header(start)
        if not header:
            return self.limits.filled
        return max(1, min(self.limits.filled, self.limits.whole - self._header(header)[1] - 1))

    def _header(self, header: str) -> tuple[str, int]:
        """Return a table's header, clipped, and its tokens."""
        if header not in self._headers:
            clipped = clip_tokens(header, self.counter, self.counter.limit // _MOST_HEADER_SHARE)
            self._headers[header] = clipped, self.counter.count(clipped)
        return self._headers[header]

    def _fitted(self, span: Span, page: int | None) -> Iterator[Chunk]:
        """Yield the chunk, or parts of it where it is longer by itself than within the whole text.

        A tokenizer may make more tokens of a part than of the whole: where a word was cut, or was unknown and isn't.
        """
        header = self._header(self.outline.header(span[0]))[0]
        chunk = self._chunk(span, page, header)
        excess = self._excess(chunk)
        while excess > 0 and header:
            kept = self.counter.count(header) - excess
            header = clip_tokens(header, self.counter, kept) if kept > 0 else ""
            chunk = self._chunk(span, page, header)
            excess = self._excess(chunk)
        if excess <= 0:
            yield chunk
            return
        if span[1] - span[0] < 2:
            yield self._chunk(span, page, header, with_context=False)
            return
        for part in self._divided(span, excess):
            yield from self._fitted(part, page)

    def _divided(self, span: Span, excess: int) -> list[Span]:
        ruler = Ruler(self.document.text[span[0] : span[1]], self.counter, span[0])
        limit = max(1, ruler.tokens(*span) - excess)
        spans = pack(self.outline, ruler, span, Limits(limit, limit, lambda _: limit))
        if len(spans) > 1:
            return spans
        middle = (span[0] + span[1]) // 2
        halves = (strip_span(self.document.text, *half) for half in ((span[0], middle), (middle, span[1])))
        return [half for half in halves if half[0] < half[1]]

    def _excess(self, chunk: Chunk) -> int:
        return self.counter.count(chunk.indexed) + self.counter.special - self.counter.limit

    def _chunk(self, span: Span, page: int | None, header: str, *, with_context: bool = True) -> Chunk:
        start, end = span
        document = self.document
        path = self.outline.section(start, end)
        context = "\n".join(filter(None, (self._context(path), header))) if with_context else ""
        return Chunk(
            document=document.id,
            start=start,
            end=end,
            text=document.text[start:end],
            context=context,
            pages=() if page is None else (page,),
            section=SECTION_SEPARATOR.join(path) or None,
            record=self.outline.record(start, end),
            sha256=document.sha256,
            version=document.version,
            language=document.language,
            labels=document.labels,
        )

    def _context(self, path: tuple[str, ...]) -> str:
        """Join title and section; where that is too long the middle of the path goes first."""
        if path not in self._contexts:
            parts = [self.document.title, *path]
            limit = self.context_tokens
            while len(parts) > 2 and self.counter.count(SECTION_SEPARATOR.join(parts)) > limit:
                del parts[1]
            if len(parts) > 1:
                parts[0] = clip_tokens(parts[0], self.counter, limit // 2)
            joined = SECTION_SEPARATOR.join(filter(None, parts))
            self._contexts[path] = clip_tokens(joined, self.counter, limit)
        return self._contexts[path]


def clip_tokens(text: str, counter: TokenCounter, limit: int) -> str:
    """Cut a text after its first `limit` tokens."""
    starts = counter.starts(text)
    return text[: starts[limit]].rstrip() if len(starts) > limit else text
