import pytest

from doyen.evaluation.advice import advise, difference
from doyen.evaluation.report import build_report
from doyen.records import ARMS, Answer, Question


def comparison(*, arms=ARMS, n=60, unanswerable=0, **right):
    """A report in which each arm answers its number of questions right, the first ones."""
    questions = [Question(str(i), "Who?", ("Denver",), answerable=i >= unanswerable) for i in range(n)]
    names = {arm: right[arm.replace("+", "_")] for arm in arms}
    answers = {
        arm: [Answer("Denver" if i < count else "Boston", True, arm, seconds=1.0) for i in range(n)]
        for arm, count in names.items()
    }
    return build_report(questions=questions, answers=answers, hits=None, manifest={}, seed=1)


def test_the_best_arm_is_chosen_with_its_gain():
    advice = advise(comparison(base=5, rag=30, finetuned=10, rag_finetuned=55))
    assert (advice.arm, advice.runner_up, advice.measured) == ("rag+finetuned", "rag", True)
    said = " ".join(advice.reasons)
    assert "rag+finetuned scores 91.7% over all 60 questions" in said
    assert "Against the next simpler arm, finetuned, it gains 75.0 points" in said
    assert "rag is 41.7 points behind and simpler" in said


def test_a_tie_goes_to_the_simpler_arm():
    advice = advise(comparison(base=5, rag=50, finetuned=50, rag_finetuned=52))
    assert (advice.arm, advice.runner_up) == ("rag", "rag+finetuned")
    assert "lead of 3.3 points" in advice.reasons[0]
    assert "the simpler is chosen" in advice.reasons[0]


def test_all_alike_is_the_base_model():
    advice = advise(comparison(base=20, rag=20, finetuned=20, rag_finetuned=20))
    assert advice.arm == "base"
    assert "-0.0" not in " ".join(advice.reasons)


def test_a_simpler_arm_that_another_beats_is_not_chosen():
    # The best arm's lead over base is uncertain, but rag's is not: base must not slip through.
    interval = {"n": 50, "p": 0.1}
    overall = {"base": 0.50, "rag": 0.55, "rag+finetuned": 0.56}
    arms = {
        arm: {"metrics": {"overall": {"value": v, "low": v - 0.1, "high": v + 0.1, "n": 50}}}
        for arm, v in overall.items()
    }
    gains = [("base", "rag", 0.05, 0.01), ("base", "rag+finetuned", 0.06, -0.02), ("rag", "rag+finetuned", 0.01, -0.1)]
    rows = [
        {"a": a, "b": b, "metrics": {"overall": {"value": v, "low": low, "high": 2 * v - low, **interval}}}
        for a, b, v, low in gains
    ]
    assert advise({"arms": arms, "differences": rows}).arm == "rag"


def test_refusals_of_the_unanswerable_count():
    questions = [Question(str(i), "Who?", ("Denver",), answerable=i % 2 == 0) for i in range(60)]
    knows = [Answer("Denver", True, "base") for _ in questions]
    refuses = [Answer("Denver", q.answerable, "rag") for q in questions]
    report = build_report(questions=questions, answers={"base": knows, "rag": refuses}, hits=None, manifest={}, seed=1)
    advice = advise(report)
    assert advice.arm == "rag"
    assert any("refuses 100.0% of the 30 questions without an answer" in reason for reason in advice.reasons)


def test_every_reason_has_a_figure():
    for advice in (
        advise(comparison(base=5, rag=30, finetuned=10, rag_finetuned=55)),
        advise(comparison(base=5, rag=50, finetuned=50, rag_finetuned=52, unanswerable=4)),
    ):
        assert all(any(c.isdigit() for c in reason) for reason in advice.reasons), advice.reasons


@pytest.mark.parametrize(
    ("rise", "change", "said"),
    [(0.004, "0.4% more", "so little"), (-0.008, "0.8% fewer", "so little"), (0.031, "3.1% more", "has lost some")],
)
def test_what_training_cost_on_general_texts_is_told_of_a_trained_arm(rise, change, said):
    found = comparison(base=5, rag=30, finetuned=10, rag_finetuned=55)
    found["manifest"] = {"adapter": {"forgetting": {"rise": rise}}}
    assert any(f"{change} bits a byte" in reason and said in reason for reason in advise(found).reasons)
    found = comparison(base=5, rag=55, finetuned=10, rag_finetuned=55)
    found["manifest"] = {"adapter": {"forgetting": {"rise": rise}}}
    assert not any("bits a byte" in reason for reason in advise(found).reasons)


def test_difference_is_turned_round():
    report = comparison(base=5, rag=30, finetuned=10, rag_finetuned=55)
    there, back = difference(report, "base", "rag"), difference(report, "rag", "base")
    assert there and back
    assert (back["value"], back["low"], back["high"]) == (-there["value"], -there["high"], -there["low"])


def test_few_questions_are_called_few():
    advice = advise(comparison(n=8, base=0, rag=8, finetuned=0, rag_finetuned=0))
    assert any("8 questions are few" in reason for reason in advice.reasons)


def test_one_arm_and_no_known_answers():
    assert advise(comparison(arms=("rag",), rag=3)).runner_up is None
    unknown = build_report(
        questions=[Question("1", "Who?")], answers={"rag": [Answer("x", True, "rag")]}, hits=None, manifest={}, seed=0
    )
    assert (unknown["advice"]["arm"], unknown["advice"]["measured"]) == ("rag", False)


def test_the_time_is_that_of_one_who_waits_where_it_was_measured_of_all():
    report = comparison(base=5, rag=30, finetuned=10, rag_finetuned=55)
    assert "It takes 1.00 s an answer (median); base takes 1.00 s." in advise(report).reasons
    costs = {arm: {"latency_p50": seconds} for arm, seconds in zip(ARMS, (0.5, 1.5, 0.25, 2.0), strict=True)}
    told = "It takes 2.00 s an answer, asked alone (median); finetuned takes 0.25 s."
    assert told in advise(report | {"cost": {"arms": costs}}).reasons
    del costs["base"]["latency_p50"]
    assert told not in advise(report | {"cost": {"arms": costs}}).reasons
