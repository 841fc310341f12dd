"""The refusal threshold: between separable scores, and least harmful among inseparable ones."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from doyen.finetuning.calibration import FEWEST_OF_EACH, calibrate_refusal, choose_threshold
from doyen.models.engine import TransformersEngine

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


def test_scores_without_any_signal_refuse_no_more_falsely_than_rightly():
    chosen = choose_threshold([0.2, 0.4, 0.6, 0.8], [0.2, 0.4, 0.6, 0.8])
    assert chosen.false_refusals == chosen.right_refusals


@given(scores, scores)
def test_never_worse_than_greedy_decoding(answerable, unanswerable):
    chosen = choose_threshold(answerable, unanswerable)
    half = sum(p > 0.5 for p in unanswerable) / len(unanswerable) - sum(p > 0.5 for p in answerable) / len(answerable)
    assert 0 < chosen.threshold < 1
    assert chosen.right_refusals - chosen.false_refusals >= half - 2e-4


@pytest.mark.parametrize(("answerable", "unanswerable"), [(FEWEST_OF_EACH, 0), (FEWEST_OF_EACH - 1, FEWEST_OF_EACH)])
def test_too_few_examples_of_a_kind_give_no_threshold(answerable, unanswerable, phi, validation, tmp_path):
    few = [e for e in validation if e.variant == "passages"][:answerable] + [
        e for e in validation if e.variant == "abstain"
    ][:unanswerable]
    chosen = calibrate_refusal(TransformersEngine(phi), tmp_path, few)
    assert (chosen.threshold, chosen.answerable, chosen.unanswerable) == (None, answerable, unanswerable)
