"""A training run's state on disk, so that it goes on exactly where it stopped. Replaced atomically."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from doyen.errors import GateError
from doyen.finetuning.generations import keep_before, read_checkpoint
from doyen.finetuning.held_out import HeldOutState
from doyen.finetuning.parallel import Group
from doyen.finetuning.sharding import placed_like, placed_optimiser, whole_optimiser, whole_weights

SUFFIX = ".training"


@dataclass(slots=True)
class RunState:
    """How far a run is. `fingerprint` is of everything that must not change between start and resume.

    `threads` is what it computed with last: another number changes the last digits.
    """

    fingerprint: str
    step: int = 0
    tokens: int = 0
    seconds: float = 0.0
    last_loss: float = 0.0
    processes: int = 1
    threads: int = 0
    held_out: HeldOutState = field(default_factory=HeldOutState)


def save_checkpoint(
    folder: Path, state: RunState, model: Any, optimiser: Any, random: Any, group: Group | None = None
) -> None:
    """Write trainable weights, optimiser state, progress and torch's `random` state to `folder/checkpoint.pt`.

    Of several processes all must call it: the main one writes, with the random states of all of them.
    """
    group = group or Group()
    weights, moments, randoms = whole_weights(model), whole_optimiser(optimiser), group.gather(random)
    if not group.main:
        return
    _write(
        folder / "checkpoint.pt",
        {"state": asdict(state), "weights": weights, "optimiser": moments, "random": randoms},
        replacing=keep_before,
    )
    for path in folder.glob("kept-*.pt"):  # those that no checkpoint needs any more
        if path != kept_path(folder, state.held_out.kept_step):
            path.unlink()


def kept_path(folder: Path, step: int) -> Path:
    """Return the file of the weights after `step`, kept in case the held-out loss rises from there on."""
    return folder / f"kept-{step}.pt"


def keep_weights(folder: Path, step: int, model: Any, group: Group | None = None) -> None:
    """Write the trained weights beside the checkpoint; the next checkpoint takes away older ones.

    Of several processes all must call it.
    """
    weights = whole_weights(model)
    if (group or Group()).main:
        _write(kept_path(folder, step), weights)


def restore_kept(folder: Path, step: int, model: Any) -> None:
    """Put the weights kept after `step` back into the model."""
    import torch

    _put(model, torch.load(kept_path(folder, step), map_location="cpu", weights_only=True))


def _put(model: Any, weights: dict[str, Any]) -> None:
    import torch

    parameters = dict(model.named_parameters())
    with torch.no_grad():
        for name, value in weights.items():
            parameters[name].copy_(placed_like(value, parameters[name]))


def _write(path: Path, value: Any, replacing: Callable[[Path], None] = lambda _: None) -> None:
    """Save a value so that the file is there whole or not at all, whenever the process or the machine stops.

    `replacing` is called with the path just before the new file takes it.
    """
    import torch

    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        with partial.open("wb") as f:
            torch.save(value, f)
            f.flush()
            os.fsync(f.fileno())
        replacing(path)
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def load_checkpoint(
    folder: Path, fingerprint: str, model: Any, optimiser: Any, group: Group | None = None
) -> RunState | None:
    """Put a saved run back into model and optimiser; None if there is none.

    Raises:
        GateError: the examples, settings, model or number of processes differ from those that the run began with, or the
            file is damaged.
    """
    import torch

    group = group or Group()

    path = folder / "checkpoint.pt"
    if not path.exists():
        return None
    saved = read_checkpoint(path)
    state = RunState(**saved["state"] | {"held_out": HeldOutState(**saved["state"].get("held_out", {}))})
    if state.fingerprint != fingerprint:
        raise GateError(
            "the checkpoint was made with other examples, settings or model: going on would train something else",
            hint="run doyen finetune without --resume (starts anew), or put the old settings back",
        )
    if state.processes != group.size:
        raise GateError(
            f"the checkpoint was made by {state.processes} processes, this run has {group.size}",
            hint=f"doyen finetune --resume --processes {state.processes}, or run without --resume (starts anew)",
        )
    _put(model, saved["weights"])
    optimiser.load_state_dict(placed_optimiser(saved["optimiser"], optimiser))
    torch.set_rng_state(saved["random"][group.rank])
    return state


def run_name(work: Path) -> str:
    """Return the name of the adapter that a run's work folder, or a stage's folder in it, is for."""
    run = work if work.name.endswith(SUFFIX) else work.parent
    return run.name[1:].removesuffix(SUFFIX)


def discard_checkpoint(folder: Path) -> None:
    """Remove a run's working folder."""
    shutil.rmtree(folder, ignore_errors=True)
