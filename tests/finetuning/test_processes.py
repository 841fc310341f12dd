"""`finetune(processes=2)` and `torchrun`, through an expert's folder, with processes that start as a user's do."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest
from safetensors.numpy import load_file

import doyen
from doyen.adapters import interrupted_runs, read_adapter
from doyen.errors import GateError, ProcessError
from doyen.finetuning.launching import Run, call_of, follow, start_here


@pytest.fixture
def given(phi, examples, tmp_path):
    """An expert, and named arguments of a run of four steps with dropout."""
    expert = doyen.init(tmp_path / "expert", model=str(phi))
    path = tmp_path / "examples.jsonl"
    path.write_text("".join(json.dumps(e.as_dict()) + "\n" for e in examples))
    options = {"examples": path, "epochs": 2.0, "rank": 2, "learning_rate": 0.02, "batch_size": 4, "dropout": 0.1}
    return expert, options | {"replay": 0.0, "name": "two"}


def history(expert, name):
    path = expert / "adapters" / name / "history.jsonl"
    return [json.loads(line)["loss"] for line in path.read_text().splitlines()]


@pytest.mark.e2e
def test_two_processes_leave_one_adapter(given):
    expert, options = given
    said, lines = [], []
    made = doyen.finetune(expert, processes=2, report=lines.append, say=said.append, **options)
    assert made == read_adapter(expert / "adapters" / "two")
    assert made.processes == 2 and made.gates["parity"]["model"] == "replicated"
    assert [line.step for line in lines] == [1, 2, 3, 4]
    assert sum("give the logits of one" in line for line in said) == 1  # the main process alone speaks
    alone = doyen.finetune(expert, **options | {"name": "one", "dropout": 0.0})
    assert alone.processes == 1 and history(expert, "two")[0] == pytest.approx(history(expert, "one")[0], rel=0.1)


@pytest.mark.slow
def test_a_killed_process_is_named_and_resuming_gives_the_undisturbed_adapter(given, monkeypatch):
    expert, options = given
    doyen.finetune(expert, processes=2, **options | {"name": "whole"})
    call = call_of(expert, options | {"resume": False, "replace": False})
    run = Run(start_here(2, [sys.executable, "-m", "doyen.finetuning.process", call]))
    with pytest.raises(ProcessError, match="process 1 was ended by SIGKILL"):
        follow(run, lambda line: run.processes[1].kill() if line.step == 2 else None, None)
    assert interrupted_runs(expert) in ([], ["two"])
    if interrupted_runs(expert):
        with pytest.raises(GateError, match="made by 2 processes, this run has 1"):
            doyen.finetune(expert, resume=True, name="two")
    doyen.finetune(expert, processes=2, resume=bool(interrupted_runs(expert)), **options)
    weights = [load_file(str(expert / "adapters" / n / "adapter_model.safetensors")) for n in ("whole", "two")]
    assert all(np.array_equal(weights[0][key], weights[1][key]) for key in weights[0])


@pytest.mark.slow
def test_torchrun_starts_the_command_line(given):
    expert, options = given
    path = options["examples"]
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "doyen"]
    command += ["finetune", "--expert", str(expert), "--examples", str(path), "--rank", "2", "--epochs", "1"]
    command += ["--learning-rate", "0.02", "--replay", "0", "--shard", "--json"]
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ | {"OMP_NUM_THREADS": "1"})
    assert done.returncode == 0, done.stderr
    made = json.loads(done.stdout)  # printed once
    assert (made["name"], made["processes"], made["gates"]["parity"]["model"]) == ("lora-1", 2, "sharded")
