"""An evaluation's figures → one HTML page, complete in itself: tables, and the curve of errors over what goes straight through."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

_COLOURS = ("#1f6feb", "#d1242f", "#1a7f37", "#8250df")
_W, _H, _LEFT, _BOTTOM = 640, 320, 60, 40
_STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; color: #1f2328; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; }
table { border-collapse: collapse; margin: 1rem 0; font-variant-numeric: tabular-nums; }
th, td { border-bottom: 1px solid #d0d7de; padding: .3rem .8rem; text-align: left; }
.soft { color: #59636e; } svg text { font-size: 13px; fill: #59636e; }
"""


def page_of(report: Mapping[str, Any]) -> str:
    """Return the page."""
    arms = report["arms"]
    parts = [
        f"<h1>Workflow {escape(report['workflow'])}</h1>",
        f"<p class=soft>{report['rows']} labelled rows of {escape(report['labelled'])}, {escape(report['created'])}</p>",
        *[f"<p><b>Note:</b> {escape(w)}</p>" for w in report["warnings"]],
        "<h2>Decisions</h2>",
        _table(
            (
                "arm",
                f"right ({report['decision']})",
                "failed",
                "to a person by the flow",
                "straight through",
                "of these wrong",
                "calibration error",
            ),
            [_arm_row(arm, figures) for arm, figures in arms.items()],
        ),
        f"<p class=soft>Straight through: with a confidence for at most {report['max_errors']:.0%} errors; fitted on one half of the rows and "
        "measured on the other, both ways. In brackets: 95% intervals.</p>",
        "<h2>Differences</h2>",
        _table(("", "right decisions", "p (Holm)"), [_difference_row(row) for row in report["differences"]]),
        "<h2>Steps</h2>",
        _table(("step", *arms), _step_rows(arms)),
        "<h2>Errors and what goes straight through</h2>",
        _curves({arm: f["confidence"].get("curve", ()) for arm, f in arms.items()}, report["max_errors"]),
    ]
    head = f"<!doctype html><html lang=en><meta charset=utf-8><title>Workflow {escape(report['workflow'])}</title><style>{_STYLE}</style>"
    return head + "\n".join(parts) + "</html>\n"


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    def line(cells: Sequence[str], tag: str) -> str:
        return "<tr>" + "".join(f"<{tag}>{escape(cell)}</{tag}>" for cell in cells) + "</tr>"

    return "<table>" + line(head, "th") + "".join(line(row, "td") for row in rows) + "</table>"


def shown(interval: Mapping[str, Any] | None) -> str:
    """Return a share with its interval, in per cent."""
    if not interval:
        return "–"
    return f"{interval['value']:.1%} ({interval['low']:.1%} to {interval['high']:.1%})"


def _arm_row(arm: str, figures: Mapping[str, Any]) -> list[str]:
    sure = figures["confidence"]
    at = sure.get("at_threshold") or {}
    error = sure.get("calibration_error")
    by_flow = shown(figures["for_a_person_by_the_flow"])
    row = [
        arm,
        shown(figures["decision"]),
        str(figures["failed"]),
        by_flow,
        shown(at.get("through")),
        shown(at.get("errors")),
    ]
    return [*row, "–" if error is None else f"{error:.3f}"]


def _difference_row(row: Mapping[str, Any]) -> list[str]:
    points = f"{100 * row['value']:+.1f} points ({100 * row['low']:+.1f} to {100 * row['high']:+.1f})"
    return [f"{row['arm']} − {row['minus']}", points, f"{row['p_holm']:.4f}"]


def _step_rows(arms: Mapping[str, Any]) -> list[list[str]]:
    names = list(dict.fromkeys(name for figures in arms.values() for name in figures["steps"]))
    rows = []
    for name in names:
        rows.append([name, *(shown(figures["steps"].get(name)) for figures in arms.values())])
        fields: dict[str, Any] = next(
            (f["steps"][name].get("fields", {}) for f in arms.values() if name in f["steps"]), {}
        )
        for field in fields:
            cells = (f["steps"].get(name, {}).get("fields", {}).get(field) for f in arms.values())
            rows.append([f"{name}.{field}", *map(shown, cells)])
    return rows


def _curves(curves: Mapping[str, Sequence[Mapping[str, float]]], max_errors: float) -> str:
    highest = max([max_errors * 2, *(p["errors"] for points in curves.values() for p in points)], default=0.1)

    def place(through: float, errors: float) -> str:
        return f"{_LEFT + through * (_W - _LEFT - 20):.1f},{(_H - _BOTTOM) * (1 - errors / highest) + 5:.1f}"

    lines = [
        f'<svg viewBox="0 0 {_W} {_H}" width="{_W}" role="img" aria-label="share of errors over share straight through">',
        f'<polyline fill="none" stroke="#d0d7de" points="{place(0, highest)} {place(0, 0)} {place(1, 0)}"/>',
        f'<polyline fill="none" stroke="#59636e" stroke-dasharray="4 4" points="{place(0, max_errors)} {place(1, max_errors)}"/>',
        f'<text x="{_W / 2}" y="{_H - 8}" text-anchor="middle">share of rows straight through</text>',
        f'<text x="4" y="16">wrong, up to {highest:.0%}</text>',
    ]
    for colour, (arm, points) in zip(_COLOURS * 2, curves.items(), strict=False):
        if points:
            path = " ".join(place(p["through"], p["errors"]) for p in points)
            lines.append(
                f'<polyline fill="none" stroke="{colour}" stroke-width="2" points="{path}"><title>{escape(arm)}</title></polyline>'
            )
    legend = " ".join(
        f'<span style="color:{colour}">■</span> {escape(arm)}'
        for colour, arm in zip(_COLOURS * 2, curves, strict=False)
    )
    return "".join(lines) + f"</svg><p>{legend}</p>"
