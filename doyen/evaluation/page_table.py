"""Rows of cells → the tables of a report's page. Cells are escaped already; captions are not."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from doyen.evaluation.report_text import scale

NONE = '<td class="none">–</td>'


def table(caption: str, head: Sequence[str], rows: Sequence[str]) -> str:
    """Return a table that scrolls in itself where it is too wide."""
    cells = "".join(f'<th scope="col">{cell}</th>' for cell in head)
    return (
        f'<div class="scroll" tabindex="0" role="region" aria-label="{escape(caption)}"><table>'
        f"<caption><span>{escape(caption)}</span></caption><thead><tr>{cells}</tr></thead><tbody>{''.join(rows)}</tbody></table></div>"
    )


def row_of(label: str, cells: Sequence[str], css: str = "") -> str:
    """Return one row; `label` is its head."""
    return f'<tr{css}><th scope="row">{label}</th>{"".join(cells)}</tr>'


def figure_cell(name: str, interval: Mapping[str, Any] | None) -> str:
    """Return a cell with a figure, without its unit, and its interval; a dash where it was not measured."""
    if interval is None:
        return NONE
    factor, digits, _ = scale(name)
    value, low, high = (f"{factor * interval[key]:.{digits}f}" for key in ("value", "low", "high"))
    return f'<td>{value} <span class="interval">{low} to {high}</span></td>'
