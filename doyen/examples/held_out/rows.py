"""Generated questions for comparing as they are kept: rows with their evidence and a person's mark, and their files.

examples/generated_questions.json     the rows, the documents held out for them, and how they came about
examples/generated_questions.jsonl    the questions that are asked: all rows but the rejected ones

Knows neither generators nor models.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args

from doyen.config import write_atomic
from doyen.errors import ExamplesError
from doyen.examples.generating.facts import Fact
from doyen.examples.importing import question_row, write_rows
from doyen.records import GENERATED, GoldSource, Kind, Question

FORMAT = 1
RECORD_FILE = "generated_questions.json"
QUESTIONS_FILE = "generated_questions.jsonl"
Mark = Literal["", "accepted", "edited", "rejected"]
MARKS: tuple[Mark, ...] = get_args(Mark)
Writer = Literal["rules", "model", "teacher"]


@dataclass(frozen=True, slots=True)
class Row:
    """One generated question. `[start, end)` are the evidence's characters in its document; of an unanswerable question,
    those of the text that it was made from. `mark` is a person's ('': not looked at), `note` what doyen says to it.
    """

    id: str
    question: str
    answer: str
    kind: Kind
    answerable: bool
    document: str
    page: int | None
    start: int
    end: int
    evidence: str
    language: str
    rule: str
    writer: Writer
    mark: Mark = ""
    note: str = ""

    @classmethod
    def of(cls, fact: Fact) -> Row:
        """Return a fact's first phrasing as a row."""
        question = fact.questions[0]
        writer: Writer = "teacher" if fact.rule == "teacher" else "model" if fact.rule == "model" else "rules"
        names = ("answer", "kind", "answerable", "document", "page", "start", "end", "evidence", "language", "rule")
        same: dict[str, Any] = {name: getattr(fact, name) for name in names}
        return cls(id=fact.row_id(question), question=question, writer=writer, **same)

    @property
    def asked(self) -> Question:
        """The row as it is asked; an edited one has an id of its own, so that no answer to the former text is taken for it."""
        text = f"{self.question}\0{self.answer}"
        own = f"-{hashlib.sha256(text.encode()).hexdigest()[:6]}" if self.mark == "edited" else ""
        return Question(
            id=self.id + own,
            question=self.question,
            answers=(self.answer,) if self.answerable else (),
            kind=self.kind,
            gold=(GoldSource(self.document, self.page, 1, self.start, self.end),) if self.answerable else (),
            split="test",
            answerable=self.answerable,
            tags=(GENERATED, self.writer, *([self.mark] if self.mark else [])),
            language=self.language,
        )


@dataclass(slots=True)
class Made:
    """Generated questions and how they came about. `documents` are held out of training, unless they were `seen` by it.

    `inputs` is a hash of all that the rows depend on but marks.
    """

    rows: list[Row] = field(default_factory=list)
    documents: list[str] = field(default_factory=list)
    count: int = 0
    seed: int = 7
    generator: str = "rules"
    seen: bool = False
    left_out: dict[str, int] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)
    inputs: str = ""
    fresh: bool = True

    @property
    def questions(self) -> list[Question]:
        """The questions to ask: all but the rejected ones."""
        return [row.asked for row in self.rows if row.mark != "rejected"]

    def as_dict(self) -> dict[str, Any]:
        """Return counts, for people and for `--json`."""
        asked = [row for row in self.rows if row.mark != "rejected"]
        return {
            "questions": len(asked),
            "answerable": sum(row.answerable for row in asked),
            "kinds": dict(Counter(row.kind for row in asked if row.answerable)),
            "rules": dict(Counter(row.rule for row in asked)),
            "writers": dict(Counter(row.writer for row in asked)),
            "marks": {mark: n for mark, n in Counter(row.mark for row in self.rows).items() if mark},
            "documents": self.documents,
            "seen": self.seen,
            "seed": self.seed,
            "generator": self.generator,
            "left_out": self.left_out,
            "warnings": self.warnings,
            "fresh": self.fresh,
        }


def read_made(expert: Path) -> Made | None:
    """Return what an expert has of generated questions, None where there are none.

    Raises:
        ExamplesError: the file is broken, or of a later version.
    """
    path = expert / "examples" / RECORD_FILE
    if not path.exists():
        return None
    try:
        kept = json.loads(path.read_text(encoding="utf-8"))
        if kept.pop("format") != FORMAT:
            raise ValueError("made by another version of doyen")
        rows = [Row(**row) for row in kept.pop("rows")]
        return Made(rows, **kept, fresh=False)
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise ExamplesError(f"{path} cannot be read: {error}", hint="delete it to have it made anew") from error


def write_made(expert: Path, made: Made) -> None:
    """Write the record and the questions file."""
    kept = {f.name: getattr(made, f.name) for f in dataclasses.fields(made) if f.name not in ("rows", "fresh")}
    whole = {"format": FORMAT} | kept | {"rows": [dataclasses.asdict(row) for row in made.rows]}
    folder = expert / "examples"
    write_rows(folder / QUESTIONS_FILE, (question_row(q) for q in made.questions))
    write_atomic(folder / RECORD_FILE, json.dumps(whole, indent=1, ensure_ascii=False) + "\n")


def generated_questions(expert: Path) -> list[Question]:
    """Return the generated questions that are asked, none where there are none."""
    made = read_made(expert)
    return made.questions if made else []


def held_documents(expert: Path) -> frozenset[str]:
    """Return the documents that are kept out of training for generated questions."""
    made = read_made(expert)
    return frozenset(made.documents) if made and not made.seen else frozenset()
