"""A report's strata → tables for the page and for Markdown. Computes no figure."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape
from typing import Any

from doyen.evaluation.page_table import figure_cell, row_of, table
from doyen.evaluation.report_text import percent_with_interval
from doyen.evaluation.strata import FEW, LABELS

_NOTE = (
    f"Overall score with its 95% interval. Grey: fewer than {FEW} questions, which say little. “Not in the training”: documents "
    "added since, or without training examples."
)


def strata_html(report: Mapping[str, Any]) -> str:
    """Return a table of all strata, the smallest ones greyed; empty where there are none."""
    arms, rows = list(report["arms"]), []
    for group, strata in (report.get("strata") or {}).items():
        rows.append(
            f'<tr class="group"><th scope="rowgroup" colspan="{len(arms) + 2}">{escape(LABELS[group])}</th></tr>'
        )
        for name, own in strata.items():
            cells = [
                f"<td>{own['n']}</td>",
                *(figure_cell("overall", own["arms"].get(arm, {}).get("overall")) for arm in arms),
            ]
            rows.append(row_of(escape(name), cells, ' class="few"' if own["few"] else ""))
    head = ["Stratum", "Questions", *map(escape, arms)]
    return table("Where the arms differ (%)", head, rows) + f'<p class="note">{_NOTE}</p>' if rows else ""


def strata_lines(report: Mapping[str, Any]) -> list[list[str]]:
    """Return the rows of a Markdown table: stratum, questions, and one figure an arm; not escaped."""
    rows = []
    for group, strata in (report.get("strata") or {}).items():
        for name, own in strata.items():
            figures = [own["arms"].get(arm, {}).get("overall") for arm in report["arms"]]
            cells = [percent_with_interval(figure) if figure else "–" for figure in figures]
            few = f" (fewer than {FEW})" if own["few"] else ""
            rows.append([f"{LABELS[group]}: {name}", f"{own['n']}{few}", *cells])
    return rows
