"""Questions and examples files → records, with every broken line named; records → files. Knows no index."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

from doyen.config import write_atomic
from doyen.errors import ExamplesError
from doyen.examples.formats import EXPECTED, as_messages, is_chat
from doyen.records import KINDS, Example, GoldSource, Question, SourceSpan

T = TypeVar("T")
_MOST_FAULTS = 10
MOST_GRADE = 100
_JSON = json.JSONDecoder()
_BETWEEN = re.compile(r"[\s,]*")


def read_questions(path: Path) -> list[Question]:
    """Read a questions file (docs/reference/files.md).

    Raises:
        ExamplesError: naming file and line of each fault: not JSON, no id or question, a double id, an unknown kind.
    """
    questions = _read_numbered(path, _question)
    seen: dict[str, int] = {}
    doubles = [
        f"id '{q.id}' (lines {seen[q.id]} and {line})"
        for line, q in questions
        if q.id in seen or seen.setdefault(q.id, line) != line
    ]
    if doubles:
        raise ExamplesError(
            f"{path}: double ids: {'; '.join(doubles[:_MOST_FAULTS])}", hint="give each question its own id"
        )
    return [question for _, question in questions]


def read_examples(path: Path) -> list[Example]:
    """Read an examples file: chats whose last message is the assistant's, in any form that `formats.py` lists.

    Raises:
        ExamplesError: naming file and line of each fault.
    """
    return _read(path, _example)


def holds_messages(path: Path) -> bool:
    """Whether a file holds chats (in any form of `formats.py`) rather than questions, judged by its first sound row."""
    for _, row in _rows(path):
        if isinstance(row, dict):
            return is_chat(row)
    return False


def write_rows(path: Path, rows: Iterable[dict[str, Any]]) -> None:
    """Write JSON lines atomically."""
    write_atomic(path, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))


def question_row(q: Question) -> dict[str, Any]:
    """Return a question as one line of a questions file."""
    gold = [
        {"document": g.document, "page": g.page}
        | ({"grade": g.grade} if g.grade != 1 else {})
        | ({"start": g.start, "end": g.end} if g.start is not None else {})
        for g in q.gold
    ]
    row: dict[str, Any] = {"id": q.id, "question": q.question, "answers": list(q.answers), "kind": q.kind, "gold": gold}
    row |= {"split": q.split, "answerable": q.answerable, "tags": list(q.tags), "lang": q.language}
    return row | ({"former_answers": list(q.former_answers)} if q.former_answers else {})


def _rows(path: Path) -> Iterator[tuple[int, Any]]:
    """Yield (line number, JSON value or the error) of each line that is not blank, or each entry of one JSON array."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise ExamplesError(f"there is no file {path}", hint="check the path") from None
    except (UnicodeDecodeError, IsADirectoryError) as error:
        raise ExamplesError(f"{path} is not a UTF-8 text file: {error}") from error
    if _is_array(text):
        yield from _entries(text)
        return
    for number, line in enumerate(text.split("\n"), 1):
        if line.strip():
            try:
                yield number, json.loads(line)
            except json.JSONDecodeError as error:
                yield number, ValueError(f"not JSON ({error.msg} at column {error.colno})")


def _is_array(text: str) -> bool:
    """Whether a text is one JSON array of objects (its first line may hold no more than the bracket), not a line each."""
    return re.match(r"\s*\[\s*(\{|\]\s*$)", text) is not None


def _entries(text: str) -> Iterator[tuple[int, Any]]:
    """Yield (line number, value) of each entry of a JSON array, or its first fault."""
    at, line, counted = text.index("[") + 1, 1, 0
    while True:
        at = _BETWEEN.match(text, at).end()  # type: ignore[union-attr]  # it matches nothing too
        line, counted = line + text.count("\n", counted, at), at
        if at >= len(text):
            yield line, ValueError("the JSON array is not closed by ]")
            return
        if text[at] == "]":
            if text[at + 1 :].strip():
                yield line, ValueError("more text after the JSON array")
            return
        try:
            value, end = _JSON.raw_decode(text, at)
        except json.JSONDecodeError as error:
            yield error.lineno, ValueError(f"not JSON ({error.msg} at column {error.colno})")
            return
        yield line, value
        at = end


def _read(path: Path, parse: Callable[[dict[str, Any]], T]) -> list[T]:
    return [value for _, value in _read_numbered(path, parse)]


