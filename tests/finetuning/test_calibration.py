"""The refusal rule: which signs it keeps, and the share of answerable questions that its threshold refuses."""

import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from doyen.finetuning.calibration import (
    FEWEST_OF_EACH,
    MOST_OF_EACH,
    calibrate_refusal,
    fit_rule,
    most_of_each,
    refusal_threshold,
)
from doyen.models.transformers_engine import TransformersEngine
from doyen.records import Nearness
from doyen.refusing import RefusalRule, Signs


@pytest.mark.parametrize(
    ("trained_on", "share", "most"),
    [(50, 0.05, 20), (400, 0.05, 40), (5000, 0.05, 100), (50, 0.02, 50), (50, 0.001, 100), (50, 0.5, 20)],
)
def test_a_short_training_is_calibrated_on_few_examples_and_never_on_too_few(trained_on, share, most):
    assert most_of_each(trained_on, share) == most
    if most < MOST_OF_EACH:
        assert math.ceil((most + 1) * (1 - share)) <= most  # the quantile exists


def test_no_more_examples_than_asked_for_are_answered(phi, validation, tmp_path):
    twice = [*validation, *validation]
    few = calibrate_refusal(TransformersEngine(phi), tmp_path, twice, false_refusals=0.1, most=FEWEST_OF_EACH - 1)
    assert (few.threshold, few.answerable, few.unanswerable) == (None, FEWEST_OF_EACH - 1, FEWEST_OF_EACH - 1)


def test_a_clear_separation_leaves_the_rules_own_decision():
    assert refusal_threshold([0.01] * 20, 0.1) == 0.5


def test_the_threshold_rises_until_few_answerable_questions_are_refused():
    scores = [i / 100 for i in range(1, 100)]
    threshold = refusal_threshold(scores, 0.1)
    assert threshold == 0.9 and sum(s > threshold for s in scores) == 9


def test_one_straggler_is_refused_and_does_not_move_the_threshold():
    assert refusal_threshold([0.1] * 19 + [0.97], 0.1) == 0.5


@given(st.lists(st.floats(0, 1), min_size=1, max_size=60), st.floats(0.01, 0.9))
def test_never_more_than_the_share_of_validation_questions_is_refused(scores, share):
    threshold = refusal_threshold(scores, share)
    assert 0.5 <= threshold <= 1 and sum(s > threshold for s in scores) <= share * len(scores)


def test_a_new_question_is_refused_with_at_most_the_share_on_average():
    draw = random.Random(5)
    refused = [
        draw.random() > refusal_threshold([0.5 + draw.random() / 2 for _ in range(30)], 0.1) * 2 - 1
        for _ in range(4000)
    ]
    assert 0.07 < sum(refused) / len(refused) <= 0.105


def test_two_signs_together_separate_what_one_alone_cannot():
    draw = random.Random(3)
    signs, unanswerable = [], []
    for i in range(200):
        hidden = i % 2
        p, similarity = 0.5 + 0.3 * (hidden - 0.5) + 0.5 * (draw.random() - 0.5), 0.6 - 0.2 * hidden
        signs.append(Signs(p, -0.5, Nearness(similarity + 0.4 * (draw.random() - 0.5))))
        unanswerable.append(bool(hidden))
    rule, held_out = fit_rule(signs, unanswerable)
    assert rule.slope > 0 and rule.similarity_weight > 0 and rule.confidence_weight == 0
    assert held_out != [rule.probability(s) for s in signs]
    right = [(p > 0.5) == u for p, u in zip(held_out, unanswerable, strict=True)]
    alone = max(
        sum((score > cut) == u for score, u in zip(scores, unanswerable, strict=True))
        for scores in ([s.refusal for s in signs], [1 - s.nearness.similarity for s in signs])
        for cut in scores
    )
    assert sum(right) > alone


def test_an_unsure_answer_speaks_for_refusing():
    unanswerable = [False] * 6 + [True] * 6
    signs = [Signs(0.5, start - 0.01 * i, Nearness(0.5)) for start in (-0.1, -1.5) for i in range(6)]
    rule, _ = fit_rule(signs, unanswerable)
    assert (rule.slope, rule.similarity_weight) == (0, 0) and rule.confidence_weight > 0
    assert rule.probability(signs[0]) < 0.5 < rule.probability(signs[-1])


def test_signs_against_the_meaning_are_not_kept():
    rows = ((0.9, -1, 0.5), (0.8, -2, 0.4), (0.1, -0.2, 0.6), (0.2, -0.1, 0.7))
    against = [Signs(p, certainty, Nearness(near, 10 * near)) for p, certainty, near in rows]
    assert fit_rule(against, [False, False, True, True])[0] == RefusalRule()
    far = [Signs(p, -0.5, Nearness(p)) for p in (0.1, 0.2, 0.8, 0.9)]
    assert fit_rule(far, [False, False, True, True])[0].similarity_weight == 0


@given(st.floats(0, 1), st.floats(-20, 0), st.floats(-1, 1), st.floats(0, 40), st.floats(0, 0.5), st.floats(0, 2))
def test_the_probability_rises_with_every_sign_of_missing_evidence(p, log_probability, near, lexical, step, fall):
    rule = RefusalRule(0.5, slope=0.8, similarity_weight=3, lexical_weight=0.1, confidence_weight=0.7, bias=1)
    before = rule.probability(Signs(p, log_probability, Nearness(near, lexical)))
    for worse in (
        Signs(min(p + step, 1), log_probability, Nearness(near, lexical)),
        Signs(p, log_probability - fall, Nearness(near, lexical)),
        Signs(p, log_probability, Nearness(near - step, lexical)),
        Signs(p, log_probability, Nearness(near, lexical - fall)),
    ):
        assert 0 <= before <= rule.probability(worse) <= 1


@pytest.mark.parametrize(("answerable", "unanswerable"), [(FEWEST_OF_EACH, 0), (FEWEST_OF_EACH - 1, FEWEST_OF_EACH)])
def test_too_few_examples_of_a_kind_give_no_threshold(answerable, unanswerable, phi, validation, tmp_path):
    few = [e for e in validation if e.variant == "passages"][:answerable] + [
        e for e in validation if e.variant == "abstain"
    ][:unanswerable]
    chosen = calibrate_refusal(TransformersEngine(phi), tmp_path, few, false_refusals=0.1)
    assert (chosen.threshold, chosen.answerable, chosen.unanswerable) == (None, answerable, unanswerable)


def test_words_found_in_the_passages_speak_for_answering():
    draw = random.Random(4)
    unanswerable = [i % 2 == 1 for i in range(80)]
    signs = [Signs(0.5, -0.5, Nearness(0.5, 20 - 8 * u + 6 * draw.random())) for u in unanswerable]
    rule, _ = fit_rule(signs, unanswerable)
    assert rule.lexical_weight > 0 and (rule.slope, rule.similarity_weight, rule.confidence_weight) == (0, 0, 0)
    assert sum((rule.probability(s) > 0.5) == u for s, u in zip(signs, unanswerable, strict=True)) > 70
