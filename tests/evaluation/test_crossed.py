import numpy as np
import pytest

from doyen.evaluation.crossed import crossed_difference, crossed_interval, crossed_mean
from doyen.evaluation.statistics import paired_difference


def drawn(rng, n, k, questions=0.3, trainings=0.1, rest=0.2, mean=0.5):
    parts = rng.normal(0, questions, (n, 1)) + rng.normal(0, trainings, (1, k)) + rng.normal(0, rest, (n, k))
    return mean + parts


@pytest.mark.parametrize(("n", "k", "trainings"), [(40, 2, 0.03), (60, 3, 0.05), (30, 5, 0.1)])
def test_intervals_cover_the_truth_over_new_questions_and_new_trainings(n, k, trainings):
    rng = np.random.default_rng(5)
    drawings = (crossed_interval(drawn(rng, n, k, trainings=trainings)) for _ in range(1500))
    assert 0.935 <= np.mean([i.low <= 0.5 <= i.high for i in drawings]) <= 0.985


def test_two_trainings_that_differ_much_are_few():
    rng = np.random.default_rng(5)
    covered = np.mean([i.low <= 0.5 <= i.high for i in (crossed_interval(drawn(rng, 150, 2)) for _ in range(1000))])
    assert 0.86 <= covered < 0.95  # as the module says


def test_questions_alone_would_promise_too_much():
    rng = np.random.default_rng(6)
    values = [drawn(rng, 80, 3, questions=0.1, trainings=0.1) for _ in range(400)]
    alone = [paired_difference([0.0] * 80, v.mean(axis=1)) for v in values]
    assert np.mean([i.low <= 0.5 <= i.high for i in alone]) < 0.6
    assert np.mean([i.low <= 0.5 <= i.high for i in map(crossed_interval, values)]) > 0.9


def test_without_any_spread_of_trainings_it_is_students_interval():
    rng = np.random.default_rng(7)
    one = rng.normal(0.4, 0.2, 30)
    same = crossed_interval(np.stack([one, one, one], axis=1))
    plain = paired_difference(np.zeros(30), one)
    assert (same.low, same.high) == pytest.approx((plain.low, plain.high))
    assert crossed_mean(np.stack([one, one], axis=1)).spread == 0


def test_the_spread_is_that_of_the_trainings_means():
    values = np.array([[0.2, 0.4], [0.4, 0.6]])
    assert crossed_mean(values).spread == pytest.approx(np.std([0.3, 0.5], ddof=1))


def test_intervals_are_cut_to_their_bounds():
    found = crossed_interval(np.array([[1.0, 0.9], [1.0, 0.8], [0.9, 1.0]]), bounds=(0.0, 1.0))
    assert 0 <= found.low < found.value < found.high <= 1


def test_one_question_gives_the_trainings_spread_alone():
    found = crossed_interval(np.array([[0.2, 0.6]]))
    assert (found.value, found.n) == (0.4, 1) and found.low < 0.4 < found.high


def test_a_difference_pairs_the_trainings_of_both_arms():
    rng = np.random.default_rng(8)
    tuned = drawn(rng, 40, 3, trainings=0.4)
    both = crossed_difference(tuned, tuned + 0.1)
    assert (both.value, both.low, both.high) == pytest.approx((0.1, 0.1, 0.1)) and both.p < 0.01
    beside = crossed_difference(np.zeros((40, 1)), tuned)
    assert beside.high - beside.low > 0.5


@pytest.mark.parametrize(("a", "b"), [((3, 1), (4, 1)), ((3, 2), (3, 3))])
def test_shapes_that_do_not_go_together_are_refused(a, b):
    with pytest.raises(ValueError):
        crossed_difference(np.zeros(a), np.zeros(b))
    with pytest.raises(ValueError):
        crossed_mean(np.zeros((0, 2)))
