import random

import pytest

from doyen.errors import StoreError
from doyen.models.choosing import error_of_confidence
from doyen.workflows.confidence import (
    Confidence,
    cross_fitted,
    fit,
    folds_of,
    keep,
    load,
    plain_confidence,
    relied_on,
    signs_of,
    threshold_for,
)
from doyen.workflows.reading import load_workflow
from doyen.workflows.rows import Row


def rows(n, seed=0):
    """Rows whose decision is right with the probability that `odds:a` says at half its strength."""
    rng = random.Random(seed)
    signs = [{"odds:a": rng.uniform(-1, 8), "noise": rng.random(), "always": 1.0} for _ in range(n)]
    right = [rng.random() < 1 / (1 + 2.718281828 ** -(s["odds:a"] / 2)) for s in signs]
    return signs, right


def test_a_fit_says_what_is_true_of_other_rows():
    fitted = fit(*rows(600))
    signs, right = rows(2000, seed=1)
    assert "always" not in fitted.features
    assert error_of_confidence([fitted.of(s) for s in signs], right) < 0.03


def test_cross_fitting_does_not_see_the_rows_own_label():
    signs = [{"odds:a": float(i % 7), f"is:{i}": 1.0} for i in range(60)]
    right = [random.Random(i).random() < 0.5 for i in range(60)]
    sure = cross_fitted(signs, right, folds_of([str(i) for i in range(60)]))
    own = [fit(signs, right).of(s) for s in signs]

    def apart(values):
        return sum(v for v, r in zip(values, right, strict=True) if r) / sum(right) - sum(
            v for v, r in zip(values, right, strict=True) if not r
        ) / (60 - sum(right))

    assert apart(own) > 0.1 and apart(sure) < 0.05


def test_folds_are_alike_whatever_the_order():
    ids = [f"C{i}" for i in range(50)]
    folds = dict(zip(ids, folds_of(ids), strict=True))
    assert dict(zip(reversed(ids), folds_of(list(reversed(ids))), strict=True)) == folds
    assert max(map(list(folds.values()).count, range(10))) == 5


def test_thresholds():
    sure = [1 - i / 100 for i in range(100)]
    right = [i % 25 != 24 for i in range(100)]  # 4 of 100 wrong
    assert threshold_for(sure, right, 0.05) == pytest.approx(0.01)
    assert threshold_for(sure, right, 0.03) == pytest.approx(1 - 73 / 100)
    assert threshold_for(sure, right, 0.0) == pytest.approx(1 - 23 / 100)
    assert threshold_for(sure, [False] * 100, 0.05) is None
    assert threshold_for([0.9] * 30, [True] * 29 + [False], 0.02) is None  # ties go together


def test_one_class_only():
    fitted = fit([{"odds:a": 1.0}, {"odds:a": 2.0}], [True, True])
    assert 0.5 < fitted.of({"odds:a": 1.5}) < 1


def test_a_fit_is_kept_for_its_flow_arm_and_adapters_alone(flow_file, expert):
    flow = load_workflow(flow_file())
    made = Confidence(("odds:peril",), (0.0,), (1.0,), (2.0, 0.5), threshold=0.8, made_for="x")
    path = keep(expert, flow, "rag", made)
    assert load(expert, flow, "rag", "x") == made
    assert load(expert, flow, "rag", "y") is None and load(expert, flow, "base", "x") is None
    path.write_text("{")
    with pytest.raises(StoreError, match="is broken"):
        load(expert, flow, "rag", "x")


@pytest.mark.parametrize(
    ("entry", "sure", "read", "plain"),
    [
        ({"rule": 1}, {"peril": 0.5, "facts": 0.9}, {"facts"}, 0.9),
        ({"rule": 2}, {"peril": 0.5, "facts": 0.9}, {"facts", "peril"}, 0.45),
        ({"rule": "otherwise"}, {"peril": 0.5, "facts": 0.9}, {"facts", "peril"}, 0.45),
        ({"arm": "base"}, {"peril": 0.5, "facts": 0.9, "verdict": 0.8}, {"facts", "peril", "verdict"}, 0.36),
    ],
)
def test_a_confidence_is_of_the_steps_that_the_decision_came_from(flow_file, entry, sure, read, plain):
    flow = load_workflow(flow_file())
    row = Row(1, "a", {}, values={"verdict": "pay"}, sure=sure, trail=[{"step": "verdict", "do": "decide"} | entry])
    assert relied_on(flow, row) - {"verdict"} == read - {"verdict"}
    assert {s.removeprefix("odds:") for s in signs_of(flow, row) if s.startswith("odds:")} == read
    assert plain_confidence(flow, row) == pytest.approx(plain)


def test_what_a_lookup_read_counts_and_what_is_looked_up_for_nothing_does_not(flow_file):
    lookup = """
[steps.known]
do = "lookup"
when = "peril == 'storm'"
sql = "SELECT 1 AS found WHERE $place = 'here'"
with = { place = "facts.place" }
"""
    text = flow_file().read_text().replace("[steps.verdict]", f"{lookup}\n[steps.verdict]")
    flow = load_workflow(flow_file(("facts.amount > 1000", "known.found == 1"), text=text))
    row = Row(1, "a", {}, sure={"peril": 0.5, "facts": 0.9}, trail=[{"step": "verdict", "rule": 1}])
    assert relied_on(flow, row) == {"verdict", "known", "peril", "facts"}
    again = load_workflow(flow_file(("peril == 'other'", "known.found == 1"), text=text))
    assert relied_on(again, row) == {"verdict", "facts"}
