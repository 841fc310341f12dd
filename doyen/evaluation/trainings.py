"""An arm that was asked with several adapters → its scores as means over them, and how far the trainings differ.

A `MeanScore` stands for one question's answers of all adapters and is read like any `Score`. Intervals of plain means are over
questions and trainings (crossed.py); other figures are the mean of the trainings' figures, with the mean of their intervals,
which are over questions alone.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np

from doyen.evaluation.coverage_curve import outcome_figures, outcome_values
from doyen.evaluation.crossed import crossed_interval, crossed_mean
from doyen.evaluation.scoring import METRICS, Score, figures_by_question, summarise_scores
from doyen.evaluation.statistics import Interval
from doyen.records import ARMS, EXTRA_ARMS, Answer, Question

SPREAD = ("overall", "answer_score", "token_f1")
# Whether these count a question depends on its answer, so trainings do not have them of the same questions.
_BY_ANSWER = frozenset(
    {"citation_recall", "quote_support", "quotes_supported", "quotes_entailed", "units_right", "forbidden_terms"}
)


@dataclass(frozen=True, slots=True)
class MeanScore(Score):
    """One question's scores of several trainings (`of`): numbers are means, what cannot be averaged is the first's."""

    of: tuple[Score, ...] = ()

    @property
    def overall(self) -> float | None:
        """The mean over the trainings."""
        return _mean([score.overall for score in self.of])

    @property
    def outcome(self) -> str:
        """That of the first training, whose answer is shown."""
        return self.of[0].outcome


Runs = dict[str, dict[str, Sequence[Answer | None]]]  # arm → adapter ("" where there is one, or none) → answers


def runs_of_answers(
    answers: Mapping[str, Sequence[Answer | None]], trainings: Mapping[str, Mapping[str, Sequence[Answer | None]]]
) -> Runs:
    """Return each arm's answers by training, the arms in their order."""
    found: Runs = {}
    for arm in (*ARMS, *EXTRA_ARMS):
        if arm in trainings:
            found[arm] = dict(trainings[arm])
        elif arm in answers:
            found[arm] = {"": answers[arm]}
    return found


def scores_of_runs(
    questions: Sequence[Question],
    runs: Sequence[Sequence[Answer | None]],
    score: Callable[[Question, Answer], Score],
) -> list[Score | None]:
    """Return an arm's scores by question, None where it was not asked."""
    asked = [i for i in range(len(questions)) if runs[0][i] is not None]
    each = [[score(questions[i], a) for i in asked if (a := run[i]) is not None] for run in runs]
    found: list[Score | None] = [None] * len(questions)
    for i, one in zip(asked, mean_scores(each), strict=True):
        found[i] = one
    return found


def mean_scores(runs: Sequence[Sequence[Score]]) -> list[Score]:
    """Return one score a question of several trainings' (one list each, aligned); of one training its own."""
    return list(runs[0]) if len(runs) == 1 else [_joined(each) for each in zip(*runs, strict=True)]


def _joined(scores: Sequence[Score]) -> MeanScore:
    values: dict[str, Any] = {}
    for item in fields(Score):
        each = [getattr(score, item.name) for score in scores]
        numeric = all(isinstance(v, float) or v is None for v in each)
        values[item.name] = _mean(each) if numeric else each[0]
    return MeanScore(**values, of=tuple(scores))


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None


def runs_of(scores: Sequence[Score]) -> list[list[Score]]:
    """Return the scores of each training; of plain scores, themselves."""
    first = scores[0] if scores else None
    if not isinstance(first, MeanScore):
        return [list(scores)]
    return [[s.of[i] for s in scores if isinstance(s, MeanScore)] for i in range(len(first.of))]


def summarise_arm(scores: Sequence[Score], *, seed: int = 0) -> dict[str, Interval]:
    """Return an arm's figures as `summarise_scores` does, over trainings too where there are several."""
    runs = runs_of(scores)
    each = [summarise_scores(run, seed=seed) for run in runs]
    if len(runs) == 1:
        return each[0]
    columns = [figures_by_question(run) for run in runs]
    found = {}
    for name in METRICS:
        have = [figures[name] for figures in each if name in figures]
        values = [column.get(name, []) for column in columns]
        if values[0] and name not in _BY_ANSWER and len({len(own) for own in values}) == 1:
            found[name] = crossed_interval(np.array(values).T, bounds=_bounds(name))
        elif have:
            found[name] = _mean_interval(have)
    return found


def _bounds(name: str) -> tuple[float, float] | None:
    if name.startswith("seconds") or name.endswith("tokens"):
        return None
    return (-1.0, 1.0) if name == "embedding_similarity" else (0.0, 1.0)


def _mean_interval(intervals: Sequence[Interval]) -> Interval:
    value, low, high = (sum(getattr(i, key) for i in intervals) / len(intervals) for key in ("value", "low", "high"))
    return Interval(value, low, high, max(i.n for i in intervals))


def arm_outcomes(scores: Sequence[Score], answers: Sequence[Sequence[Answer]], *, seed: int = 0) -> dict[str, Any]:
    """Return an arm's `shares` and `risk_coverage`; `answers` has a list a training, aligned with the scores.

    Of several trainings the curve's points are those of all answers together, and its figures means of the trainings'.
    """
    runs = runs_of(scores)
    each = [outcome_figures(run, own, seed=seed) for run, own in zip(runs, answers, strict=True)]
    if len(runs) == 1:
        return each[0]
    shares = [outcome_values(run) for run in runs]
    crossed = {
        name: crossed_interval(np.array([own[name] for own in shares]).T, bounds=(0.0, 1.0)).as_dict()
        for name in shares[0]
    }
    curves = [found["risk_coverage"] for found in each if found["risk_coverage"]]
    pooled = None
    if curves:
        everything = [a for own in answers for a in own]
        pooled = outcome_figures([s for run in runs for s in run], everything, seed=seed)["risk_coverage"]
        pooled |= {name: _mean_interval([_interval(c[name]) for c in curves]).as_dict() for name in _CURVE_FIGURES}
    return {"shares": crossed or None, "risk_coverage": pooled}


_CURVE_FIGURES = ("risk", "area", "gain")


def _interval(row: dict[str, Any]) -> Interval:
    return Interval(row["value"], row["low"], row["high"], row["n"])


def training_figures(names: Sequence[str], scores: Sequence[Score]) -> dict[str, Any]:
    """Return what a report says of an arm's trainings: each one's scores, and their standard deviation."""
    runs = runs_of(scores)
    rows = []
    for name, run in zip(names, runs, strict=True):
        values = {metric: _mean([getattr(s, metric) for s in run]) for metric in SPREAD}
        rows.append({"adapter": name} | {m: round(v, 6) for m, v in values.items() if v is not None})
    spread = {}
    for metric in SPREAD:
        column = [[v for s in run if (v := getattr(s, metric)) is not None] for run in runs]
        if column[0]:
            spread[metric] = round(crossed_mean(np.array(column).T).spread, 6)
    return {"adapters": rows, "spread": spread}
