"""A training run's state on disk, so that it goes on exactly where it stopped. Replaced atomically."""

from __future__ import annotations

import os
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from doyen.errors import GateError
from doyen.finetuning.generations import keep_before, read_checkpoint


@dataclass(slots=True)
class RunState:
    """How far a run is. `fingerprint` is of everything that must not change between start and resume."""

    fingerprint: str
    step: int = 0
    tokens: int = 0
    seconds: float = 0.0
    last_loss: float = 0.0


def save_checkpoint(folder: Path, state: RunState, model: Any, optimiser: Any, random: Any) -> None:
    """Write trainable weights, optimiser state, progress and torch's `random` state to `folder/checkpoint.pt`."""
    import torch

    folder.mkdir(parents=True, exist_ok=True)
    partial = folder / f".checkpoint.{os.getpid()}.partial"
    weights = {name: p.detach().cpu() for name, p in model.named_parameters() if p.requires_grad}
    try:
        with partial.open("wb") as f:
            torch.save(
                {
                    "state": asdict(state),
                    "weights": weights,
                    "optimiser": optimiser.state_dict(),
                    "random": random,
                },
                f,
            )
            f.flush()
            os.fsync(f.fileno())
        keep_before(folder / "checkpoint.pt")
        partial.replace(folder / "checkpoint.pt")
    finally:
        partial.unlink(missing_ok=True)


def load_checkpoint(folder: Path, fingerprint: str, model: Any, optimiser: Any) -> RunState | None:
    """Put a saved run back into model and optimiser; None if there is none.

    Raises:
        GateError: the examples, settings or model differ from those that the run began with, or the file is damaged.
    """
    import torch

    path = folder / "checkpoint.pt"
    if not path.exists():
        return None
    saved = read_checkpoint(path)
    state = RunState(**saved["state"])
    if state.fingerprint != fingerprint:
        raise GateError(
            "the checkpoint was made with other examples, settings or model: going on would train something else",
            hint="run doyen finetune without --resume (starts anew), or put the old settings back",
        )
    parameters = dict(model.named_parameters())
    with torch.no_grad():
        for name, value in saved["weights"].items():
            parameters[name].copy_(value)
    optimiser.load_state_dict(saved["optimiser"])
    torch.set_rng_state(saved["random"])
    return state


def discard_checkpoint(folder: Path) -> None:
    """Remove a run's working folder."""
    shutil.rmtree(folder, ignore_errors=True)
