"""The record that generators make of passages: a fact with its phrasings, and the check that its evidence is verbatim.

Knows neither how a question is found nor where it is kept.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from doyen.records import Chunk, Kind
from doyen.words import find, holds, words

MOST_EVIDENCE = 600  # characters
VERDICTS = ("yes", "no")


@dataclass(frozen=True, slots=True)
class Fact:
    """Something that a document says, asked in one or several ways.

    `evidence` is `text[start:end]` of the document whose content has the hash `sha256`. A fact that is not `answerable`
    has no answer in the documents; its evidence is the text that it was made from.
    """

    questions: tuple[str, ...]
    answer: str
    kind: Kind
    document: str
    sha256: str
    page: int | None
    start: int
    end: int
    evidence: str
    language: str = "en"
    rule: str = ""
    answerable: bool = True

    def row_id(self, question: str) -> str:
        """Return the id of one phrasing: the same for the same question on the same evidence, in every run."""
        key = "\0".join((self.document, " ".join(self.evidence.split()), self.answer, question))
        return f"gen-{hashlib.sha256(key.encode()).hexdigest()[:12]}"


class Generator(Protocol):
    """Makes facts of passages."""

    name: str

    def generate(self, passages: Sequence[Chunk], progress: Callable[[int], None] | None = None) -> list[Fact]:
        """Return the facts found in some passages; `progress` is called with the number of passages done."""
        ...


def fact_of(
    chunk: Chunk,
    span: tuple[int, int],
    questions: Sequence[str],
    answer: str,
    *,
    kind: Kind = "span",
    rule: str,
    language: str = "",
) -> Fact:
    """Return a fact whose evidence is `chunk.text[span]`."""
    start, end = span
    return Fact(
        questions=tuple(questions),
        answer=answer,
        kind=kind,
        document=chunk.document,
        sha256=chunk.sha256,
        page=chunk.page,
        start=chunk.start + start,
        end=chunk.start + end,
        evidence=chunk.text[start:end],
        language=language or chunk.language or "en",
        rule=rule,
    )


def locate(text: str, quote: str) -> tuple[int, int] | None:
    """Return where a quote stands in a text: as it is, else word for word whatever stands between; None if nowhere."""
    quote = quote.strip().strip('"“”«»„')
    if not words(quote):
        return None
    at = text.find(quote)
    if at >= 0:
        return at, at + len(quote)
    at = find(text, quote)
    if at < 0:
        return None
    # The end is behind the last word, wherever the spaces and signs between the words have moved it to.
    end, left = at, len(words(quote))
    while end < len(text) and left > 0:
        end += 1
        if len(words(text[at:end])) >= len(words(quote)) and (end == len(text) or not text[end].isalnum()):
            return at, end
    return None


def is_supported(answer: str, kind: Kind, evidence: str) -> bool:
    """Whether the evidence holds the answer word for word; of a yes or no, whether there is any evidence."""
    if kind in ("yesno", "yesnomaybe"):
        return answer.casefold() in VERDICTS and bool(words(evidence))
    return holds(evidence, answer)


def is_verbatim(fact: Fact, text: str) -> bool:
    """Whether a fact's evidence stands at its place in the document's text, and holds the answer."""
    placed = 0 <= fact.start < fact.end <= len(text) and text[fact.start : fact.end] == fact.evidence
    return placed and (not fact.answerable or is_supported(fact.answer, fact.kind, fact.evidence))
