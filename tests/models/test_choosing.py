"""Probabilities of options and their calibration."""

import math

import numpy as np
import pytest

from doyen.errors import UsageError
from doyen.models.choosing import Calibration, calibrate, calibration_error, option_probabilities


def test_options_share_what_they_have_together():
    assert option_probabilities([[1], [2, 3]], [math.log(0.2), math.log(0.05)]) == pytest.approx((0.8, 0.2))


def test_an_answer_that_begins_with_a_longer_option_counts_for_that_alone():
    options = [[1], [1, 2], [1, 2, 3], [4]]  # "yes", "yes, always", "yes, always so", "no"
    found = option_probabilities(options, [math.log(p) for p in (0.5, 0.3, 0.1, 0.25)])
    assert found == pytest.approx(np.array([0.2, 0.2, 0.1, 0.25]) / 0.75)


def test_very_unlikely_options_are_told_apart():
    assert option_probabilities([[1], [2]], [-900.0, -900.0 + math.log(3)]) == pytest.approx((0.25, 0.75))


def drawn(count, temperature, biases, seed=0):
    """Answers whose true probabilities are what a calibration makes of those that are given."""
    random = np.random.default_rng(seed)
    true = random.dirichlet([1, 1, 1], count)
    labels = [int(random.choice(3, p=p)) for p in true]
    given = np.exp((np.log(true) - np.array(biases)) * temperature)
    return given / given.sum(axis=1, keepdims=True), labels


def test_a_calibration_is_found_again():
    given, labels = drawn(3000, 2.5, (0.0, 0.0, 0.0))
    assert calibrate(given.tolist(), labels).temperature == pytest.approx(2.5, rel=0.15)
    given, labels = drawn(3000, 1.5, (1.0, -1.0, 0.0))
    found = calibrate(given.tolist(), labels, biases=True)
    assert np.array(found.biases) - np.mean(found.biases) == pytest.approx([1.0, -1.0, 0.0], abs=0.2)
    later, right = drawn(3000, 1.5, (1.0, -1.0, 0.0), seed=1)
    better = [found.apply(p) for p in later.tolist()]
    assert calibration_error(better, right) < 0.05 < 0.1 < calibration_error(later.tolist(), right)


def test_a_temperature_changes_no_choice_and_keeps_the_sum():
    soft = Calibration(4.0).apply((0.7, 0.2, 0.1))
    assert sum(soft) == pytest.approx(1) and soft[0] > soft[1] > soft[2] and soft[0] < 0.7


def test_rows_of_different_width_are_calibrated_together():
    found = calibrate([[0.9, 0.1], [0.8, 0.1, 0.1]] * 20, [0, 1] * 20)
    assert math.isfinite(found.temperature) and sum(found.apply([0.6, 0.4])) == pytest.approx(1)


def test_labels_and_rows_have_to_go_together():
    with pytest.raises(UsageError, match="1 labels for 2"):
        calibrate([[0.5, 0.5]] * 2, [0])
    with pytest.raises(UsageError, match="same options"):
        calibrate([[1.0], [0.5, 0.5]], [0, 0], biases=True)


def test_the_calibration_error_is_the_gap_between_sure_and_right():
    assert calibration_error([[0.8, 0.2]] * 10, [0] * 8 + [1] * 2) == pytest.approx(0)
    assert calibration_error([[0.9, 0.1]] * 10, [0] * 5 + [1] * 5) == pytest.approx(0.4)
