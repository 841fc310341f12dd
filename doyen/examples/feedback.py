"""Reviewed feedback → questions to train on, questions to compare on, examples of origin "feedback".

No document's feedback is on both sides: `doyen.feedback.side_of`, and what shares a document with feedback to compare on is
not trained on. Evidence that its document does not hold any more is left out. Knows no server.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from doyen.errors import StoreError
from doyen.feedback import Feedback, FeedbackBook, Passage
from doyen.prompts import closed_book_messages
from doyen.records import FEEDBACK, Example, GoldSource, Kind, Question, SourceSpan

_SPAN_WORDS = 12
TextOf = Callable[[str], str]
"""document → its current text; raises StoreError where it is not indexed."""


def feedback_questions(expert: Path, use: str, text_of: TextOf | None = None) -> list[Question]:
    """Return the reviewed questions for "train" or "compare"; with `text_of`, those whose evidence still stands."""
    found = [(row, _gold(row, text_of)) for row in _reviewed(expert, use)]
    return [_question(row, gold, use) for row, gold in found if gold]


def feedback_examples(expert: Path) -> list[Example]:
    """Return the reviewed rows for training as chats, for another program; each with its source spans."""
    return [
        Example(
            messages=tuple(dict(m) for m in closed_book_messages(row.final_question))
            + ({"role": "assistant", "content": row.final_answer},),
            source=tuple(SourceSpan(p.document, p.sha256, p.page, p.start, p.end) for p in row.evidence),
            origin="feedback",
            kind=_kind(row),
            question_id=f"feedback-{row.id}",
        )
        for row in _reviewed(expert, "train")
    ]


def _reviewed(expert: Path, use: str) -> list[Feedback]:
    """Return the reviewed rows for "train" or "compare"; none to train on with a document of one to compare on."""
    rows = FeedbackBook(expert).rows(("accepted", "edited"))
    compared = {p.document for row in rows if row.use == "compare" for p in row.evidence}
    return [
        row
        for row in rows
        if row.use == use and (use == "compare" or compared.isdisjoint(p.document for p in row.evidence))
    ]


def _question(row: Feedback, gold: tuple[GoldSource, ...], use: str) -> Question:
    return Question(
        id=f"feedback-{row.id}",
        question=row.final_question,
        answers=(row.final_answer,),
        kind=_kind(row),
        gold=gold,
        split="test" if use == "compare" else "train",
        tags=(FEEDBACK, row.state),
    )


def _kind(row: Feedback) -> Kind:
    return "span" if len(row.final_answer.split()) <= _SPAN_WORDS else "long"


def _gold(row: Feedback, text_of: TextOf | None) -> tuple[GoldSource, ...]:
    """Return the evidence where it stands now; nothing where one of its documents is gone or says something else."""
    found = []
    for passage in row.evidence:
        if text_of is None:
            found.append(GoldSource(passage.document, passage.page))
            continue
        start = _place(passage, text_of)
        if start is None:
            return ()
        found.append(GoldSource(passage.document, passage.page, 1, start, start + len(passage.quote)))
    return tuple(found)


def _place(passage: Passage, text_of: TextOf) -> int | None:
    try:
        text = text_of(passage.document)
    except StoreError:
        return None
    if text[passage.start : passage.end] == passage.quote:
        return passage.start
    at = text.find(passage.quote)
    return at if at >= 0 else None
