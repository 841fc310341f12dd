"""`--fail-under` → the arms of a comparison, or of two runs' difference, that fall short, each in a sentence for a build's log."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from doyen.errors import UsageError

RECOMMENDED = ""
"""The key of a bound that names no arm."""


def parse_bounds(given: Sequence[str], arms: Sequence[str], *, low: float = 0.0) -> dict[str, float]:
    """Read bounds such as `0.5` (key RECOMMENDED) and `rag=0.45`; numbers from `low` to 1.

    Raises:
        UsageError: a bound is no such number, or names an arm that is not among `arms`; all faults together.
    """
    bounds: dict[str, float] = {}
    faults = []
    for text in given:
        arm, _, number = text.rpartition("=")
        try:
            bounds[arm.strip()] = value = float(number)
        except ValueError:
            value = float("nan")
        if not low <= value <= 1:
            faults.append(f"'{text}' is not a number from {low:g} to 1")
        if "=" in text and arm.strip() not in arms:
            faults.append(f"'{text}' names an arm that is not compared")
    if faults:
        raise UsageError(f"--fail-under: {'; '.join(faults)}", hint=f"0.5 for 50%, or ARM=0.5; arms: {', '.join(arms)}")
    return bounds


def shortfalls(report: Mapping[str, Any], bounds: Mapping[str, float]) -> list[str]:
    """Return a sentence for each arm whose overall score is below its bound; RECOMMENDED is the arm advised.

    An arm without a score falls short: a build must not pass because nothing was measured.
    """
    found = []
    for key, bound in bounds.items():
        arm = key or report["advice"]["arm"]
        overall = report["arms"].get(arm, {}).get("metrics", {}).get("overall")
        if overall is None:
            found.append(f"{arm} has no overall score (asked for: {bound:g} or more)")
        elif overall["value"] < bound:
            interval = f"95% interval {overall['low']:.3f} to {overall['high']:.3f}, {overall['n']} questions"
            found.append(f"{arm} scores {overall['value']:.3f} overall, under {bound:g} ({interval})")
    return found


def declines(difference: Mapping[str, Any], bounds: Mapping[str, float]) -> list[str]:
    """Return a sentence for each arm whose change between two runs is surely under its bound: its whole interval is.

    RECOMMENDED is every arm that both runs have and that has no bound of its own. An arm named without scores in both runs
    falls short.
    """
    arms = difference["arms"]
    every = {arm: bounds[RECOMMENDED] for arm in arms} if RECOMMENDED in bounds else {}
    found = []
    for arm, bound in (every | {k: b for k, b in bounds.items() if k != RECOMMENDED}).items():
        change = arms[arm]["metrics"].get("overall")
        if change is None:
            found.append(f"{arm} has no overall score in both runs")
        elif change["high"] < bound:
            found.append(
                f"{arm} went from {change['a']:.3f} to {change['b']:.3f}: by {change['value']:+.3f} (95% interval "
                f"{change['low']:+.3f} to {change['high']:+.3f}, {change['n']} questions), surely under {bound:+g}"
            )
    return found
