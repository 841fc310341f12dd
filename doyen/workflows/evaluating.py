"""`evaluate_workflow`: labelled rows through a flow, arm by arm → accuracy, confidence, and what goes straight through.

Every figure about confidence is of rows that its fit and its threshold were not made from.
"""

from __future__ import annotations

import dataclasses
import datetime
import hashlib
import itertools
import json
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np

from doyen.answer_costs import told_of_rows
from doyen.config import load_settings, write_atomic
from doyen.errors import UsageError, WorkflowError
from doyen.evaluation.statistics import bootstrap_mean, bootstrap_ratio, holm, paired_difference
from doyen.expert import open_engine
from doyen.models.engine import Engine
from doyen.workflows.confidence import (
    LEAST_ROWS,
    Confidence,
    cross_fitted,
    fit,
    folds_of,
    keep,
    threshold_for,
)
from doyen.workflows.definition import Check, Draft, Extract, Workflow, prompt_of
from doyen.workflows.evaluation_page import page_of
from doyen.workflows.inputs import Input
from doyen.workflows.journal import Journal, journal_path
from doyen.workflows.labels import Labelled, labelled_steps, read_labelled
from doyen.workflows.opening import describe, open_setup
from doyen.workflows.reading import load_workflow
from doyen.workflows.rows import DONE, FAILED
from doyen.workflows.running import Judge, Progress, Run

DEFAULT_ARMS = ("rag", "finetuned", "rag+finetuned")
_HALF_FOLDS = 5
_POINTS = 40
_BINS = 10
Records = Sequence[Mapping[str, Any]]


def evaluate_workflow(
    expert: Path | str,
    workflow: Workflow | Path | str,
    labelled: Path | str,
    *,
    arms: Sequence[str] = DEFAULT_ARMS,
    adapter: str = "",
    out: Path | str,
    keep_fit: bool = True,
    limit: int | None = None,
    engine: Engine | None = None,
    progress: Progress | None = None,
    say: Callable[[str], None] = lambda text: None,
) -> dict[str, Any]:
    """Run labelled rows (those of `test`, if there are any) through a flow under each arm; write report.json and report.html.

    An interrupted evaluation goes on with the same call. With `keep_fit` each arm's confidence and threshold are kept in the
    expert, where `doyen run` takes them from.

    Raises:
        WorkflowError: the flow or the labels are wrong; the decision has no label.
        UsageError: an arm is unknown, or named twice.
    """
    expert, out = Path(expert), Path(out)
    flow = workflow if isinstance(workflow, Workflow) else load_workflow(workflow)
    if len(set(arms)) < len(arms) or not arms:
        raise UsageError(f"--arms {','.join(arms)}: each arm once", hint=",".join(DEFAULT_ARMS))
    rows, warnings = _test_rows(flow, read_labelled(flow, labelled), limit)
    for warning in warnings:
        say(f"warning: {warning}")
    settings = load_settings(expert)
    engine = engine or open_engine(settings)
    prompts = len(arms) * sum(prompt_of(step) is not None for step in flow.steps)
    if told := told_of_rows(engine, settings, len(rows), prompts):
        say(told)
    found: dict[str, Any] = {}
    exact: dict[str, list[float]] = {}
    for arm in arms:
        setup = open_setup(expert, flow, arm=arm, adapter=adapter if "finetuned" in arm else "", engine=engine)
        table = _input_of(rows, flow)
        path = out / f"rows.{arm.replace('+', '_')}.jsonl"
        with closing(setup):
            report = Run(setup, table, path, progress=progress, judged=False).go()
        records = _records(path)
        figures = arm_figures(setup.flow, rows, records)
        exact[arm] = figures.pop("exact")
        fitted = final_fit(setup.flow, rows, records)
        if keep_fit and fitted is not None:
            keep(
                expert, setup.flow, setup.arm, dataclasses.replace(fitted, made_for=Judge(setup, judged=False).made_for)
            )
            figures["confidence"]["kept"] = True
        elif fitted is None:
            say(f"warning: {arm}: fewer than {LEAST_ROWS} decided rows; no confidence is fitted")
        seconds = {"seconds": report.seconds, "rows_per_second": report.rows_per_second}
        found[arm] = (
            figures | {"with": describe(setup), "tokens": report.prompt_tokens + report.completion_tokens} | seconds
        )
    result = {
        "workflow": flow.name,
        "fingerprint": flow.fingerprint,
        "labelled": Path(labelled).name,
        "rows": len(rows),
        "created": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "decision": flow.decision,
        "max_errors": flow.max_errors,
        "arms": found,
        "differences": differences(exact),
        "warnings": warnings,
    }
    write_atomic(out / "report.json", json.dumps(result, indent=1, ensure_ascii=False))
    write_atomic(out / "report.html", page_of(result))
    return result


