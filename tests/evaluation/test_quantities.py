import pytest

from doyen.evaluation.metrics import number_match
from doyen.evaluation.quantities import number_score
from doyen.evaluation.scoring import score_answer, summarise
from doyen.records import Answer, Question


@pytest.mark.parametrize(
    ("answer", "gold", "expected"),
    [
        ("27 days", "27 days", (1.0, 1.0)),
        ("27", "27 days", (1.0, 0.0)),
        ("27 weeks", "27 days", (0.0, None)),  # the same number of something else
        ("27 working days", "27 days", (1.0, 1.0)),
        ("It takes 120 minutes.", "2 hours", (1.0, 1.0)),
        ("2 Stunden", "120 Minuten", (1.0, 1.0)),
        ("3 hours", "2 hours", (0.0, None)),
        ("12 months", "1 year", (1.0, 1.0)),
        ("365 days", "1 year", (0.0, None)),  # years are not converted into days
        ("US$ 5 million", "5,000,000 dollars", (1.0, 1.0)),
        ("€5 million", "$5 million", (0.0, None)),
        ("EUR 20", "20 euros", (1.0, 1.0)),
        ("5%", "5 percent", (1.0, 1.0)),
        ("0.05", "5%", (1.0, 0.0)),
        ("5 days", "5%", (0.0, None)),
        ("1.5 km", "1500 metres", (1.0, 1.0)),
        ("3 apples", "3", (1.0, None)),
        ("3", "3 apples", (1.0, None)),  # a unit that is not in the table decides nothing
        ("In 2019 it was 40 minutes", "40 minutes", (1.0, 1.0)),
        ("20 °C", "20 °F", (0.0, None)),
        ("no number here", "2 hours", (0.0, None)),
        ("", "2 hours", (0.0, None)),
    ],
)
def test_units_decide_where_both_sides_name_one(answer, gold, expected):
    assert number_score(answer, [gold]) == expected


@pytest.mark.parametrize(
    ("answer", "golds"), [("7", ["5", "7"]), ("6", ["5", "7"]), ("seven", ["seven"]), ("12%", ["0.12"])]
)
def test_without_units_it_is_the_number_match(answer, golds):
    assert number_score(answer, golds)[0] == number_match(answer, golds)


def test_one_of_several_known_answers_is_enough():
    assert number_score("30 days", ["4 weeks", "30 days"]) == (1.0, 1.0)


def test_scores_and_figures_take_the_unit_into_account():
    questions = [Question(str(i), "How long?", ("27 days",), "number") for i in range(3)]
    answers = [Answer(text, True, "base") for text in ("27 days", "27", "27 weeks")]
    assert [score_answer(q, a).answer_score for q, a in zip(questions, answers, strict=True)] == [1, 1, 0]
    found = summarise(questions, answers)
    assert found["number_accuracy"].value == pytest.approx(2 / 3)
    assert (found["units_right"].value, found["units_right"].n) == (0.5, 2)


def test_balanced_accuracy_counts_each_verdict_alike():
    questions = [Question(str(i), "May I?", ("yes" if i else "no",), "yesno") for i in range(5)]
    found = summarise(questions, [Answer("yes", True, "base")] * 5)
    assert found["yesno_accuracy"].value == 0.8
    assert found["yesno_balanced_accuracy"].value == 0.5
    one_kind = summarise(questions[1:], [Answer("yes", True, "base")] * 4)
    assert one_kind["yesno_balanced_accuracy"].value == 1
