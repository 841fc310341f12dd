"""The held-out loss while training: how often, when it surely rose, and what is kept and gone on from."""

import dataclasses
import json

import pytest
import torch
from safetensors.torch import load_file

from doyen.config import FinetuneSettings
from doyen.finetuning.data import TokenisedExample
from doyen.finetuning.held_out import HeldOutPlan, HeldOutState, plan_held_out, surely_above
from doyen.finetuning.training import finetune
from doyen.records import Example


def tokenised(tokens, supervised=10, count=1):
    return [TokenisedExample(tuple(range(tokens)), tokens - supervised, i) for i in range(count)]


def steps_of(examples, passes):
    return [[[i % examples]] for i in range(examples * passes)]


@pytest.mark.parametrize("lengths", [(500, 500), (60, 700), (700, 40)])
def test_measuring_costs_about_a_twentieth(lengths):
    trained_tokens, held_tokens = lengths
    train, held = tokenised(trained_tokens, count=400), tokenised(held_tokens, count=100)
    plan = plan_held_out(held, train, steps_of(400, 2), FinetuneSettings())
    measured = sum(plan.due(step) for step in range(1, 801)) * len(plan.examples) * held_tokens
    assert 0 < 0.5 * measured <= 0.065 * 800 * trained_tokens  # the last step is measured beyond the rhythm
    assert plan.due(800) and 8 <= len(plan.examples) <= 64


def test_short_runs_are_measured_at_their_end_and_none_without_examples():
    plan = plan_held_out(tokenised(500, count=100), tokenised(50, count=10), steps_of(10, 1), FinetuneSettings())
    assert [step for step in range(1, 11) if plan.due(step)] == [10] and len(plan.examples) == 8
    assert not plan_held_out([], tokenised(50), steps_of(1, 5), FinetuneSettings()).due(5)


def test_the_rhythm_can_be_set_and_the_sample_is_fixed_by_the_seed():
    settings, held = FinetuneSettings(evaluate_every=7), tokenised(50, count=100)
    plan = plan_held_out(held, tokenised(50, count=20), steps_of(20, 1), settings)
    assert [step for step in range(1, 21) if plan.due(step)] == [7, 14, 20] and len(plan.examples) == 64
    assert plan == plan_held_out(held, tokenised(50, count=20), steps_of(20, 1), settings)
    other = dataclasses.replace(settings, seed=8)
    assert plan.examples != plan_held_out(held, tokenised(50, count=20), steps_of(20, 1), other).examples


def test_a_rise_is_sure_only_beyond_its_noise():
    lowest, counts = [10.0, 20.0, 30.0, 5.0], [10, 10, 10, 10]
    assert surely_above([11.0, 21.1, 31.0, 6.0], lowest, counts)  # every example a little worse
    assert not surely_above([16.0, 18.0, 32.0, 4.0], lowest, counts)  # the same mean rise, by one example alone
    assert not surely_above(lowest, lowest, counts)
    assert not surely_above([9.0, 19.0, 29.0, 4.0], lowest, counts)
    assert not surely_above([99.0], [1.0], [10])  # one example tells nothing


def judged(rows, patience=2):
    plan = HeldOutPlan(tokenised(20, count=4), 1, len(rows), patience)
    state = HeldOutState()
    seen = []
    for step, row in enumerate(rows, 1):
        plan.judge(state, step, row)
        seen.append((state.kept_step, state.worse, state.stopped))
    return seen


def test_training_stops_after_as_many_sure_rises_in_a_row_and_keeps_what_was_before():
    low, high, noisy = [10.0] * 4, [12.0, 12.1, 12.2, 12.0], [10.0, 10.0, 10.0, 11.0]
    assert judged([low, high, high]) == [(1, 0, False), (1, 1, False), (1, 2, True)]
    assert judged([low, high, low, high, high])[-1] == (3, 2, True)
    assert judged([low, noisy, noisy, noisy])[-1] == (4, 0, False)
    assert judged([low, high, high], patience=0)[-1] == (3, 0, False)


