"""A report's costs → the table on the page's first screen, and the same for Markdown. Computes no figure."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape
from typing import Any

from doyen.evaluation.page_table import row_of, table

HEAD = (
    "Arm",
    "Seconds alone, median",
    "Seconds alone, 95% under",
    "Seconds in a batch, median",
    "Tokens an answer",
    "Memory, GiB",
    "Disk, MiB",
    "Minutes to build",
    "Minutes for a changed document",
)
NOTE = (
    "Seconds alone: from the question to the whole answer, one question at a time, search included, of a sample of the questions. "
    "In a batch: an answer's share of the time where many are written together. "
    "Memory: resident, of the comparing process after the arm's answers; an upper bound, as it also holds what earlier arms needed. "
    "Building: recorded ingests and the training. A changed document: the ingest of it; for a fine-tuned arm another training, "
    "without the making of new examples."
)


def cost_rows(report: Mapping[str, Any]) -> tuple[list[str], list[list[str]]]:
    """Return the head and one row an arm; '–' where nothing was measured. No rows for a report without costs."""
    cost = report.get("cost")
    if not cost:
        return [], []
    arms: Mapping[str, Any] = cost["arms"]
    priced = any(own.get("usd_per_1000") is not None for own in arms.values())
    energy = any(own.get("wh_per_1000") is not None for own in arms.values())
    head = [*HEAD, *(["US$ for 1,000 answers"] if priced else []), *(["Wh for 1,000 answers"] if energy else [])]
    rows = []
    for arm, own in arms.items():
        row = [arm, *(_number(own.get(name), 2) for name in ("latency_p50", "latency_p95", "seconds_p50"))]
        row += [_number(own.get("tokens_p50"), 0), _number(own.get("memory_gib"), 2), _number(own.get("disk_mib"), 0)]
        row += [_minutes(arm, cost["build"]["index"], cost["build"]["training"])]
        row += [_minutes(arm, cost["keeping_current"]["rag"], cost["keeping_current"]["finetuned"])]
        row += [_number(own.get("usd_per_1000"), 3)] if priced else []
        rows.append(row + ([_number(own.get("wh_per_1000"), 1)] if energy else []))
    return head, rows


def _number(value: float | None, digits: int) -> str:
    return "–" if value is None else f"{value:,.{digits}f}"


def _minutes(arm: str, index: Mapping[str, Any] | None, training: Mapping[str, Any] | None) -> str:
    """Return the minutes of what an arm is made of: `0.4 + 16.0`; a part that was not recorded is a dash."""
    parts = [*([index] if "rag" in arm else []), *([training] if "finetuned" in arm else [])]
    if not parts:
        return "0"
    return " + ".join("–" if part is None else _short(part["seconds"] / 60, part.get("how")) for part in parts)


def _short(minutes: float, how: str | None) -> str:
    about = "about " if how == "estimated" else ""
    return f"{about}{minutes:.1f}" if minutes >= 0.1 else f"{about}{minutes:.2f}" if minutes >= 0.01 else "under 0.01"


def cost_html(report: Mapping[str, Any]) -> str:
    """Return the cost table; empty for a report without costs."""
    head, rows = cost_rows(report)
    if not rows:
        return ""
    chosen = report["advice"]["arm"]
    lines = [
        row_of(
            escape(row[0]),
            [f"<td>{escape(cell)}</td>" for cell in row[1:]],
            ' class="chosen"' if row[0] == chosen else "",
        )
        for row in rows
    ]
    return table("What each arm costs", [escape(cell) for cell in head], lines) + f'<p class="note">{escape(NOTE)}</p>'
