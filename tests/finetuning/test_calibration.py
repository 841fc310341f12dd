"""The refusal rule and its threshold: between separable scores, and least harmful among inseparable ones."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from doyen.finetuning.calibration import (
    FALSE_REFUSAL_COST,
    FEWEST_OF_EACH,
    calibrate_refusal,
    choose_threshold,
    fit_rule,
)
from doyen.models.engine import TransformersEngine
from doyen.refusing import RefusalRule

scores = st.lists(st.floats(0, 1), min_size=1, max_size=20)


def test_separable_scores_are_separated():
    chosen = choose_threshold([0.01, 0.02, 0.1], [0.25, 0.6, 0.9])
    assert 0.1 <= chosen.threshold < 0.25
    assert (chosen.false_refusals, chosen.right_refusals, chosen.answerable, chosen.unanswerable) == (0.0, 1.0, 3, 3)


def test_a_clear_separation_leaves_the_models_own_decision():
    assert choose_threshold([0.01] * 5, [0.99] * 5).threshold == 0.5


def test_low_scores_are_separated_too():
    chosen = choose_threshold([0.001, 0.003], [0.012, 0.02])
    assert chosen.threshold == 0.01 and chosen.right_refusals == 1.0


def test_one_straggler_does_not_move_the_threshold():
    chosen = choose_threshold([0.1] * 9 + [0.97], [0.9] * 10)
    assert 0.1 <= chosen.threshold < 0.9
    assert (chosen.false_refusals, chosen.right_refusals) == (0.1, 1.0)


def test_a_false_refusal_costs_more_than_a_right_one_gains():
    chosen = choose_threshold([0.1] * 6 + [0.7] * 4, [0.6] * 6 + [0.9] * 4)
    assert (chosen.false_refusals, chosen.right_refusals) == (0.0, 0.4)


def test_scores_without_any_signal_refuse_no_more_falsely_than_rightly():
    chosen = choose_threshold([0.2, 0.4, 0.6, 0.8], [0.2, 0.4, 0.6, 0.8])
    assert chosen.false_refusals == chosen.right_refusals


@given(scores, scores)
def test_never_worse_than_half(answerable, unanswerable):
    def worth(threshold):
        right = sum(p > threshold for p in unanswerable) / len(unanswerable)
        return right - FALSE_REFUSAL_COST * sum(p > threshold for p in answerable) / len(answerable)

    chosen = choose_threshold(answerable, unanswerable)
    assert 0 < chosen.threshold < 1
    assert chosen.right_refusals - FALSE_REFUSAL_COST * chosen.false_refusals >= worth(0.5) - 2e-4


def test_similarity_separates_what_the_model_cannot():
    p, similarity = (
        [0.3, 0.5, 0.4, 0.6] * 5,
        [0.8, 0.7, 0.75, 0.72] * 2 + [0.8, 0.7] + [0.3, 0.2, 0.25, 0.35] * 2 + [0.3, 0.4],
    )
    rule = fit_rule(p, similarity, [False] * 10 + [True] * 10)
    assert rule.slope > 0 and rule.similarity_weight > 0
    scores = [rule.probability(a, b) for a, b in zip(p, similarity, strict=True)]
    assert max(scores[:10]) < min(scores[10:])


def test_the_rule_alone_where_similarity_says_nothing():
    rule = fit_rule([0.1, 0.2, 0.15, 0.8, 0.9, 0.85], [0.5] * 6, [False] * 3 + [True] * 3)
    assert rule.similarity_weight == 0 and rule.probability(0.1, 0.5) < 0.5 < rule.probability(0.9, 0.5)


def test_signs_against_the_meaning_are_not_kept():
    assert fit_rule([0.9, 0.8, 0.1, 0.2], [0.5] * 4, [False, False, True, True]) == RefusalRule()
    far = fit_rule([0.1, 0.2, 0.8, 0.9], [0.1, 0.2, 0.8, 0.9], [False, False, True, True])
    assert far.similarity_weight == 0


@given(
    st.floats(0.05, 0.95),
    st.floats(0.1, 5),
    st.floats(0, 20),
    st.floats(-5, 5),
    st.floats(0.01, 0.99),
    st.floats(-1, 1),
)
def test_limit_is_where_the_rule_changes_its_mind(threshold, slope, weight, bias, p, similarity):
    rule = RefusalRule(threshold, slope, weight, bias)
    if abs(rule.probability(p, similarity) - threshold) > 1e-6 and 1e-5 < rule.limit(similarity) < 1 - 1e-5:
        assert (rule.probability(p, similarity) > threshold) == (p > rule.limit(similarity))


@pytest.mark.parametrize(("answerable", "unanswerable"), [(FEWEST_OF_EACH, 0), (FEWEST_OF_EACH - 1, FEWEST_OF_EACH)])
def test_too_few_examples_of_a_kind_give_no_threshold(answerable, unanswerable, phi, validation, tmp_path):
    few = [e for e in validation if e.variant == "passages"][:answerable] + [
        e for e in validation if e.variant == "abstain"
    ][:unanswerable]
    chosen = calibrate_refusal(TransformersEngine(phi), tmp_path, few)
    assert (chosen.threshold, chosen.answerable, chosen.unanswerable) == (None, answerable, unanswerable)
