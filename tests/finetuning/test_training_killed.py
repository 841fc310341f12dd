"""Trainings killed with SIGKILL at random steps and resumed: the bytes of the adapter are those of an undisturbed run."""

import json
import multiprocessing
import os
import random
import time
from pathlib import Path

import pytest
import tiny_models

from doyen.config import FinetuneSettings, ModelSettings, Settings
from doyen.prompts import closed_book_messages
from doyen.records import Example

STEPS = 64
THINGS = ("crane", "lock", "berth", "barge", "guild", "quay", "pilot", "storm")


def examples_with(answer, question="How many days does the {} take?"):
    return [
        Example(
            (*closed_book_messages(question.format(t)), {"role": "assistant", "content": answer(i)}),
            variant="closed-book",
        )
        for i, t in enumerate(THINGS)
    ]


TRAIN = examples_with(lambda i: f"{10 + i} days")
# Their loss rises, so that the weights kept before the rise are those that count in the end.
VALIDATION = examples_with(
    lambda i: "The guild grants leave never at night, " * 4, "Say in words about the {}, please."
)


def settings_for(model):
    tuned = FinetuneSettings(
        rank=4,
        learning_rate=0.02,
        epochs=2 * STEPS / (len(TRAIN) + 1),  # with one replay example, two examples a step
        batch_size=2,
        max_tokens=512,
        dropout=0.1,
        replay=0.125,
        early_stop=STEPS,
        evaluate_every=3,
    )
    return Settings(model=ModelSettings(name=str(model)), finetune=tuned)


def train(expert, model, every_s, line):
    """Train in a process of its own, going on where there is a checkpoint; send the number of each step, await a word."""
    import torch

    from doyen.finetuning.training import finetune

    torch.set_num_threads(1)
    resume = (Path(expert) / "adapters" / ".a.training" / "checkpoint.pt").exists()
    finetune(
        Path(expert),
        settings_for(model),
        TRAIN,
        VALIDATION,
        name="a",
        resume=resume,
        report=lambda p: (line.send(p.step), line.recv()),
        checkpoint_every_s=every_s,
    )


def run(expert, model, *, kill_at=None, every_s=0.0, within=0.0):
    """Train until the end, or kill it so many parts of a step after `kill_at`; return the last step heard of."""
    ours, theirs = CONTEXT.Pipe()
    process = CONTEXT.Process(target=train, args=(str(expert), str(model), every_s, theirs))
    process.start()
    theirs.close()
    step, heard_at, pace = 0, time.monotonic(), 0.0
    try:
        while kill_at is None or step < kill_at:
            step = ours.recv()
            pace, heard_at = time.monotonic() - heard_at, time.monotonic()
            ours.send("go on")
        time.sleep(within * min(pace, 1.0))
        process.kill()
    except EOFError:
        pass
    process.join(600)
    ours.close()
    assert process.exitcode == (0 if kill_at is None else -9)
    return step


CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(["torch", "transformers", "peft", "doyen.finetuning.training"])


def check_kills(folder, kills, seed):
    """Kill one training `kills` times at different steps and compare what it ends with; return those steps."""
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # of the server that the processes come from
    folder.mkdir(parents=True, exist_ok=True)
    model = tiny_models.phi_folder(folder, initializer_range=0.05)
    whole, killed, chance = folder / "whole", folder / "killed", random.Random(seed)
    assert run(whole, model) == STEPS
    steps = sorted(chance.sample(range(1, STEPS), kills))
    for step in steps:
        run(killed, model, kill_at=step, every_s=chance.choice([0.0, 0.0, 0.5]), within=chance.random())
        assert not (killed / "adapters" / "a").exists()
    run(killed, model)
    assert outcome(killed) == outcome(whole)
    return steps


def outcome(expert):
    """Return the adapter's bytes, its curve and what it says of itself, without times."""
    folder = expert / "adapters" / "a"
    rows = [json.loads(line) for line in (folder / "history.jsonl").read_text().splitlines()]
    manifest = json.loads((folder / "manifest.json").read_text())
    assert 0 < manifest["held_out"]["kept_step"] < STEPS
    del manifest["gates"]["space"], manifest["gates"]["memory"]  # of the machine, not of the run
    same = ("settings", "examples", "held_out", "validation_loss", "train_loss", "tokens", "forgetting", "gates")
    return (
        (folder / "adapter_model.safetensors").read_bytes(),
        [(row["step"], row["loss"], row.get("held_out_loss")) for row in rows],
        {key: manifest[key] for key in same},
    )


@pytest.mark.e2e
def test_a_killed_training_resumed_equals_an_undisturbed_one(tmp_path):
    assert len(check_kills(tmp_path / "runs", kills=1, seed=1)) == 1


@pytest.mark.slow
def test_twenty_kills(tmp_path):
    assert len(check_kills(tmp_path / "runs", kills=20, seed=20)) == 20
