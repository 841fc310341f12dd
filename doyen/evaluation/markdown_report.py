"""A report → report.md, for a wiki: Markdown with tables as GitHub, GitLab and Confluence read them.

Texts of models and documents are escaped: they can neither add markup nor break a table. Computes no figure.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from doyen.config import write_atomic
from doyen.evaluation.cost_sections import NOTE, cost_rows
from doyen.evaluation.curve_text import curve_markdown
from doyen.evaluation.further_sections import further_markdown
from doyen.evaluation.question_origin import origin_markdown
from doyen.evaluation.report_text import ARM_NAMES, LABELS, behaviour, group_rows, scale, settings_rows, what_was_asked
from doyen.evaluation.strata_sections import strata_lines

MOST_MISSES = 20
CUT = 200
# Entities cannot begin markup, and inside tables they are safer than a backslash before a pipe.
_ENTITIES = {"&": "&amp;", "<": "&lt;", ">": "&gt;", "|": "&#124;", "$": "&#36;", "@": "&#64;", "~": "&#126;"}
_ESCAPED = {ord(c): entity for c, entity in _ENTITIES.items()} | {ord(c): f"\\{c}" for c in "\\`*_[]#!{}"}


def write_markdown(report: Mapping[str, Any], folder: Path) -> None:
    """Write report.md into a comparison's folder, whole or not at all."""
    write_atomic(folder / "report.md", render_markdown(report))


