"""What a flow's steps say of themselves → how probable it is that its decision is right; fitted on labelled rows.

A logistic model of one number, with a ridge: the log-odds of the product of the own probabilities of the model steps that the decision came from
(Platt 1999, Probabilistic Outputs for Support Vector Machines). A flow and a finished row in, a number out; a fit is kept in a file in the expert.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from doyen.config import write_atomic
from doyen.errors import StoreError
from doyen.logistic import logistic_weights
from doyen.workflows.definition import Check, Decide, Step, Workflow
from doyen.workflows.rows import Row
from doyen.workflows.validating import references

FOLDER = "workflows/calibration"
LEAST_ROWS = 30
LEAST_THROUGH = 20
"""So many rows at least stand behind a threshold: an error rate of a few is chance."""
FOLDS = 10
_RIDGE = 1.0
_RIDGE_OF_CONSTANT = 1e-3  # where all rows are right it would grow without end
_MOST_ODDS = 8.0
SIGNS = 4
"""Another number once what is known of a row is computed in another way: fits and audit trails from before are of no use then."""


@dataclass(frozen=True, slots=True)
class Confidence:
    """A fit: `weights` are one a feature and, last, the constant. `threshold` None: none keeps the errors low enough.

    `made_for` is the flow's fingerprint, the arm and the adapters; another run has no use for it.
    """

    features: tuple[str, ...]
    means: tuple[float, ...]
    scales: tuple[float, ...]
    weights: tuple[float, ...]
    threshold: float | None = None
    max_errors: float = 0.05
    rows: int = 0
    made_for: str = ""

    def of(self, signs: Mapping[str, float]) -> float:
        """Return the probability that a row's decision is right."""
        x = [(signs.get(f, 0.0) - m) / s for f, m, s in zip(self.features, self.means, self.scales, strict=True)]
        odds = sum(w * v for w, v in zip(self.weights, [*x, 1.0], strict=True))
        return 1 / (1 + math.exp(-max(-30.0, min(30.0, odds))))


def relied_on(flow: Workflow, row: Row) -> set[str]:
    """Return the steps that a row's decision came from: those that it read, and those that these read.

    Rules are read from the first to the one that decides: what stands below it can be wrong without harm.
    """
    found: set[str] = set()
    left = [flow.decision]
    while left:
        name = left.pop()
        if name not in found and name in flow.step_names:
            found.add(name)
            left += [path.split(".")[0] for path in _read(flow.step(name), row)]
    return found


def _read(step: Step, row: Row) -> list[str]:
    """Return the dotted names that a step read for a row: of one that was left out only its condition's."""
    entry = next((entry for entry in row.trail if entry["step"] == step.name), None)
    if entry is None:
        asked = [step.of] if isinstance(step, Check) else []  # without what it checks a check is left out, too
        return [*(step.when.paths + step.when.sure_of if step.when else ()), *asked]
    if isinstance(step, Decide) and "rule" in entry:  # no model decided
        rule = entry["rule"]
        step = replace(step, rules=step.rules[:rule] if isinstance(rule, int) else step.rules, prompt=None)
    return [path for _, path in references(step)]


def plain_confidence(flow: Workflow, row: Row) -> float:
    """Return the product of the probabilities of the model steps that the decision came from: what there is without a fit.

    1 where it came from none: from columns, tables and rules alone.
    """
    read = relied_on(flow, row)
    return math.prod(probability for name, probability in row.sure.items() if name in read)


def signs_of(sure: float) -> dict[str, float]:
    """Return what `Confidence.of` takes of a row, by its `plain_confidence`.

    One number: of the steps' own probabilities, of the decision, and of the checks apart, a fit to two hundred rows learns
    chance (LOG.md, 30 November). A check that does not hold sends its row to a person or fails it, unless `on_fail` is
    "note": then it is for the flow's rules.
    """
    return {"odds": _odds(sure)}


def _odds(probability: float) -> float:
    p = min(max(probability, 1e-9), 1 - 1e-9)
    return max(-_MOST_ODDS, min(_MOST_ODDS, math.log(p / (1 - p))))


