import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from doyen.evaluation.statistics import (
    FLIPS,
    bootstrap_macro_f1,
    bootstrap_mean,
    bootstrap_median,
    bootstrap_ratio,
    detectable_difference,
    holm,
    paired_difference,
    questions_needed,
    sign_flip_p,
    student_t,
)

values = st.lists(st.floats(-1e3, 1e3), min_size=1, max_size=30)


@settings(max_examples=40, deadline=None)
@given(values)
def test_interval_contains_the_figure(xs):
    for interval in (bootstrap_mean(xs), bootstrap_median(xs), paired_difference(xs, xs[::-1])):
        assert interval.low <= interval.value <= interval.high
        assert interval.n == len(xs)
    assert bootstrap_mean(xs).value == pytest.approx(sum(xs) / len(xs))


@settings(max_examples=20, deadline=None)
@given(values, st.integers(0, 2**31))
def test_same_seed_same_interval(xs, seed):
    assert bootstrap_mean(xs, seed=seed) == bootstrap_mean(xs, seed=seed)


def test_another_seed_another_interval():
    xs = list(np.random.default_rng(0).random(50))
    assert bootstrap_mean(xs, seed=1) != bootstrap_mean(xs, seed=2)


def test_interval_is_as_wide_as_theory_says():
    xs = np.random.default_rng(1).normal(size=400)
    interval = bootstrap_mean(list(xs))
    expected = 2 * 1.96 * xs.std() / 20
    assert interval.high - interval.low == pytest.approx(expected, rel=0.1)


def test_blocks_cover_every_resample():
    # More questions than one block of draws holds for all resamples.
    xs = np.random.default_rng(2).normal(size=1500)
    interval = bootstrap_mean(list(xs))
    assert interval.high - interval.low == pytest.approx(2 * 1.96 * xs.std() / 1500**0.5, rel=0.1)


def test_paired_difference_sees_through_the_spread_of_the_questions():
    a = np.random.default_rng(3).normal(0, 10, 60)
    gain = paired_difference(list(a), list(a + 0.5 + np.random.default_rng(4).normal(0, 0.1, 60)))
    assert 0.4 < gain.low < gain.value < gain.high < 0.6
    assert gain.p is not None and gain.p < 0.01
    assert paired_difference(list(a), list(a)).p == 1
    back = paired_difference([1.0, 1.0, 0.0], [0.0, 0.0, 0.0])
    assert back.value == pytest.approx(-2 / 3)


def test_ratio_pools():
    interval = bootstrap_ratio([1, 0, 2], [2, 1, 2])
    assert interval.value == pytest.approx(3 / 5)
    with pytest.raises(ValueError, match="add up to 0"):
        bootstrap_ratio([0], [0])


def test_median():
    assert bootstrap_median([3, 1, 100]).value == 3


def test_macro_f1_of_a_constant_answer():
    interval = bootstrap_macro_f1(["yes", "yes", "yes", "no"], ["yes"] * 4)
    assert interval.value == pytest.approx((6 / 7) / 2)
    assert bootstrap_macro_f1(["yes", "no"], ["yes", "no"]).value == 1
    assert bootstrap_macro_f1(["yes", "no"], [None, None]).value == 0


def test_nothing_to_average():
    with pytest.raises(ValueError, match="one value or more"):
        bootstrap_mean([])
    with pytest.raises(ValueError, match="same questions"):
        paired_difference([1.0], [1.0, 2.0])


def test_students_quantiles():
    # Tables: 1, 2, 5, 6, 10, 49 and 10,000 degrees of freedom.
    known = {1: 12.7062, 2: 4.3027, 5: 2.5706, 6: 2.4469, 10: 2.2281, 49: 2.0096, 10_000: 1.9602}
    for freedom, quantile in known.items():
        assert student_t(freedom) == pytest.approx(quantile, abs=0.002)


def test_a_difference_has_students_interval():
    gain = paired_difference([0, 0, 0, 0, 0], [1, 0, 1, 0, 0.5])
    assert (gain.low, gain.high) == pytest.approx((0.5 - 2.7764 * 0.5 / 5**0.5, 0.5 + 2.7764 * 0.5 / 5**0.5), abs=1e-4)
    alone = paired_difference([0], [1])
    assert (alone.low, alone.value, alone.high, alone.p) == (1, 1, 1, 1)


def test_sign_flips_are_exact_where_few():
    assert sign_flip_p([1, 1, 1, 1, 1]) == 2 / 32
    assert sign_flip_p([0.1] * 5 + [0.0] * 100) == 2 / 32  # ties say nothing
    assert sign_flip_p([0.3, 0.1, -0.1]) == 6 / 8
    assert sign_flip_p([0.0, 0.0]) == 1


def test_random_sign_flips_are_near_the_exact_test():
    d = np.array([1.0] * 12 + [-1.0] * 4)  # a sign test: 2 * P(at least 12 of 16 heads)
    assert sign_flip_p(d, seed=3) == pytest.approx(2 * (1820 + 560 + 120 + 16 + 1) / 2**16, abs=0.009)
    assert sign_flip_p(d, seed=3) == sign_flip_p(-d, seed=3) == sign_flip_p(d / 3, seed=3)
    assert sign_flip_p([1.0] * 40) == 1 / (FLIPS + 1)


def test_holm():
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.5, 0.6]) == [1, 1]
    assert holm([]) == []


@settings(max_examples=40, deadline=None)
@given(st.lists(st.floats(0, 1), min_size=1, max_size=8))
def test_holm_lies_between_the_raw_value_and_bonferroni(ps):
    for raw, corrected in zip(ps, holm(ps), strict=True):
        assert raw <= corrected <= min(1.0, raw * len(ps) + 1e-12)


def test_what_n_questions_can_tell():
    assert questions_needed(0.05, 0.5) == 785  # (1.96 + 0.84)^2 * (0.5 / 0.05)^2
    assert questions_needed(-0.05, 0.5) == 785
    assert questions_needed(0.05, 0.5, tests=6) == 1211
    assert detectable_difference(0.5, 785) == pytest.approx(0.05, abs=1e-4)
    assert questions_needed(0.9, 0.1) == 8
    with pytest.raises(ValueError, match="difference of 0"):
        questions_needed(0, 0.5)
