"""The table of generated questions that a person looks through: written, and read back with its marks.

examples/questions_review.csv    one question a row; `mark` is accepted, edited or rejected

A row whose question or answer was changed counts as edited. What is not in the file stays as it is.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from doyen.errors import ExamplesError
from doyen.examples.generating.facts import is_supported
from doyen.examples.generating.review import read_table, refuse_faults, write_table
from doyen.examples.held_out.rows import MARKS, Made, Mark, Row

TABLE_FILE = "questions_review.csv"
COLUMNS = ("mark", "question", "answer", "answerable", "kind", "document", "page", "evidence", "made_by", "note", "id")
REQUIRED = ("mark", "question", "answer", "id")
NOT_VERBATIM = "the answer is not word for word in the evidence"
_WORDS: Mapping[str, Mark] = {
    **{mark: mark for mark in MARKS},
    **dict.fromkeys(("accept", "ok", "yes", "y", "ja", "oui", "sí", "si", "x", "1"), "accepted"),
    **dict.fromkeys(("reject", "no", "n", "nein", "non", "0"), "rejected"),
    "edit": "edited",
}


def write_marks(expert: Path, made: Made) -> None:
    """Write the table."""
    write_table(expert / "examples" / TABLE_FILE, COLUMNS, map(cells_of, made.rows))


def cells_of(row: Row) -> list[str]:
    """Return a row as the table has it."""
    page = "" if row.page is None else str(row.page)
    flag = "yes" if row.answerable else "no"
    head = [row.mark, row.question, row.answer, flag, row.kind, row.document, page, row.evidence]
    return [*head, row.rule if row.writer == "rules" else row.writer, row.note, row.id]


def read_marks(path: Path, made: Made) -> Made:
    """Return the questions with the marks and changes of a table; nothing is written.

    Raises:
        ExamplesError: there is no such file, or rows are broken (each is named by its line).
    """
    if not path.is_file():
        raise ExamplesError(f"there is no file {path}", hint="doyen examples questions writes one to mark")
    rows = {row.id: row for row in made.rows}
    faults: list[str] = []
    seen: set[str] = set()
    for line, raw in read_table(path, REQUIRED):
        cells = {name: value for name, value in raw.items() if name}
        if not any(cells.values()):
            continue
        try:
            row = _marked(cells, rows, seen, more=None in raw)
            rows[row.id] = row
        except ValueError as error:
            faults.append(f"line {line}: {error}")
    refuse_faults(path, faults)
    return dataclasses.replace(made, rows=list(rows.values()))


def _marked(cells: Mapping[str, Any], rows: Mapping[str, Row], seen: set[str], *, more: bool) -> Row:
    """Return one row as the table has it. Raises ValueError saying what is wrong."""
    if more:
        raise ValueError("more cells than the header has: a cell with a comma needs quotes around it")
    row = rows.get(cells["id"])
    if row is None:
        raise ValueError(f"id '{cells['id']}' is of no generated question")
    if row.id in seen:
        raise ValueError(f"id '{row.id}' stands twice")
    seen.add(row.id)
    mark = _WORDS.get(cells["mark"].casefold())
    if mark is None:
        raise ValueError(f"mark '{cells['mark']}' is none of accepted, edited, rejected")
    question, answer = cells["question"], cells["answer"]
    if mark == "rejected":
        return dataclasses.replace(row, mark=mark)
    if not question:
        raise ValueError("no question (to take a row out, write rejected under mark)")
    if row.answerable and not answer:
        raise ValueError("no answer (to take a row out, write rejected under mark)")
    if not row.answerable and answer:
        raise ValueError("an answer to a question that has none in the documents; write rejected under mark")
    if (_plain(question), _plain(answer)) == (_plain(row.question), _plain(row.answer)):
        return dataclasses.replace(row, mark="edited" if row.mark == "edited" and mark else mark)
    odd = row.answerable and not is_supported(answer, row.kind, row.evidence)
    return dataclasses.replace(row, question=question, answer=answer, mark="edited", note=NOT_VERBATIM if odd else "")


def _plain(text: str) -> str:
    return " ".join(text.split())
