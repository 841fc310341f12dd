"""An arm's shares and risk–coverage curve, as a report has them → SVG for the page.

Places are in percent where text stands, so the drawings fit any width. Computes no figure.
"""

from __future__ import annotations

from collections.abc import Mapping
from html import escape
from typing import Any

SHARES = (("correct", "correct"), ("wrong", "wrong"), ("refused", "refused"))
BAR_HEIGHT = 52
CURVE_WIDTH, CURVE_HEIGHT = 560, 260
NO_CONFIDENCE = "No arm's answers have a confidence score, so there is no risk–coverage curve."


def shares_chart(report: Mapping[str, Any]) -> str:
    """Return a bar an arm, cut into its correct, wrong and refused shares; nothing where no question is scored."""
    arms = [(arm, found["shares"]) for arm, found in report["arms"].items() if found.get("shares")]
    if not arms:
        return ""
    marks, said = [], []
    for i, (arm, shares) in enumerate(arms):
        words = ", ".join(f"{100 * shares[name]['value']:.1f}% {label}" for name, label in SHARES)
        said.append(f"{arm}: {words}")
        y = BAR_HEIGHT * i
        marks.append(f'<text x="0" y="{y + 16}">{escape(arm)}</text>')
        short = ", ".join(f"{100 * shares[name]['value']:.0f}% {label}" for name, label in SHARES)
        marks.append(f'<text class="tick" x="100%" y="{y + 16}" text-anchor="end">{short}</text>')
        left = 0.0
        for name, _ in SHARES:
            width = 100 * shares[name]["value"]
            marks.append(
                f'<rect class="share-{name}" x="{left:.2f}%" width="{width:.2f}%" y="{y + 24}" height="12">'
                f"<title>{escape(arm)}: {width:.1f}% {name}</title></rect>"
            )
            left += width
    label = escape("Correct, wrong and refused: " + "; ".join(said))
    return (
        f'<figure class="outcomes"><h3>Correct, wrong, refused</h3><svg role="img" aria-label="{label}" width="100%" '
        f'height="{BAR_HEIGHT * len(arms)}">{"".join(marks)}</svg>'
        "<figcaption>Shares of the scored questions. Refusing a question that has no answer is correct, answering it is "
        "wrong; refused: although it can be answered.</figcaption></figure>"
    )


def curve_chart(report: Mapping[str, Any]) -> str:
    """Return the arms' risk–coverage curves, one line each, with their areas; a sentence where there are none."""
    arms = [(arm, found["risk_coverage"]) for arm, found in report["arms"].items() if found.get("risk_coverage")]
    if not arms:
        return f"<p>{NO_CONFIDENCE}</p>"
    top = _top(max(p["risk"] for _, curve in arms for p in curve["points"]))
    marks = _grid(top)
    said, key = [], []
    for i, (arm, curve) in enumerate(arms):
        places = [
            f"{CURVE_WIDTH * p['coverage']:.1f},{CURVE_HEIGHT * (1 - p['risk'] / top):.1f}" for p in curve["points"]
        ]
        if len(places) == 1:  # a single confidence: a point
            x, y = places[0].split(",")
            marks.append(f'<circle class="curve-{i} dot" cx="{x}" cy="{y}" r="5"/>')
        else:
            marks.append(f'<polyline class="curve-{i}" points="{" ".join(places)}"/>')
        said.append(f"{arm} {100 * curve['area']['value']:.1f}%")
        key.append(f'<li class="curve-{i}">{escape(arm)}: {_described(curve)}</li>')
    label = escape("Risk against coverage; mean risk: " + ", ".join(said))
    return (
        '<figure class="outcomes"><h3>Does the confidence score tell right from wrong?</h3>'
        f'<svg class="curves" role="img" aria-label="{label}" viewBox="-46 -14 {CURVE_WIDTH + 70} {CURVE_HEIGHT + 62}">'
        f"{''.join(marks)}</svg><ul>{''.join(key)}</ul><figcaption>Risk–coverage: if only the surest answers are given "
        "(left), how many of those are wrong. A line that rises to the right puts right answers before wrong ones; a flat "
        "one says nothing. Confidence is 1 minus the probability of a refusal.</figcaption></figure>"
    )


def _described(curve: Mapping[str, Any]) -> str:
    risk, area, gain = (curve[name] for name in ("risk", "area", "gain"))
    return (
        f"{100 * risk['value']:.1f}% of {curve['answered']} answers wrong, {100 * area['value']:.1f}% on average over the "
        f"curve; gain {100 * gain['value']:+.1f} points ({100 * gain['low']:+.1f} to {100 * gain['high']:+.1f})"
    )


def _top(risk: float) -> float:
    """Return the end of the axis of risks: the next quarter."""
    return next((end for end in (0.25, 0.5, 0.75) if risk <= end), 1.0)


def _grid(top: float) -> list[str]:
    marks = []
    for i in range(5):
        x, y = CURVE_WIDTH * i / 4, CURVE_HEIGHT * (1 - i / 4)
        marks.append(f'<line class="grid" x1="0" x2="{CURVE_WIDTH}" y1="{y:.1f}" y2="{y:.1f}"/>')
        marks.append(
            f'<text class="tick" x="-8" y="{y + 4:.1f}" text-anchor="end">{100 * top * i / 4:.0f}%</text>'
            if top == 1 or i % 2 == 0
            else ""
        )
        marks.append(f'<text class="tick" x="{x:.0f}" y="{CURVE_HEIGHT + 20}" text-anchor="middle">{25 * i}%</text>')
    marks.append(
        f'<text class="tick" x="{CURVE_WIDTH / 2:.0f}" y="{CURVE_HEIGHT + 42}" text-anchor="middle">'
        "coverage: share of the questions answered</text>"
    )
    return [*marks, '<text class="tick" x="0" y="-4">wrong, of the answers given</text>']
