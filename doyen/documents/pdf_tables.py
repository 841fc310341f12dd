"""Lines of one PDF page in reading order → its tables: which lines they are, each row whole, the column headers.

A table here has columns of numbers. Lists and tables of words alone are left to be read line by line.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

from doyen.documents.pdf_columns import is_numeric
from doyen.documents.pdf_lines import Cell, Line, line_of

_MAX_LABEL_LINES = 6  # between two rows of a table
_MAX_HEADER_LINES = 16  # cells of a header may be drawn one by one, each over several lines
_MAX_HEADER_LABELS = 3
_MAX_HEADER_EM = 12.0
_MAX_HEADER_CHARS = 200
_LABEL_SHARE = 0.8  # a line without numbers that is wider than this share of the table is prose
_MAX_ROW_GAP_EM = 5.0
_WRAP_EM = 1.9
_YEAR = re.compile(r"\(?(?:FY|CY|Q[1-4])?[ ']?(?:19|20)\d\d\)?(?:[ /–-]+(?:19|20)?\d\d)?$")
_VALUE = re.compile(r"[($€£¥\-–—+]*\d[\d.,]*[)%]*$|[—–-]$|[$€£¥]$|[)%]+$")
_MARKED_VALUE = re.compile(r"[,$€£¥%()—]")
_OPEN_END = re.compile(
    r"(?:[,;(—–]|\b(?:and|or|of|to|by|in|for|the|from|with|on|at|per|a|an|as|than|de|und|der|et|des|y))$", re.IGNORECASE
)


@dataclass(frozen=True, slots=True)
class TableLines:
    """Lines `[first, last)` of a page are a table; `header` is the text of its columns' heads.

    `columns` are left and right of its columns of numbers, in points.
    """

    first: int
    last: int
    header: str
    columns: tuple[tuple[float, float], ...] = ()

    def goes_on_as(self, other: TableLines) -> bool:
        """Return whether another table without a header of its own has its numbers below this one's."""
        if other.header or len(other.columns) != len(self.columns):
            return False
        return all(a < d and c < b for (a, b), (c, d) in zip(self.columns, other.columns, strict=True))


def find_tables(lines: Sequence[Line]) -> tuple[list[Line], list[TableLines]]:
    """Return the page's lines, each row of a table on one of them, and where the tables are."""
    kept: list[Line] = []
    tables: list[TableLines] = []
    position = 0
    while (found := _next_table(lines, position)) is not None:
        first, data, last = found
        kept += lines[position:first]
        rows = _whole_rows(lines[data:last])
        head = [line for line in lines[first:data] if not _is_label(line, rows)]
        columns = tuple(_columns(rows))
        table = TableLines(len(kept), len(kept) + data - first + len(rows), _header(head, columns), columns)
        if tables and table.first - tables[-1].last <= _MAX_LABEL_LINES and tables[-1].goes_on_as(table):
            table = replace(table, header=tables[-1].header)
        tables.append(table)
        kept += [*lines[first:data], *rows]
        position = last
    return [*kept, *lines[position:]], tables


def _next_table(lines: Sequence[Line], position: int) -> tuple[int, int, int] | None:
    """Return the next table's first line, its first line with data and its end."""
    at = position
    while at < len(lines):
        if not _is_row(lines[at]):
            at += 1
            continue
        last = _table_end(lines, at)
        data = next((n for n in range(at, last) if _is_data(lines[n])), last)
        first = _header_start(lines, at, position, lines[data:last])
        while data > first and _is_label(lines[data - 1], lines[data:last]):
            data -= 1  # labels above the first number belong to the rows, not to the header
        rows = sum(map(_is_data, lines[data:last]))
        if rows >= 2 or (rows and first < data):
            return first, data, last
        at = last
    return None