def _test_rows(flow: Workflow, rows: Sequence[Labelled], limit: int | None) -> tuple[list[Labelled], list[str]]:
    test = [row for row in rows if row.split == "test"]
    warnings = []
    if not test:
        test = [row for row in rows if not row.split]
        warnings = ["no row is marked test: adapters may have been trained on these rows"]
    test = [row for row in test if flow.decision in row.labels][:limit]
    if not test:
        raise WorkflowError(f"no row to evaluate has a label of the decision, expected.{flow.decision}")
    return test, warnings


def _input_of(rows: Sequence[Labelled], flow: Workflow) -> Input:
    columns = tuple(dict.fromkeys(name for row in rows for name in row.given))
    text = json.dumps([row.given for row in rows], default=str, ensure_ascii=False)
    identity = hashlib.sha256(text.encode()).hexdigest()[:16]
    return Input("labelled rows", columns, len(rows), identity, lambda: iter([(dict(row.given), "") for row in rows]))


def _records(path: Path) -> list[dict[str, Any]]:
    journal = Journal(journal_path(path))
    journal.read()
    return list(journal.records())


# ---- figures of one arm


def arm_figures(flow: Workflow, rows: Sequence[Labelled], records: Records) -> dict[str, Any]:
    """Return an arm's figures; `exact` is whether each row's decision is right."""
    right = [float(_is_right(flow, row, record)) for row, record in zip(rows, records, strict=True)]
    failed = sum(record["status"] == FAILED for record in records)
    asked = [float(record["status"] not in (DONE, FAILED)) for record in records]
    figures: dict[str, Any] = {
        "decision": bootstrap_mean(right).as_dict(),
        "failed": failed,
        "for_a_person_by_the_flow": bootstrap_mean(asked).as_dict(),
        "steps": _steps(flow, rows, records),
        "exact": right,
    }
    return figures | {"confidence": _confidence(flow, rows, records, right)}


def _is_right(flow: Workflow, row: Labelled, record: Mapping[str, Any]) -> bool:
    return bool(record["status"] != FAILED and record["decision"] == row.labels[flow.decision])


def _steps(flow: Workflow, rows: Sequence[Labelled], records: Records) -> dict[str, Any]:
    """Return each step's accuracy over the rows with a label of it; of an object also each property's; of a check how many hold."""
    found: dict[str, Any] = {}
    pairs = list(zip(rows, records, strict=True))
    for step in labelled_steps(flow):
        labelled = [
            (row.labels[step.name], record["values"].get(step.name)) for row, record in pairs if step.name in row.labels
        ]
        if labelled and not isinstance(step, Draft):
            found[step.name] = bootstrap_mean([float(_equal(a, b)) for a, b in labelled]).as_dict()
            if isinstance(step, Extract):
                found[step.name]["fields"] = {
                    name: bootstrap_mean(
                        [float(_equal(a.get(name), (b or {}).get(name))) for a, b in labelled]
                    ).as_dict()
                    for name in step.fields
                }
    for step in flow.steps:
        held = [record["values"].get(step.name) for record in records] if isinstance(step, Check) else []
        if done := [float(value["ok"]) for value in held if value is not None]:
            found[step.name] = bootstrap_mean(done).as_dict()
    return found


def _equal(label: Any, value: Any) -> bool:
    if isinstance(label, str) and isinstance(value, str):
        return label.strip().casefold() == value.strip().casefold()
    return bool(label == value)


def _decided(rows: Sequence[Labelled], records: Records) -> list[int]:
    return [i for i, record in enumerate(records) if record["decision"] is not None and record["status"] != FAILED]


def _confidence(flow: Workflow, rows: Sequence[Labelled], records: Records, right: Sequence[float]) -> dict[str, Any]:
    """Return calibration, the curve of thresholds, and what the chosen threshold does on rows that it was not chosen on."""
    decided = _decided(rows, records)
    if len(decided) < LEAST_ROWS:
        return {"rows": len(decided)}
    signs = [records[i]["signs"] for i in decided]
    good = [bool(right[i]) for i in decided]
    ids = [rows[i].id for i in decided]
    straight = [records[i]["status"] == DONE for i in decided]
    sure = cross_fitted(signs, good, folds_of(ids))
    raw = [records[i]["confidence"] or 0.0 for i in decided]
    return {
        "rows": len(decided),
        "calibration_error": round(calibration_error(sure, good), 4),
        "calibration_error_as_it_comes": round(calibration_error(raw, good), 4),
        "curve": _curve(sure, good, straight, len(records)),
        "at_threshold": _at_threshold(signs, good, straight, ids, flow.max_errors, len(records)),
    }


