"""A comparison's report → what its extra arms tell of the choice: what retrieval loses, what the model cannot read, how far a
large model would come. They are measured to understand an arm; none of them is ever advised.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from doyen.evaluation.report_text import percent, points_with_interval

LOW = 0.5
"""Under this overall score with the gold passages given, reading is what limits."""
CEILINGS = (("rag", "oracle"), ("rag+finetuned", "oracle+finetuned"))
REFERENCES = ("reference", "reference+rag")


def what_extras_tell(comparison: Mapping[str, Any], chosen: str) -> list[str]:
    """Return a sentence or two on each extra arm that was measured."""
    said = []
    for reader, ceiling in CEILINGS:
        gain = _gain(comparison, reader, ceiling)
        if gain is not None:
            said.append(_ceiling(comparison, reader, ceiling, gain))
    for reference in REFERENCES:
        gain = _gain(comparison, chosen, reference)
        if gain is not None:
            said.append(_reference(comparison, chosen, reference, gain))
    return said


def _gain(comparison: Mapping[str, Any], a: str, b: str) -> Mapping[str, Any] | None:
    rows = (row["metrics"].get("overall") for row in comparison["differences"] if (row["a"], row["b"]) == (a, b))
    return next(rows, None)


def _ceiling(comparison: Mapping[str, Any], reader: str, ceiling: str, gain: Mapping[str, Any]) -> str:
    best = comparison["arms"][ceiling]["metrics"]["overall"]["value"]
    head = (
        f"Ceiling: with the gold passages given, {ceiling} scores {percent(best)} on the {gain['n']} questions that have "
        f"gold, {reader} with those that search found {percent(best - gain['value'])}"
    )
    if gain["beats"] == ceiling:
        tells = f": retrieval loses {points_with_interval(gain)}, which better search could win."
    elif gain["beats"] == reader:
        tells = f": what search found serves better than the gold passages, by {points_with_interval(_turned(gain))}."
    else:
        tells = f"; the difference of {points_with_interval(gain)} cannot be told from zero, so retrieval is not seen to lose anything."
    if best >= LOW:
        return head + tells
    return f"{head}{tells} Even so it answers under half: the model's reading limits more than the search."


def _reference(comparison: Mapping[str, Any], chosen: str, reference: str, gain: Mapping[str, Any]) -> str:
    score = comparison["arms"][reference]["metrics"]["overall"]["value"]
    named = (comparison.get("manifest") or {}).get("reference") or {}
    about = f"{reference} ({named['model']})" if "model" in named else reference
    lead = "ahead of" if gain["value"] >= 0 else "behind"
    found = gain if gain["value"] >= 0 else _turned(gain)
    sure = "" if gain["beats"] else "; that cannot be told from zero"
    return f"For comparison: {about} scores {percent(score)}, {points_with_interval(found)} {lead} {chosen}{sure}."


def _turned(gain: Mapping[str, Any]) -> dict[str, float]:
    return {"value": -gain["value"], "low": -gain["high"], "high": -gain["low"]}
