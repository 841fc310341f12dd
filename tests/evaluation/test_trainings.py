"""Scores of several trainings, on answers made by hand."""

import pytest

from doyen.evaluation.pairs import arm_differences
from doyen.evaluation.report import build_report
from doyen.evaluation.scoring import score_answer, summarise_scores
from doyen.evaluation.trainings import MeanScore, mean_scores, summarise_arm, training_figures
from doyen.records import Answer, Question

QUESTIONS = [Question(f"q{i}", f"Is it {i}?", ("yes",), "yesno", answerable=i < 15) for i in range(20)]


def answers(right):
    """Answer the first `right` questions rightly and refuse the rest."""
    return [
        Answer("yes" if i < right else "none", i < right, "finetuned", refusal_probability=i / 20) for i in range(20)
    ]


def scores(right):
    return [score_answer(q, a) for q, a in zip(QUESTIONS, answers(right), strict=True)]


def test_a_question_counts_with_the_mean_of_its_answers():
    found = mean_scores([scores(10), scores(20)])
    assert [found[i].overall for i in (5, 12, 17)] == [1.0, 0.5, 0.5]  # 17 has no answer: one refuses rightly
    assert found[12].outcome == "refused" and isinstance(found[12], MeanScore)


def test_one_training_is_scored_as_ever():
    assert mean_scores([scores(10)]) == scores(10)
    assert summarise_arm(scores(10), seed=3) == summarise_scores(scores(10), seed=3)


def test_figures_are_means_and_their_intervals_hold_the_trainings():
    together = summarise_arm(mean_scores([scores(4), scores(8), scores(12)]))
    alone = [summarise_scores(scores(n))["answer_score"] for n in (4, 8, 12)]
    mean = sum(i.value for i in alone) / 3
    assert together["answer_score"].value == pytest.approx(mean)
    assert together["answer_score"].high - together["answer_score"].low > max(i.high - i.low for i in alone)
    assert 0 <= together["overall"].low and together["overall"].high <= 1
    assert together["yesno_macro_f1"].n == 15


def test_trainings_are_listed_with_their_spread():
    found = training_figures(["a", "b"], mean_scores([scores(6), scores(12)]))
    assert [row["answer_score"] for row in found["adapters"]] == [0.4, 0.8]
    assert found["spread"]["answer_score"] == pytest.approx(0.282843, abs=1e-6)


def test_arms_with_the_same_trainings_are_paired_by_them():
    wide = arm_differences({"base": scores(0), "finetuned": mean_scores([scores(4), scores(12)])}, 1)
    paired = arm_differences(
        {"finetuned": mean_scores([scores(4), scores(12)]), "rag+finetuned": mean_scores([scores(6), scores(14)])}, 1
    )
    a, b = (rows[0]["metrics"]["answer_score"] for rows in (wide, paired))
    assert b["value"] == pytest.approx(2 / 15, abs=1e-5)
    assert b["high"] - b["low"] < a["high"] - a["low"]


def test_a_report_pools_the_curve_of_all_trainings():
    given = {"one": answers(6), "two": answers(12)}
    report = build_report(
        questions=QUESTIONS,
        answers={"finetuned": given["one"]},
        trainings={"finetuned": given},
        hits=None,
        manifest={},
        seed=1,
    )
    arm = report["arms"]["finetuned"]
    assert arm["risk_coverage"]["answered"] == 18 and arm["risk_coverage"]["questions"] == 40
    assert sum(arm["shares"][name]["value"] for name in ("correct", "wrong", "refused")) == pytest.approx(1)
    assert arm["shares"]["correct"]["n"] == 20
    assert report["rows"][0]["arms"]["finetuned"]["trainings"][1]["adapter"] == "two"
