"""A comparison's report → one HTML page that needs no other file and loads nothing from the network. Computes no figure."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from html import escape
from importlib import resources
from typing import Any

from doyen.evaluation import outcome_charts
from doyen.evaluation.cost_sections import cost_html
from doyen.evaluation.curve_text import curve_html
from doyen.evaluation.further_sections import further_section
from doyen.evaluation.methods import won_back
from doyen.evaluation.page_table import NONE, figure_cell, row_of, table
from doyen.evaluation.pairs import PAIRED, resolution
from doyen.evaluation.question_origin import origin_html
from doyen.evaluation.report_text import (
    ARM_NAMES,
    LABELS,
    behaviour,
    group_rows,
    percent,
    scale,
    settings_rows,
    what_was_asked,
)
from doyen.evaluation.strata_sections import strata_html

HTML_BYTES = 2_700_000
# Longest answer and quote shown in the page, tried in turn until it fits HTML_BYTES.
CUTS = ((4000, 300), (1200, 300), (600, 160), (300, 80), (160, 0))
SEEN = "Seen 4 times in 5"


def render_page(report: Mapping[str, Any]) -> str:
    """Return the report as one HTML page that needs no other file."""
    template = resources.files("doyen.evaluation").joinpath("report_template.html").read_text("utf-8")
    parts = {
        "verdict": _verdict(report),
        "chart": _chart(report),
        "cost": cost_html(report),
        "reasons": _further_reasons(report),
        "behaviour": _arms_table(report, behaviour(report), "How each arm behaves"),
        "strata": strata_html(report),
        "metrics": _arms_table(report, _all_metrics(report), "Every figure, with its 95% interval", intervals=True),
        "kinds": _groups_table(report, "by_kind", "Answer score by kind of question"),
        "tags": _groups_table(report, "by_tag", "Answer score by tag"),
        "differences": _differences_table(report),
        "outcomes": outcome_charts.shares_chart(report) + outcome_charts.curve_chart(report),
        "retrieval": _retrieval_table(report),
        "methods": _methods_table(report.get("methods", ())),
        "curve": curve_html(report),
        "further": further_section(report),
        "manifest": _settings(report),
        "filters": "".join(f'<option value="{escape(arm)}">{escape(arm)}</option>' for arm in report["arms"]),
        "kind_options": "".join(f"<option>{escape(k)}</option>" for k in report["questions"]["kinds"]),
    }
    fixed = sum(len(part.encode()) for part in parts.values()) + len(template.encode())
    for answer_length, quote_length in CUTS:
        data = _embedded_rows(report, answer_length, quote_length)
        if fixed + len(data.encode()) <= HTML_BYTES:
            break
    return re.sub(r"\{\{(\w+)\}\}", lambda m: (parts | {"data": data})[m[1]], template)


def _embedded_rows(report: Mapping[str, Any], answer_length: int, quote_length: int) -> str:
    """The rows as JSON that cannot end its script element, texts cut to the lengths given."""

    def cut(text: str, length: int) -> str:
        return text if len(text) <= length else text[:length].rstrip() + " …"

    def citation(c: Mapping[str, Any]) -> dict[str, Any]:
        shown = {"document": c["document"], "page": c["page"], "quote": cut(c["quote"], quote_length)}
        return shown | ({"attributed": True} if c.get("attributed") else {})

    def run(t: Mapping[str, Any]) -> dict[str, Any]:
        return {"adapter": t["adapter"], "answer": cut(t["answer"], answer_length // 2), "outcome": t["outcome"]}

    rows = []
    for row in report["rows"]:
        arms = {
            arm: {
                "answer": cut(a["answer"], answer_length),
                "outcome": a["outcome"],
                "score": a["scores"].get("overall"),
                "seconds": a["seconds"],
                "citations": [citation(c) for c in a["citations"]],
            }
            | ({"runs": [run(t) for t in a["trainings"]]} if "trainings" in a else {})
            for arm, a in row["arms"].items()
        }
        shown = {key: row[key] for key in ("id", "question", "kind", "tags", "answerable", "gold")}
        rows.append(shown | {"answers": [cut(gold, answer_length) for gold in row["answers"]], "arms": arms})
    text = json.dumps(rows, ensure_ascii=False, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _verdict(report: Mapping[str, Any]) -> str:
    advice = report["advice"]
    arm = escape(advice["arm"])
    overall = report["arms"].get(advice["arm"], {}).get("metrics", {}).get("overall")
    scored = f" It scores {percent(overall['value'])} on {overall['n']} held-out questions." if overall else ""
    reasons = "".join(f"<li>{escape(reason)}</li>" for reason in advice["reasons"][:FIRST_REASONS])
    note = "" if advice["measured"] else "<p><strong>This is advice and not a measurement.</strong></p>"
    return (
        f'<p class="asked">{escape(what_was_asked(report))}</p><h1>Use <em>{arm}</em>: {escape(ARM_NAMES.get(advice["arm"], ""))}.'
        f"<span>{scored}</span></h1>{origin_html(report)}{note}<h2>Why</h2><ul>{reasons}</ul>"
    )


FIRST_REASONS = 3  # on the first screen, beside the chart and the costs


def _further_reasons(report: Mapping[str, Any]) -> str:
    reasons = "".join(f"<li>{escape(reason)}</li>" for reason in report["advice"]["reasons"][FIRST_REASONS:])
    return f'<section class="reasons"><h2>Further reasons</h2><ul>{reasons}</ul></section>' if reasons else ""


_USE = ' ◂<tspan class="use"> use this</tspan>'
ROW_HEIGHT = 56


def _chart(report: Mapping[str, Any]) -> str:
    """Dots with 95% intervals. Places are in percent, so the drawing fits any width and its text keeps its size."""
    chosen, marks, said = report["advice"]["arm"], [], []
    arms = [
        (arm, found["metrics"]["overall"]) for arm, found in report["arms"].items() if "overall" in found["metrics"]
    ]
    if not arms:
        return ""
    height = ROW_HEIGHT * len(arms)
    for x in range(0, 101, 25):
        anchor = "start" if x == 0 else "end" if x == 100 else "middle"
        marks.append(f'<line class="grid" x1="{x}%" x2="{x}%" y1="0" y2="{height + 4}"/>')
        marks.append(f'<text class="tick" x="{x}%" y="{height + 20}" text-anchor="{anchor}">{x}%</text>')
    for i, (arm, o) in enumerate(arms):
        y = ROW_HEIGHT * i + 38
        value, low, high = (100 * o[key] for key in ("value", "low", "high"))
        said.append(f"{arm} {value:.1f}%, 95% interval {low:.1f} to {high:.1f}%")
        marks.append(
            f'<g class="{"chosen" if arm == chosen else "arm"}">'
            f'<text x="0" y="{y - 16}">{escape(arm)}{_USE if arm == chosen else _of(report, arm)}</text>'
            f'<text x="100%" y="{y - 16}" text-anchor="end">{value:.1f}% '
            f'<tspan class="tick">({low:.1f} to {high:.1f})</tspan></text>'
            f'<line class="track" x1="0" x2="100%" y1="{y}" y2="{y}"/>'
            f'<line class="range" x1="{low:.2f}%" x2="{high:.2f}%" y1="{y}" y2="{y}"/>'
            f'<circle cx="{value:.2f}%" cy="{y}" r="6"/></g>'
        )
    label = escape("Overall score of each arm: " + "; ".join(said))
    return (
        f'<svg role="img" aria-label="{label}" width="100%" height="{height + 28}"><title>{label}</title>'
        f"{''.join(marks)}</svg>"
    )


def _of(report: Mapping[str, Any], arm: str) -> str:
    """Say over how many questions an arm was measured, where that is not all."""
    asked, of = report["arms"][arm]["metrics"]["overall"]["n"], report["questions"]["scored"]
    return f' <tspan class="tick">· {asked} of {of}</tspan>' if asked != of else ""


def _all_metrics(report: Mapping[str, Any]) -> list[str]:
    return [name for name in LABELS if any(name in found["metrics"] for found in report["arms"].values())]


def _arms_table(report: Mapping[str, Any], names: Sequence[str], caption: str, *, intervals: bool = False) -> str:
    """One row a figure and one column an arm where `intervals` is set, else the other way round."""
    arms = report["arms"]
    if intervals:
        rows = [
            row_of(
                LABELS[name] + (" (%)" if scale(name)[2] == "%" else ""),
                [figure_cell(name, a["metrics"].get(name)) for a in arms.values()],
            )
            for name in names
        ]
        return table(caption, ["Figure", *map(escape, arms)], rows)
    shown = ["overall", *(name for name in names if any(name in a["metrics"] for a in arms.values()))]
    rows = []
    for arm, found in arms.items():
        cells = []
        for name in shown:
            interval, (factor, digits, unit) = found["metrics"].get(name), scale(name)
            cells.append(f"<td>{factor * interval['value']:.{digits}f}{unit}</td>" if interval else NONE)
        rows.append(row_of(escape(arm), cells, ' class="chosen"' if arm == report["advice"]["arm"] else ""))
    return table(caption, ["Arm", *(LABELS[name] for name in shown)], rows)


def _groups_table(report: Mapping[str, Any], group: str, caption: str) -> str:
    rows = [
        row_of(escape(name), [f"<td>{n}</td>", *(figure_cell(metric, figure) for figure in found)])
        for name, n, metric, found in group_rows(report, group)
    ]
    head = [group.removeprefix("by_").capitalize(), "Questions", *map(escape, report["arms"])]
    return table(caption + " (%)", head, rows) if rows else ""


def _differences_table(report: Mapping[str, Any]) -> str:
    rows = []
    for pair in report["differences"]:
        cells = [_difference_cell(pair["metrics"].get(name)) for name in PAIRED]
        cells.append(_resolution_cell(pair["metrics"].get("overall")))
        rows.append(row_of(f"{escape(pair['b'])} minus {escape(pair['a'])}", cells))
    caption = "Paired differences in points; bold where one arm beats the other, corrected for all pairs (Holm)"
    return table(caption, ["Pair", *(LABELS[name] for name in PAIRED), SEEN], rows) if rows else ""


def _difference_cell(d: Mapping[str, Any] | None) -> str:
    if d is None:
        return NONE
    value = f"{100 * d['value']:+.1f}"
    value = f"<strong>{value}</strong>" if d["beats"] else value
    p = "p &lt; 0.001" if d["p_holm"] < 0.001 else f"p = {d['p_holm']:.3f}"
    return f'<td>{value} <span class="interval">{100 * d["low"]:+.1f} to {100 * d["high"]:+.1f}, {p}</span></td>'


def _resolution_cell(d: Mapping[str, Any] | None) -> str:
    if d is None:
        return NONE
    seen = f"{100 * d['detectable']:.1f}" if d["detectable"] else "–"
    return f'<td>{seen} <span class="interval">{resolution(d)}</span></td>'


def _retrieval_table(report: Mapping[str, Any]) -> str:
    if not report["retrieval"]:
        return "<p>No retrieval was measured.</p>"
    rows = [
        row_of(escape(LABELS.get(name, name)), [figure_cell(name, found), f"<td>{found['n']}</td>"])
        for name, found in report["retrieval"].items()
    ]
    return table("Retrieval: is a known source among the first hits (%)", ["Figure", "All arms with rag", "n"], rows)


def _methods_table(methods: Sequence[Mapping[str, Any]]) -> str:
    """Ways of training on the same examples, and what NF4 costs without training."""
    rows = []
    for m in methods:
        cells = [f"<td>{m['before']:.3f}</td>", f"<td>{m['after']:.3f}</td>", f"<td>{m['seconds'] / 60:.1f}</td>"]
        cells += [f"<td>{m['peak_memory_gib']:.2f}</td>", f"<td>{m['trained_parameters']:,}</td>"]
        rows.append(row_of(escape(f"{m['method']} ({m['adapter']})"), cells))
    head = ["Method", "Held-out loss before training", "After", "Minutes", "Peak GiB", "Parameters trained"]
    back = won_back(methods)
    said = (
        "" if back is None else f"<p>Training wins back {min(back, 1):.0%} of what NF4 costs the untrained model.</p>"
    )
    return table("Ways of training, on the same examples", head, rows) + said if rows else ""


def _settings(report: Mapping[str, Any]) -> str:
    rows = [row_of(escape(key), [f'<td class="text">{escape(value)}</td>']) for key, value in settings_rows(report)]
    return table("Settings and versions", ["Setting", "Value"], rows)
