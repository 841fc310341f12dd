"""A document's extracted text → the cells of its tables, each row with the characters where it stands.

The text is the only copy of a table that an expert keeps, so what is removed, replaced or hidden as a document is so as a
table too. Knows no store. A cell whose text holds `; NAME: ` with the name of a later column is read as two.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from doyen.documents.tables import TableNote


@dataclass(frozen=True, slots=True)
class RowPlace:
    """Where a row stands: characters `[start, end)` of a document's text; `key` names it there.

    `sha256` and `version` are those of a row that is a document of its own.
    """

    document: str
    key: str
    start: int
    end: int
    sha256: str = ""
    version: int = 1


@dataclass(frozen=True, slots=True)
class Cells:
    """The cells of a table by column, texts or None, and the place of each row."""

    columns: tuple[str, ...]
    values: tuple[list[str | None], ...]
    places: list[RowPlace]


def table_cells(document: str, text: str, note: TableNote) -> Cells:
    """Read back the rows that a note tells of; names that stand twice become `name_2`."""
    values: list[list[str | None]] = [[] for _ in note.columns]
    places: list[RowPlace] = []
    reader = _LineReader(note.columns)
    position, number, skipped = note.start, 0, set(note.skipped)
    for _ in range(note.rows):
        end = text.find("\n", position)
        end = len(text) if end < 0 else end
        number += 1
        while number in skipped:
            number += 1
        for column, value in zip(values, reader.cells(text[position:end]), strict=True):
            column.append(value)
        places.append(RowPlace(document, f"{note.key_prefix}{number}", position, end))
        position = end + 1
    return Cells(distinct_names(note.columns), tuple(values), places)


def record_cells(text: str, names: Sequence[str]) -> list[str | None]:
    """Return the cells of a database row's text, one `name: value` line a column, under its columns in order."""
    marks: list[tuple[int, int]] = []
    position = 0
    for n, name in enumerate(names):
        opening = f"{name}: "
        at = 0 if n == 0 and text.startswith(opening) else text.find(f"\n{opening}", position)
        if at < 0:
            return [None] * len(names)
        start = at if n == 0 and at == 0 and text.startswith(opening) else at + 1
        marks.append((start, start + len(opening)))
        position = start
    ends = [start - 1 for start, _ in marks[1:]] + [len(text)]
    return [text[start:end] for (_, start), end in zip(marks, ends, strict=True)]


def distinct_names(names: Sequence[str]) -> tuple[str, ...]:
    """Return names that differ without regard to case, as SQL needs them."""
    found: list[str] = []
    seen: set[str] = set()
    for name in names:
        base, number, own = name or "column", 1, name or "column"
        while own.casefold() in seen:
            number += 1
            own = f"{base}_{number}"
        seen.add(own.casefold())
        found.append(own)
    return tuple(found)


class _LineReader:
    """Reads `name: value; name: value` with the names in their order, any of them left out."""

    def __init__(self, names: Sequence[str]) -> None:
        self._names = names
        self._places: dict[str, list[int]] = {}
        for n, name in enumerate(names):
            self._places.setdefault(name, []).append(n)
        self._is_plain = not any(": " in name or "; " in name for name in names)

    def cells(self, line: str) -> list[str | None]:
        """Return the cells of a line, None for those that it has not."""
        found: list[str | None] = [None] * len(self._names)
        current = -1
        for part in line.split("; "):
            column, value = self._opened(part, current)
            if column >= 0:
                found[column] = value
                current = column
            elif current >= 0:
                found[current] = f"{found[current]}; {part}"
        return found

    def _opened(self, part: str, current: int) -> tuple[int, str]:
        """Return the column after the current one whose name a part begins with (-1: none), and the rest of it."""
        if self._is_plain:
            name, colon, value = part.partition(": ")
            if colon:
                for column in self._places.get(name, ()):
                    if column > current:
                        return column, value
            return -1, ""
        for column in range(current + 1, len(self._names)):
            opening = f"{self._names[column]}: "
            if part.startswith(opening):
                return column, part[len(opening) :]
        return -1, ""
