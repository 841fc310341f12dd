"""Two processes over gloo train as one does: the same losses, nearly the same weights; what is wrong stops both."""

import dataclasses
import os
import shutil
import signal
from pathlib import Path

import numpy as np
import pytest
import rank_pair
import torch
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from doyen.config import FinetuneSettings
from doyen.errors import GateError, Interrupted, ProcessError, UsageError
from doyen.finetuning.data import TokenisedExample, padded_width, plan_steps
from doyen.finetuning.methods import trained_model
from doyen.finetuning.parallel import Group, _buckets, is_main, processes
from doyen.finetuning.parity import golden_logits, require_parity, spread
from doyen.finetuning.preparing import prepare, run_fingerprint
from doyen.finetuning.sharding import require_shardable, whole_weights
from doyen.finetuning.steps import train_steps


def trained(group, settings, examples, work, resume=False, stop=None, folders=None, validation=()):
    """Train as a run does, without what comes after; return the losses, the weights and the parity gate's measure."""
    folder = Path(folders[group.rank] if folders else settings.model.name)
    prepared = prepare(folder, settings, examples, validation, lambda _: None)
    model = trained_model(folder, settings.finetune, prepared, lambda _: None)
    fingerprint = run_fingerprint(settings.finetune, prepared, folder)
    spread(model, prepared, settings.finetune, fingerprint, group, lambda _: None)
    if not resume and group.main:
        shutil.rmtree(work, ignore_errors=True)
    group.wait()
    losses = []

    def report(line):
        losses.append(line.loss)
        if stop == (group.rank, line.step):
            os.kill(os.getpid(), signal.SIGINT)

    with group.deferring_signals():
        train_steps(model, prepared, settings.finetune, work, fingerprint, report, lambda _: None, 1e9, group)
    weights = {name: value.numpy() for name, value in whole_weights(model).items()}
    return losses, weights, prepared.gates.get("parity")


def caught(group, *arguments, **options):
    try:
        return trained(group, *arguments, **options)
    except (GateError, Interrupted, ProcessError) as error:
        return error


@pytest.fixture(scope="module")
def corrupted(phi, tmp_path_factory):
    """The model with one layer's weights changed a little."""
    folder = shutil.copytree(phi, tmp_path_factory.mktemp("corrupted") / "phi")
    path = next(folder.glob("*.safetensors"))
    weights = load_file(str(path))
    weights["model.layers.1.mlp.down_proj.weight"] *= 1.5
    save_file(weights, str(path), metadata={"format": "pt"})
    return folder


RUNS = {
    "lora": {},
    "sharded": {"shard": True},
    "full": {"method": "full", "learning_rate": 2e-4},
    "full sharded": {"method": "full", "learning_rate": 2e-4, "shard": True},
    "qlora": {"method": "qlora"},
}


@pytest.fixture
def tiny(settings_of, phi):
    return lambda **changes: settings_of(phi, **{"batch_size": 5, "epochs": 3.0, "replay": 0.0} | changes)


def both_ways(group, runs, examples, validation, work):
    """Train each way; held-out loss is measured after every step."""
    return [trained(group, s, examples, work / name, validation=validation) for name, s in runs.items()]


