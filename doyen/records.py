"""The records that flow between the stages: Document → Chunk → Hit → Citation → Answer, Question, Example.

Plain frozen dataclasses; nothing here reads files or knows a store. `as_dict` gives the form written to JSON
lines (see docs/reference/files.md).
"""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

Arm = Literal["base", "rag", "finetuned", "rag+finetuned"]
ARMS: tuple[Arm, ...] = ("base", "rag", "finetuned", "rag+finetuned")
EXTRA_ARMS = ("oracle", "oracle+finetuned", "reference", "reference+rag")
"""What a comparison can measure beside the arms, and nobody is advised to use: a ceiling (the gold passages given), and a
large model behind an API."""
TUNED, READING, GOLD, HOSTED = "finetuned", "rag", "oracle", "reference"
"""Parts of the arms' names: which adapter, search, gold passages and the reference's model have to do with them."""
Kind = Literal["yesno", "yesnomaybe", "number", "span", "long"]
GENERATED = "generated"
"""The tag of questions that were made from documents."""
FEEDBACK = "feedback"
"""The tag of questions that came from users' feedback."""
KINDS: tuple[Kind, ...] = ("yesno", "yesnomaybe", "number", "span", "long")


def shows_passages(arm: str) -> bool:
    """Whether an arm's model is shown passages, found or given."""
    return READING in arm or GOLD in arm


@dataclass(frozen=True, slots=True)
class Page:
    """One page of a document: characters `[start, end)` of its text; `number` counts from 1."""

    number: int
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Heading:
    """A heading at character `start`; `level` 1 is the highest."""

    start: int
    level: int
    title: str


@dataclass(frozen=True, slots=True)
class Record:
    """One row of a table: characters `[start, end)`; `key` names it (its row number or primary key)."""

    key: str
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Table:
    """Characters [start, end) of a table; header is its column-header text, repeated in the context of each chunk of it."""

    start: int
    end: int
    header: str


@dataclass(frozen=True, slots=True)
class Document:
    """One source document with its extracted text and the map from characters to pages, headings and rows.

    `sha256` is of the source bytes, `version` counts the contents seen under this id from 1, `labels` name who
    may see it (empty: everybody), `modified_at` is the source's time stamp in seconds since the epoch.
    """

    id: str
    text: str
    title: str
    media_type: str
    sha256: str
    source: str
    language: str = ""
    pages: tuple[Page, ...] = ()
    headings: tuple[Heading, ...] = ()
    records: tuple[Record, ...] = ()
    labels: tuple[str, ...] = ()
    version: int = 1
    modified_at: float = 0.0
    metadata: tuple[tuple[str, str], ...] = ()
    tables: tuple[Table, ...] = ()


def indexed_text(context: str, text: str) -> str:
    """Return what is embedded of a chunk: context and text, in Unicode's NFKC form."""
    whole = f"{context}\n{text}" if context else text
    return whole if unicodedata.is_normalized("NFKC", whole) else unicodedata.normalize("NFKC", whole)


@dataclass(frozen=True, slots=True)
class Chunk:
    """A passage of a document: `document.text[start:end] == text`.

    `context` (title › section) is embedded and searched with the text but never quoted. `pages` lists every
    page that the chunk touches, empty where the format has none. `sha256` and `version` are the document's.
    """

    document: str
    start: int
    end: int
    text: str
    context: str = ""
    pages: tuple[int, ...] = ()
    section: str | None = None
    record: str | None = None
    sha256: str = ""
    version: int = 1
    language: str = ""
    labels: tuple[str, ...] = ()

    @property
    def indexed(self) -> str:
        """Context and text in Unicode's NFKC form, as embedded."""
        return indexed_text(self.context, self.text)

    @property
    def page(self) -> int | None:
        """The page on which the chunk starts, or None."""
        return self.pages[0] if self.pages else None


