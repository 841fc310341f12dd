"""The lines of one PDF page → the same lines in reading order, the pieces of one printed row joined.

PDFium gives lines in the order in which they were drawn, which mostly is the reading order and is kept. Two faults are
mended: rows that were drawn in pieces, and columns of prose that were drawn line by line across the gutter.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from statistics import median

from doyen.documents.pdf_lines import Cell, Line, line_of

_SAME_ROW_EM = 0.4
_NEXT_ROW_EM = 2.0
_MIN_COLUMN_LINES = 4
_MIN_PROSE_CHARS = 12
_LETTER_SHARE = 0.6
_GUTTER_SHARE = 0.6
_FULL_SHARE = 0.7  # a line of prose fills that much of its column; the cells of a table seldom do
_MIN_COLUMN_CHARS = 20
_FLOW_SHARE = 0.25  # so many lines of prose begin within a sentence
_NUMERIC = re.compile(r"[\s$€£¥()\[\]%+\-–—.,:/*\d]+(?:x|bps|\([a-z\d]{1,2}\))?$")


def reading_order(lines: Sequence[Line]) -> list[Line]:
    """Return the page's lines in reading order; lines without a place stay as they are."""
    if not all(line.size for line in lines):
        return list(lines)
    rows = _join_numbers(_join_neighbours(lines))
    gutters = _gutters(rows)
    return list(_by_column(rows, gutters)) if gutters else rows


def is_numeric(text: str) -> bool:
    """Return whether a cell holds a number, or the dash or currency sign that stands for one."""
    return _NUMERIC.match(text) is not None


def _join_neighbours(lines: Sequence[Line]) -> list[Line]:
    """Join lines that were drawn one after the other and stand side by side on one baseline."""
    rows: list[Line] = []
    for line in lines:
        if rows and _side_by_side(rows[-1], line) and not rows[-1].hyphenated:
            rows[-1] = _joined(rows[-1], line)
        else:
            rows.append(line)
    return rows


def _side_by_side(one: Line, other: Line) -> bool:
    if abs(one.base - other.base) > _SAME_ROW_EM * max(one.size, other.size):
        return False
    return one.right <= other.left + 1 or other.right <= one.left + 1


def _joined(one: Line, other: Line) -> Line:
    cells = sorted((*_cells(one), *_cells(other)), key=lambda cell: cell.left)
    return line_of(cells, one if len(one.text) >= len(other.text) else other)


def _cells(line: Line) -> tuple[Cell, ...]:
    return line.cells or (Cell(line.text, line.left, line.right),)


def _join_numbers(rows: list[Line]) -> list[Line]:
    """Join numbers that were drawn apart from their label, as by a table drawn column by column."""
    numbers = [n for n, row in enumerate(rows) if is_numeric(row.text)]
    if not numbers or len(numbers) == len(rows):
        return rows
    labels = [n for n, row in enumerate(rows) if not is_numeric(row.text)]
    taken: dict[int, Line] = {n: rows[n] for n in labels}
    kept = set(labels)
    for number in numbers:
        of_row = (n for n in labels if _side_by_side(taken[n], rows[number]) and taken[n].left < rows[number].left)
        label = next(of_row, -1)
        if label < 0:
            kept.add(number)
            taken[number] = rows[number]
        else:
            taken[label] = _joined(taken[label], rows[number])
    return [taken[n] for n in sorted(kept)]


def _gutters(rows: Sequence[Line]) -> list[float]:
    """Return where gutters between columns of prose run that lines were drawn across, from left to right."""
    gaps = [gap for row in rows for gap in _prose_gaps(row.cells)]
    gaps += [gap for one, other in zip(rows, rows[1:], strict=False) for gap in _alternation(one, other)]
    if len(gaps) < _MIN_COLUMN_LINES:
        return []
    most = max(_support(gaps, (left + right) / 2) for left, right in gaps)
    found: list[float] = []
    remaining = gaps
    while len(remaining) >= max(_MIN_COLUMN_LINES, _GUTTER_SHARE * most):
        at = max(((left + right) / 2 for left, right in remaining), key=lambda x: _support(remaining, x))
        if _support(remaining, at) < max(_MIN_COLUMN_LINES, _GUTTER_SHARE * most):
            break
        found.append(_middle(remaining, at))
        remaining = [gap for gap in remaining if not gap[0] < at < gap[1]]
    found.sort()
    return found if found and _are_columns(rows, found) else []