def _read_numbered(path: Path, parse: Callable[[dict[str, Any]], T]) -> list[tuple[int, T]]:
    """Return the line on which each row begins, and what it holds."""
    found: list[tuple[int, T]] = []
    faults: list[str] = []
    for number, row in _rows(path):
        try:
            if isinstance(row, ValueError):
                raise row
            if not isinstance(row, dict):
                raise ValueError(f"expected a JSON object, got {type(row).__name__}")
            found.append((number, parse(row)))
        except ValueError as error:
            faults.append(f"line {number}: {error}")
    if faults:
        more = f"\n  … and {len(faults) - _MOST_FAULTS} more" if len(faults) > _MOST_FAULTS else ""
        raise ExamplesError(
            f"{path} has {len(faults)} broken line(s):\n  " + "\n  ".join(faults[:_MOST_FAULTS]) + more,
            hint="mend these lines; nothing was imported",
        )
    if not found:
        raise ExamplesError(
            f"{path} is empty",
            hint="one JSON object a line, or a JSON array of them: docs/reference/files.md",
        )
    return found


def _question(row: dict[str, Any]) -> Question:
    if "id" not in row and "question" not in row:
        there = ", ".join(map(repr, row)) or "nothing"
        raise ValueError(f"no 'id' and no 'question'; an example would have {EXPECTED}; there is {there}")
    if not isinstance(row.get("id"), str | int) or isinstance(row.get("id"), bool) or row["id"] == "":
        raise ValueError("no 'id'")
    if not isinstance(row.get("question"), str) or not row["question"].strip():
        raise ValueError("no 'question'")
    kind = row.get("kind") or "span"
    if kind not in KINDS:
        raise ValueError(f"kind '{kind}' is unknown (known: {', '.join(KINDS)})")
    answers, gold, tags, former = (_list(row, key) for key in ("answers", "gold", "tags", "former_answers"))
    if not isinstance(row.get("split"), str | None):
        raise ValueError(f'\'split\' is {row["split"]!r}, not a text such as "train" or "test"')
    if not isinstance(row.get("answerable", True), bool):
        raise ValueError(f"'answerable' is {row['answerable']!r}, neither true nor false")
    return Question(
        id=str(row["id"]),
        question=row["question"].strip(),
        answers=tuple(str(a) for a in answers),
        kind=kind,
        gold=tuple(_gold(g) for g in gold),
        split=row.get("split"),
        answerable=row.get("answerable", True),
        tags=tuple(str(t) for t in tags),
        language=row.get("lang") or "en",
        former_answers=tuple(str(a) for a in former),
    )


def _list(row: dict[str, Any], key: str) -> list[Any]:
    value = row.get(key) or []
    if not isinstance(value, list):
        raise ValueError(f"'{key}' is not a list")
    return value


def _gold(row: Any) -> GoldSource:
    if not isinstance(row, dict) or not isinstance(row.get("document"), str):
        raise ValueError("an entry of 'gold' has no 'document'")
    page = row.get("page")
    if page is not None and (not isinstance(page, int) or isinstance(page, bool) or page < 1):
        raise ValueError(f"gold page {page!r} is not a number from 1")
    grade = row.get("grade", 1)
    if isinstance(grade, bool) or not isinstance(grade, int | float) or not 0 <= grade <= MOST_GRADE:
        raise ValueError(f"gold grade {grade!r} is not a number from 0 to {MOST_GRADE}")
    start, end = row.get("start"), row.get("end")
    if (start is None) != (end is None) or (
        start is not None and not (_is_place(start) and _is_place(end) and start < end)
    ):
        raise ValueError(f"gold start {start!r} and end {end!r} are not places in a text, the first before the second")
    return GoldSource(row["document"], page, grade, start, end)


def _is_place(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _example(row: dict[str, Any]) -> Example:
    messages = as_messages(row)
    origin = row.get("origin", "human")
    if origin not in ("human", "generated", "feedback"):
        raise ValueError(f"origin '{origin}' is unknown (human, generated, feedback)")
    source = _list(row, "source")
    if not all(isinstance(s, dict) and isinstance(s.get("document"), str) for s in source):
        raise ValueError("an entry of 'source' has no 'document'")
    return Example(
        messages=tuple(messages),
        source=tuple(
            SourceSpan(s["document"], s.get("sha256", ""), s.get("page"), s.get("start", 0), s.get("end", 0))
            for s in source
        ),
        origin=origin,
        kind=row.get("kind", "span"),
        variant=row.get("variant", ""),
        question_id=row.get("question_id"),
        similarity=_number(row, "similarity"),
        lexical=_number(row, "lexical"),
    )


def _number(row: dict[str, Any], key: str) -> float | None:
    value = row.get(key)
    if value is not None and (isinstance(value, bool) or not isinstance(value, int | float)):
        raise ValueError(f"'{key}' is not a number: {value!r}")
    return value


def documents_of(questions: Sequence[Question]) -> set[str]:
    """Return the gold documents of some questions."""
    return {g.document for q in questions for g in q.gold}
