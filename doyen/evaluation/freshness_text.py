"""A report's strata of freshness and changed facts → sentences for the advice. Computes no figure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from doyen.evaluation.report_text import percent_with_interval
from doyen.evaluation.trained_on import CHANGED, UNSEEN

LEAST = 10  # questions; with fewer a stratum is not spoken of
_GROUPS = {
    UNSEEN: "documents that the training did not see (added later, or without examples)",
    CHANGED: "documents that changed since the training",
}


def fresh_lines(report: Mapping[str, Any], chosen: str) -> list[str]:
    """Say how the trained arms score on documents added or changed after the training, and what share is stale.

    Empty where neither was measured on ten questions or more.
    """
    arms = [arm for arm in ("rag", "finetuned", "rag+finetuned") if arm in report["arms"]]
    found = []
    for name, said in _GROUPS.items():
        stratum = ((report.get("strata") or {}).get("freshness") or {}).get(name) or {}
        scores = {arm: own["overall"] for arm, own in (stratum.get("arms") or {}).items() if "overall" in own}
        if stratum.get("n", 0) >= LEAST and chosen in scores:
            each = ", ".join(f"{arm} {percent_with_interval(scores[arm])}" for arm in arms if arm in scores)
            found.append(f"On {stratum['n']} questions about {said}: {each} (95% intervals).")
    stale = {arm: own["metrics"]["stale"] for arm, own in report["arms"].items() if "stale" in own["metrics"]}
    if chosen in stale and stale[chosen]["n"] >= LEAST:
        each = ", ".join(f"{arm} {percent_with_interval(stale[arm])}" for arm in stale)
        found.append(
            f"Where facts have changed ({stale[chosen]['n']} questions), the former answer is given by: {each}."
        )
    return found
