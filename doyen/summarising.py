"""Document → extractive summaries: its own most central sentences, of the whole and of large sections.

Enters: a document with its chunks. Leaves: for each summary the places of its sentences, in reading order, so that each
is verbatim in the document, and what is embedded of it. Knows no embedder, no store, and the words of no language.

Sentences are weighed by the words that they share with the rest (a centroid, after Radev et al. 2004, Information Processing
& Management 40(6)), those at the beginning count more, and words that are told already count less (SumBasic, Nenkova &
Vanderwende 2005, MSR-TR-2005-101).
"""

from __future__ import annotations

import math
import re
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

from doyen.chunking.dividing import BODY, LINE, PARAGRAPH, Span, divide, strip_span
from doyen.chunking.outline import Outline
from doyen.records import Chunk, Document, Summary, indexed_text
from doyen.words import clip, length_of, words

MOST_WORDS = 80
"""Of a summary, as `length_of` counts them."""
_LEAST_WORDS, _MOST_OF_ONE = 5, 60
_MOST_SENTENCES = 6
_OWN_VECTOR_CHUNKS = 4
"""From here on, the summary of a document is embedded; before, and for sections, the passage nearest to it stands for it,
which is embedded anyway: so a summary never costs much of what its document costs."""
_LONG_CHUNKS = 20
"""From here on, a document has summaries of sections."""
_SECTION_CHUNKS = 5
_CHUNKS_A_SECTION = 10
_READ_CHARACTERS = 100_000
"""Of a document or section: its beginning says what it is about."""
_IDEOGRAPH = "\u3040"  # from here on, a word of doyen.words is a single character
_SHORTEST_TELLING = 3
_LEAST_LETTERS = 0.6
_UNFINISHED, _LEAD, _TITLE = 0.3, 1.0, 2.0
_REPEATED_WORD = 0.2
_ENDS = re.compile(r"[.!?।。！？…][\"'”’»)\]*_」』）]*\Z")
_NO_SENTENCE = re.compile(
    r"\A[|#<!`>~{}\[\]]|\|.*\||\t|\.{4,}|(?:\. ){4,}|[:：]\Z|\A\W*https?://\S+\W*\Z|©|\(c\) \d{4}"
)


@dataclass(frozen=True, slots=True)
class _Sentence:
    start: int
    end: int
    terms: frozenset[str]
    length: float
    finished: bool


def summarise(document: Document, chunks: Sequence[Chunk]) -> list[Summary]:
    """Return the summary of a document, then those of its large sections if it is long; none of an empty document.

    Table rows, code, headings, contents and lines that repeat are left out. What has no sentences (a table, a list of
    names) is summarised by its first line.
    """
    if not chunks:
        return []
    outline = Outline(document)
    places = [chunk.start for chunk in chunks]
    title = _terms(words(document.title))
    whole = _summary(document, outline, (0, len(document.text)), None, title)
    if len(chunks) >= _OWN_VECTOR_CHUNKS:
        whole = replace(whole, indexed=indexed_text(document.title, whole.text))
    found = [whole] + [
        _summary(document, outline, span, heading, title | _terms(words(heading)))
        for heading, span in _sections(document, places)
    ]
    return [s if s.indexed else replace(s, indexed=_nearest_chunk(s, chunks).indexed) for s in found if s.spans]


def _nearest_chunk(summary: Summary, chunks: Sequence[Chunk]) -> Chunk:
    """Return the chunk that holds most of a summary's sentences, the first of several."""
    counts = [sum(a < chunk.end and b > chunk.start for a, b in summary.spans) for chunk in chunks]
    return chunks[counts.index(max(counts))]