def _prose_gaps(cells: Sequence[Cell]) -> Iterator[tuple[float, float]]:
    for one, other in zip(cells, cells[1:], strict=False):
        if _is_prose(one.text) and _is_prose(other.text):
            yield one.right, other.left


def _alternation(one: Line, other: Line) -> Iterator[tuple[float, float]]:
    """Yield the gap between lines that follow each other side by side, on baselines that differ a little."""
    near = abs(one.base - other.base) < _NEXT_ROW_EM * max(one.size, other.size)
    if near and one.right < other.left and _is_prose(one.text) and _is_prose(other.text):
        yield one.right, other.left


def _is_prose(text: str) -> bool:
    return len(text) >= _MIN_PROSE_CHARS and sum(map(str.isalpha, text)) >= _LETTER_SHARE * len(text)


def _support(gaps: Sequence[tuple[float, float]], at: float) -> int:
    return sum(left < at < right for left, right in gaps)


def _middle(gaps: Sequence[tuple[float, float]], at: float) -> float:
    around = [gap for gap in gaps if gap[0] < at < gap[1]]
    return (max(left for left, _ in around) + min(right for _, right in around)) / 2


def _are_columns(rows: Sequence[Line], gutters: Sequence[float]) -> bool:
    """Tell columns of prose from the columns of a table: prose fills its lines."""
    columns: list[list[Cell]] = [[] for _ in range(len(gutters) + 1)]
    for row in rows:
        for at, cells in _split(row, gutters).items():
            columns[at].append(Cell(" ".join(c.text for c in cells), cells[0].left, cells[-1].right))
    return all(_is_filled(column) for column in columns)


def _is_filled(column: Sequence[Cell]) -> bool:
    prose = [cell for cell in column if _is_prose(cell.text)]
    if len(prose) < _MIN_COLUMN_LINES or 2 * len(prose) < len(column):
        return False
    if median(len(cell.text) for cell in prose) < _MIN_COLUMN_CHARS:
        return False
    if sum(_flows(cell.text[0]) for cell in prose) < _FLOW_SHARE * len(prose):
        return False
    width = max(cell.right for cell in prose) - min(cell.left for cell in prose)
    return median(cell.right - cell.left for cell in prose) >= _FULL_SHARE * width


def _flows(first: str) -> bool:
    """Return whether a line that begins so goes on with a sentence; scripts without capitals always may."""
    return first.isalpha() and not first.isupper()


def _split(row: Line, gutters: Sequence[float]) -> dict[int, list[Cell]]:
    """Return the row's cells by column; a row of which a cell crosses a gutter has none."""
    split: dict[int, list[Cell]] = {}
    for cell in _cells(row):
        column = _column(cell, gutters)
        if column < 0:
            return {}
        split.setdefault(column, []).append(cell)
    return split


def _column(cell: Cell, gutters: Iterable[float]) -> int:
    column = 0
    for gutter in gutters:
        if cell.left < gutter < cell.right:
            return -1
        column += cell.left >= gutter
    return column


def _by_column(rows: Sequence[Line], gutters: Sequence[float]) -> Iterator[Line]:
    """Yield the columns one after the other, between the rows that go across all of them."""
    columns: list[list[Line]] = [[] for _ in range(len(gutters) + 1)]
    for row in rows:
        split = _split(row, gutters)
        if not split:
            yield from _flushed(columns)
            yield row
        for column, cells in split.items():
            columns[column].append(line_of(cells, row))
    yield from _flushed(columns)


def _flushed(columns: Sequence[list[Line]]) -> Iterator[Line]:
    for column in columns:
        yield from sorted(column, key=lambda line: -line.base)
        column.clear()