def test_slow_drift_is_measured_from_the_lowest():
    rows = [[10.0 + 0.2 * i, 10.1 + 0.21 * i, 10.0 + 0.19 * i, 10.0 + 0.2 * i] for i in range(4)]
    assert judged(rows, patience=9)[-1][0] == 1


# ---- in a training


class Killed(BaseException):
    pass


@pytest.fixture(scope="module")
def contrary(examples):
    """Validation examples with the answers that training teaches not to give: their loss must rise."""
    asked = [f"{e.messages[-2]['content']} Say it now, in plain words." for e in examples]  # else they were too near
    return [
        Example(
            (e.messages[0], {"role": "user", "content": text}, {"role": "assistant", "content": "never at night"}),
            variant="closed-book",
        )
        for e, text in zip(examples, asked, strict=True)
    ]


@pytest.fixture(scope="module")
def stopped(phi, examples, contrary, settings_of, tmp_path_factory):
    """A run that stops early: (expert, settings, manifest)."""
    settings = settings_of(phi, epochs=10.0, early_stop=2, evaluate_every=2, dropout=0.1)
    expert = tmp_path_factory.mktemp("stopped")
    return expert, settings, finetune(expert, settings, examples, contrary, name="a")


def weights(expert, name="a"):
    return load_file(str(expert / "adapters" / name / "adapter_model.safetensors"))


def same(one, other):
    return one.keys() == other.keys() and all(torch.equal(one[key], other[key]) for key in one)


def test_it_stops_and_the_kept_weights_are_those_of_the_step(stopped, phi, examples, settings_of, tmp_path):
    expert, settings, manifest = stopped
    found = manifest.held_out
    assert found["stopped_early"] and manifest.steps < 20
    assert found["kept_step"] < manifest.steps and manifest.steps - found["kept_step"] == 4
    rows = [json.loads(line) for line in (expert / "adapters" / "a" / "history.jsonl").read_text().splitlines()]
    assert [r["step"] for r in rows if "held_out_loss" in r] == list(range(2, manifest.steps + 1, 2))
    at = {r["step"]: r["held_out_loss"] for r in rows if "held_out_loss" in r}
    assert at[manifest.steps] > at[found["lowest_at_step"]]
    assert found["after"] == pytest.approx(at[found["kept_step"]], abs=1e-3)
    assert manifest.validation_loss == pytest.approx(found["after"], abs=0.02)
    assert found["before"] != found["after"] and found["examples"] == len(examples)


@pytest.mark.parametrize("stop", ["before the rise", "within the rise"])
def test_killed_and_resumed_it_decides_the_same(stop, stopped, examples, contrary, tmp_path):
    expert, settings, manifest = stopped
    at = manifest.held_out["kept_step"] + (3 if stop == "within the rise" else -1)

    def kill(progress):
        if progress.step == at:
            raise Killed

    with pytest.raises(Killed):
        finetune(tmp_path, settings, examples, contrary, name="a", report=kill, checkpoint_every_s=0.0)
    again = finetune(tmp_path, settings, examples, contrary, name="a", resume=True)
    assert again.held_out == manifest.held_out and again.steps == manifest.steps
    assert same(weights(tmp_path), weights(expert))


def test_other_validation_examples_are_another_run(stopped, examples, contrary, tmp_path):
    from doyen.errors import GateError

    _, settings, _ = stopped

    def kill(progress):
        if progress.step == 2:
            raise Killed

    with pytest.raises(Killed):
        finetune(tmp_path, settings, examples, contrary, name="a", report=kill, checkpoint_every_s=0.0)
    with pytest.raises(GateError, match="other examples"):
        finetune(tmp_path, settings, examples, contrary[:-1], name="a", resume=True)


def test_measuring_changes_no_weight(phi, examples, validation, settings_of, tmp_path):
    often = settings_of(phi, epochs=2.0, dropout=0.1, evaluate_every=1)
    rarely = settings_of(phi, epochs=2.0, dropout=0.1, evaluate_every=1000)
    finetune(tmp_path, often, examples, validation, name="a")
    finetune(tmp_path, rarely, examples, validation, name="b")
    assert same(weights(tmp_path), weights(tmp_path, "b"))
