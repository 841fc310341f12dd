"""A report's learning curve → sentences, lines for the terminal, Markdown, and its drawing for the page. Computes no figure."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from html import escape
from typing import Any

from doyen.evaluation.curve_fit import WORTH, more_at

WIDTH, HEIGHT = 560, 240
_HEADS = {"yes": "Yes, it seems", "no": "No", "unclear": "That cannot be told yet"}
QUESTION = "Is it worth collecting more examples?"


def _span(low: float, high: float, *, signed: bool = True) -> str:
    one, two = (f"{100 * v:+.1f}" if signed else f"{100 * v:.1f}" for v in (low, high))
    return one if one == two else f"{one} to {two}"


def curve_sentence(arm: str, row: Mapping[str, Any]) -> str:
    """Say in plain words what more examples would bring to an arm."""
    whole, n = row["points"][-1]["examples"], row["step"]["n"]
    twice, four = (more_at(dict(row), times) for times in (2, 4))
    interval = f"95% interval {_span(twice['low'], twice['high'])}"
    much = f"{arm} would gain {_span(twice['least'], twice['most'])} points more ({interval})"
    often = f"with four times as many {_span(four['least'], four['most'])} ({_span(four['low'], four['high'])})"
    head = f"{_HEADS[row['worth']]}: with twice the examples ({2 * whole:,}) {much}, {often}"
    if row["worth"] == "yes":
        return f"{head}."
    if row["worth"] == "no":
        return f"{head}: surely less than {100 * WORTH:.0f} point for twice the work."
    if twice["low"] > 0:
        last = f"{row['points'][-2]['examples']:,} to {whole:,} examples {100 * row['step']['value']:+.1f}"
        return f"{head}. But the last step that was measured gave less: from {last}; the curve may have levelled off."
    more = row["more_questions"]
    asked = f", about {more:,} more would tell if it is as it seems" if more else ""
    return f"{head}. {n} questions are too few to tell it from nothing{asked}."


def curve_remarks(row: Mapping[str, Any]) -> list[str]:
    """Say how far the curve can be trusted."""
    points = row["points"]
    step, off = row["step"], max(row["log"]["off"], row["power"]["off"])
    measured = f"from {points[-2]['examples']:,} to {points[-1]['examples']:,} examples the score changed by "
    measured += f"{100 * step['value']:+.1f} points ({_span(step['low'], step['high'])})"
    return [
        f"Measured, not extrapolated: {measured}.",
        f"The curve stands on {len(points)} points with one training each, and a form with two numbers: it holds little. The "
        "intervals say how far other questions would move it, not how far another seed of the training would, and "
        f"beyond {points[-1]['examples']:,} examples nothing was measured.",
        f"Two forms are fitted, a line over the logarithm and a power law of the error; the points lie up to "
        f"{100 * off:.1f} points off them, and both intervals together are shown.",
        "More examples of the same kind are meant: others, about what is not covered yet, may bring more.",
    ]


def curve_lines(report: Mapping[str, Any]) -> list[str]:
    """Return the curve for the terminal."""
    curve = report.get("curve")
    if not curve:
        return []
    lines = [f"learning curve, gain in points: {QUESTION.lower()}"]
    for arm, row in curve["arms"].items():
        cells = [
            f"{p['examples']:,} examples {100 * p['gain']['value']:+.1f} [{_span(p['gain']['low'], p['gain']['high'])}]"
            for p in row["points"]
        ]
        lines += [f"  {arm} over {row['against']}: {'; '.join(cells)}", f"    {row['answer']}"]
    return [*lines, *[f"  - {remark}" for remark in curve["remarks"]]]


# ------------------------------------------------------------------ Markdown
def curve_markdown(
    report: Mapping[str, Any],
    escaped: Callable[[str], str],
    table: Callable[[Sequence[str], Sequence[Sequence[str]]], str],
) -> str:
    """Return the curve as Markdown; `escaped` and `table` are those of markdown_report.py."""
    curve = report.get("curve")
    if not curve:
        return ""
    rows = []
    for arm, row in curve["arms"].items():
        for name, examples, found in _figures(row):
            rows.append([f"{escaped(arm)} over {escaped(row['against'])}", f"{examples:,}{name}", _gain(found)])
    answers = "\n".join(f"- {escaped(row['answer'])}" for row in curve["arms"].values())
    remarks = "\n".join(f"- {escaped(remark)}" for remark in curve["remarks"])
    head = ["Arm", "Examples", "Gain in points (95%)"]
    return f"## {QUESTION}\n\n{answers}\n\n{table(head, rows)}\n\n{remarks}"


def _figures(row: Mapping[str, Any]) -> list[tuple[str, int, dict[str, float]]]:
    """Return (mark, examples, gain) of the measured points and of what is carried on; of the latter both forms at once."""
    found = [("", p["examples"], dict(p["gain"])) for p in row["points"]]
    for log, power in zip(row["log"]["at"], row["power"]["at"], strict=True):
        both = (log["gain"], power["gain"])
        gain = {"value": sum(g["value"] for g in both) / 2}
        gain |= {"low": min(g["low"] for g in both), "high": max(g["high"] for g in both)}
        found.append((" (extrapolated)", log["examples"], gain))
    return found


def _gain(found: Mapping[str, float]) -> str:
    return f"{100 * found['value']:+.1f} ({_span(found['low'], found['high'])})"


# ------------------------------------------------------------------ the page
def curve_html(report: Mapping[str, Any]) -> str:
    """Return the section of the page; nothing without a curve."""
    curve = report.get("curve")
    if not curve:
        return ""
    answers = "".join(f"<p>{escape(row['answer'])}</p>" for row in curve["arms"].values())
    charts = "".join(_chart(arm, row) for arm, row in curve["arms"].items())
    remarks = "".join(f"<li>{escape(remark)}</li>" for remark in curve["remarks"])
    return f'<h2>{QUESTION}</h2>{answers}<div class="pair">{charts}</div><ul class="note">{remarks}</ul>'


def _chart(arm: str, row: Mapping[str, Any]) -> str:
    """Draw the gain over the logarithm of the examples: measured points with intervals, then what is carried on."""
    figures = _figures(row)
    first, last = math.log(figures[0][1]), math.log(figures[-1][1])
    low = min(0.0, *(f["low"] for _, _, f in figures))
    high = max(0.05, *(f["high"] for _, _, f in figures))

    def x(examples: int) -> float:
        return 24 + (WIDTH - 48) * (math.log(examples) - first) / (last - first)

    def y(gain: float) -> float:
        return HEIGHT * (high - gain) / (high - low)

    marks = _lines(low, high, y)
    measured = [(x(n), f) for mark, n, f in figures if not mark]
    beyond = [measured[-1], *((x(n), f) for mark, n, f in figures if mark)]
    band = [f"{a:.1f},{y(f['high']):.1f}" for a, f in beyond] + [f"{a:.1f},{y(f['low']):.1f}" for a, f in beyond[::-1]]
    marks.append(f'<polygon class="band" points="{" ".join(band)}"/>')
    for css, points in (("measured", measured), ("beyond", beyond)):
        places = " ".join(f"{a:.1f},{y(f['value']):.1f}" for a, f in points)
        marks.append(f'<polyline class="{css}" points="{places}"/>')
    for a, f in measured:
        top, middle, bottom = (y(f[key]) for key in ("high", "value", "low"))
        marks.append(f'<line class="bar" x1="{a:.1f}" x2="{a:.1f}" y1="{top:.1f}" y2="{bottom:.1f}"/>')
        marks.append(f'<circle class="measured" cx="{a:.1f}" cy="{middle:.1f}" r="5"/>')
    for _, n, _ in figures:
        marks.append(f'<text class="tick" x="{x(n):.0f}" y="{HEIGHT + 22}" text-anchor="middle">{n:,}</text>')
    said = "; ".join(f"{n:,} examples{mark} {_gain(f)}" for mark, n, f in figures)
    label = escape(f"Gain of {arm} over {row['against']} in points: {said}")
    return (
        f'<figure class="outcomes"><h3>{escape(arm)}: gain over {escape(row["against"])}</h3>'
        f'<svg class="curves learning" role="img" aria-label="{label}" viewBox="-46 -14 {WIDTH + 70} {HEIGHT + 62}">'
        f"<title>{label}</title>{''.join(marks)}</svg><figcaption>Points of the overall score. Solid: measured, with 95% "
        "intervals. Dashed: carried on to two and four times the examples, with what both fitted forms allow.</figcaption></figure>"
    )


def _lines(low: float, high: float, y: Callable[[float], float]) -> list[str]:
    """Return horizontal lines at round gains, with their labels."""
    step = next(s for s in (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0) if (high - low) / s <= 6)
    marks = []
    for i in range(math.ceil(low / step), math.floor(high / step) + 1):
        at = y(i * step)
        marks.append(f'<line class="grid" x1="0" x2="{WIDTH}" y1="{at:.1f}" y2="{at:.1f}"/>')
        marks.append(f'<text class="tick" x="-8" y="{at + 4:.1f}" text-anchor="end">{100 * i * step:+.0f}</text>')
    marks.append(
        f'<text class="tick" x="{WIDTH / 2:.0f}" y="{HEIGHT + 42}" text-anchor="middle">examples (logarithmic)</text>'
    )
    return marks
