"""The rehearsal changes nothing, and says in what memory runs out: optimiser, gradients, evaluation or save."""

import pytest
import torch

from doyen.errors import GateError
from doyen.finetuning.data import TokenisedExample
from doyen.finetuning.rehearsal import rehearse, try_save
from doyen.finetuning.training import finetune


def layer_and_optimiser():
    torch.manual_seed(1)
    model = torch.nn.Sequential(torch.nn.Linear(8, 8), torch.nn.Dropout(0.5), torch.nn.Linear(8, 1))
    return model, torch.optim.AdamW(model.parameters(), lr=0.1, weight_decay=0.0)


def rows(*lengths):
    return [TokenisedExample(tuple(range(n)), 1) for n in lengths]


def steps_of(model, optimiser):
    torch.manual_seed(2)
    for _ in range(3):
        optimiser.zero_grad()
        model(torch.ones(4, 8)).sum().backward()
        optimiser.step()
    return [p.detach().clone() for p in model.parameters()]


def no_memory(*_):
    raise RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 99 bytes")


def test_the_training_after_it_is_that_without_it_bit_for_bit(tmp_path):
    plain = steps_of(*layer_and_optimiser())
    model, optimiser = layer_and_optimiser()
    before = [p.detach().clone() for p in model.parameters()]
    random = torch.get_rng_state()
    evaluated = []

    def save():
        try_save(tmp_path / "run", model, optimiser)

    rehearse(model, optimiser, lambda: torch.rand(3), evaluated.append, rows(5, 90, 70, 9), 256, save)
    assert torch.equal(torch.get_rng_state(), random) and model.training
    assert all(torch.equal(a, b) for a, b in zip(before, model.parameters(), strict=True))
    assert [[len(e.ids) for e in batch] for batch in evaluated] == [[90, 70]]
    assert not (tmp_path / "run").exists() and optimiser.param_groups[0]["lr"] == 0.1
    assert all(torch.equal(a, b) for a, b in zip(plain, steps_of(model, optimiser), strict=True))


def test_the_optimisers_state_is_there_while_the_rest_is_tried(tmp_path):
    model, optimiser = layer_and_optimiser()
    held = []
    rehearse(model, optimiser, lambda: held.append(len(optimiser.state)), lambda _: None, [], 256, lambda: None)
    assert held == [4]


class Greedy(torch.optim.AdamW):
    step = no_memory


class Unsaveable(torch.optim.AdamW):
    def state_dict(self):
        raise MemoryError


@pytest.mark.parametrize(
    ("optimiser", "gradients", "evaluate", "what"),
    [
        (Greedy, lambda: None, lambda _: None, "the optimiser's state does not fit"),
        (torch.optim.AdamW, no_memory, lambda _: None, "the largest micro-batch does not fit"),
        (torch.optim.AdamW, lambda: None, no_memory, "evaluation of the longest held-out examples does not fit"),
        (Unsaveable, lambda: None, lambda _: None, "saving a checkpoint does not fit"),
    ],
)
def test_each_part_says_that_it_runs_out_of_memory(optimiser, gradients, evaluate, what, tmp_path):
    model, _ = layer_and_optimiser()
    made = optimiser(model.parameters())
    with pytest.raises(GateError, match=f"{what} into memory") as caught:
        rehearse(model, made, gradients, evaluate, rows(5), 256, lambda: try_save(tmp_path / "run", model, made))
    assert "lower [finetune]" in caught.value.hint and not list(tmp_path.iterdir())


def test_other_faults_are_not_taken_for_it(tmp_path):
    def broken():
        raise RuntimeError("shapes do not match")

    with pytest.raises(RuntimeError, match="shapes"):
        rehearse(*layer_and_optimiser(), broken, lambda _: None, [], 256, lambda: None)


def test_a_run_says_what_it_tried(phi, examples, validation, settings_of, tmp_path):
    said = []
    manifest = finetune(tmp_path, settings_of(phi, epochs=1.0), examples, validation, name="a", say=said.append)
    assert manifest.gates["memory"]["rows"] >= 1 and manifest.gates["memory"]["peak_gib"] > 0
    assert any(line.startswith("dry run of the largest micro-batch") and "evaluation and save" in line for line in said)
