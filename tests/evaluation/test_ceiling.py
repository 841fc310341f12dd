"""What the extra arms tell, of reports with answers made by hand."""

import pytest

from doyen.evaluation.advice import advise
from doyen.evaluation.further_sections import further_lines, further_sections
from doyen.evaluation.report import build_report
from doyen.evaluation.report_page import render_page
from doyen.records import ARMS, EXTRA_ARMS, Answer, Question

N = 60


def report(right, **more):
    """Build a report in which the first `right[arm]` of 60 questions are right; oracles are asked the first 50."""
    questions = [Question(f"q{i}", f"Question {i}?", ("yes",), "yesno") for i in range(N)]
    answers = {
        arm: [
            None if "oracle" in arm and i >= 50 else Answer("yes" if i < count else "no", True, arm) for i in range(N)
        ]
        for arm, count in right.items()
    }
    return build_report(questions=questions, answers=answers, hits=None, manifest={}, seed=1, **more)


def told(found, start):
    return next(reason for reason in found["advice"]["reasons"] if reason.startswith(start))


def test_what_retrieval_loses_is_said_in_points_of_the_questions_with_gold():
    found = report({"base": 5, "rag": 25, "oracle": 45})
    said = told(found, "Ceiling")
    assert "oracle scores 90.0% on the 50 questions that have gold, rag with those that search found 50.0%" in said
    assert "retrieval loses 40.0 points" in said and "under half" not in said


def test_a_model_that_cannot_read_is_told_from_a_search_that_misses():
    said = told(report({"base": 5, "rag": 15, "oracle": 16}), "Ceiling")
    assert "cannot be told from zero" in said and "the model's reading limits" in said


def test_passages_found_may_serve_better_than_gold():
    assert "serves better than the gold passages, by 50.0 points" in told(report({"rag": 45, "oracle": 20}), "Ceiling")


def test_each_oracle_stands_beside_its_reader():
    found = report({"rag": 25, "rag+finetuned": 40, "oracle": 45, "oracle+finetuned": 50})
    said = [r for r in found["advice"]["reasons"] if r.startswith("Ceiling")]
    assert len(said) == 2 and "rag+finetuned with those" in said[1]


@pytest.mark.parametrize(
    ("reference", "words"),
    [(55, "25.0 points (95% interval"), (10, "behind rag"), (41, "that cannot be told from zero")],
)
def test_a_reference_is_compared_with_the_choice(reference, words):
    said = told(report({"rag": 40, "reference": reference}), "For comparison: reference scores")
    assert words in said


def test_no_extra_arm_is_ever_advised():
    found = report({"base": 10, **dict.fromkeys(EXTRA_ARMS, 60)})
    assert advise(found).arm == "base" and advise(found).runner_up is None
    assert "the highest of" not in found["advice"]["reasons"][0]


def test_extra_arms_are_corrected_among_themselves():
    four = {"base": 20, "rag": 27, "finetuned": 22, "rag+finetuned": 30}
    plain, more = report(four), report(four | {"oracle": 40, "reference": 45})
    among = [row for row in more["differences"] if row["a"] in ARMS and row["b"] in ARMS]
    assert among == plain["differences"] and len(more["differences"]) == 6 + 8


def test_what_failed_and_what_was_left_out_is_said():
    found = report({"base": 20, "oracle": 30})
    found |= {"failed": {"reference": "example.com refuses: 401"}, "left_out": {"oracle": {"no gold": 10}}}
    lines = further_lines(found)
    assert any("reference has no figures: example.com refuses: 401" in line for line in lines)
    assert any("oracle was asked 50 of 60 questions; left out: 10 with no gold" in line for line in lines)
    page = render_page(found)
    assert "oracle" in page and "50 of 60 questions" in page


def test_a_report_of_the_four_arms_alone_says_nothing_besides():
    questions = [Question("q", "Why?", ("x",))]
    plain = build_report(
        questions=questions, answers={"base": [Answer("x", True, "base")]}, hits=None, manifest={}, seed=1
    )
    assert [s.title for s in further_sections(plain)] == ["What was not measured"]  # the question has no gold