@pytest.mark.e2e
@pytest.mark.parametrize(
    "names", [("lora", "sharded", "qlora"), pytest.param(("full", "full sharded"), marks=pytest.mark.slow)]
)
def test_two_processes_train_as_one_does(names, tiny, examples, validation, tmp_path):
    """Steps of five examples, the last of four, so that the shares are uneven."""
    runs = {name: tiny(evaluate_every=1, early_stop=0, **RUNS[name]) for name in names}
    found = rank_pair.run_pair(both_ways, runs, examples, validation[:3], tmp_path / "two", timeout=400)
    for rank in found:
        if isinstance(rank, BaseException):
            raise rank
    for (name, settings), first, second in zip(runs.items(), *found, strict=True):
        alone = dataclasses.replace(settings, finetune=dataclasses.replace(settings.finetune, shard=False))
        losses, weights, _ = trained(Group(), alone, examples, tmp_path / "one" / name, validation=validation[:3])
        assert first[0] == pytest.approx(losses, rel=0.02), name
        assert first[0] == second[0], name
        assert first[2]["processes"] == 2 and first[2]["largest_difference"] < 0.02, name
        assert weights.keys() == first[1].keys()
        for key, value in weights.items():
            assert np.array_equal(first[1][key], second[1][key]), (name, key)
            moved = np.linalg.norm(value - first[1][key]) / np.linalg.norm(value)
            assert moved < 0.05, (name, key, moved)


def stopping(group, settings, examples, work):
    whole = trained(group, settings, examples, work / "whole")
    work = work / ".parts.training"
    stopped = [caught(group, settings, examples, work, stop=(1, 2))]
    stopped.append(caught(group, settings, examples, work, resume=True, stop=(0, 4)))
    return whole, stopped, trained(group, settings, examples, work, resume=True)


@pytest.mark.e2e
@pytest.mark.parametrize("shard", [False, True])
def test_ctrl_c_in_either_process_stops_both_and_resuming_is_bit_exact(shard, tiny, examples, tmp_path):
    """With dropout, so that each process's random numbers matter."""
    settings = tiny(dropout=0.1, shard=shard)
    found = rank_pair.run_pair(stopping, settings, examples, tmp_path, timeout=300)
    for rank in found:
        if isinstance(rank, BaseException):
            raise rank
        whole, stopped, resumed = rank
        assert [type(error) for error in stopped] == [Interrupted, Interrupted]
        assert stopped[0].hint == "doyen finetune --name parts --processes 2 --resume"
        assert resumed[0] == whole[0][4:]
        assert all(np.array_equal(whole[1][key], resumed[1][key]) for key in whole[1])


def wrong(group, settings, examples, work, folders, other):
    off = caught(group, settings, examples, work / "off", folders=folders)
    apart = caught(group, other if group.rank else settings, examples[group.rank :], work / "apart")
    drifted = [torch.nn.Parameter(torch.tensor([1.0, 2.0 + group.rank]))]
    try:
        group.require_alike(drifted)
    except GateError as error:
        return off, apart, error


@pytest.mark.e2e
def test_corrupted_weights_or_other_examples_in_one_process_stop_both(tiny, phi, corrupted, examples, tmp_path):
    """The parity gate names the process; in both, the run ends before the first step."""
    settings = tiny()
    found = rank_pair.run_pair(wrong, settings, examples, tmp_path, [phi, corrupted], settings, timeout=300)
    for rank in found:
        if isinstance(rank, BaseException):
            raise rank
        off, apart, drifted = rank
        assert isinstance(drifted, GateError) and "weights differ" in str(drifted)
        assert isinstance(off, GateError) and "process 1 is off by" in str(off), off
        assert isinstance(apart, GateError) and "other examples" in str(apart), apart
    assert not list(tmp_path.rglob("history.jsonl"))


def vanish(group, settings, examples, work):
    def report(line):
        if group.rank == 1:
            os._exit(9)

    prepared = prepare(Path(settings.model.name), settings, examples, [], lambda _: None)
    model = trained_model(Path(settings.model.name), settings.finetune, prepared, lambda _: None)
    try:
        train_steps(model, prepared, settings.finetune, work, "f", report, lambda _: None, 0.0, group)
    except ProcessError as error:
        return error


@pytest.mark.e2e
def test_a_vanished_process_is_named_as_such(tiny, examples, tmp_path):
    found = rank_pair.run_pair(vanish, tiny(), examples, tmp_path, timeout=120)[0]
    assert isinstance(found, ProcessError) and "another process" in str(found) and "--resume" in found.hint


# ---- without other processes


