"""Two comparisons → what changed between them: paired differences an arm, changed answers, changed settings.

Works on the reports alone and asks no model. Only questions that both runs asked, with the same text and known answers,
are compared.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from doyen.errors import UsageError
from doyen.evaluation.report import FORMAT
from doyen.evaluation.report_text import flat
from doyen.evaluation.statistics import paired_difference
from doyen.records import ARMS, EXTRA_ARMS

COMPARED = ("overall", "answer_score", "token_f1")
CHANGES = ("worse", "better", "reworded")
MOST_NAMED = 12
_NOT_SETTINGS = ("id", "created", "taken_over", "arms", "asked", "question_count", "cost_usd", "remarks")
_SAME = ("question", "answers", "kind", "answerable", "gold")


def compare_runs(
    a: Path | str | Mapping[str, Any],
    b: Path | str | Mapping[str, Any],
    *,
    expert: Path | str | None = None,
    arms: Sequence[str] = (*ARMS, *EXTRA_ARMS),
    seed: int = 7,
) -> dict[str, Any]:
    """Return what changed from comparison `a` to comparison `b`.

    Each is a report, its folder or file, or the id of a comparison of `expert`. Of `arms`, those that both have count.

    Returns, all JSON-serialisable (docs/reference/report.md):
        format: 1; a, b: {id, created, folder, advice, questions}
        questions: {both, only_a, only_b, changed: [ids whose text or known answers are not the same]}
        arms: {arm: {metrics: {overall | answer_score | token_f1: {a, b, value, low, high, n, p}}, shares: {correct | wrong
            | refused: {a, b}}, seconds: {a, b}, better, worse, reworded, same}}, value = b − a
        arms_only_a, arms_only_b
        settings: [{setting, a, b}]; null where a run has none
        changed: [{id, question, answers, arm, change: worse | better | reworded, a, b}], a and b = {answer, answered,
            outcome, overall}

    Raises:
        UsageError: a run is not there or no comparison, or the two have no question or no arm in common.
    """
    reports = [run if isinstance(run, Mapping) else find_run(run, expert) for run in (a, b)]
    first, second = reports
    rows, changed_ids = _common(first, second)
    shared = [arm for arm in (*ARMS, *EXTRA_ARMS) if arm in arms and all(arm in report["arms"] for report in reports)]
    if not shared:
        has = " and ".join(", ".join(report["arms"]) or "none" for report in reports)
        raise UsageError(f"the two comparisons have no arm in common ({has})", hint="doyen compare --arms …")
    asked = {arm: [(x, y) for x, y in rows if arm in x["arms"] and arm in y["arms"]] for arm in shared}
    shared = [arm for arm in shared if asked[arm]]
    changes = [change for arm in shared for x, y in asked[arm] if (change := _change(arm, x, y))]
    changes.sort(key=lambda change: CHANGES.index(change["change"]))
    counts = Counter((change["arm"], change["change"]) for change in changes)
    return {
        "format": 1,
        "a": _about(first),
        "b": _about(second),
        "questions": {
            "both": len(rows),
            "only_a": len(first["rows"]) - len(rows) - len(changed_ids),
            "only_b": len(second["rows"]) - len(rows) - len(changed_ids),
            "changed": changed_ids,
        },
        "arms": {
            arm: _arm(arm, asked[arm], seed)
            | {name: counts[arm, name] for name in CHANGES}
            | {"same": len(asked[arm]) - sum(counts[arm, name] for name in CHANGES)}
            for arm in shared
        },
        "arms_only_a": [arm for arm in first["arms"] if arm not in second["arms"]],
        "arms_only_b": [arm for arm in second["arms"] if arm not in first["arms"]],
        "settings": _settings(first, second),
        "changed": changes,
    }


# ------------------------------------------------------------------ the runs
def find_run(given: Path | str, expert: Path | str | None = None) -> dict[str, Any]:
    """Read a comparison's report, with its folder: `given` is a folder, a report.json or an id of the expert's.

    Raises:
        UsageError: there is no such comparison (those that there are are named), or the file is no comparison's report.
    """
    home = Path(expert) / "comparisons" if expert is not None else None
    places = [Path(given), Path(given) / "report.json"]
    places += [home / given / "report.json"] if home and str(given) else []
    path = next((p for p in places if p.is_file()), None)
    if path is None:
        known = sorted((p.parent for p in home.glob("*/report.json")), key=_age) if home else []
        named = ", ".join(p.name for p in known[-MOST_NAMED:])
        raise UsageError(
            f"there is no comparison '{given}'",
            hint=f"comparisons, the newest last: {named}" if known else "doyen compare makes one",
        )
    try:
        report: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        whole = report["format"] == FORMAT and isinstance(report["arms"], dict)
        whole = whole and all("arms" in row for row in report["rows"])
        whole = whole and isinstance(report["manifest"], dict) and "arm" in report["advice"]
    except (OSError, ValueError, LookupError, TypeError):
        whole = False
    if not whole:
        raise UsageError(f"{path} is not the report of a comparison", hint="name the folder that doyen compare wrote")
    return report | {"folder": str(path.parent)}


def _age(folder: Path) -> int:
    return (folder / "report.json").stat().st_mtime_ns


def _about(report: Mapping[str, Any]) -> dict[str, Any]:
    manifest = report["manifest"]
    return {
        "id": manifest.get("id"),
        "created": manifest.get("created"),
        "folder": report.get("folder"),
        "advice": report["advice"]["arm"],
        "questions": len(report["rows"]),
    }


Pair = tuple[Mapping[str, Any], Mapping[str, Any]]


def _common(first: Mapping[str, Any], second: Mapping[str, Any]) -> tuple[list[Pair], list[str]]:
    """Return the rows of the questions that both runs asked alike, and the ids of those that are not the same any more."""
    before = {row["id"]: row for row in first["rows"]}
    both = [(before[row["id"]], row) for row in second["rows"] if row["id"] in before]
    alike = [(x, y) for x, y in both if all(x.get(key) == y.get(key) for key in _SAME)]
    if not alike:
        counts = f"{len(first['rows'])} and {len(second['rows'])} questions"
        why = f"; {len(both)} ids are the same, but not their texts or known answers" if both else ""
        raise UsageError(
            f"the two comparisons have no question in common ({counts}{why})", hint="compare runs of the same questions"
        )
    kept = {y["id"] for _, y in alike}
    return alike, [y["id"] for _, y in both if y["id"] not in kept]


# ------------------------------------------------------------------ what changed
def _arm(arm: str, rows: Sequence[Pair], seed: int) -> dict[str, Any]:
    sides = [(x["arms"][arm], y["arms"][arm]) for x, y in rows]
    metrics = {}
    for name in COMPARED:
        pairs = [
            (x["scores"][name], y["scores"][name]) for x, y in sides if name in x["scores"] and name in y["scores"]
        ]
        if pairs:
            old, new = (list(side) for side in zip(*pairs, strict=True))
            means = {"a": round(sum(old) / len(old), 6), "b": round(sum(new) / len(new), 6)}
            metrics[name] = means | paired_difference(old, new, seed=seed).as_dict()
    seconds = [sum(side[i]["seconds"] for side in sides) / len(sides) for i in (0, 1)]
    return {
        "metrics": metrics,
        "shares": _shares(sides),
        "seconds": {"a": round(seconds[0], 3), "b": round(seconds[1], 3)},
    }


def _shares(sides: Sequence[Pair]) -> dict[str, dict[str, float]]:
    members = {"correct": ("right", "refused rightly"), "wrong": ("wrong",), "refused": ("refused",)}
    scored = [(x["outcome"], y["outcome"]) for x, y in sides if "unscored" not in (x["outcome"], y["outcome"])]
    if not scored:
        return {}
    return {
        name: {side: round(sum(o[i] in of for o in scored) / len(scored), 6) for i, side in enumerate("ab")}
        for name, of in members.items()
    }


def _change(arm: str, x: Mapping[str, Any], y: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return how an arm's answer to a question changed; None where its text and its score are the same."""
    old, new = (_answer(row["arms"][arm]) for row in (x, y))
    if old == new:
        return None
    lead = (new["overall"] or 0.0) - (old["overall"] or 0.0)
    kind = "better" if lead > 0 else "worse" if lead < 0 else "reworded"
    about = {"id": y["id"], "question": y["question"], "answers": y["answers"] if y["answerable"] else []}
    return about | {"arm": arm, "change": kind, "a": old, "b": new}


def _answer(given: Mapping[str, Any]) -> dict[str, Any]:
    row = {key: given[key] for key in ("answer", "answered", "outcome")}
    return row | {"overall": given["scores"].get("overall")}


def _settings(first: Mapping[str, Any], second: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the settings, models, adapters and hashes that differ; None where a run has none."""
    old, new = (dict(flat({k: v for k, v in r["manifest"].items() if k not in _NOT_SETTINGS})) for r in (first, second))
    names = [*old, *(name for name in new if name not in old)]
    return [
        {"setting": name, "a": old.get(name), "b": new.get(name)} for name in names if old.get(name) != new.get(name)
    ]
