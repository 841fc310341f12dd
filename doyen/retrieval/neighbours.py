"""Hits → the passages that are shown: those that adjoin in their document become one. Knows no index.

Enters: hits, best first, and what reads a document's text. Leaves: `count` passages, each still verbatim in its document.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence

from doyen.records import Chunk, Hit

MOST_CHUNKS = 2
"""How many chunks of full size a joined passage may be as long as: what is shown to a model is paid for by the token."""
_MOST_GAP = 8
"""Characters of white space between neighbours, at most."""

_LEAST_HITS = 10
_HITS_A_PASSAGE = 3

TextOf = Callable[[str, str], str | None]
"""(document, sha256) → its text, None where it is not there any more."""


def hits_for(count: int) -> int:
    """Return how many hits `count` passages are made of, at most: asking and training read equally far."""
    return max(_LEAST_HITS, _HITS_A_PASSAGE * count)


def join_neighbours(
    hits: Sequence[Hit], count: int, text_of: TextOf, tokens: Callable[[str], int], most_tokens: int
) -> list[Hit]:
    """Return the first `count` passages of hits, where hits that follow each other on a page make one passage.

    Hits are taken in their order until `count` passages are full. One that adjoins a passage (only white space between
    them, same page, document and content) joins it where both have at most `most_tokens` by `tokens`; the passage keeps
    the place, score and headings of its best hit. So the next hits fill the places gained.
    """
    passages: list[Hit] = []

    def join(best: Hit, other: Hit) -> Hit | None:
        whole = _joined(best, other, text_of)
        return whole if whole is not None and tokens(whole.chunk.text) <= most_tokens else None

    for hit in hits:
        for place, passage in enumerate(passages):
            if (whole := join(passage, hit)) is not None:
                passages[place] = whole
                _bridge(passages, place, join)
                break
        else:
            if len(passages) == count:
                break
            passages.append(hit)
    return passages


def _bridge(passages: list[Hit], place: int, join: Callable[[Hit, Hit], Hit | None]) -> None:
    """Join the passage that has grown with the one on its other side, if that is there."""
    for later in range(place + 1, len(passages)):
        if (whole := join(passages[place], passages[later])) is not None:
            passages[place] = whole
            del passages[later]
            return


def _joined(best: Hit, other: Hit, text_of: TextOf) -> Hit | None:
    """Return two neighbours as one hit with the score and headings of `best`; None where they are none."""
    first, last = sorted((best.chunk, other.chunk), key=lambda c: c.start)
    if not _may_adjoin(first, last):
        return None
    whole = text_of(first.document, first.sha256)
    if whole is None or whole[first.end : last.start].strip():
        return None
    text = whole[first.start : last.end]
    if not (text.startswith(first.text) and text.endswith(last.text)):
        return None
    chunk = dataclasses.replace(
        best.chunk,
        start=first.start,
        end=last.end,
        text=text,
        context=_context(best.chunk, first),
        record=first.record if first.record == last.record else None,
    )
    return dataclasses.replace(
        best,
        chunk=chunk,
        similarity=max(best.similarity, other.similarity),
        lexical=max(best.lexical, other.lexical),
        also=tuple(name for name in best.also if name in other.also),
    )


def _may_adjoin(first: Chunk, last: Chunk) -> bool:
    """Whether only a few characters lie between two chunks of the same page and content: no text is read for this."""
    same = (first.document, first.sha256, first.version, first.pages) == (
        last.document,
        last.sha256,
        last.version,
        last.pages,
    )
    return same and 0 <= last.start - first.end <= _MOST_GAP


def _context(best: Chunk, first: Chunk) -> str:
    """Return the headings of the best chunk and the table header, if any, of the first: the passage begins as that does."""
    if first is best:
        return best.context
    headings, header = best.context.partition("\n")[0], first.context.partition("\n")[2]
    return f"{headings}\n{header}" if header else headings
