"""Questions, the arms' answers and the hits → one comparison as a dictionary, report.json and report.html.

Computes no metric itself (see scoring.py), asks no model, and draws no page (see report_page.py).
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

from doyen.config import write_atomic
from doyen.evaluation.advice import advise
from doyen.evaluation.pairs import arm_differences
from doyen.evaluation.question_origin import origin_figures
from doyen.evaluation.report_page import render_page
from doyen.evaluation.retrieval_scores import score_hits, summarise_hits
from doyen.evaluation.scoring import FURTHER, Score, score_answer
from doyen.evaluation.statistics import RESAMPLES
from doyen.evaluation.strata import question_strata, strata_figures
from doyen.evaluation.trained_on import TrainedOn
from doyen.evaluation.trainings import (
    MeanScore,
    Runs,
    arm_outcomes,
    runs_of_answers,
    scores_of_runs,
    summarise_arm,
    training_figures,
)
from doyen.records import KINDS, Answer, Hit, Question

FORMAT = 1
MOST_TAGS = 30


# ------------------------------------------------------------------ the dictionary
def build_report(
    *,
    questions: Sequence[Question],
    answers: Mapping[str, Sequence[Answer | None]],
    hits: Sequence[Sequence[Hit]] | None,
    manifest: dict[str, Any],
    seed: int,
    methods: Sequence[Mapping[str, Any]] = (),
    origin: Mapping[str, Any] | None = None,
    trainings: Mapping[str, Mapping[str, Sequence[Answer | None]]] = MappingProxyType({}),
    score: Callable[[Question, Answer], Score] = score_answer,
    trained: TrainedOn | None = None,
    cost: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Score a comparison. `answers` (each arm's) and `hits` are aligned with `questions`.

    An extra arm has None for what it was not asked. `trainings` (arm → adapter → answers) replaces the answers of arms that
    were asked with several adapters. `score` scores one answer. `trained` is what the adapter was trained on, for the strata;
    `cost` the figures of `costs.cost_figures`; `methods` those of `methods.trained_methods`.

    Returns:
        What docs/reference/report.md describes, JSON-serialisable, without the parts that are optional there; `curve` is null.

    Raises:
        ValueError: the answers of an arm, or the hits, are not as many as the questions.
    """
    runs = runs_of_answers(answers, trainings)
    counted = [(arm, own) for arm, each in runs.items() for own in each.values()]
    for name, found in [*counted, *([("hits", hits)] if hits is not None else [])]:
        if len(found) != len(questions):
            raise ValueError(f"expected one entry of {name} a question, got {len(found)} for {len(questions)}")
    scores = {arm: scores_of_runs(questions, list(each.values()), score) for arm, each in runs.items()}
    retrieval = summarise_hits(questions, hits, seed=seed) if hits is not None else {}
    report: dict[str, Any] = {
        "format": FORMAT,
        "manifest": manifest,
        "seed": seed,
        "resamples": RESAMPLES,
        "questions": _counts(questions),
        "arms": {arm: _arm(questions, found, seed) for arm, found in scores.items()},
        "differences": arm_differences(scores, seed),
        "retrieval": {name: interval.as_dict() for name, interval in retrieval.items()} or None,
        "methods": [dict(row) for row in methods],
        "curve": None,
        "origin": origin_figures(origin, questions, scores, seed),
        "cost": dict(cost) if cost else None,
    }
    for arm, own_scores in scores.items():
        known, given = [s for s in own_scores if s is not None], [[a for a in own if a] for own in runs[arm].values()]
        report["arms"][arm] |= arm_outcomes(known, given, seed=seed)
        if len(runs[arm]) > 1:
            report["arms"][arm]["trainings"] = training_figures(list(runs[arm]), known)
    groups = question_strata(questions, trained)
    report["strata"] = strata_figures(groups, scores, seed=seed)
    report["advice"] = advise(report).as_dict()
    report["rows"] = [
        _row(i, q, runs, scores, hits)
        | {"strata": {group: own[i] for group, own in groups.items() if own[i] is not None}}
        for i, q in enumerate(questions)
    ]
    return report


