"""CSV and TSV → one line of `name: value` pairs a row, every row a Record. Knows no types beyond "a number"."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Sequence
from pathlib import Path

from doyen.documents.extracted import Extracted
from doyen.documents.plain import clean_text, decode_text
from doyen.errors import DocumentError
from doyen.records import Record

_DELIMITERS = ",;\t|"
_SAMPLE_ROWS = 50
_MAX_FIELD_CHARS = 10_000_000
_NUMBER = re.compile(r"[-+(]?[$€£¥]?\s*[-+]?(\d[\d,.' ]*|\.\d+)([eE][-+]?\d+)?\s*%?\)?")
_YEAR = re.compile(r"(19|20)\d\d")

Row = list[str]


def read_table(data: bytes, path: Path) -> Extracted:
    """Read a table; the first line of the text names the table and its columns, every row is one line after it.

    The delimiter is the one of `, ; tab |` that parts the first rows most evenly (TSV: tab). The key of a row is
    its number, 1 for the first row under the header; empty rows do not count. Raises DocumentError for no rows.
    """
    text = clean_text(decode_text(data, path.name)).replace("\f", "")
    rows = _parse(text, "\t" if path.suffix.lower() == ".tsv" else _delimiter(text), path.name)
    preamble, names, body = _split(rows)
    if not body:
        raise DocumentError(f"{path.name} has no rows below its header")
    width = max(map(len, body))
    names = [name.rstrip(" :") or f"column {n}" for n, name in enumerate(names, start=1)]
    names += [f"column {n}" for n in range(len(names) + 1, width + 1)]
    return _render(f"Table {path.stem}: columns {', '.join(names)}; {len(body)} rows", preamble, names, body)


def _parse(text: str, delimiter: str, name: str) -> list[Row]:
    csv.field_size_limit(_MAX_FIELD_CHARS)  # the default of 128 KiB refuses tables with documents in their cells
    try:
        reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter)
        rows = [[" ".join(cell.split()) for cell in row] for row in reader]
    except csv.Error as error:
        raise DocumentError(f"{name} is not a readable table: {error}") from error
    return [row for row in rows if any(row)]


def _delimiter(text: str) -> str:
    """Return the delimiter whose rows agree best on a width above one; a comma where none parts anything."""
    best, best_score = ",", 0.0
    sample = "\n".join(text[:100_000].split("\n")[:_SAMPLE_ROWS])
    for delimiter in _DELIMITERS:
        try:
            widths = [len(row) for row in csv.reader(io.StringIO(sample, newline=""), delimiter=delimiter) if row]
        except csv.Error:
            continue
        common = max(set(widths), key=widths.count, default=1)
        score = widths.count(common) / len(widths) if common > 1 else 0.0
        if score > best_score:
            best, best_score = delimiter, score
    return best


def _split(rows: Sequence[Row]) -> tuple[list[Row], Row, list[Row]]:
    """Return the lines above the table, the header (empty if there is none) and the rows."""
    width = max(map(len, rows), default=0)
    top = 0
    while width > 2 and top < len(rows) - 1 and sum(map(bool, rows[top])) * 3 < width and top < 5:
        top += 1
    if sum(map(bool, rows[top])) * 3 < width if rows else True:
        top = 0
    if rows and _is_header(rows[top]):
        return list(rows[:top]), rows[top], list(rows[top + 1 :])
    return [], [], list(rows)


def _is_header(row: Row) -> bool:
    """Tell whether a row names columns: no numbers in it, other than two or more different years."""
    years = [cell for cell in row if _YEAR.fullmatch(cell)]
    if years and (len(years) < 2 or len(set(years)) < len(years)):
        return False
    return any(cell and not _NUMBER.fullmatch(cell) for cell in row) and not any(
        _NUMBER.fullmatch(cell) and cell not in years for cell in row
    )


def _render(first_line: str, preamble: Sequence[Row], names: Sequence[str], body: Sequence[Row]) -> Extracted:
    lines = [first_line, *(" ".join(filter(None, row)) for row in preamble)]
    position = sum(len(line) + 1 for line in lines)
    records: list[Record] = []
    for number, row in enumerate(body, start=1):
        line = "; ".join(f"{name}: {value}" for name, value in zip(names, row, strict=False) if value)
        lines.append(line)
        records.append(Record(str(number), position, position + len(line)))
        position += len(line) + 1
    return Extracted("\n".join(lines), records=tuple(records))
