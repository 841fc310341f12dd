"""A question's gold → the passages that hold its answer, as the oracle arm is shown them.

Enters: questions with gold, an index. Leaves: hits in the order in which search ranks them, each with its own nearness.
Asks no model but the embedder. What search misses is here: so reading is measured without searching.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import zip_longest

from doyen.index.filtering import DocumentSet
from doyen.records import Chunk, GoldSource, Hit, Question
from doyen.retrieval.hybrid import Retriever
from doyen.words import holds

MOST_RANKED = 1000
"""Chunks of the gold documents that are ranked for a question; those beyond follow in the documents' order."""
UNANSWERABLE, NO_GOLD, NOT_INDEXED = "no answer in the documents", "no gold", "gold that is not in the index"


def gold_hits(retriever: Retriever, questions: Sequence[Question]) -> tuple[list[list[Hit] | None], dict[str, int]]:
    """Return the gold passages of each question, None where there are none to give, and why not (reason → count).

    Where the gold names characters, these are the chunks that overlap them. Where it names a page or a document alone, they are
    its chunks in which a known answer stands word for word, all of its chunks where there is none. Of several gold sources
    each gives its best chunk first. How many are shown is the reader's affair.
    """
    found: list[list[Hit] | None] = []
    reasons: Counter[str] = Counter()
    for question in questions:
        hits, reason = _given(retriever, question)
        found.append(hits or None)
        reasons[reason] += not hits
    return found, {reason: count for reason, count in reasons.items() if count}


def _given(retriever: Retriever, question: Question) -> tuple[list[Hit], str]:
    sources = [source for source in question.gold if source.grade > 0]
    if not question.answerable:
        return [], UNANSWERABLE
    if not sources:
        return [], NO_GOLD
    ranked = _ranked(retriever, question.question, sorted({source.document for source in sources}))
    answers = () if question.kind in ("yesno", "yesnomaybe") else question.answers  # a verdict stands nowhere
    return list(_in_turn([_of_source(ranked, source, answers) for source in sources])), NOT_INDEXED


def _ranked(retriever: Retriever, question: str, documents: Sequence[str]) -> list[Hit]:
    """Return all chunks of some documents as hits, best first."""
    chunks = retriever.index.chunks_of(documents)
    if not chunks:
        return []
    where = DocumentSet(frozenset(documents))
    hits = retriever.search(question, min(len(chunks), MOST_RANKED), where=where)
    known = {_place(hit.chunk) for hit in hits}
    return [*hits, *(Hit(chunk, 0.0) for chunk in chunks if _place(chunk) not in known)]


def _place(chunk: Chunk) -> tuple[str, int, int]:
    return chunk.document, chunk.start, chunk.end


def _of_source(ranked: Sequence[Hit], source: GoldSource, answers: Sequence[str]) -> list[Hit]:
    own = [hit for hit in ranked if hit.chunk.document == source.document]
    if source.start is not None and source.end is not None:
        at = [hit for hit in own if hit.chunk.start < source.end and source.start < hit.chunk.end]
        if at:
            return at
    near = [hit for hit in own if source.page in hit.chunk.pages] or own
    return [hit for hit in near if any(holds(hit.chunk.text, answer) for answer in answers)] or near


def _in_turn(lists: Sequence[Sequence[Hit]]) -> Iterator[Hit]:
    """Yield the first of each list, then the second of each, every chunk once."""
    seen: set[tuple[str, int, int]] = set()
    for tier in zip_longest(*lists):
        for hit in tier:
            if hit is not None and _place(hit.chunk) not in seen:
                seen.add(_place(hit.chunk))
                yield hit
