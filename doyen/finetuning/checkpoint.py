"""A training run's state on disk, so that it goes on exactly where it stopped. One checkpoint, replaced atomically."""

from __future__ import annotations

import os
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from doyen.errors import GateError
from doyen.finetuning.parallel import Group
from doyen.finetuning.sharding import placed_like, placed_optimiser, whole_optimiser, whole_weights


@dataclass(slots=True)
class RunState:
    """How far a run is. `fingerprint` is of everything that must not change between start and resume."""

    fingerprint: str
    step: int = 0
    tokens: int = 0
    seconds: float = 0.0
    last_loss: float = 0.0
    processes: int = 1


def save_checkpoint(
    folder: Path, state: RunState, model: Any, optimiser: Any, random: Any, group: Group | None = None
) -> None:
    """Write trainable weights, optimiser state, progress and torch's `random` state to `folder/checkpoint.pt`.

    Of several processes all must call it: the main one writes, with the random states of all of them.
    """
    import torch

    group = group or Group()
    weights, moments, randoms = whole_weights(model), whole_optimiser(optimiser), group.gather(random)
    if not group.main:
        return
    folder.mkdir(parents=True, exist_ok=True)
    partial = folder / f".checkpoint.{os.getpid()}.partial"
    try:
        with partial.open("wb") as f:
            torch.save(
                {
                    "state": asdict(state),
                    "weights": weights,
                    "optimiser": moments,
                    "random": randoms,
                },
                f,
            )
            f.flush()
            os.fsync(f.fileno())
        partial.replace(folder / "checkpoint.pt")
    finally:
        partial.unlink(missing_ok=True)


def load_checkpoint(
    folder: Path, fingerprint: str, model: Any, optimiser: Any, group: Group | None = None
) -> RunState | None:
    """Put a saved run back into model and optimiser; None if there is none.

    Raises:
        GateError: the examples, settings, model or number of processes differ from those that the run began with.
    """
    import torch

    group = group or Group()

    path = folder / "checkpoint.pt"
    if not path.exists():
        return None
    saved = torch.load(path, map_location="cpu", weights_only=True)
    state = RunState(**saved["state"])
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
    parameters = dict(model.named_parameters())
    with torch.no_grad():
        for name, value in saved["weights"].items():
            parameters[name].copy_(placed_like(value, parameters[name]))
    optimiser.load_state_dict(placed_optimiser(saved["optimiser"], optimiser))
    torch.set_rng_state(saved["random"][group.rank])
    return state


def discard_checkpoint(folder: Path) -> None:
    """Remove a run's working folder."""
    shutil.rmtree(folder, ignore_errors=True)