def render_markdown(report: Mapping[str, Any]) -> str:
    """Return the report as Markdown: the choice, the arms, their cost, differences, strata, misses and settings."""
    parts = [
        _choice(report),
        origin_markdown(report, escaped, table),
        _arms(report),
        _cost(report),
        _behaviour(report),
        curve_markdown(report, escaped, table),
        _differences(report),
        _strata(report),
        _groups(report, "by_kind", "By kind of question"),
        _groups(report, "by_tag", "By tag"),
        _retrieval(report),
        further_markdown(report, escaped, table),
        _misses(report),
        _settings(report),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


# ------------------------------------------------------------------ text
def escaped(text: str, cut: int | None = None) -> str:
    """Return text as one line of Markdown that shows exactly it; longer than `cut` characters it ends in an ellipsis."""
    line = " ".join("".join(" " if unicodedata.category(c) == "Cc" else c for c in text).split())
    if cut is not None and len(line) > cut:
        line = line[:cut].rstrip() + " …"
    marked = line.translate(_ESCAPED)
    return re.sub(r"^(\d*)([-+]|(?<=\d)[.)](?=\s|$))", r"\1\\\2", marked)  # "- " and "1. " would begin a list


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a Markdown table: the first column on the left, figures on the right. Cells are escaped already."""
    lines = [head, ["---", *["---:"] * (len(head) - 1)], *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def figure(name: str, interval: Mapping[str, Any] | None, *, bounds: bool = True) -> str:
    """Return a figure with its interval as `41.2% (35.0 to 47.1)`; seconds and tokens in their own units."""
    if interval is None:
        return "–"
    factor, digits, unit = scale(name)
    value, low, high = (f"{factor * interval[key]:.{digits}f}" for key in ("value", "low", "high"))
    return f"{value}{unit} ({low} to {high})" if bounds else f"{value}{unit}"


def points(interval: Mapping[str, Any] | None) -> str:
    """Return a difference as `+4.1 (+1.0 to +7.2), p = 0.012`; in bold where it is sure.

    Sure: as the report's tests say (`beats`, with `p_holm`), else where the interval leaves out zero.
    """
    if interval is None:
        return "–"
    value, low, high = (100 * interval[key] for key in ("value", "low", "high"))
    sure = interval["beats"] if "beats" in interval else interval["low"] > 0 or interval["high"] < 0
    shown = f"**{value:+.1f}**" if sure else f"{value:+.1f}"
    p = interval.get("p_holm", interval.get("p"))
    said = "" if p is None else ", p &lt; 0.001" if p < 0.001 else f", p = {p:.3f}"
    return f"{shown} ({low:+.1f} to {high:+.1f}){said}"


# ------------------------------------------------------------------ parts
def _choice(report: Mapping[str, Any]) -> str:
    advice = report["advice"]
    lines = [f"# Use {escaped(advice['arm'])}: {ARM_NAMES.get(advice['arm'], '')}", ""]
    if not advice["measured"]:
        lines += ["**This is advice and not a measurement.**", ""]
    lines += [f"- {escaped(reason)}" for reason in advice["reasons"]]
    if advice["runner_up"]:
        lines.append(f"- Runner-up: {escaped(advice['runner_up'])}.")
    made = report["manifest"].get("created") or ""
    about = what_was_asked(report) + (f" · {escaped(made)}" if made else "")
    return "\n".join([*lines, "", about])


def _arms(report: Mapping[str, Any]) -> str:
    rows = []
    for arm, found in report["arms"].items():
        shares, curve = found.get("shares") or {}, found.get("risk_coverage")
        label = f"**{escaped(arm)}**" if arm == report["advice"]["arm"] else escaped(arm)
        cells = [figure(name, found["metrics"].get(name)) for name in ("overall", "answer_score")]
        cells += [figure(name, shares.get(name)) for name in ("correct", "wrong", "refused")]
        rows.append([label, *cells, points(curve["gain"]) if curve else "–"])
    head = ["Arm", "Overall score", "Answer score", "Correct", "Wrong", "Refused", "Gain of the confidence score"]
    return (
        f"## The arms\n\n{table(head, rows)}\n\n"
        "In brackets: 95% intervals. Correct, wrong and refused add up to all scored questions; refusing a question without "
        "an answer is correct. The gain, in points: how much fewer answers are wrong, on average over all coverages, if the "
        "surest are given first (risk–coverage curve)."
    )


def _cost(report: Mapping[str, Any]) -> str:
    head, rows = cost_rows(report)
    return f"## Cost\n\n{table(head, [[escaped(c) for c in row] for row in rows])}\n\n{NOTE}" if rows else ""


def _strata(report: Mapping[str, Any]) -> str:
    rows = [[escaped(cell) for cell in row] for row in strata_lines(report)]
    head = ["Overall score", "Questions", *map(escaped, report["arms"])]
    return f"## Where the arms differ\n\n{table(head, rows)}" if rows else ""


def _behaviour(report: Mapping[str, Any]) -> str:
    names = [n for n in (*behaviour(report), "prompt_tokens", "completion_tokens") if _measured(report, n)]
    if not names:
        return ""
    rows = [
        [escaped(arm), *(figure(n, found["metrics"].get(n), bounds=False) for n in names)]
        for arm, found in report["arms"].items()
    ]
    costs = report["manifest"].get("cost_usd")
    head = ["Arm", *(LABELS[n] for n in names), *(["US$"] if costs else [])]
    if costs:
        rows = [
            [*row, f"{costs[arm]:.4f}" if arm in costs else "–"] for row, arm in zip(rows, report["arms"], strict=True)
        ]
    return f"## Behaviour\n\n{table(head, rows)}"


def _measured(report: Mapping[str, Any], name: str) -> bool:
    return any(name in found["metrics"] for found in report["arms"].values())


def _differences(report: Mapping[str, Any]) -> str:
    names = [name for name in LABELS if any(name in pair["metrics"] for pair in report["differences"])]
    rows = [
        [f"{escaped(pair['b'])} minus {escaped(pair['a'])}", *(points(pair["metrics"].get(name)) for name in names)]
        for pair in report["differences"]
    ]
    if not names:
        return ""
    head = ["Pair", *(LABELS[name] for name in names)]
    corrected = any("p_holm" in d for pair in report["differences"] for d in pair["metrics"].values())
    bold = (
        "one arm beats the other, corrected for all pairs (Holm)" if corrected else "the 95% interval leaves out zero"
    )
    return f"## Paired differences, in points\n\n{table(head, rows)}\n\nBold: {bold}."


def _groups(report: Mapping[str, Any], group: str, title: str) -> str:
    rows = [
        [escaped(name), str(n), *(figure(metric, one) for one in found)]
        for name, n, metric, found in group_rows(report, group)
    ]
    head = ["Answer score", "Questions", *map(escaped, report["arms"])]
    return f"## {title}\n\n{table(head, rows)}" if rows else ""


def _retrieval(report: Mapping[str, Any]) -> str:
    found = report["retrieval"]
    if not found:
        return ""
    rows = [[escaped(LABELS.get(name, name)), figure(name, i), str(i["n"])] for name, i in found.items()]
    return f"## Retrieval\n\n{table(['Is a known source among the first hits', 'All arms with rag', 'n'], rows)}"


def _misses(report: Mapping[str, Any]) -> str:
    """Return the questions that the chosen arm did not answer rightly: what a reader looks at next."""
    arm = report["advice"]["arm"]
    missed = [r for r in report["rows"] if r["arms"].get(arm, {}).get("outcome") in ("wrong", "refused")]
    if not missed:
        return ""
    rows = []
    for row in missed[:MOST_MISSES]:
        given = row["arms"][arm]
        known = " / ".join(row["answers"]) if row["answerable"] else "none: should be refused"
        cells = [escaped(text, CUT) or "–" for text in (row["question"], known, given["answer"])]
        rows.append([escaped(row["id"]), *cells, given["outcome"]])
    head = ["Question", "Text", "Known answer", f"Answer of {escaped(arm)}", "Outcome"]
    more = f"\n\n{len(missed) - MOST_MISSES} more are in report.html." if len(missed) > MOST_MISSES else ""
    lines = table(head, rows).replace("---:", "---")
    return f"## What {escaped(arm)} did not get right ({len(missed)} questions)\n\n{lines}{more}"


def _settings(report: Mapping[str, Any]) -> str:
    cells = [[escaped(key), escaped(value) or "–"] for key, value in settings_rows(report)]
    return f"## Settings and versions\n\n{table(['Setting', 'Value'], cells).replace('---:', '---')}"
