"""`doyen finetune --on ray`: the adapter of `--processes`, though a machine is lost on the way."""

import os
import signal
from pathlib import Path

import numpy as np
import pytest
import tiny_models
from safetensors.numpy import load_file

import doyen
from doyen.cluster.machines import Machine
from doyen.cluster.training import Seats, TrainWorker, seats
from doyen.errors import ClusterError, ConfigError, Interrupted, ModelError
from doyen.prompts import closed_book_messages


def machine(cores, gpus=0):
    return Machine("n", "n", cores, gpus, {})


def test_a_process_has_a_gpu_or_a_machine():
    assert seats([machine(8), machine(16)], 0, 2) == Seats(2, 8)
    assert seats([machine(8, 2), machine(16, 4), machine(32)], 0, 8) == Seats(6, 4, 1)
    assert seats([machine(8)], 3, 2) == Seats(3, 2)
    assert seats([machine(1)], 2, 2) == Seats(2, 0.5), "two go on where one machine is left"


def test_a_machine_that_lacks_something_says_what(tmp_path):
    worker = TrainWorker()
    with pytest.raises(ClusterError, match=f"does not see {tmp_path}") as caught:
        worker.check(tmp_path / "adapters" / ".seen-1", "smollm2-135m-instruct")
    assert "mount" in caught.value.hint
    (tmp_path / "mark").touch()
    with pytest.raises(ModelError, match="Unknown model"):
        worker.check(tmp_path / "mark", str(tmp_path / "nowhere"))


@pytest.fixture
def given(tmp_path):
    """An expert, and named arguments of a run of four steps with dropout."""
    phi = tiny_models.phi_folder(tmp_path / "phi", initializer_range=0.05)
    expert = doyen.init(tmp_path / "expert", model=str(phi))
    with (expert / "doyen.toml").open("a") as file:
        file.write("\n[cluster]\nworker_cores = 1\n")  # as many threads as with --processes
    rows = [
        {"messages": [*closed_book_messages(f"How many days does the {thing} take?" + " Tell me." * n), answer]}
        for n, thing in enumerate(("crane", "lock", "berth", "barge", "guild", "quay", "pilot", "storm"))
        if (answer := {"role": "assistant", "content": f"{10 + n} days"})
    ]
    path = tiny_models.write_jsonl(tmp_path / "examples.jsonl", rows)
    options = {"examples": path, "epochs": 2.0, "rank": 2, "learning_rate": 0.02, "batch_size": 4, "dropout": 0.1}
    return expert, options | {"replay": 0.0}


def weights(expert, name):
    return load_file(str(expert / "adapters" / name / "adapter_model.safetensors"))


def require_near(one, other):
    assert one.keys() == other.keys()
    assert all(np.allclose(one[key], other[key], atol=1e-6) for key in one)


@pytest.mark.slow
def test_the_adapter_is_that_of_as_many_processes_here(ray, given):
    expert, options = given
    doyen.finetune(expert, processes=2, name="here", **options)
    said, lines = [], []
    made = doyen.finetune(expert, on="ray", processes=2, name="there", report=lines.append, say=said.append, **options)
    assert made.processes == 2 and [line.step for line in lines] == [1, 2, 3, 4]
    require_near(weights(expert, "here"), weights(expert, "there"))
    assert not list((expert / "adapters").glob(".seen-*"))
    with pytest.raises(
        ConfigError, match="max_tokens = 8"
    ):  # what is wrong with a run is told at once, not tried again
        doyen.finetune(expert, on="ray", processes=2, name="wrong", say=said.append, **options | {"max_tokens": 8})
    assert not any("lost" in line for line in said)


@pytest.mark.slow
@pytest.mark.parametrize("actor_too", [True, False])
def test_what_is_lost_is_started_again_from_the_checkpoint_and_the_adapter_is_the_same(ray, given, actor_too):
    expert, options = given
    options |= {"epochs": 30.0}
    doyen.finetune(expert, processes=2, name="whole", **options)
    with pytest.raises(Interrupted):  # a checkpoint: one a minute would be none here
        doyen.finetune(expert, processes=2, name="two", report=stop_at_step_3, **options)
    said, killed = [], []

    def kill(line):
        if not killed:
            process = next(p for p in training_processes(str(expert)) if variable(p, "RANK") == "1")
            stat = Path(f"/proc/{process}/stat").read_text()
            killed.append(int(stat.rpartition(")")[2].split()[1]) if actor_too else process)
            os.kill(killed[0], signal.SIGKILL)

    made = doyen.finetune(
        expert, on="ray", processes=2, name="two", resume=True, report=kill, say=said.append, **options
    )
    assert killed and sum("going on from the last checkpoint" in line for line in said) == 1, said
    assert made.steps == 60 and made.processes == 2
    require_near(weights(expert, "whole"), weights(expert, "two"))


def stop_at_step_3(line):
    if line.step == 3:
        raise KeyboardInterrupt


def training_processes(expert):
    """Return the training processes of an expert."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            title = path.read_bytes()
        except OSError:
            continue
        if b"doyen.finetuning.process" in title and expert.encode() in title:
            found.append(int(path.parent.name))
    return sorted(found)


def variable(process, name):
    pairs = Path(f"/proc/{process}/environ").read_text().split("\0")
    return dict(pair.partition("=")[::2] for pair in pairs).get(name)
