import pytest
from hypothesis import given
from hypothesis import strategies as st

from doyen.evaluation.scoring import score_answer, summarise
from doyen.records import KINDS, Answer, Citation, GoldSource, Question


def question(kind="span", answers=("Denver",), gold=(("a.pdf", 3),), answerable=True):
    sources = tuple(GoldSource(document, page) for document, page in gold)
    return Question("1", "Who?", answers, kind, sources, answerable=answerable)


def answer(text="Denver", cited=(), answered=True, **more):
    citations = tuple(Citation(document, page, None, 0, 1, "x") for document, page in cited)
    return Answer(text, answered, "rag", citations, **more)


@given(st.sampled_from(KINDS), st.text(min_size=1), st.text())
def test_a_refusal_scores_nothing(kind, gold, text):
    score = score_answer(question(kind, (gold,)), answer(text, answered=False))
    assert score.answer_score == score.token_f1 == score.overall == score.containment == 0
    assert score.false_refusal and score.outcome == "refused"


@pytest.mark.parametrize(
    ("kind", "gold", "text", "expected"),
    [
        ("number", "5 million", "It is $5,000,000 [2].", 1),
        ("number", "5 million", "It is 6 million", 0),
        ("yesno", "Yes", "Yes, it may.", 1),
        ("yesno", "no", "maybe", 0),
        ("yesnomaybe", "maybe", "Perhaps", 1),
        ("span", "Denver Broncos", "Denver", 2 / 3),
        ("long", "one two three", "one two three", 1),
    ],
)
def test_answer_score_follows_the_kind(kind, gold, text, expected):
    assert score_answer(question(kind, (gold,)), answer(text)).answer_score == pytest.approx(expected)


def test_token_f1_is_given_beside_the_kinds_own_score():
    score = score_answer(question("yesno", ("yes",)), answer("Yes, of course"))
    assert (score.answer_score, score.token_f1) == (1, 0.5)


def test_the_best_of_several_answers_counts():
    assert score_answer(question(answers=("x", "Denver")), answer("Denver")).token_f1 == 1


def test_unanswerable_is_right_if_refused():
    unanswerable = question(answers=(), gold=(), answerable=False)
    refused = score_answer(unanswerable, answer("The documents do not say.", answered=False))
    answered = score_answer(unanswerable, answer("Denver"))
    assert (refused.overall, refused.correct_refusal, refused.outcome) == (1, True, "refused rightly")
    assert (answered.overall, answered.outcome, answered.token_f1) == (0, "wrong", None)


def test_without_known_answers_nothing_is_scored():
    score = score_answer(question(answers=()), answer())
    assert (score.overall, score.outcome) == (None, "unscored")


def test_outcome_accepts_a_long_winded_right_answer():
    text = "As far as the documents say, and they say little, the team meant is Denver."
    assert score_answer(question(), answer(text)).outcome == "right"
    assert score_answer(question(), answer("Boston")).outcome == "wrong"
    assert score_answer(question("number", ("5",)), answer("6 and not 5")).outcome == "wrong"


def test_citations_are_distinct_pages_of_the_gold():
    score = score_answer(question(), answer(cited=[("a.pdf", 3), ("a.pdf", 3), ("a.pdf", 4), ("b.pdf", None)]))
    assert (score.citation_given, score.citation_correct, score.gold_cited, score.gold_total) == (3, 1, 1, 1)


def test_citations_are_documents_where_the_gold_has_no_pages():
    score = score_answer(question(gold=[("a.txt", None), ("b.txt", None)]), answer(cited=[("a.txt", 3), ("a.txt", 4)]))
    assert (score.citation_given, score.citation_correct, score.gold_total) == (1, 1, 2)


def test_summary_and_its_denominators():
    questions = [
        question("number", ("5",)),
        question("yesno", ("yes",)),
        question(),
        question(answers=(), gold=(), answerable=False),
        question(answers=(), gold=(), answerable=False),
    ]
    answers = [
        answer("5", [("a.pdf", 3), ("a.pdf", 4)], seconds=1.0, prompt_tokens=10, completion_tokens=2),
        answer("no", [("a.pdf", 4)], seconds=2.0),
        answer("", answered=False, seconds=9.0),
        answer("", answered=False),
        answer("Denver", [("a.pdf", 1)]),
    ]
    found = {name: round(interval.value, 6) for name, interval in summarise(questions, answers).items()}
    assert found["answer_score"] == round(1 / 3, 6)
    assert found["overall"] == 0.4
    assert (found["number_accuracy"], found["yesno_accuracy"], found["yesno_macro_f1"]) == (1, 0, 0)
    assert (found["refusal_rate"], found["false_refusal_rate"]) == (0.4, round(1 / 3, 6))
    assert found["unanswerable_refused"] == 0.5
    assert (found["citation_precision"], found["citation_recall"]) == (round(1 / 3, 6), 0.5)
    assert (found["seconds_p50"], found["seconds_mean"], found["tokens"]) == (1, 2.4, 2.4)


def test_missing_groups_are_left_out():
    found = summarise([question()], [answer()])
    assert not {"number_accuracy", "yesno_macro_f1", "unanswerable_refused", "citation_precision"} & set(found)
    assert summarise([], []) == {}
