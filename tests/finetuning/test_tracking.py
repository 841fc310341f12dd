"""The curve in TensorBoard, MLflow and Weights & Biases: on this machine, and without stopping a training."""

import os

import pytest

from doyen.errors import ModelError, UsageError
from doyen.finetuning.steps import TrainingProgress
from doyen.finetuning.tracking import CALLBACKS, Trackers, _local, trackers_of

SETTINGS = {"rank": 4, "epochs": 2.0, "method": "lora"}


def curve(trackers, first=1, last=3):
    for step in range(first, last + 1):
        held_out = 2.0 / step if step % 2 == 0 else None
        trackers.log(TrainingProgress(step, 3, 1.0 / step, 1e-4, 100.0, 3.0 - step, held_out))


@pytest.fixture
def run(tmp_path):
    """Return a function that makes the trackers of a run, and the lines that they said."""
    said = []
    work = tmp_path / "adapters" / ".a.training"
    work.mkdir(parents=True)
    return lambda *names: (Trackers(list(names), tmp_path, "a", work, SETTINGS, said.append), said)


@pytest.fixture(autouse=True)
def no_environment(monkeypatch):
    for key in [k for k in os.environ if k.startswith(("MLFLOW", "WANDB", "TENSORBOARD"))]:
        monkeypatch.delenv(key)


def test_names():
    assert trackers_of("") == []
    with pytest.raises(UsageError, match="tensorbord") as caught:
        trackers_of("tensorbord, mlflow")
    assert "tensorboard, mlflow, wandb" in caught.value.hint


def test_a_package_that_is_not_installed_is_named_before_anything_is_done(monkeypatch):
    monkeypatch.setitem(CALLBACKS, "no_such_package_at_all", "Callback")
    with pytest.raises(ModelError, match="no_such_package_at_all") as caught:
        trackers_of("no_such_package_at_all")
    assert caught.value.hint == "pip install no_such_package_at_all"


def test_without_trackers_nothing_is_written(run, tmp_path):
    trackers, said = run()
    curve(trackers)
    trackers.end({"validation_loss": 1.0})
    assert said == [] and not (tmp_path / "tracking").exists()


def test_a_tracker_that_fails_is_left_and_the_training_goes_on(run):
    trackers, said = run()

    class Broken:
        def on_log(self, *args, **kwargs):
            raise OSError("no space left")

    trackers._state = type("State", (), {"global_step": 0})()
    trackers._control = None
    trackers._callbacks["tensorboard"] = Broken()
    curve(trackers)
    assert said == ["warning: tensorboard gets no more of the curve: OSError: no space left"]


def test_the_environment_stays_and_what_the_user_set_goes_before(tmp_path, monkeypatch):
    monkeypatch.setenv("WANDB_MODE", "online")
    with _local(tmp_path, {"MLFLOW_RUN_ID": "x", "WANDB_RUN_ID": None}):
        assert os.environ["WANDB_MODE"] == "online" and os.environ["MLFLOW_RUN_ID"] == "x"
        assert str(tmp_path) in os.environ["MLFLOW_TRACKING_URI"] and "WANDB_RUN_ID" not in os.environ
        assert os.environ["MLFLOW_DISABLE_TELEMETRY"] == "true"
    assert [k for k in os.environ if k.startswith(("MLFLOW", "WANDB"))] == ["WANDB_MODE"]


def test_tensorboard_reads_the_curve(run, tmp_path):
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    trackers, said = run("tensorboard")
    curve(trackers)
    trackers.end({"forgetting": 0.01})
    assert said and "tensorboard --logdir" in said[0] and not any("warning" in line for line in said)
    events = EventAccumulator(str(tmp_path / "tracking" / "tensorboard" / "a")).Reload()
    assert {e.step: round(e.value, 4) for e in events.Scalars("train/loss")} == {1: 1.0, 2: 0.5, 3: 0.3333}
    assert [(e.step, e.value) for e in events.Scalars("eval/loss")] == [(2, 1.0)]


@pytest.mark.filterwarnings("ignore")
def test_mlflow_keeps_one_run_in_the_experts_folder_over_a_resume(run, tmp_path):
    mlflow = pytest.importorskip("mlflow")
    pytest.importorskip("alembic", reason="mlflow-skinny has no database")
    trackers, said = run("mlflow")
    curve(trackers, 1, 2)
    trackers.end({})  # interrupted
    assert mlflow.active_run() is None
    again, _ = run("mlflow")
    curve(again, 3, 3)
    again.end({"forgetting": 0.01})
    assert not any("warning" in line for line in said), said
    client = mlflow.MlflowClient(f"sqlite:///{tmp_path / 'tracking' / 'mlflow' / 'mlflow.db'}")
    runs = client.search_runs([e.experiment_id for e in client.search_experiments()])
    assert len(runs) == 1 and runs[0].data.params["rank"] == "4"
    assert [m.step for m in client.get_metric_history(runs[0].info.run_id, "loss")] == [1, 2, 3]


@pytest.mark.filterwarnings("ignore")
def test_wandb_writes_offline(run, tmp_path):
    pytest.importorskip("wandb")
    trackers, said = run("wandb")
    curve(trackers)
    trackers.end({"forgetting": 0.01})
    assert not any("warning" in line for line in said), said
    runs = list((tmp_path / "tracking" / "wandb" / "wandb").glob("offline-run-*"))
    assert len(runs) == 1 and list(runs[0].glob("*.wandb"))
