"""What changed between two comparisons (run_differences.py) → lines for a terminal. Computes no figure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from doyen.evaluation.report_text import value_text

MOST_CHANGED = 20
MOST_SETTINGS = 30
CUT = 160


def difference_lines(difference: Mapping[str, Any]) -> list[str]:
    """Return the difference as text: arms with intervals, answers that got worse and better, settings."""
    a, b, asked = difference["a"], difference["b"], difference["questions"]
    lines = [f"A: {_run(a)}", f"B: {_run(b)}", f"{asked['both']} questions in both"]
    if asked["only_a"] or asked["only_b"] or asked["changed"]:
        lines[-1] += f" (only in A: {asked['only_a']}, only in B: {asked['only_b']}, changed: {len(asked['changed'])})"
    for arm, found in difference["arms"].items():
        lines += ["", *_arm_lines(arm, found)]
    for side in ("a", "b"):
        if only := difference[f"arms_only_{side}"]:
            lines += ["", f"only in {side.upper()}: {', '.join(only)}"]
    return [*lines, *_changed_lines(difference), *_setting_lines(difference)]


def _run(about: Mapping[str, Any]) -> str:
    parts = [about["id"] or about["folder"] or "a report", about["created"] or "", f"{about['questions']} questions"]
    return ", ".join(part for part in [*parts, f"advice {about['advice']}"] if part)


def _arm_lines(arm: str, found: Mapping[str, Any]) -> list[str]:
    lines = [f"{arm}: {found['better']} better, {found['worse']} worse, {found['reworded']} in other words only"]
    for name, d in found["metrics"].items():
        sure = "better" if d["low"] > 0 else "worse" if d["high"] < 0 else "not told apart"
        change = f"{d['a']:.3f} → {d['b']:.3f}  {d['value']:+.3f} [{d['low']:+.3f}, {d['high']:+.3f}]"
        lines.append(f"  {name:<14} {change}  p = {d['p']:.3f}, {sure}")
    for name, share in found["shares"].items():
        lines.append(f"  {name:<14} {share['a']:.3f} → {share['b']:.3f}")
    return [*lines, f"  {'seconds':<14} {found['seconds']['a']:.2f} → {found['seconds']['b']:.2f}"]


def _changed_lines(difference: Mapping[str, Any]) -> list[str]:
    lines = []
    for kind in ("worse", "better"):
        rows = [row for row in difference["changed"] if row["change"] == kind]
        lines += ["", f"{kind}: {len(rows)}"] if rows else []
        for row in rows[:MOST_CHANGED]:
            lines.append(f"  {row['id']} ({row['arm']}): {_cut(row['question'])}")
            lines += [f"    {side.upper()} [{row[side]['outcome']}] {_cut(row[side]['answer'])}" for side in ("a", "b")]
        if len(rows) > MOST_CHANGED:
            lines.append(f"  … {len(rows) - MOST_CHANGED} more: --json lists all")
    return lines


def _setting_lines(difference: Mapping[str, Any]) -> list[str]:
    rows = difference["settings"]
    if not rows:
        return ["", "no setting, model, adapter or index differs"]
    lines = [f"  {r['setting']}: {_cut(value_text(r['a']))} → {_cut(value_text(r['b']))}" for r in rows[:MOST_SETTINGS]]
    more = [f"  … {len(rows) - MOST_SETTINGS} more: --json lists all"] if len(rows) > MOST_SETTINGS else []
    return ["", "what differs:", *lines, *more]


def _cut(text: str) -> str:
    line = " ".join("".join(c if c.isprintable() else " " for c in text).split())  # no control codes on a terminal
    return line if len(line) <= CUT else line[:CUT].rstrip() + " …"
