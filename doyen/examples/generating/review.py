"""The review file: generated questions as a table that a person edits, and what the machine last wrote into it.

examples/review.csv         one question a row: keep or not, question, answer, where it stands; columns of one's own may be added
examples/generated.jsonl    the same rows as the machine wrote them, by which an edited row is told from its own

Enters and leaves: rows. Knows no generator.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from doyen.config import write_atomic
from doyen.errors import ExamplesError
from doyen.examples.generating.facts import VERDICTS, Fact
from doyen.records import KINDS, Kind
from doyen.spreadsheets import guarded, unguarded

REVIEW_FILE = "review.csv"
RECORD_FILE = "generated.jsonl"
COLUMNS = ("keep", "question", "answer", "document", "page", "evidence", "answerable", "kind", "made_by", "note", "id")
REQUIRED = ("question", "answer", "document")
_YES = frozenset("yes y true 1 x ja oui sí si".split())
_NO = frozenset("no n false 0 nein non não".split())
_MOST_FAULTS = 10
_FIELD_CHARACTERS = 1_000_000


@dataclass(frozen=True, slots=True)
class ReviewRow:
    """One question in the review file; `line` is where it stands there (0: not from a file), `more` are columns added by hand."""

    question: str
    answer: str
    document: str
    page: int | None = None
    evidence: str = ""
    keep: bool = True
    answerable: bool = True
    kind: Kind = "span"
    made_by: str = ""
    note: str = ""
    id: str = ""
    line: int = 0
    more: tuple[tuple[str, str], ...] = ()

    def content(self) -> tuple[Any, ...]:
        """Return what a person may change, regardless of spaces."""
        texts = (" ".join(text.split()) for text in (self.question, self.answer, self.evidence))
        return (self.keep, *texts, self.document, self.page, self.answerable, self.kind, self.more)


@dataclass(frozen=True, slots=True)
class Written:
    """A row as the machine wrote it, with the exact place of its evidence."""

    row: ReviewRow
    sha256: str
    start: int
    end: int
    language: str = "en"
    removed: bool = False


@dataclass(slots=True)
class Review:
    """The rows of the file, the machine's record of them, and which of these a person has taken out."""

    rows: list[ReviewRow] = field(default_factory=list)
    written: dict[str, Written] = field(default_factory=dict)

    @property
    def removed(self) -> set[str]:
        """Return the ids of rows that the machine wrote and that are not in the file any more: they stay out."""
        here = {row.id for row in self.rows}
        return {key for key in self.written if key not in here}

    def is_edited(self, row: ReviewRow) -> bool:
        """Whether a person has written or changed a row."""
        mine = self.written.get(row.id)
        return mine is None or mine.row.content() != row.content()


def row_of(fact: Fact, question: str) -> Written:
    """Return a fact's phrasing as a row."""
    row = ReviewRow(
        question=question,
        answer=fact.answer,
        document=fact.document,
        page=fact.page,
        evidence=fact.evidence,
        answerable=fact.answerable,
        kind=fact.kind,
        made_by=fact.rule,
        id=fact.row_id(question),
    )
    return Written(row, fact.sha256, fact.start, fact.end, fact.language)


def read_review(folder: Path) -> Review:
    """Read the review file and the record beside it; both empty if there is no review file.

    Raises:
        ExamplesError: naming each broken line; nothing is changed then.
    """
    path = folder / REVIEW_FILE
    if not path.exists():
        return Review()
    record = folder / RECORD_FILE
    written = [_written(json.loads(line)) for line in _lines(record)] if record.exists() else []
    return Review(_rows(path), {w.row.id: w for w in written})


def _lines(path: Path) -> Iterable[str]:
    return (line for line in path.read_text(encoding="utf-8").split("\n") if line.strip())


def _rows(path: Path) -> list[ReviewRow]:
    found, faults = [], []
    for line, cells in read_table(path, REQUIRED):
        try:
            if row := _row(cells, line):
                found.append(row)
        except ValueError as error:
            faults.append(f"line {line}: {error}")
    refuse_faults(path, faults)
    return found


def read_table(path: Path, required: Sequence[str]) -> list[tuple[int, dict[str | None, Any]]]:
    """Read a table that a person may have saved: (line, column → cell) of each row; cells beyond the header are under None.

    Commas, semicolons and tabs between the cells are understood, UTF-8 and what Excel saves on Windows. Cells come without
    the blanks around them and without the apostrophe that `write_table` has put before.

    Raises:
        ExamplesError: it is no CSV, or columns are missing.
    """
    text = _decoded(path)
    first = text.split("\n", 1)[0]
    delimiter = max(",;\t", key=first.count)
    csv.field_size_limit(_FIELD_CHARACTERS)
    reader = csv.DictReader(io.StringIO(text, newline=""), delimiter=delimiter)
    try:
        columns = [name.strip().casefold() for name in reader.fieldnames or ()]
        reader.fieldnames = columns
        missing = [name for name in required if name not in columns]
        if missing:
            raise ExamplesError(
                f"{path}: the columns {', '.join(missing)} are missing (found: {', '.join(columns) or 'none'})",
                hint="put the header line back, or delete the file to have it made anew",
            )
        return [
            (reader.line_num, {n: unguarded((c or "").strip()) if n else c for n, c in raw.items()}) for raw in reader
        ]
    except csv.Error as error:
        raise ExamplesError(
            f"{path}: line {reader.line_num} is no CSV: {error}", hint="save it as CSV again"
        ) from error


