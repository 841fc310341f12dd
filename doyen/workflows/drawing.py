"""A Workflow → a diagram of its steps: Mermaid text, or an HTML page with an SVG that needs no network."""

from __future__ import annotations

from html import escape

from doyen.workflows.definition import (
    Check,
    Classify,
    Decide,
    Extract,
    Lookup,
    Retrieve,
    Review,
    Step,
    Workflow,
    prompt_of,
)
from doyen.workflows.validating import references

_WIDTH, _HEIGHT, _GAP, _MARGIN = 380, 64, 46, 20
_COLOURS = {"retrieve": "#ddf4ff", "lookup": "#ddf4ff", "check": "#fff8c5", "review": "#ffebe9", "decide": "#dafbe1"}
_SHAPES = {"decide": ("{{", "}}"), "review": ("([", "])"), "retrieve": ("[(", ")]"), "lookup": ("[(", ")]")}


def edges(flow: Workflow) -> list[tuple[str, str]]:
    """Return which value goes into which step, each pair once; the input's columns are "input"."""
    found: dict[tuple[str, str], None] = {}
    for step in flow.steps:
        for _, path in references(step):
            name = path.split(".")[0]
            found[("input" if name in flow.columns else name, step.name)] = None
    return list(found)


def summary(step: Step) -> str:
    """Say in a few words what a step does."""
    if isinstance(step, Classify):
        return " · ".join(step.choices)
    if isinstance(step, Extract):
        return ", ".join(step.fields)
    if isinstance(step, Decide):
        rest = " · ".join(step.choices) or step.otherwise
        return f"{len(step.rules)} rules, then {'the model: ' if step.choices else ''}{rest}"
    if isinstance(step, Retrieve):
        return f"{step.passages or 'the'} passages" + (
            f" of {', '.join(t.text for t in step.filters)}" if step.filters else ""
        )
    if isinstance(step, Lookup):
        return " ".join(step.sql.split())
    if isinstance(step, Check):
        return f"of {step.of}; else {step.on_fail}"
    if isinstance(step, Review):
        return step.because
    prompt = prompt_of(step)
    return " ".join(prompt.instruction.split()) if prompt else ""


def mermaid(flow: Workflow) -> str:
    """Return the flow as Mermaid text."""
    lines = ["flowchart TD", f'  input[/"input: {_quoted(", ".join(flow.columns), 60)}"/]']
    for step in flow.steps:
        opening, closing = _SHAPES.get(step.do, ("[", "]"))
        when = f"<br>when {_quoted(step.when.text, 50)}" if step.when else ""
        lines.append(
            f'  {step.name}{opening}"<b>{step.name}</b> ({step.do})<br>{_quoted(summary(step), 60)}{when}"{closing}'
        )
    lines += [f"  {a} --> {b}" for a, b in edges(flow)]
    return "\n".join([*lines, f"  {flow.decision} --> decision([decision])", ""])


def _quoted(text: str, most: int) -> str:
    short = text if len(text) <= most else text[: most - 1] + "…"
    return short.replace('"', "#quot;").replace("<", "#lt;").replace(">", "#gt;")


def page(flow: Workflow) -> str:
    """Return the flow as an HTML page: a box a step from top to bottom, and lines from each value to where it is used."""
    names = ["input", *flow.step_names]
    top = {name: _MARGIN + i * (_HEIGHT + _GAP) for i, name in enumerate(names)}
    left = 170
    height = _MARGIN + len(names) * (_HEIGHT + _GAP)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {left + _WIDTH + 200} {height}" width="{left + _WIDTH + 200}">'
    ]
    parts += [_line(names.index(a), names.index(b), top[a], top[b], left) for a, b in edges(flow)]
    parts.append(_box("input", "", ", ".join(flow.columns), "#f6f8fa", top["input"], left, ""))
    for step in flow.steps:
        colour = _COLOURS.get(step.do, "#ffffff")
        when = f"when {step.when.text}" if step.when else ""
        parts.append(_box(step.name, step.do, summary(step), colour, top[step.name], left, when))
    style = "body{font-family:system-ui,sans-serif;margin:2rem} text{font-family:system-ui,sans-serif;font-size:14px}"
    head = f"<!doctype html><html lang=en><meta charset=utf-8><title>{escape(flow.name)}</title><style>{style}</style>"
    title = f"<h1>{escape(flow.title or flow.name)}</h1><p>decides: {escape(flow.decision)}</p>"
    return head + title + "".join(parts) + "</svg></html>\n"


def _box(name: str, do: str, text: str, colour: str, top: int, left: int, when: str) -> str:
    short = text if len(text) <= 52 else text[:51] + "…"
    above = f'<text x="{left + _WIDTH + 8}" y="{top + 20}" fill="#59636e">{escape(when[:60])}</text>' if when else ""
    return (
        f'<g><title>{escape(text)}</title><rect x="{left}" y="{top}" width="{_WIDTH}" height="{_HEIGHT}" rx="8" fill="{colour}" '
        f'stroke="#59636e"/><text x="{left + 12}" y="{top + 25}" font-weight="bold">{escape(name)}'
        f'<tspan font-weight="normal" fill="#59636e"> {escape(do)}</tspan></text>'
        f'<text x="{left + 12}" y="{top + 48}">{escape(short)}</text>{above}</g>'
    )


def _line(first: int, last: int, top: int, bottom: int, left: int) -> str:
    """Draw a line: straight down to the next box, round the left side past others."""
    start, end = top + _HEIGHT, bottom
    if last == first + 1:
        middle = left + _WIDTH // 2
        return f'<path d="M{middle} {start}V{end - 4}" stroke="#59636e" fill="none"/><path d="M{middle} {end}l-5-9h10z" fill="#59636e"/>'
    out = left - 14 * min(last - first, 11)
    y1, y2 = top + _HEIGHT // 2, bottom + _HEIGHT // 2
    curve = f"M{left} {y1}C{out} {y1} {out} {y2} {left - 8} {y2}"
    return f'<path d="{curve}" stroke="#8c959f" fill="none"/><path d="M{left} {y2}l-9-5v10z" fill="#8c959f"/>'