def _is_row(line: Line) -> bool:
    """Return whether a line has a label or a number followed by numbers in cells of their own."""
    if not line.size or line.hyphenated:
        return False
    if any(is_numeric(cell.text) for cell in line.cells[1:]):
        return True
    values = _tail(line.text)
    return len(values) >= 2 and sum(_MARKED_VALUE.search(v) is not None for v in values) >= 2


def _tail(text: str) -> list[str]:
    """Return the numbers that end a text."""
    words = text.split()
    at = len(words)
    while at and _VALUE.match(words[at - 1]):
        at -= 1
    return words[at:]


def _is_data(line: Line) -> bool:
    """Return whether a row holds more than years, which are column heads."""
    if not _is_row(line):
        return False
    numbers = [c.text for c in line.cells if is_numeric(c.text)] or _tail(line.text)
    return not all(_YEAR.match(number) for number in numbers if any(map(str.isdigit, number)))


def _table_end(lines: Sequence[Line], at: int) -> int:
    """Return the end of the run of rows from `at`, with the labels between them."""
    left, right, end, labels = lines[at].left, lines[at].right, at + 1, 0
    for n in range(at + 1, len(lines)):
        line, above = lines[n], lines[n - 1]
        drop = above.base - line.base
        if not line.size or not -0.5 * line.size < drop < _MAX_ROW_GAP_EM * max(line.size, above.size):
            break
        if _is_row(line):
            left, right, end, labels = min(left, line.left), max(right, line.right), n + 1, 0
            continue
        labels += 1
        is_prose = line.right - left > _LABEL_SHARE * (right - left) or (
            line.text.endswith(".") and len(line.text) > 60
        )
        if labels > _MAX_LABEL_LINES or (len(line.cells) < 2 and is_prose):
            break
    return end


def _header_start(lines: Sequence[Line], at: int, least: int, rows: Sequence[Line]) -> int:
    """Return the first of the lines above a table that stand over its columns of numbers, past labels in between."""
    values = _values_left(rows)
    first, labels = at, 0
    for n in range(at - 1, max(least, at - _MAX_HEADER_LINES) - 1, -1):
        line = lines[n]
        above = line.base - lines[at].base
        if not 0 < above < _MAX_HEADER_EM * lines[at].size or line.text.endswith((".", ";")):
            break
        if len(line.cells) > 1 or line.left >= values - 3 * line.size or _is_unit(line.text):
            first = n
        elif line.right < values and (labels := labels + 1) <= _MAX_HEADER_LABELS and first == at:
            continue
        else:
            break
    return first


def _is_unit(text: str) -> bool:
    return text.startswith("(") and text.endswith(")") and len(text) < 60


def _values_left(rows: Sequence[Line]) -> float:
    lefts = [cell.left for row in rows for cell in row.cells[1:] if is_numeric(cell.text)]
    return min(lefts, default=float("inf"))


def _is_label(line: Line, rows: Sequence[Line]) -> bool:
    return len(line.cells) < 2 and line.right < _values_left(rows) and not _is_unit(line.text)


def _whole_rows(lines: Sequence[Line]) -> list[Line]:
    """Join labels that were wrapped over several lines with each other and with the row's numbers."""
    rows: list[Line] = []
    for n, line in enumerate(lines):
        above = rows[-1] if rows else None
        following = lines[n + 1] if n + 1 < len(lines) else None
        if above is None or not _is_near(above, line):
            rows.append(line)
        elif _is_row(above) and not (len(above.cells) < 2 and _continues_label(above, line)):
            rows[-1:] = [_inserted(above, line)] if _ends_label(above, line, following) else [above, line]
        elif _continues_label(above, line):
            rows[-1] = _appended(above, line)
        else:
            rows.append(line)
    return rows


def _is_near(above: Line, line: Line) -> bool:
    return abs(above.base - line.base) < _WRAP_EM * max(above.size, line.size)


def _continues_label(above: Line, line: Line) -> bool:
    """Return whether a line goes on with the label above it, or holds its numbers."""
    if above.text.endswith(":") or len(above.cells) > 1:
        return False
    if all(is_numeric(cell.text) for cell in line.cells) and is_numeric(line.text):
        return line.left > above.right or _OPEN_END.search(above.text) is not None
    return above.hyphenated or line.text[0].islower() or _OPEN_END.search(above.text) is not None