def write_table(path: Path, header: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Write a table for spreadsheets in one step.

    Before a cell that begins like a formula stands an apostrophe: text of a document, or of a model, is run by no spreadsheet.
    """
    out = io.StringIO(newline="")
    writer = csv.writer(out, lineterminator="\r\n")
    writer.writerow(header)
    writer.writerows([guarded(cell) for cell in row] for row in rows)
    write_atomic(path, "\ufeff" + out.getvalue())  # the mark tells spreadsheets that this is UTF-8


def refuse_faults(path: Path, faults: Sequence[str]) -> None:
    """Raise ExamplesError that names the first broken rows, if there are any."""
    if faults:
        more = f"\n  … and {len(faults) - _MOST_FAULTS} more" if len(faults) > _MOST_FAULTS else ""
        raise ExamplesError(
            f"{path} has {len(faults)} broken row(s):\n  " + "\n  ".join(faults[:_MOST_FAULTS]) + more,
            hint="mend these rows; nothing was built and nothing was changed",
        )


def _decoded(path: Path) -> str:
    """Read UTF-8, with or without a mark at its start, or what Excel saves on Windows."""
    data = path.read_bytes()
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError:
        return data.decode("cp1252", errors="replace")


def _row(raw: dict[str | None, Any], line: int) -> ReviewRow | None:
    """Return a row, None for an empty one. Raises ValueError saying what is wrong."""
    if None in raw:
        raise ValueError("more cells than the header has: a cell with a comma needs quotes around it")
    cells = {name: value for name, value in raw.items() if name}
    if not any(cells.values()):
        return None
    if not cells["question"]:
        raise ValueError("no question (to take a row out, write no under keep, or delete the whole row)")
    keep, answerable = _flag(cells, "keep"), _flag(cells, "answerable")
    page = cells.get("page", "")
    if page and not (page.removesuffix(".0").isdigit() and int(page.removesuffix(".0")) > 0):
        raise ValueError(f"page '{page}' is not a number from 1")
    kind = cells.get("kind") or ("yesno" if cells["answer"].casefold() in VERDICTS else "span")
    if kind not in KINDS:
        raise ValueError(f"kind '{kind}' is unknown (known: {', '.join(KINDS)})")
    if keep and answerable and not cells["answer"]:
        raise ValueError("no answer (of a question that the documents do not answer, write no under answerable)")
    if keep and not cells["document"]:
        raise ValueError("no document (doyen documents lists them)")
    own = {
        name: cells.get(name, "") for name in ("question", "answer", "document", "evidence", "made_by", "note", "id")
    }
    identity = own["id"] or _own_id(own)
    more = tuple((name, value) for name, value in cells.items() if name not in COLUMNS)
    return ReviewRow(
        **(own | {"id": identity, "made_by": own["made_by"] or "hand"}),
        page=int(page.removesuffix(".0")) if page else None,
        keep=keep,
        answerable=answerable,
        kind=kind,
        line=line,
        more=more,
    )


def _own_id(cells: dict[str, str]) -> str:
    key = "\0".join((cells["document"], cells["question"], cells["answer"]))
    return f"own-{hashlib.sha256(key.encode()).hexdigest()[:12]}"


def _flag(cells: dict[str, str], name: str) -> bool:
    value = cells.get(name, "").casefold()
    if value and value not in _YES | _NO:
        raise ValueError(f"{name} '{value}' is neither yes nor no")
    return value not in _NO


def write_review(folder: Path, rows: Sequence[ReviewRow], written: Iterable[Written]) -> None:
    """Write the review file, then the record, each in one step; columns added by hand stay."""
    extra = list(dict.fromkeys(name for row in rows for name, _ in row.more))
    cells = ([*_cells(row), *(dict(row.more).get(name, "") for name in extra)] for row in rows)
    write_table(folder / REVIEW_FILE, [*COLUMNS, *extra], cells)
    lines = (json.dumps(_record(w), ensure_ascii=False) + "\n" for w in written)
    write_atomic(folder / RECORD_FILE, "".join(lines))


def _cells(row: ReviewRow) -> list[str]:
    flags = {True: "yes", False: "no"}
    page = "" if row.page is None else str(row.page)
    return [
        *(flags[row.keep], row.question, row.answer, row.document, page, row.evidence),
        *(flags[row.answerable], row.kind, row.made_by, row.note, row.id),
    ]


def _record(written: Written) -> dict[str, Any]:
    r = written.row
    row = {"id": r.id, "question": r.question, "answer": r.answer, "kind": r.kind, "answerable": r.answerable}
    row |= {
        "document": r.document,
        "sha256": written.sha256,
        "page": r.page,
        "start": written.start,
        "end": written.end,
    }
    row |= {"evidence": r.evidence, "language": written.language, "made_by": r.made_by, "more": dict(r.more)}
    return row | ({"removed": True} if written.removed else {})


def _written(row: dict[str, Any]) -> Written:
    own = ReviewRow(
        question=row["question"],
        answer=row["answer"],
        document=row["document"],
        page=row["page"],
        evidence=row["evidence"],
        answerable=row["answerable"],
        kind=row["kind"],
        made_by=row["made_by"],
        id=row["id"],
        more=tuple(row.get("more", {}).items()),
    )
    return Written(own, row["sha256"], row["start"], row["end"], row["language"], row.get("removed", False))
