import math
import random

import pytest
from flow_engine import Scripted

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
from doyen.workflows.doing import run_rows
from doyen.workflows.opening import open_setup
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


def done(expert, flow, peril, amount):
    """A row that went through a flow, whose model gives these answers."""

    def answer(system, user):
        if "Take out" in system:
            return f'{{"amount": {amount}, "place": null}}', 0.9
        return (peril, 0.8) if "What caused" in system else ("pay", 0.7)

    row = Row(1, "1", {"claim": "C1", "text": "water", "amount": None})
    run_rows(open_setup(expert, flow, engine=Scripted(answer)), [row])
    assert not row.failed
    return row


@pytest.mark.parametrize(
    ("amount", "peril", "read"),
    [
        (2000, "water", {"facts"}),  # the first rule decides
        (10, "other", {"facts", "peril"}),  # the second
        (10, "water", {"facts", "peril", "verdict"}),  # the model
    ],
)
def test_a_confidence_is_of_the_steps_that_the_decision_came_from(flow_file, expert, amount, peril, read):
    flow = load_workflow(flow_file())
    row = done(expert, flow, peril, amount)
    assert relied_on(flow, row) == read | {"verdict"}
    sure = math.prod(row.sure[name] for name in read)
    assert plain_confidence(flow, row) == pytest.approx(sure)
    assert signs_of(plain_confidence(flow, row)) == {"odds": pytest.approx(math.log(sure / (1 - sure)))}
    assert set(row.sure) >= {"facts", "peril"}


LATER = """
[steps.kind]
do = "decide"
when = "peril == 'storm'"
rules = [{ when = "facts.amount > 5", then = "dear" }]
otherwise = "cheap"
[steps.final]
do = "decide"
rules = [{ when = "kind == 'dear'", then = "look" }]
otherwise = "pass"
"""


def test_of_a_step_that_was_left_out_only_its_condition_counts(flow_file, expert):
    flow = load_workflow(flow_file(('name = "triage"', 'name = "triage"\ndecision = "final"'), more=LATER))
    assert relied_on(flow, done(expert, flow, "storm", 10)) == {"final", "kind", "peril", "facts"}
    assert relied_on(flow, done(expert, flow, "water", 10)) == {"final", "kind", "peril"}


def test_a_decision_without_a_models_part_is_sure(flow_file, expert):
    rules = """rules = [{ when = "claim == 'C1'", then = "known" }]"""
    final = f'[steps.final]\ndo = "decide"\n{rules}\notherwise = "new"\n'
    flow = load_workflow(flow_file(('name = "triage"', 'name = "triage"\ndecision = "final"'), more=final))
    row = done(expert, flow, "water", 10)
    assert relied_on(flow, row) == {"final"} and row.sure
    assert plain_confidence(flow, row) == 1 and signs_of(1) == {"odds": 8}