def _sections(document: Document, places: Sequence[int]) -> Iterator[tuple[str, Span]]:
    """Yield heading and span of the large sections of a long document, by its highest level with several headings."""
    if len(places) < _LONG_CHUNKS:
        return
    levels = Counter(heading.level for heading in document.headings)
    level = min((n for n, count in levels.items() if count > 1), default=0)
    if not level:
        return
    highest = sorted((h for h in document.headings if 0 < h.level <= level), key=lambda h: h.start)
    ends = [h.start for h in highest[1:]] + [len(document.text)]
    sized = [
        (bisect_left(places, end) - bisect_left(places, h.start), h.title, (h.start, end))
        for h, end in zip(highest, ends, strict=True)
        if h.level == level and h.title
    ]
    large = sorted((s for s in sized if s[0] >= _SECTION_CHUNKS), reverse=True)[: len(places) // _CHUNKS_A_SECTION]
    yield from ((title, span) for _, title, span in sorted(large, key=lambda s: s[2]))


def _summary(document: Document, outline: Outline, span: Span, section: str | None, title: frozenset[str]) -> Summary:
    end = min(span[1], span[0] + _READ_CHARACTERS)
    sentences = _sentences(document.text, outline, (span[0], end))
    chosen = _chosen(sentences, title)
    spans = tuple(sorted((s.start, s.end) for s in chosen)) or _first_line(document.text, outline, (span[0], end))
    return Summary(document.id, section, span[0], span[1], Summary.joined(document.text, spans), spans)


def _sentences(text: str, outline: Outline, span: Span) -> list[_Sentence]:
    """Return the sentences that may stand in a summary, each text once."""
    found: list[_Sentence] = []
    seen: set[str] = set()
    for start, end in _prose(text, outline, span):
        sentence = text[start:end]
        if sentence in seen or _NO_SENTENCE.search(sentence):
            continue
        seen.add(sentence)
        own = words(sentence)
        length = length_of(own)
        letters = sum(map(len, own))
        if not _LEAST_WORDS <= length <= _MOST_OF_ONE or letters < _LEAST_LETTERS * len(sentence):
            continue
        if sum(map(str.isdecimal, own)) > len(own) / 3:
            continue
        found.append(_Sentence(start, end, _terms(own), length, _ENDS.search(sentence) is not None))
    return found


def _prose(text: str, outline: Outline, span: Span) -> Iterator[Span]:
    for start, end, kind in outline.pieces(*span):
        pieces = [(start, end)] if kind == BODY else []
        for finer in (BODY, PARAGRAPH, LINE):
            pieces = [(a, b) for piece in pieces for a, b, _ in divide(text, *piece, finer)]
        yield from (s for s in (strip_span(text, *piece) for piece in pieces) if s[0] < s[1])


def _terms(found: Sequence[str]) -> frozenset[str]:
    """Return what sentences are compared by: words of three letters or more, pairs of ideographs."""
    pairs = {a + b for a, b in pairwise(found) if a >= _IDEOGRAPH and b >= _IDEOGRAPH}
    return frozenset(pairs.union(w for w in found if w < _IDEOGRAPH and len(w) >= _SHORTEST_TELLING))


def _chosen(sentences: Sequence[_Sentence], title: frozenset[str]) -> list[_Sentence]:
    """Return the most central sentences, one after the other, none of which repeats the others."""
    counts = Counter(term for s in sentences for term in s.terms)
    total = len(sentences) + 1
    # A word of nearly every sentence says as little as one that stands once.
    weights = {t: n * math.log(total / n) * (_TITLE if t in title else 1.0) for t, n in counts.items() if n > 1}
    bases = [
        (1.0 if s.finished else _UNFINISHED) * (1.0 + _LEAD / (1 + place)) / math.sqrt(s.length)
        for place, s in enumerate(sentences)
    ]
    left = dict(enumerate(sentences))
    chosen: list[_Sentence] = []
    room = float(MOST_WORDS)
    while left and len(chosen) < _MOST_SENTENCES:
        best = max(left, key=lambda i: (bases[i] * (1e-6 + sum(weights.get(t, 0.0) for t in left[i].terms)), -i))
        one = left.pop(best)
        chosen.append(one)
        room -= one.length
        for term in one.terms & weights.keys():
            weights[term] *= _REPEATED_WORD
        left = {i: s for i, s in left.items() if s.length <= room}
    return chosen


def _first_line(text: str, outline: Outline, span: Span) -> tuple[Span, ...]:
    """Return the beginning of the first line that is no heading; of the first line, if there are only headings."""
    for headings in (False, True):
        for start, end, kind in outline.pieces(*span):
            start, end = strip_span(text, start, end)
            if start < end and (headings or kind >= 0):
                line_end = text.find("\n", start, end)
                line = text[start : end if line_end < 0 else line_end]
                return ((start, start + len(clip(line, MOST_WORDS))),)
    return ()
