"""CSV and TSV → rows of cells, then a table (see tables.py). Finds the delimiter, the quoting and the encoding."""

from __future__ import annotations

import csv
import io
from pathlib import Path

from doyen.documents.extracted import Extracted, TextWriter
from doyen.documents.plain import clean_text, decode_text
from doyen.documents.tables import column_names, split_header, write_table
from doyen.errors import DocumentError

_DELIMITERS = ",;\t|"
_SAMPLE_ROWS = 50
_MAX_FIELD_CHARS = 10_000_000


def read_table(data: bytes, path: Path) -> Extracted:
    """Read a table; the first line of the text describes its columns, every row is one line after it.

    The delimiter is the one of `, ; tab |` that parts the first rows most evenly (TSV: tab). The key of a row is
    its number, 1 for the first row under the header; empty rows do not count. Raises DocumentError for no rows.
    """
    text = clean_text(decode_text(data, path.name)).replace("\f", "")
    rows = _parse(text, "\t" if path.suffix.lower() == ".tsv" else delimiter_of(text), path.name)
    preamble, header, body = split_header(rows)
    if not body:
        raise DocumentError(f"{path.name} has no rows below its header")
    names = column_names(header, max(map(len, body)))
    writer = TextWriter()
    warnings = write_table(writer, path.stem, names, body, total=len(body), preamble=preamble)
    return writer.extracted(warnings=tuple(warnings))


def _parse(text: str, delimiter: str, name: str) -> list[list[str]]:
    csv.field_size_limit(_MAX_FIELD_CHARS)  # the default of 128 KiB refuses tables with documents in their cells
    try:
        reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter)
        rows = [[" ".join(cell.split()) for cell in row] for row in reader]
    except csv.Error as error:
        raise DocumentError(f"{name} is not a readable table: {error}") from error
    return [row for row in rows if any(row)]


def delimiter_of(text: str) -> str:
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