@dataclass(frozen=True, slots=True)
class Summary:
    """What a document, or a large section of it, is about, in its own sentences: `spans`, in order, each verbatim.

    `section` is the section's heading, None for the whole document; `[start, end)` is what is summarised.
    """

    document: str
    section: str | None
    start: int
    end: int
    text: str
    spans: tuple[tuple[int, int], ...]
    indexed: str = ""
    """What its vector is made of."""

    def as_dict(self) -> dict[str, Any]:
        """Return the summary as plain values, without what is embedded of it."""
        row = {"section": self.section, "start": self.start, "end": self.end, "text": self.text}
        return row | {"spans": [list(span) for span in self.spans]}

    @staticmethod
    def joined(text: str, spans: Sequence[tuple[int, int]]) -> str:
        """Return the sentences of a document's text as one."""
        return " ".join(text[a:b] for a, b in spans)


@dataclass(frozen=True, slots=True)
class Hit:
    """A chunk found for a question; `score` is the fused relevance, comparable within one result list only.

    `similarity` is the cosine between question and chunk, -1..1; `lexical` the BM25 score, 0 where no term matched.
    """

    chunk: Chunk
    score: float
    similarity: float = 0.0
    lexical: float = 0.0
    also: tuple[str, ...] = ()
    """Documents that hold the same passage under the same headings, and came after this one."""
    about: str = ""
    """What its document is about, where the prompt says it."""

    def as_dict(self) -> dict[str, Any]:
        """Return the hit as one entry of a hits file."""
        c = self.chunk
        row: dict[str, Any] = {"document": c.document, "page": c.page}
        if len(c.pages) > 1:
            row["pages"] = list(c.pages)
        row |= {"section": c.section, "record": c.record, "start": c.start, "end": c.end}
        row |= {"also": list(self.also)} if self.also else {}
        return row | {"score": round(self.score, 6), "text": c.text}


@dataclass(frozen=True, slots=True)
class DocumentHit:
    """A document found for a question, with its summaries (the whole document's first) and its best passages.

    `score` is comparable within one result list only.
    """

    document: str
    title: str
    score: float
    summaries: tuple[Summary, ...] = ()
    hits: tuple[Hit, ...] = ()

    @property
    def summary(self) -> str:
        """The summary of the whole document, "" where there is none."""
        return next((s.text for s in self.summaries if s.section is None), "")

    def as_dict(self) -> dict[str, Any]:
        """Return the document as an entry of `doyen search --documents --json`."""
        row = {"document": self.document, "title": self.title, "score": round(self.score, 6), "summary": self.summary}
        sections = [s.as_dict() for s in self.summaries if s.section is not None]
        return row | {"sections": sections, "hits": [h.as_dict() for h in self.hits]}


@dataclass(frozen=True, slots=True)
class Nearness:
    """How near the passages shown are to the question: their largest cosine, and their largest BM25 score."""

    similarity: float = 0.0
    lexical: float = 0.0

    @classmethod
    def of(cls, hits: Sequence[Hit]) -> Nearness:
        """Return the nearness of hits; of none, zeros."""
        return cls(max((h.similarity for h in hits), default=0.0), max((h.lexical for h in hits), default=0.0))


