"""Numbers by step → a line chart as inline SVG, or a line of block characters. Knows no training."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape

_BLOCKS = "▁▂▃▄▅▆▇█"
_LEFT = 9.0  # percent of the width left to the labels
_MOST_POINTS = 600

Points = Sequence[tuple[float, float]]
Scale = Callable[[float], float]


@dataclass(frozen=True, slots=True)
class Curve:
    """One line of a chart: `(step, value)` pairs, drawn in the style of a CSS class, perhaps with a dot each."""

    name: str
    points: Points
    css: str = ""
    dots: bool = False


def sparkline(values: Sequence[float], width: int = 16) -> str:
    """Return the last of `values` as `width` block characters at most, each the mean of its share of them."""
    known = [v for v in values if math.isfinite(v)]
    if not known:
        return ""
    columns = min(width, len(known))
    edges = [round(i * len(known) / columns) for i in range(columns + 1)]
    means = [sum(known[a:b]) / (b - a) for a, b in zip(edges, edges[1:], strict=False)]
    low, span = min(means), max(means) - min(means)
    return "".join(_BLOCKS[round((m - low) / span * 7) if span > 0 else 0] for m in means)


def smoothed(points: Points, share: float = 0.9) -> list[tuple[float, float]]:
    """Return exponentially weighted means, corrected for their start (Kingma and Ba, arXiv 1412.6980, section 3)."""
    found, mean, weight = [], 0.0, 0.0
    for step, value in points:
        mean, weight = share * mean + (1 - share) * value, share * weight + 1 - share
        found.append((step, mean / weight))
    return found


def chart(curves: Sequence[Curve], label: str, *, height: int = 200, mark: float | None = None) -> str:
    """Return the curves as an SVG that fits any width while its text keeps its size; `mark` is a step to point at."""
    values = [v for c in curves for _, v in c.points if math.isfinite(v)]
    if not values:
        return "<p>Nothing yet.</p>"
    steps = [step for c in curves for step, _ in c.points]
    first, last = min(1.0, *steps), max(steps)
    ticks = axis_ticks(min(values), max(values))
    low, high = ticks[0], ticks[-1]

    def x(step: float) -> float:
        return 100 * (step - first) / max(1.0, last - first)

    def y(value: float) -> float:
        return 100 * (1 - (value - low) / (high - low))

    parts = [_grid(ticks, y, height), _steps(first, last, height)]
    inner = [_line(c, x, y) for c in curves]
    if mark is not None:
        inner.append(
            f'<line class="kept" vector-effect="non-scaling-stroke" x1="{x(mark):.2f}" x2="{x(mark):.2f}" y1="0" y2="100"/>'
        )
    parts.append(
        f'<svg x="{_LEFT}%" width="{100 - _LEFT}%" height="{height}" viewBox="0 0 100 100" preserveAspectRatio="none">'
        f"{''.join(inner)}</svg>"
    )
    parts += [_dots(c, x, y, height) for c in curves if c.dots or len(c.points) == 1]
    said = escape(label)
    return f'<svg role="img" aria-label="{said}" height="{height + 26}"><title>{said}</title>{"".join(parts)}</svg>'


def axis_ticks(low: float, high: float, most: int = 5) -> list[float]:
    """Return round numbers from at most `low` to at least `high`, about `most` of them."""
    if high - low < 1e-12 * max(abs(high), 1e-9):
        low, high = low - (abs(low) / 10 or 1), high + (abs(high) / 10 or 1)
    raw = (high - low) / (most - 1)
    unit = 10 ** math.floor(math.log10(raw))
    size = next(m * unit for m in (1, 2, 2.5, 5, 10) if m * unit >= raw * (1 - 1e-9))
    first = math.floor(low / size + 1e-9)
    count = math.ceil(high / size - 1e-9) - first
    return [round((first + i) * size, 12) for i in range(max(1, count) + 1)]


def _grid(ticks: Sequence[float], y: Scale, height: int) -> str:
    rows = []
    for tick in ticks:
        at = y(tick) * height / 100
        rows.append(f'<line class="grid" x1="{_LEFT}%" x2="100%" y1="{at:.1f}" y2="{at:.1f}"/>')
        rows.append(f'<text x="{_LEFT - 1.2}%" y="{at + 4:.1f}" text-anchor="end">{_label(tick)}</text>')
    return "".join(rows)


def _label(tick: float) -> str:
    """Write a number in five characters or so: 5e-4, not 0.0005."""
    if 0 < abs(tick) < 0.01:
        number, power = f"{tick:.1e}".split("e")
        return f"{number.removesuffix('.0')}e{int(power)}"
    return f"{tick:g}"


def _steps(first: float, last: float, height: int) -> str:
    return (
        f'<text x="{_LEFT}%" y="{height + 20}">step {first:g}</text>'
        f'<text x="100%" y="{height + 20}" text-anchor="end">{last:g}</text>'
    )


def _thinned(points: Points) -> Points:
    """Leave out points that no screen could show."""
    every = max(1, len(points) // _MOST_POINTS)
    return [p for i, p in enumerate(points) if i % every == 0 or i == len(points) - 1]


def _line(curve: Curve, x: Scale, y: Scale) -> str:
    at = " ".join(f"{x(s):.2f},{y(v):.2f}" for s, v in _thinned(curve.points) if math.isfinite(v))
    return f'<polyline class="{curve.css}" points="{at}"/>'


def _dots(curve: Curve, x: Scale, y: Scale, height: int) -> str:
    css = "" if curve.dots else ' class="only"'
    return "".join(
        f'<circle{css} cx="{_LEFT + x(s) * (100 - _LEFT) / 100:.2f}%" cy="{y(v) * height / 100:.1f}" r="4">'
        f"<title>{escape(curve.name)}, step {s:g}: {v:.4g}</title></circle>"
        for s, v in _thinned(curve.points)
    )
