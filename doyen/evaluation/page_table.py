"""Rows of cells → the tables of a report's page. Cells are escaped already; captions are not."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape


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