@dataclass(frozen=True, slots=True)
class Citation:
    """Where an answer stands: `quote` is verbatim `document.text[start:end]`, at most 300 characters.

    `attributed` is true where the model named no passage and code found the supporting one. Of an answer from a table,
    `sql` is the statement that gives it, `rows` are the keys of the rows which that reads (the first 100 of `row_count`).
    """

    document: str
    page: int | None
    section: str | None
    start: int
    end: int
    quote: str
    sha256: str = ""
    version: int = 1
    attributed: bool = False
    sql: str = ""
    rows: tuple[str, ...] = ()
    row_count: int = 0

    def as_dict(self) -> dict[str, Any]:
        """Return the citation as written into an answers file."""
        row = asdict(self)
        if not self.attributed:
            del row["attributed"]
        for name in () if self.sql else ("sql", "rows", "row_count"):
            del row[name]
        return row | ({"rows": list(self.rows)} if self.sql else {})


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer and what it stands on. `answered` is False where there was no evidence (then `text` says so)."""

    text: str
    answered: bool
    arm: str
    citations: tuple[Citation, ...] = ()
    hits: tuple[Hit, ...] = ()
    seconds: float = 0.0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    refusal_probability: float | None = None
    passages_left_out: int = 0
    """How many passages, the last ones, did not fit into the model's context."""
    choice_probabilities: Mapping[str, float] = field(default_factory=dict)
    """Of a choice: the probability of each option, in the options' order."""
    shortened: bool = False
    """Whether the answer's tokens ran out, and it ends as its constraint allows at the least."""
    cached: bool = False
    """Whether it was written before; `seconds` are those that it took then."""

    def as_dict(self, question_id: str | None = None) -> dict[str, Any]:
        """Return the answer as one line of an answers file."""
        row: dict[str, Any] = {"id": question_id} if question_id is not None else {}
        row |= {"arm": self.arm, "answer": self.text, "answered": self.answered}
        row["citations"] = [c.as_dict() for c in self.citations]
        row |= {"seconds": round(self.seconds, 3), "prompt_tokens": self.prompt_tokens}
        row["completion_tokens"] = self.completion_tokens
        if self.refusal_probability is not None:
            row["refusal_probability"] = round(self.refusal_probability, 4)
        if self.passages_left_out:
            row["passages_left_out"] = self.passages_left_out
        if self.choice_probabilities:
            row["choice_probabilities"] = {o: round(p, 6) for o, p in self.choice_probabilities.items()}
        return row | {mark: True for mark in ("shortened", "cached") if getattr(self, mark)}


@dataclass(frozen=True, slots=True)
class GoldSource:
    """Where a question's answer is known to stand; `page` is None where the format has no pages.

    `grade` says how relevant it is: its gain in nDCG is 2^grade - 1. `start` and `end` are the evidence's characters in the
    document's text, where they are known.
    """

    document: str
    page: int | None = None
    grade: float = 1
    start: int | None = None
    end: int | None = None


@dataclass(frozen=True, slots=True)
class Question:
    """A question with its known answers (alternatives, not parts) and gold evidence.

    `former_answers` were right before the documents changed; who gives one of them is out of date.
    """

    id: str
    question: str
    answers: tuple[str, ...] = ()
    kind: Kind = "span"
    gold: tuple[GoldSource, ...] = ()
    split: str | None = None
    answerable: bool = True
    tags: tuple[str, ...] = ()
    language: str = "en"
    former_answers: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class SourceSpan:
    """The exact text that a training example was made from."""

    document: str
    sha256: str
    page: int | None
    start: int
    end: int


FLOW_VARIANTS = ("flow", "flow-passages")
"""Variants of examples of a workflow's steps: without passages, and with them."""


@dataclass(frozen=True, slots=True)
class Example:
    """One training example: a chat whose last message is the answer to be learned.

    `similarity` is the largest cosine, `lexical` the largest BM25 score of the passages shown, None without passages.
    """

    messages: tuple[dict[str, str], ...]
    source: tuple[SourceSpan, ...] = ()
    origin: Literal["human", "generated", "feedback"] = "human"
    kind: str = "span"
    variant: str = ""
    question_id: str | None = None
    similarity: float | None = None
    lexical: float | None = None

    def as_dict(self) -> dict[str, Any]:
        """Return the example as one line of an examples file."""
        row: dict[str, Any] = {"messages": list(self.messages), "source": [asdict(s) for s in self.source]}
        row |= {"origin": self.origin, "kind": self.kind}
        row |= {"variant": self.variant, "question_id": self.question_id}
        nearness = {"similarity": self.similarity, "lexical": self.lexical}
        return row | {name: round(value, 4) for name, value in nearness.items() if value is not None}
