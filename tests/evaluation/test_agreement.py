import pytest

from doyen.evaluation.agreement import agreement


def test_share_kappa_and_table():
    # Cohen's kappa by hand: share 0.7, chance 0.6 * 0.5 + 0.4 * 0.5 = 0.5
    first = ["correct"] * 6 + ["wrong"] * 4
    second = ["correct"] * 4 + ["wrong"] * 2 + ["correct"] * 1 + ["wrong"] * 3
    found = agreement(first, second)
    assert found == {
        "n": 10,
        "share": 0.7,
        "kappa": 0.4,
        "table": {"correct": {"correct": 4, "wrong": 2}, "wrong": {"correct": 1, "wrong": 3}},
    }


@pytest.mark.parametrize(("first", "second", "kappa"), [(["a", "b"], ["a", "b"], 1), (["a", "b"], ["b", "a"], -1)])
def test_the_ends_of_kappa(first, second, kappa):
    assert agreement(first, second)["kappa"] == kappa


def test_kappa_is_unknown_where_chance_agrees_wholly():
    assert agreement(["a", "a"], ["a", "a"])["kappa"] is None
    assert agreement([], []) == {"n": 0, "share": None, "kappa": None, "table": {}}


def test_verdicts_must_be_as_many():
    with pytest.raises(ValueError):
        agreement(["a"], [])
