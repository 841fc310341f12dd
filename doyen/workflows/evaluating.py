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
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from doyen.answer_costs import told_of_rows
from doyen.config import load_settings, write_atomic
from doyen.errors import UsageError, WorkflowError
from doyen.evaluation.statistics import bootstrap_mean, bootstrap_ratio, holm, paired_difference
from doyen.expert import open_engine
from doyen.models.choosing import error_of_confidence
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
from doyen.workflows.opening import Setup, describe, open_setup
from doyen.workflows.reading import load_workflow
from doyen.workflows.rows import DONE, FAILED
from doyen.workflows.running import Progress, Run

DEFAULT_ARMS = ("rag", "finetuned", "rag+finetuned")
_HALF_FOLDS = 5
_POINTS = 40
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
    for setup in _setups(expert, flow, arms, adapter, engine):
        arm = setup.arm
        with closing(setup):
            records, about, made_for = _run_arm(setup, rows, out, progress)
        exact[arm] = [float(_is_right(flow, row, record)) for row, record in zip(rows, records, strict=True)]
        found[arm] = arm_figures(flow, rows, records) | about
        decided = Decided.of(flow, rows, records)
        if len(decided) < LEAST_ROWS:
            say(f"warning: {arm}: fewer than {LEAST_ROWS} decided rows; no confidence is fitted")
        elif keep_fit:
            fitted = fit_with_threshold(decided, flow.max_errors)
            keep(expert, flow, arm, dataclasses.replace(fitted, made_for=made_for))
            found[arm]["confidence"]["kept"] = True
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


def _setups(expert: Path, flow: Workflow, arms: Sequence[str], adapter: str, engine: Engine) -> list[Setup]:
    """Open all arms before the first one runs, so that what is not there is told at once; they share one retriever."""
    found: list[Setup] = []
    retriever = None
    for arm in arms:
        own = adapter if "finetuned" in arm else ""
        found.append(open_setup(expert, flow, arm=arm, adapter=own, engine=engine, retriever=retriever))
        retriever = retriever or found[-1].retriever
    return found


def _run_arm(
    setup: Setup, rows: Sequence[Labelled], out: Path, progress: Progress | None
) -> tuple[Records, dict[str, Any], str]:
    """Run rows; return their records, what they were run with and at what cost, and what a fit to them is made for."""
    path = out / f"rows.{setup.arm.replace('+', '_')}.jsonl"
    run = Run(setup, _input_of(rows), path, progress=progress, judged=False)
    report = run.go()
    journal = Journal(journal_path(path))
    journal.read()
    records = list(journal.records())
    about = {
        "with": describe(setup),
        "tokens": sum(sum(record["tokens"]) for record in records),
        "seconds": report.seconds,
        "rows_per_second": report.rows_per_second,
    }
    return records, about, run.judge.made_for


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


def _input_of(rows: Sequence[Labelled]) -> Input:
    columns = tuple(dict.fromkeys(name for row in rows for name in row.given))
    text = json.dumps([row.given for row in rows], default=str, ensure_ascii=False)
    identity = hashlib.sha256(text.encode()).hexdigest()[:16]
    return Input("labelled rows", columns, len(rows), identity, lambda: iter([(dict(row.given), "") for row in rows]))


# ---- figures of one arm


def arm_figures(flow: Workflow, rows: Sequence[Labelled], records: Records) -> dict[str, Any]:
    """Return an arm's figures."""
    right = [float(_is_right(flow, row, record)) for row, record in zip(rows, records, strict=True)]
    asked = [float(record["status"] not in (DONE, FAILED)) for record in records]
    return {
        "decision": bootstrap_mean(right).as_dict(),
        "failed": sum(record["status"] == FAILED for record in records),
        "for_a_person_by_the_flow": bootstrap_mean(asked).as_dict(),
        "steps": _steps(flow, rows, records),
        "confidence": _confidence(Decided.of(flow, rows, records), flow.max_errors, len(records)),
    }


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


# ---- confidence


