"""Questions × scores → each arm's figures on groups of questions in which the answer to "which arm?" may differ.

A group sorts the questions by one trait; a stratum is one value of it. What the training saw comes from trained_on.py.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from doyen.evaluation.scoring import Score
from doyen.evaluation.statistics import bootstrap_mean
from doyen.evaluation.trained_on import CHANGED, FEW_EXAMPLES, IN_TRAINING, UNSEEN, TrainedOn
from doyen.records import Question

FEW = 10
"""Below so many questions a stratum's figures say little, and the report greys them."""
SORTS = ("terminology", "facts", "synthesis")
"""Tags that sort questions; untagged ones count as synthesis with several gold places, else as facts."""
LABELS = {
    "freshness": "What the training saw of the documents",
    "facts": "Facts that have changed",
    "popularity": "Training examples on the same page",
    "sort": "Terminology, facts, synthesis",
    "passages": "Where the answer stands",
    "answerable": "Answer in the documents",
    "language": "Language",
}
METRICS = ("overall", "answer_score", "stale")


def question_strata(questions: Sequence[Question], trained: TrainedOn | None = None) -> dict[str, list[str | None]]:
    """Return group → the stratum of each question, None where it belongs to none; groups of one stratum are left out.

    Without `trained`, nothing is said of freshness and popularity. One stratum of these two is told all the same.
    """
    groups: dict[str, list[str | None]] = {
        "freshness": [trained.freshness(q) if trained else None for q in questions],
        "facts": _facts(questions),
        "popularity": [_popularity(trained.examples(q)) if trained and trained.places else None for q in questions],
        "sort": [_sort(q) for q in questions],
        "passages": [_passages(q) for q in questions],
        "answerable": ["yes" if q.answerable else "no" for q in questions],
        "language": [q.language for q in questions],
    }
    alone = ("freshness", "popularity")
    return {name: own for name, own in groups.items() if len(set(own) - {None}) >= (1 if name in alone else 2)}


def _facts(questions: Sequence[Question]) -> list[str | None]:
    return ["changed" if q.former_answers else "as before" for q in questions]


def _popularity(examples: int | None) -> str | None:
    if examples is None:
        return None
    return f"rare (at most {FEW_EXAMPLES})" if examples <= FEW_EXAMPLES else f"popular (over {FEW_EXAMPLES})"


def _sort(question: Question) -> str | None:
    tagged = next((sort for sort in SORTS if sort in question.tags), None)
    if tagged or not question.answerable:
        return tagged
    return "synthesis" if _passages(question) == "several places" else "facts"


def _passages(question: Question) -> str | None:
    places = {(gold.document, gold.page) for gold in question.gold}
    return None if not places else "one place" if len(places) == 1 else "several places"


_ORDER = {name: i for i, name in enumerate((IN_TRAINING, CHANGED, UNSEEN, "as before", "changed", *SORTS))}


def strata_figures(
    groups: Mapping[str, Sequence[str | None]], scores: Mapping[Any, Sequence[Score | None]], *, seed: int
) -> dict[str, dict[str, dict[str, Any]]]:
    """Return group → stratum → `{n, few, arms: {arm: {overall, answer_score, stale}}}`, figures with 95% intervals.

    `n` counts the questions, `few` says that they are fewer than 10; a figure without questions is left out.
    """
    found: dict[str, dict[str, dict[str, Any]]] = {}
    for group, strata in groups.items():
        found[group] = {}
        for name in sorted({s for s in strata if s is not None}, key=lambda s: (_ORDER.get(s, 99), s)):
            places = [i for i, own in enumerate(strata) if own == name]
            arms = {arm: _figures([own[i] for i in places], seed) for arm, own in scores.items()}
            found[group][name] = {"n": len(places), "few": len(places) < FEW, "arms": arms}
    return found


def _figures(scores: Sequence[Score | None], seed: int) -> dict[str, Any]:
    found = {}
    for name in METRICS:
        values = [value for s in scores if s is not None and (value := getattr(s, name)) is not None]
        if values:
            found[name] = bootstrap_mean(values, seed=seed).as_dict()
    return found