def fit(signs: Sequence[Mapping[str, float]], right: Sequence[bool]) -> Confidence:
    """Fit on labelled rows; features that no or all rows have alike are left out."""
    names = sorted({name for row in signs for name in row})
    x = np.array([[row.get(name, 0.0) for name in names] for row in signs], dtype=np.float64).reshape(len(signs), -1)
    varies = x.std(axis=0) > 1e-9
    names, x = [n for n, v in zip(names, varies, strict=True) if v], x[:, varies]
    means, scales = x.mean(axis=0), x.std(axis=0)
    design = np.column_stack([(x - means) / scales, np.ones(len(x))]) if names else np.ones((len(signs), 1))
    ridge = np.array([_RIDGE] * len(names) + [_RIDGE_OF_CONSTANT])
    weights = logistic_weights(design, np.array(right, dtype=np.float64), ridge)
    return Confidence(
        tuple(names), tuple(map(float, means)), tuple(map(float, scales)), tuple(map(float, weights)), rows=len(signs)
    )


def cross_fitted(signs: Sequence[Mapping[str, float]], right: Sequence[bool], folds: Sequence[int]) -> list[float]:
    """Return each row's confidence by a fit to the rows of the other folds."""
    found = [0.0] * len(signs)
    for fold in sorted(set(folds)):
        others = [i for i, f in enumerate(folds) if f != fold]
        if not others:
            others = list(range(len(signs)))
        fitted = fit([signs[i] for i in others], [right[i] for i in others])
        for i, f in enumerate(folds):
            if f == fold:
                found[i] = fitted.of(signs[i])
    return found


def folds_of(ids: Sequence[str], folds: int = FOLDS) -> list[int]:
    """Return a fold for each row, by a hash of its id, so that the same rows are parted alike in every arm."""
    order = sorted(range(len(ids)), key=lambda i: hashlib.sha256(ids[i].encode()).hexdigest())
    found = [0] * len(ids)
    for place, i in enumerate(order):
        found[i] = place % folds
    return found


def threshold_for(confidences: Sequence[float], right: Sequence[bool], max_errors: float) -> float | None:
    """Return the lowest confidence at which no larger share of the rows with it or more is wrong; None where there is none.

    At least LEAST_THROUGH rows (or all, of fewer) must have it.
    """
    order = sorted(range(len(right)), key=lambda i: -confidences[i])
    wrong, best = 0, None
    for place, i in enumerate(order, 1):
        wrong += not right[i]
        last = place == len(order) or confidences[order[place]] < confidences[i]
        if last and place >= min(LEAST_THROUGH, len(order)) and wrong <= max_errors * place:
            best = confidences[i]
    return best


# ---- kept in the expert


def key_of(flow: Workflow, arm: str, adapters: Mapping[str, str]) -> str:
    """Return a text that is equal only where a fit is of use: flow, arm and what the adapters are."""
    made_of = [SIGNS, flow.fingerprint, arm, dict(adapters)]
    return hashlib.sha256(json.dumps(made_of, sort_keys=True).encode()).hexdigest()[:16]


def keep(expert: Path, flow: Workflow, arm: str, fitted: Confidence) -> Path:
    """Write a fit into the expert."""
    path = _path(expert, flow, arm)
    write_atomic(path, json.dumps(asdict(fitted), indent=1, ensure_ascii=False))
    return path


def load(expert: Path, flow: Workflow, arm: str, made_for: str) -> Confidence | None:
    """Return the fit for a flow and arm, None where there is none, or it was made for another flow or adapter.

    Raises:
        StoreError: the file is broken.
    """
    path = _path(expert, flow, arm)
    if not path.exists():
        return None
    try:
        row = json.loads(path.read_text(encoding="utf-8"))
        values: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in row.items()}
        found = Confidence(**values)
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise StoreError(f"{path} is broken ({error})", hint="doyen evaluate-workflow makes it anew") from None
    return found if found.made_for == made_for else None


def _path(expert: Path, flow: Workflow, arm: str) -> Path:
    return expert / FOLDER / f"{flow.name}.{arm.replace('+', '_')}.json"
