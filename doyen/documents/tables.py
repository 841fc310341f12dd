"""Rows of cells → a line that describes the table, then one line of `name: value` pairs a row, every row a Record.

Shared by CSV, spreadsheets, Parquet and JSON. Knows no file format; the types that it names are guessed from the text.
What `TABLE` metadata say (TableNote) is enough to read the rows back from the text: doyen/tables/rows.py does.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass

from doyen.documents.extracted import TextWriter

TABLE = "table"
"""The name of the metadata that say where a table stands in a document's text."""
MAX_ROWS = 500_000
MAX_TABLE_CHARS = 200_000_000
_MAX_SUMMARY_CHARS = 700
_MAX_LISTED_VALUES = 8
_MAX_LISTED_CHARS = 30
_SUMMARY_ROWS = 20_000  # the first rows tell what is typical
NUMBER = re.compile(r"[-+(]?[$€£¥]?\s*[-+]?(\d[\d,.' ]*|\.\d+)([eE][-+]?\d+)?\s*%?\)?")
_YEAR = re.compile(r"(19|20)\d\d")
_DATE = re.compile(r"\d{4}-\d\d-\d\d([T ]\d\d:\d\d.*)?|\d{1,2}[./]\d{1,2}[./]\d{2,4}")
_DATE_DIGITS = re.compile(r"\d{4}-\d\d-\d\d")

Row = Sequence[str]


@dataclass(frozen=True, slots=True)
class TableNote:
    """Where a table stands in a text: `rows` lines from character `start` on, of cells under `columns`.

    The key of a row is `key_prefix` and its number, 1 for the first; `skipped` are numbers of rows without any cell.
    """

    name: str
    columns: tuple[str, ...]
    start: int
    rows: int
    key_prefix: str = ""
    skipped: tuple[int, ...] = ()

    def as_text(self) -> str:
        """Return the note as the value of metadata."""
        row = {name: value for name, value in asdict(self).items() if value not in ("", ())}
        return json.dumps(row, ensure_ascii=False, separators=(",", ":"))

    @classmethod
    def parse(cls, text: str) -> TableNote | None:
        """Return the note of a value of metadata; None where it is of another kind."""
        try:
            row = json.loads(text)
            columns, start, rows = tuple(map(str, row["columns"])), int(row["start"]), int(row["rows"])
            prefix, skipped = str(row.get("key_prefix", "")), tuple(map(int, row.get("skipped", ())))
            return cls(str(row["name"]), columns, start, rows, prefix, skipped)
        except (ValueError, TypeError, KeyError, AttributeError):
            return None


def split_header(rows: Sequence[Row]) -> tuple[Sequence[Row], Row, Sequence[Row]]:
    """Return the lines above the table, the header (empty if there is none) and the rows."""
    width = max(map(len, rows), default=0)
    top = 0
    while width > 2 and top < len(rows) - 1 and sum(map(bool, rows[top])) * 3 < width and top < 5:
        top += 1
    if sum(map(bool, rows[top])) * 3 < width if rows else True:
        top = 0
    if rows and is_header(rows[top]):
        return rows[:top], rows[top], rows[top + 1 :]
    return [], [], rows


def is_header(row: Row) -> bool:
    """Tell whether a row names columns: no numbers in it, other than two or more different years."""
    years = [cell for cell in row if _YEAR.fullmatch(cell)]
    if years and (len(years) < 2 or len(set(years)) < len(years)):
        return False
    return any(cell and not NUMBER.fullmatch(cell) for cell in row) and not any(
        NUMBER.fullmatch(cell) and cell not in years for cell in row
    )


def column_names(header: Row, width: int) -> list[str]:
    """Return a name for each of `width` columns; one without a name is called by its number."""
    names = [name.rstrip(" :") or f"column {n}" for n, name in enumerate(header, start=1)]
    return names + [f"column {n}" for n in range(len(names) + 1, width + 1)]


