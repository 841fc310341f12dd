"""Cells of tables that people open in spreadsheets: text that begins like a formula is run by none."""

from __future__ import annotations

import re

FORMULA = re.compile(r"'*[=+\-@]")


def guarded(cell: str) -> str:
    """Return a text with an apostrophe before it where it begins like a formula."""
    return f"'{cell}" if FORMULA.match(cell) else cell


def unguarded(cell: str) -> str:
    """Return a text without the apostrophe that `guarded` has put before it."""
    return cell[1:] if cell.startswith("'") and FORMULA.match(cell) else cell
