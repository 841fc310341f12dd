"""A run's curve and figures → `training.html`: one page that needs no other file, written while the run goes on.

Enters: history.jsonl and what is known of the run. Knows no model.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Mapping, Sequence
from html import escape
from importlib import resources
from pathlib import Path
from typing import Any

from doyen.config import write_atomic
from doyen.finetuning.drawing import Curve, Points, chart, smoothed
from doyen.finetuning.forgetting import MOST_RISE

PAGE_FILE = "training.html"
EVERY_S = 60.0


class TrainingPage:
    """The page of a run in its work folder, written anew at most once every `every_s` seconds."""

    def __init__(self, work: Path, facts: Mapping[str, Any], *, every_s: float = EVERY_S) -> None:
        self.path = work / PAGE_FILE
        self._facts, self._every_s, self._written = facts, every_s, -every_s

    def update(self) -> None:
        """Write the page if the last time is long enough ago."""
        now = time.monotonic()
        if now - self._written < self._every_s:
            return
        self._written = now
        write_atomic(self.path, render_training(self._facts, read_history(self.path.parent), running=True))


def write_page(folder: Path, facts: Mapping[str, Any]) -> None:
    """Write the page of a finished run into the adapter's folder; `facts` is its manifest."""
    write_atomic(folder / PAGE_FILE, render_training(facts, read_history(folder), running=False))


def read_history(folder: Path) -> list[dict[str, Any]]:
    """Return the lines of a run's history.jsonl; none if there is no such file."""
    path = folder / "history.jsonl"
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    return [json.loads(line) for line in lines]


def render_training(facts: Mapping[str, Any], history: Sequence[Mapping[str, Any]], *, running: bool) -> str:
    """Return the page. `facts` has the keys of an adapter's manifest, of which a run that goes on knows some only."""
    template = resources.files("doyen.finetuning").joinpath("training_template.html").read_text("utf-8")
    measured = facts.get("held_out") or {}
    kept = measured.get("kept_step")
    train, held_out = _points(history, "loss"), _points(history, "held_out_loss")
    if held_out and "before" in measured:
        held_out = [(0, measured["before"]), *held_out]
    curves = [Curve("training", train, "each"), Curve("training, smoothed", smoothed(train))]
    keys = ['<span class="key each">each step</span><span class="key">smoothed</span>']
    if held_out:
        curves.append(Curve("held-out", held_out, "held-out", dots=True))
        keys.append('<span class="key held-out">held-out examples</span>')
    mark = kept if kept and history and kept < history[-1]["step"] else None
    if mark:
        keys.append(f"dashed: step {mark}, whose weights were kept")
    parts = {
        "refresh": '<meta http-equiv="refresh" content="60">' if running else "",
        "title": escape(_title(facts, history, running)),
        "about": escape(" · ".join(str(facts[key]) for key in ("model", "method", "created") if facts.get(key))),
        "summary": _summary(facts, history, running),
        "warnings": "".join(f'<p class="warning">{escape(line)}</p>' for line in _warnings(facts)),
        "key": "".join(keys),
        "loss": chart(curves, _said(train, held_out), height=260, mark=mark),
        "rate": chart([Curve("learning rate", _points(history, "learning_rate"))], "Learning rate by step", height=150),
        "pace": chart([Curve("tokens/s", _points(history, "tokens_per_s"))], "Tokens a second by step", height=150),
        "tables": _tables(facts),
    }
    return re.sub(r"\{\{(\w+)\}\}", lambda m: parts[m[1]], template)


def _points(history: Sequence[Mapping[str, Any]], key: str) -> list[tuple[float, float]]:
    return [(row["step"], row[key]) for row in history if isinstance(row.get(key), int | float)]


def _title(facts: Mapping[str, Any], history: Sequence[Mapping[str, Any]], running: bool) -> str:
    if not running:
        return f"Training of {facts['name']}"
    if not history:
        return f"Training of {facts['name']}: not yet begun"
    return f"Training of {facts['name']}: step {history[-1]['step']} of {history[-1]['steps']}"


def _said(train: Points, held_out: Points) -> str:
    if not train:
        return "Loss by step"
    said = f"Training loss from {train[0][1]:.3f} to {train[-1][1]:.3f} in {train[-1][0]:g} steps"
    return said + (f"; held-out loss from {held_out[0][1]:.3f} to {held_out[-1][1]:.3f}" if held_out else "")


def _summary(facts: Mapping[str, Any], history: Sequence[Mapping[str, Any]], running: bool) -> str:
    lines = []
    if running and history:
        last = history[-1]
        left = f"{last['seconds_left'] / 60:.0f} min left, " if last["seconds_left"] >= 90 else ""
        lines.append(f"{left}{last['tokens_per_s']:.0f} tokens/s. The page is written anew every minute.")
    if not running:
        lines.append(
            f"{facts['steps']} steps, {facts['tokens']:,} tokens in {facts['seconds']:.0f} s; "
            f"{facts['peak_memory_gib']} GiB of memory at most."
        )
    found = facts.get("held_out") or {}
    if found.get("stopped_early"):
        lines.append(f"Stopped early: the held-out loss rose, and the weights of step {found['kept_step']} are kept.")
    return "".join(f"<p>{escape(line)}</p>" for line in lines)


def _warnings(facts: Mapping[str, Any]) -> list[str]:
    found = facts.get("forgetting") or {}
    if found.get("rise", 0.0) > MOST_RISE:
        return [
            f"General texts take {found['rise']:.1%} more bits a byte than with the base model: the adapter has cost "
            "the model some of what it could do."
        ]
    return []


def _tables(facts: Mapping[str, Any]) -> str:
    parts = []
    for title, key in (
        ("Held-out loss", "held_out"),
        ("Forgetting", "forgetting"),
        ("When it refuses", "calibration"),
        ("Gates", "gates"),
        ("Examples", "examples"),
        ("Settings", "settings"),
        ("Machine", "machine"),
        ("Versions", "versions"),
    ):
        rows = {k: v for k, v in (facts.get(key) or {}).items() if k != "questions"}
        if rows:
            cells = "".join(
                f"<tr><th>{escape(_name(k))}</th><td>{escape(_value(v))}</td></tr>" for k, v in rows.items()
            )
            parts.append(f'<h2>{escape(title)}</h2><div class="scroll"><table>{cells}</table></div>')
    return "".join(parts)


def _name(key: str) -> str:
    return key.replace("_", " ")


def _value(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{_name(str(k))} {_value(v)}" for k, v in value.items()) or "none"
    if isinstance(value, list | tuple):
        return ", ".join(map(_value, value)) or "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return "none" if value is None or value == "" else f"{value:,}" if isinstance(value, int) else str(value)