def calibration_error(sure: Sequence[float], right: Sequence[bool]) -> float:
    """Return how far confidence is, on average, from the share that is right: ten bins of equal width, 0 is perfect."""
    c, r = np.array(sure), np.array(right, dtype=np.float64)
    bins = np.minimum((c * _BINS).astype(int), _BINS - 1)
    gaps = [abs(float(c[bins == b].sum() - r[bins == b].sum())) for b in range(_BINS)]
    return sum(gaps) / len(c)


def _curve(sure: Sequence[float], right: Sequence[bool], straight: Sequence[bool], rows: int) -> list[dict[str, float]]:
    """Return for thresholds the share of all rows that goes straight through, and the share of these that is wrong."""
    free = sorted(((c, r) for c, r, s in zip(sure, right, straight, strict=True) if s), reverse=True)
    ends = [i for i in range(len(free)) if i + 1 == len(free) or free[i + 1][0] < free[i][0]]
    kept = sorted({ends[round(k)] for k in np.linspace(0, len(ends) - 1, min(_POINTS, len(ends)))}) if ends else []
    wrong = np.cumsum([not r for _, r in free])
    return [
        {
            "threshold": round(free[i][0], 4),
            "through": round((i + 1) / rows, 4),
            "errors": round(float(wrong[i]) / (i + 1), 4),
        }
        for i in kept
    ]


def _at_threshold(
    signs: Sequence[Mapping[str, float]],
    right: Sequence[bool],
    straight: Sequence[bool],
    ids: Sequence[str],
    max_errors: float,
    rows: int,
) -> dict[str, Any]:
    """Fit and choose on one half, measure on the other, and the other way round; return both halves together."""
    halves = folds_of(ids, 2)
    through, wrong = [0.0] * len(right), [0.0] * len(right)
    thresholds = []
    for half in (0, 1):
        own = [i for i, h in enumerate(halves) if h == half]
        other = [i for i, h in enumerate(halves) if h != half]
        fitted = _fit_with_threshold(
            [signs[i] for i in own],
            [right[i] for i in own],
            [straight[i] for i in own],
            [ids[i] for i in own],
            max_errors,
        )
        thresholds.append(fitted.threshold)
        for i in other:
            passes = straight[i] and fitted.threshold is not None and fitted.of(signs[i]) >= fitted.threshold
            through[i], wrong[i] = float(passes), float(passes and not right[i])
    padded = [*through, *[0.0] * (rows - len(through))]
    found: dict[str, Any] = {
        "thresholds": thresholds,
        "through": bootstrap_mean(padded).as_dict(),
        "max_errors": max_errors,
    }
    return found | {"errors": bootstrap_ratio(wrong, through).as_dict() if sum(through) else None}


def _fit_with_threshold(
    signs: Sequence[Mapping[str, float]],
    right: Sequence[bool],
    straight: Sequence[bool],
    ids: Sequence[str],
    max_errors: float,
) -> Confidence:
    """Return a fit whose threshold was chosen on cross-fitted confidences of the rows that may go straight through."""
    sure = cross_fitted(signs, right, folds_of(ids, _HALF_FOLDS))
    free = [i for i, s in enumerate(straight) if s]
    threshold = threshold_for([sure[i] for i in free], [right[i] for i in free], max_errors) if free else None
    return dataclasses.replace(fit(signs, right), threshold=threshold, max_errors=max_errors)


def final_fit(flow: Workflow, rows: Sequence[Labelled], records: Records) -> Confidence | None:
    """Return the fit to all rows, which later runs use; None for too few."""
    decided = _decided(rows, records)
    if len(decided) < LEAST_ROWS:
        return None
    return _fit_with_threshold(
        [records[i]["signs"] for i in decided],
        [_is_right(flow, rows[i], records[i]) for i in decided],
        [records[i]["status"] == DONE for i in decided],
        [rows[i].id for i in decided],
        flow.max_errors,
    )


def differences(exact: Mapping[str, Sequence[float]]) -> list[dict[str, Any]]:
    """Return the paired difference in right decisions of each pair of arms: the later arm minus the earlier, with its interval."""
    found = [
        {"arm": b, "minus": a} | paired_difference(exact[a], exact[b]).as_dict()
        for a, b in itertools.combinations(exact, 2)
    ]
    for row, p in zip(found, holm([row["p"] for row in found]), strict=True):
        row["p_holm"] = round(p, 5)
    return found