def _ends_label(above: Line, line: Line, following: Line | None) -> bool:
    """Return whether a label's last words stand below its numbers."""
    if (
        _is_row(line)
        or not line.text[0].islower()
        or len(line.cells) > 1
        or is_numeric(above.cells[0].text if above.cells else "")
    ):
        return False
    # Lower case followed by lower case is the first of two lines that belong to the row below.
    return following is None or not (_is_row(following) and following.text[0].islower())


def _appended(above: Line, line: Line) -> Line:
    text = _continued(above.text, line.text)
    cells: tuple[Cell, ...] = line.cells or (Cell(line.text, line.left, line.right),)
    first = Cell(above.text, above.left, above.right)
    if not is_numeric(cells[0].text):
        first = Cell(_continued(above.text, cells[0].text), min(above.left, cells[0].left), cells[0].right)
        cells = cells[1:]
    if not cells:
        return replace(line, text=text, left=first.left, cells=(first,))
    return line_of([first, *cells], line)


def _inserted(above: Line, line: Line) -> Line:
    if len(above.cells) < 2:
        return replace(above, text=f"{above.text} {line.text}")
    label = Cell(_continued(above.cells[0].text, line.text), above.left, above.cells[0].right)
    return replace(line_of([label, *above.cells[1:]], above), base=line.base)


def _continued(text: str, following: str) -> str:
    return text + following if text.endswith("\ufffe") else f"{text} {following}"


def _header(head: Sequence[Line], columns: Sequence[tuple[float, float]]) -> str:
    """Return the heads of the columns from left to right, as `Millions | 2018 | 2017`."""
    if not head:
        return ""
    if len(columns) < 2:
        return " ".join(line.text for line in head)[:_MAX_HEADER_CHARS].rstrip()
    texts: list[list[str]] = [[] for _ in range(len(columns) + 1)]
    for line in head:
        for cell in line.cells or (Cell(line.text, line.left, line.right),):
            texts[_column(cell, columns)].append(cell.text)
    joined = [" ".join(words).replace("\ufffe ", "-") for words in texts]
    return " | ".join(text for text in joined if text)[:_MAX_HEADER_CHARS].rstrip(" |")


def _columns(rows: Sequence[Line]) -> list[tuple[float, float]]:
    """Return left and right of the columns of numbers, from the rows with most numbers."""
    values = [_numbers(row) for row in rows if _is_data(row)]
    counts = Counter(len(cells) for cells in values if cells)
    if not counts:
        return []
    most = max((n for n, rows in counts.items() if rows > 1), default=max(counts))
    usual = [cells for cells in values if len(cells) == most]
    return [(min(c.left for c in column), max(c.right for c in column)) for column in zip(*usual, strict=True)]


def _numbers(row: Line) -> list[Cell]:
    """Return the row's numbers without the label, currency signs joined to what they stand at."""
    numbers: list[Cell] = []
    sign: Cell | None = None
    for cell in row.cells[1:]:
        if not is_numeric(cell.text):
            continue
        if any(map(str.isdigit, cell.text)) or cell.text in "—–-":
            numbers.append(replace(cell, left=sign.left) if sign else cell)
            sign = None
        else:
            sign = cell
    return numbers


def _column(cell: Cell, columns: Sequence[tuple[float, float]]) -> int:
    """Return the first column that a head stands over, counted from 1; 0 is the column of labels."""
    if cell.right <= columns[0][0]:
        return 0
    over = [n for n, (left, right) in enumerate(columns, start=1) if cell.left < right and left < cell.right]
    if over:
        return over[0]
    middle = (cell.left + cell.right) / 2
    return min(range(len(columns)), key=lambda n: abs(sum(columns[n]) / 2 - middle)) + 1