def _counts(questions: Sequence[Question]) -> dict[str, Any]:
    answerable = sum(q.answerable for q in questions)
    kinds = Counter(q.kind for q in questions)
    return {
        "total": len(questions),
        "answerable": answerable,
        "unanswerable": len(questions) - answerable,
        "scored": sum(not q.answerable or bool(q.answers) for q in questions),
        "without_answers": sum(q.answerable and not q.answers for q in questions),
        "without_gold": sum(q.answerable and not q.gold for q in questions),
        "kinds": {kind: kinds[kind] for kind in KINDS if kinds[kind]},
    }


def _arm(questions: Sequence[Question], scores: Sequence[Score | None], seed: int) -> dict[str, Any]:
    def metrics(keep: Callable[[Question], bool]) -> dict[str, Any]:
        kept = [s for q, s in zip(questions, scores, strict=True) if s is not None and keep(q)]
        return {name: interval.as_dict() for name, interval in summarise_arm(kept, seed=seed).items()}

    kinds = [kind for kind in KINDS if any(q.kind == kind for q in questions)]
    tags = [tag for tag, _ in Counter(tag for q in questions for tag in dict.fromkeys(q.tags)).most_common(MOST_TAGS)]
    return {
        "metrics": metrics(lambda q: True),
        "by_kind": {kind: metrics(lambda q, kind=kind: q.kind == kind) for kind in kinds},  # type: ignore[misc]
        "by_tag": {tag: metrics(lambda q, tag=tag: tag in q.tags) for tag in tags},  # type: ignore[misc]
    }


SCORE_FIELDS = ("answer_score", "token_f1", "exact_match", "containment", "rouge_l", "stale", "overall", *FURTHER)
COUNT_FIELDS = ("citation_given", "citation_correct", "gold_cited", "gold_total")


def _row(
    i: int,
    question: Question,
    runs: Runs,
    scores: Mapping[str, Sequence[Score | None]],
    hits: Sequence[Sequence[Hit]] | None,
) -> dict[str, Any]:
    arms = {}
    for arm, found in scores.items():
        score = found[i]
        if score is None:
            continue
        given = [(name, a) for name, own in runs[arm].items() if (a := own[i]) is not None]
        arms[arm] = _given(score, given[0][1])
        if isinstance(score, MeanScore):
            arms[arm]["trainings"] = [
                {"adapter": name, **_given(one, answer)} for (name, answer), one in zip(given, score.of, strict=True)
            ]
    return {
        "id": question.id,
        "question": question.question,
        "answers": list(question.answers),
        "kind": question.kind,
        "tags": list(question.tags),
        "answerable": question.answerable,
        "gold": [{"document": g.document, "page": g.page} for g in question.gold],
        "retrieval": score_hits(question, hits[i]) or None if hits is not None else None,
        "arms": arms,
    } | ({"former_answers": list(question.former_answers)} if question.former_answers else {})


def _given(score: Score, given: Answer) -> dict[str, Any]:
    """Return one answer with its scores as a row of the report has them."""
    answer = given.as_dict()
    values = {name: getattr(score, name) for name in SCORE_FIELDS if getattr(score, name) is not None}
    return {key: answer[key] for key in ("answer", "answered")} | {
        "outcome": score.outcome,
        "scores": {name: round(value, 4) for name, value in values.items()}
        | {name: getattr(score, name) for name in COUNT_FIELDS if score.gold_total},
        **({"judged": score.judged} if score.judged else {}),
        **{key: answer[key] for key in ("citations", "seconds", "prompt_tokens", "completion_tokens")},
        **{key: answer[key] for key in ("refusal_probability",) if key in answer},
    }


# ------------------------------------------------------------------ files
def write_report(report: dict[str, Any], folder: Path) -> None:
    """Write report.json and report.html into the folder, each whole or not at all."""
    write_atomic(folder / "report.json", json.dumps(report, ensure_ascii=False, indent=1) + "\n")
    write_atomic(folder / "report.html", render_page(report))
