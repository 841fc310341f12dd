"""Answer and shown passages → citations whose quotes are verbatim in the document.

The model only names passage numbers; everything else is resolved and checked here. Knows no model.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

from doyen.chunking import SECTION_SEPARATOR, sentence_spans
from doyen.prompts import ParsedAnswer
from doyen.records import Chunk, Citation, Hit
from doyen.words import find, holds, telling_words, words

MAX_QUOTE = 300
_SUPPORT = 0.5
_MARKED_HEADING = re.compile(r"#{1,6}\s")  # CommonMark 0.31, section 4.2


def cite(
    answer: ParsedAnswer, question: str, hits: Sequence[Hit], text_of: Callable[[str], str]
) -> tuple[Citation, ...]:
    """Resolve the passages that the model named; where it named none, or one without the answer, find the supporting one.

    Where none is named and none has half of the answer's words, there is none. A citation whose quote is not at its offsets in
    `text_of(document)` is dropped.
    """
    if answer.refused or not hits:
        return ()
    chosen = [(hits[n - 1], False) for n in answer.cited if n <= len(hits)]
    holders = [hit for hit in hits if _holds(hit.chunk.text, answer.text)]
    if holders and not any(hit in holders for hit, _ in chosen):
        chosen = [(holders[0], True)]
    if not chosen:
        nearest = max(hits, key=lambda h: _overlap(h.chunk.text, answer.text, question))
        chosen = [(nearest, True)] if _supports(nearest.chunk.text, answer.text) else []
    citations = (_citation(hit, attributed, answer.text, question) for hit, attributed in chosen)
    return tuple(c for c in citations if text_of(c.document)[c.start : c.end] == c.quote)


def _holds(passage: str, answer: str) -> bool:
    """Whether a short factual answer stands word for word in the passage (yes and no stand nowhere)."""
    return not _is_verdict(answer) and holds(passage, answer)


def _supports(passage: str, answer: str) -> bool:
    """Whether the passage has half of the answer's telling words; a yes or no cannot be looked up."""
    return _is_verdict(answer) or _share(telling_words(answer), set(words(passage))) >= _SUPPORT


def _is_verdict(answer: str) -> bool:
    return words(answer)[:1] in (["yes"], ["no"], ["maybe"])


def _overlap(passage: str, answer: str, question: str) -> float:
    """Share of the answer's words (counted twice) and the question's words that the passage has."""
    have = set(words(passage))
    return 2 * _share(words(answer), have) + _share(words(question), have)


def _share(sought: Sequence[str], have: set[str]) -> float:
    return sum(w in have for w in sought) / len(sought) if sought else 0.0


def _citation(hit: Hit, attributed: bool, answer: str, question: str) -> Citation:
    chunk = hit.chunk
    start, end = _best_sentence(chunk, answer, question)
    page = chunk.page
    return Citation(
        document=chunk.document,
        page=page,
        section=chunk.section,
        start=chunk.start + start,
        end=chunk.start + end,
        quote=chunk.text[start:end],
        sha256=chunk.sha256,
        version=chunk.version,
        attributed=attributed,
    )


def _best_sentence(chunk: Chunk, answer: str, question: str) -> tuple[int, int]:
    """Return the span of the sentence that supports the answer best, at most MAX_QUOTE characters.

    A heading says what is spoken of, not what is so: it is quoted where it has the answer itself, or nothing else is there.
    """
    text = chunk.text
    headings = _headings(chunk)
    spans = sentence_spans(text)
    if not spans:
        return 0, min(len(text), MAX_QUOTE)

    def rank(span: tuple[int, int]) -> tuple[bool, bool, float]:
        sentence = text[span[0] : span[1]]
        found = words(sentence)
        told = bool(found) and found not in headings and not _MARKED_HEADING.match(sentence)
        return _holds(sentence, answer), told, _overlap(sentence, answer, question)

    start, end = max(spans, key=rank)
    if end - start <= MAX_QUOTE:
        return start, end
    at = find(text, answer, start, end)
    start = max(start, min(at - MAX_QUOTE // 3, end - MAX_QUOTE)) if at >= 0 else start
    return start, start + MAX_QUOTE


def _headings(chunk: Chunk) -> list[list[str]]:
    """The words of the title and the headings that a chunk stands under (and of a table's header that it repeats)."""
    parts = re.split(f"{SECTION_SEPARATOR}|\n", f"{chunk.context}\n{chunk.section or ''}")
    return [words(part) for part in parts if part.strip()]