@dataclass(frozen=True, slots=True)
class Decided:
    """The rows that a flow decided, by place: what is known of each, its confidence as it came, and whether the decision is right.

    Those that are `straight` go to a person for want of confidence alone.
    """

    ids: list[str]
    signs: list[Mapping[str, float]]
    sure: list[float]
    right: list[bool]
    straight: list[bool]

    @classmethod
    def of(cls, flow: Workflow, rows: Sequence[Labelled], records: Records) -> Decided:
        """Take the rows that have a decision and did not fail."""
        pairs = zip(rows, records, strict=True)
        kept = [(a, b) for a, b in pairs if b["decision"] is not None and b["status"] != FAILED]
        return cls(
            [row.id for row, _ in kept],
            [record["signs"] for _, record in kept],
            [record["confidence"] or 0.0 for _, record in kept],
            [_is_right(flow, row, record) for row, record in kept],
            [record["status"] == DONE for _, record in kept],
        )

    def some(self, places: Sequence[int]) -> Decided:
        """Return the rows at some places."""
        columns = (self.ids, self.signs, self.sure, self.right, self.straight)
        return Decided(*([column[i] for i in places] for column in columns))  # type: ignore[arg-type]

    def __len__(self) -> int:
        return len(self.ids)


def _confidence(decided: Decided, max_errors: float, rows: int) -> dict[str, Any]:
    """Return calibration, the curve of thresholds, and what the chosen threshold does on rows that it was not chosen on."""
    if len(decided) < LEAST_ROWS:
        return {"rows": len(decided)}
    sure = cross_fitted(decided.signs, decided.right, folds_of(decided.ids))
    return {
        "rows": len(decided),
        "calibration_error": round(error_of_confidence(sure, decided.right), 4),
        "calibration_error_as_it_comes": round(error_of_confidence(decided.sure, decided.right), 4),
        "curve": _curve(sure, decided, rows),
        "at_threshold": _at_threshold(decided, max_errors, rows),
    }


def _curve(sure: Sequence[float], decided: Decided, rows: int) -> list[dict[str, float]]:
    """Return for thresholds the share of all rows that goes straight through, and the share of these that is wrong."""
    triples = zip(sure, decided.right, decided.straight, strict=True)
    free = sorted(((c, r) for c, r, s in triples if s), reverse=True)
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


def _at_threshold(decided: Decided, max_errors: float, rows: int) -> dict[str, Any]:
    """Fit and choose on one half, measure on the other, and the other way round; return both halves together."""
    halves = folds_of(decided.ids, 2)
    through, wrong = [0.0] * rows, [0.0] * rows
    thresholds = []
    for half in (0, 1):
        fitted = fit_with_threshold(decided.some([i for i, h in enumerate(halves) if h == half]), max_errors)
        thresholds.append(fitted.threshold)
        for i in (i for i, h in enumerate(halves) if h != half):
            sure = fitted.threshold is not None and fitted.of(decided.signs[i]) >= fitted.threshold
            through[i] = float(decided.straight[i] and sure)
            wrong[i] = float(through[i] and not decided.right[i])
    found: dict[str, Any] = {
        "thresholds": thresholds,
        "through": bootstrap_mean(through).as_dict(),
        "max_errors": max_errors,
    }
    own = slice(len(decided))
    return found | {"errors": bootstrap_ratio(wrong[own], through[own]).as_dict() if sum(through) else None}


def fit_with_threshold(decided: Decided, max_errors: float) -> Confidence:
    """Return a fit whose threshold was chosen on cross-fitted confidences of the rows that may go straight through."""
    sure = cross_fitted(decided.signs, decided.right, folds_of(decided.ids, _HALF_FOLDS))
    free = [i for i, s in enumerate(decided.straight) if s]
    threshold = threshold_for([sure[i] for i in free], [decided.right[i] for i in free], max_errors) if free else None
    return dataclasses.replace(fit(decided.signs, decided.right), threshold=threshold, max_errors=max_errors)


def differences(exact: Mapping[str, Sequence[float]]) -> list[dict[str, Any]]:
    """Return the paired difference in right decisions of each pair of arms: the later arm minus the earlier, with its interval."""
    found = [
        {"arm": b, "minus": a} | paired_difference(exact[a], exact[b]).as_dict()
        for a, b in itertools.combinations(exact, 2)
    ]
    for row, p in zip(found, holm([row["p"] for row in found]), strict=True):
        row["p_holm"] = round(p, 5)
    return found
