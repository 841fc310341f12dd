"""A run's curve → TensorBoard, MLflow, Weights & Biases, through the callbacks of transformers, driven without its Trainer.

Enters: lines of the training curve. Leaves: files in the expert's `tracking/` folder. Nothing leaves this machine unless the
user's own environment names a server (MLFLOW_TRACKING_URI, WANDB_MODE).
"""

from __future__ import annotations

import importlib.util
import json
import os
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from doyen.config import write_atomic
from doyen.errors import ModelError, UsageError
from doyen.finetuning.preparing import Say
from doyen.finetuning.steps import TrainingProgress

FOLDER = "tracking"
CALLBACKS = {"tensorboard": "TensorBoardCallback", "mlflow": "MLflowCallback", "wandb": "WandbCallback"}
"""Trackers by the name of their package → transformers' callback."""
_RUN_FILE = "tracking.json"


def trackers_of(report_to: str) -> list[str]:
    """Return the names in [finetune] report_to.

    Raises:
        UsageError: a name is unknown.
        ModelError: a package is not installed.
    """
    names = list(dict.fromkeys(name.strip().lower() for name in report_to.split(",") if name.strip()))
    if unknown := [name for name in names if name not in CALLBACKS]:
        raise UsageError(
            f"unknown in [finetune] report_to: {', '.join(unknown)}",
            hint=f"of {', '.join(CALLBACKS)}, separated by commas",
        )
    missing = [name for name in names if importlib.util.find_spec(name) is None]
    if missing:
        raise ModelError(
            f"[finetune] report_to needs {', '.join(missing)}, not installed here",
            hint=f"pip install {' '.join(missing)}",
        )
    return names


@dataclass(frozen=True, slots=True)
class _Arguments:
    """What the callbacks ask of transformers' TrainingArguments."""

    output_dir: str
    run_name: str
    settings: dict[str, Any]
    logging_steps: int = 1

    def to_dict(self) -> dict[str, Any]:
        return dict(self.settings)

    def to_json_string(self) -> str:
        return json.dumps(self.settings, indent=1)


class Trackers:
    """The trackers of one run. Whatever fails in one of them is said once; the training goes on without it."""

    def __init__(
        self, names: list[str], expert: Path, run: str, work: Path, settings: dict[str, Any], say: Say
    ) -> None:
        self._say, self._work, self._folder = say, work, expert / FOLDER
        self._ids = _run_ids(work) if names else {}
        self._environment = {"WANDB_RUN_ID": self._ids.get("wandb"), "MLFLOW_RUN_ID": self._ids.get("mlflow")}
        self._arguments = _Arguments(str(work), run, settings)
        self._callbacks: dict[str, Any] = {}
        if names:
            from transformers import TrainerControl, TrainerState

            self._state, self._control = TrainerState(), TrainerControl()
        for name in names:
            self._begin(name, run)

    def _begin(self, name: str, run: str) -> None:
        folder = self._folder / name
        folder.mkdir(parents=True, exist_ok=True)

        def begin() -> None:
            import transformers.integrations as integrations

            callback = getattr(integrations, CALLBACKS[name])()
            if name == "tensorboard":
                callback.logging_dir = str(folder / run)
            self._callbacks[name] = callback
            callback.on_train_begin(self._arguments, self._state, self._control, model=None)
            if name == "mlflow":
                self._keep_mlflow_run(callback)
            self._say(f"curve in {name}: {_how_to_see(name, folder)}")

        self._try(name, begin)

    def _keep_mlflow_run(self, callback: Any) -> None:
        """Note the run's id, so that a resumed training goes on in it."""
        self._ids["mlflow"] = callback._ml_flow.active_run().info.run_id
        write_atomic(self._work / _RUN_FILE, json.dumps(self._ids))

    def log(self, line: TrainingProgress) -> None:
        """Hand a line of the curve on."""
        values = {"loss": line.loss, "learning_rate": line.learning_rate, "tokens_per_s": line.tokens_per_s}
        if line.held_out_loss is not None:
            values["eval_loss"] = line.held_out_loss
        self._each("on_log", line.step, logs=values)

    def end(self, summary: dict[str, float]) -> None:
        """Hand the run's last figures on and close it."""
        if not self._callbacks:
            return
        if summary:
            self._each("on_log", self._state.global_step, logs=summary)
        self._each("on_train_end", self._state.global_step)
        self._callbacks.clear()

    def _each(self, event: str, step: int, **given: Any) -> None:
        for name, callback in list(self._callbacks.items()):
            self._state.global_step = step
            values = {key: dict(value) for key, value in given.items()}
            call = getattr(callback, event)
            self._try(name, partial(call, self._arguments, self._state, self._control, **values))

    def _try(self, name: str, action: Callable[[], Any]) -> None:
        """Run an action of one tracker; a fault in it, of whatever kind, ends this tracker and not the training."""
        try:
            with _local(self._folder / name, self._environment):
                action()
        except Exception as error:  # third-party code at the edge: disks, servers, versions
            self._callbacks.pop(name, None)
            self._say(f"warning: {name} gets no more of the curve: {type(error).__name__}: {error}")


def _run_ids(work: Path) -> dict[str, str]:
    """Return the ids by which trackers know this run: those of before the interruption, if there was one."""
    path = work / _RUN_FILE
    if path.exists():
        found: dict[str, str] = json.loads(path.read_text(encoding="utf-8"))
        return found
    found = {"wandb": uuid.uuid4().hex[:8]}
    write_atomic(path, json.dumps(found))
    return found


@contextmanager
def _local(folder: Path, run: dict[str, str | None]) -> Iterator[None]:
    """Keep what a tracker does within `folder`; what the user's environment sets goes before."""
    defaults = {
        "MLFLOW_TRACKING_URI": f"sqlite:///{folder}/mlflow.db",
        "MLFLOW_EXPERIMENT_NAME": "doyen",
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "WANDB_MODE": "offline",
        "WANDB_DIR": str(folder),
        "WANDB_PROJECT": "doyen",
        "WANDB_RESUME": "allow",
        "WANDB_SILENT": "true",
        "WANDB_ERROR_REPORTING": "false",
        **{key: value for key, value in run.items() if value},
    }
    added = {key: value for key, value in defaults.items() if key not in os.environ}
    os.environ.update(added)
    try:
        yield
    finally:
        for key in added:
            os.environ.pop(key, None)


def _how_to_see(name: str, folder: Path) -> str:
    commands = {
        "tensorboard": f"tensorboard --logdir {folder}",
        "mlflow": f"mlflow ui --backend-store-uri sqlite:///{folder}/mlflow.db",
        "wandb": f"wandb sync {folder}/wandb/offline-run-*  (sends it to your account)",
    }
    return commands[name]