@given(
    st.lists(st.integers(2, 300), min_size=1, max_size=30), st.integers(1, 5), st.integers(1, 7), st.integers(64, 600)
)
@hypothesis_settings(max_examples=60)
def test_shares_are_the_step_whole_and_even(lengths, size, batch_size, budget):
    examples = [TokenisedExample(tuple(range(length)), 1, i) for i, length in enumerate(lengths)]
    steps = plan_steps(examples, epochs=1.5, batch_size=batch_size, micro_batch_tokens=budget, seed=3)
    shares = [Group(rank, size).share(examples, steps, budget, None) for rank in range(size)]
    for number, step in enumerate(steps):
        own = [share[number] for share in shares]
        assert sorted(i for parts in own for part in parts for i in part) == sorted(i for part in step for i in part)
        assert len({len(parts) for parts in own}) == 1
        counts = [sum(len(part) for part in parts) for parts in own]
        assert max(counts) - min(counts) <= 1
        for part in (part for parts in own for part in parts if len(part) > 1):
            assert len(part) * padded_width([examples[i] for i in part]) <= budget
    if size == 1:
        assert shares[0] == steps


def test_buckets_hold_all_parameters_in_order(monkeypatch):
    monkeypatch.setattr("doyen.finetuning.parallel._BUCKET", 10)
    parameters = [torch.zeros(n) for n in (4, 6, 1, 25, 3, 3)]
    assert [[p.numel() for p in bucket] for bucket in _buckets(parameters)] == [[4, 6], [1], [25], [3, 3]]


def test_parity_names_the_processes_that_are_off():
    one = torch.tensor([[10.0, -4.0]])
    group = Group()
    assert require_parity(one + 0.05, one, group) == pytest.approx(0.005)
    for off in (torch.tensor([[10.0, -3.0]]), torch.tensor([[float("nan"), 0.0]])):
        with pytest.raises(GateError, match="process 0 is off by"):
            require_parity(off, one, group)


def test_golden_logits_leave_the_model_as_it_was(tiny, examples):
    settings = tiny()
    prepared = prepare(Path(settings.model.name), settings, examples, [], lambda _: None)
    model = trained_model(Path(settings.model.name), settings.finetune, prepared, lambda _: None).train()
    logits = golden_logits(model, prepared.train)
    assert logits.dtype == torch.float32 and 0 < len(logits) <= 32
    assert model.training and all(p.grad is None for p in model.parameters())
    assert torch.equal(logits, golden_logits(model, prepared.train))


def test_what_sharding_does_not_go_with():
    require_shardable("lora", True, 2)
    require_shardable("qlora", False, 1)
    with pytest.raises(UsageError, match="does not go with qlora"):
        require_shardable("qlora", True, 2)
    with pytest.raises(UsageError, match="there is one") as caught_error:
        require_shardable("full", True, 1)
    assert "--processes" in caught_error.value.hint
    assert FinetuneSettings().shard is False


def test_the_environment_says_who_one_is(monkeypatch):
    for name in rank_pair.environment(0, 1):
        monkeypatch.delenv(name, raising=False)
    assert processes() == 1 and is_main()
    monkeypatch.setenv("WORLD_SIZE", "4")  # of another program: no address
    assert processes() == 1
    for name, value in rank_pair.environment(1, 29500, size=4).items():
        monkeypatch.setenv(name, value)
    assert processes() == 4 and not is_main()


def test_alone_nothing_is_agreed_upon_with_others():
    group = Group()
    assert group.main and group.option == "" and group.scale == 1
    assert group.same(3) == 3 and group.gather(3) == [3] and group.total(2.5) == 2.5
    assert group.decide(save=True) == (False, True)
    assert group.spread([1, 2, 3], lambda part: [2.0 * x for x in part]) == [2.0, 4.0, 6.0]
    with pytest.raises(GateError, match="too long"), group.together():
        raise GateError("too long")