def write_table(
    writer: TextWriter,
    name: str,
    names: Sequence[str],
    rows: Iterable[Row],
    *,
    total: int,
    preamble: Iterable[Row] = (),
    key_prefix: str = "",
) -> list[str]:
    """Write a table and return what was left out of it, as warnings.

    The key of a row is `key_prefix` and its number, 1 for the first row under the header. `total` is the number of
    rows; the rows themselves may come one by one.
    """
    first: list[Row] = []
    rest = iter(rows)
    for row in rest:
        first.append(row)
        if len(first) == _SUMMARY_ROWS:
            break
    writer.block(f"Table {name}: columns {describe_columns(names, first)}; {total} rows")
    for row in preamble:
        writer.block(" ".join(filter(None, row)), tight=True)
    known = len(writer.records)
    number, skipped = _write_rows(writer, names, (row for part in (first, rest) for row in part), key_prefix)
    written = writer.records[known:]
    if written:
        note = TableNote(name, tuple(names), written[0].start, len(written), key_prefix, tuple(skipped))
        writer.notes.append((TABLE, note.as_text()))
    if next(rest, None) is not None or number < len(first):
        return [f"only the first {number} of {total} rows of table {name} were read"]
    return []


def _write_rows(
    writer: TextWriter, names: Sequence[str], rows: Iterable[Row], key_prefix: str
) -> tuple[int, list[int]]:
    """Write rows up to the limits; return how many were taken, and the numbers of those without any cell."""
    limit = writer.length + MAX_TABLE_CHARS
    number = 0
    skipped: list[int] = []
    for row in rows:
        number += 1
        line = "; ".join(f"{name}: {value}" for name, value in zip(names, row, strict=False) if value)
        if not line.strip():
            skipped.append(number)
        writer.record(f"{key_prefix}{number}", line)
        if number == MAX_ROWS or writer.length > limit:
            break
    return number, skipped


def describe_columns(names: Sequence[str], rows: Sequence[Row]) -> str:
    """Return `name (type: typical values), …`; where that gets long, first the values go, then the types."""
    full = [_describe(name, [row[n] for row in rows if n < len(row) and row[n]]) for n, name in enumerate(names)]
    for detail in (3, 2, 1):
        text = ", ".join(_shown(name, *found, detail=detail) for name, found in zip(names, full, strict=True))
        if len(text) <= _MAX_SUMMARY_CHARS:
            break
    return text if names else "none"


def _shown(name: str, kind: str, values: str, detail: int) -> str:
    if detail == 1 or not kind:
        return name
    return f"{name} ({kind}: {values})" if values and detail == 3 else f"{name} ({kind})"


def _describe(name: str, values: Sequence[str]) -> tuple[str, str]:
    """Return the type of a column and its typical values: its range, or all of them if they are few."""
    if not values:
        return "empty", ""
    if all(_DATE.fullmatch(value) for value in values):
        sortable = all(_DATE_DIGITS.match(value) for value in values)
        return "date", _range(min(values), max(values)) if sortable else ""
    if all(NUMBER.fullmatch(value) for value in values):
        ordered = sorted(set(values), key=number_of)
        return "number", _range(ordered[0], ordered[-1])
    counts = Counter(values)
    listed = [value for value, _ in counts.most_common(_MAX_LISTED_VALUES + 1)]
    if len(listed) <= _MAX_LISTED_VALUES and all(len(value) <= _MAX_LISTED_CHARS for value in listed):
        return "text", ", ".join(listed)
    short = next((value for value in listed if len(value) <= _MAX_LISTED_CHARS), "")
    return "text", f"such as {short}" if short else ""


def _range(low: str, high: str) -> str:
    return low if low == high else f"{low} to {high}"


def number_of(text: str) -> float:
    """Return the number that a cell shows; a single comma before other than three digits is a decimal comma."""
    digits = re.sub(r"[^\d,.eE+-]", "", text)
    if "," in digits and ("." in digits or re.search(r",\d{3}(?!\d)", digits)):
        last_is_comma = digits.rfind(",") > digits.rfind(".") and "." in digits
        digits = digits.replace(".", "").replace(",", ".") if last_is_comma else digits.replace(",", "")
    else:
        digits = digits.replace(",", ".", 1).replace(",", "")
    try:
        value = float(digits)
    except ValueError:
        return 0.0
    return -value if text.startswith("(") and text.endswith(")") else value
