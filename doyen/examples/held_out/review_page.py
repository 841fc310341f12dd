"""Generated questions → a page on which a person looks at each with its passage and its gold, and marks it.

examples/questions_review.html    one file that loads nothing; its button saves the table that is read back (marks.py)
"""

from __future__ import annotations

import json
from collections.abc import Callable
from importlib import resources
from pathlib import Path
from typing import Any

from doyen.config import write_atomic
from doyen.errors import StoreError
from doyen.examples.held_out.marks import COLUMNS, TABLE_FILE, cells_of
from doyen.examples.held_out.rows import Made, Row

PAGE_FILE = "questions_review.html"
BESIDE = 300
"""Characters shown before and behind the evidence."""


def write_page(expert: Path, made: Made, text_of: Callable[[str], str]) -> None:
    """Write the page."""
    write_atomic(expert / "examples" / PAGE_FILE, render_page(made, text_of))


def render_page(made: Made, text_of: Callable[[str], str]) -> str:
    """Return the page; texts stand in it as JSON that cannot end its script element."""
    template = resources.files("doyen.examples.held_out").joinpath("review_template.html").read_text("utf-8")
    rows = [_row(row, text_of) for row in made.rows]
    data = {"rows": rows, "columns": COLUMNS, "file": TABLE_FILE}
    text = json.dumps(data, ensure_ascii=False, separators=(",", ":"))
    safe = text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")
    return template.replace("{{data}}", safe)


def _row(row: Row, text_of: Callable[[str], str]) -> dict[str, Any]:
    try:
        before, evidence, after = around(text_of(row.document), row)
    except StoreError:  # a neighbouring text: it is not in this index
        before, evidence, after = "", row.evidence, ""
    return {"cells": dict(zip(COLUMNS, cells_of(row), strict=True)), "passage": [before, evidence, after]}


def around(text: str, row: Row) -> tuple[str, str, str]:
    """Return what stands before a row's evidence, the evidence, and what stands behind it, cut at words."""
    before = text[max(0, row.start - BESIDE) : row.start]
    after = text[row.end : row.end + BESIDE]
    if row.start > BESIDE:
        before = "… " + before.partition(" ")[2]
    if row.end + BESIDE < len(text):
        after = after.rpartition(" ")[0] + " …"
    return before, text[row.start : row.end], after
