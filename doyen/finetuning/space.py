"""A run's files → the room that they need on the disk. The gate "disk space", and what is said where a disk is full.

Knows sizes only; what a checkpoint holds is checkpoint.py's.
"""

from __future__ import annotations

import errno
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from doyen.errors import DoyenError, GateError

_GIB = 2**30
_RESERVE = 64 * 2**20  # curve, manifests, what other programs write meanwhile
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


@dataclass(frozen=True, slots=True)
class Needed:
    """Bytes on disk: of all checkpoints held at once, of the adapter or whole model, of a merged export."""

    checkpoints: int
    made: int
    export: int

    @property
    def training(self) -> int:
        """What training itself writes."""
        return self.checkpoints + self.made + _RESERVE


def needed_space(model: Any, generations: Callable[[int], int]) -> Needed:
    """Return the bytes that training a model writes, by its parameters.

    `generations` says of a checkpoint's bytes how many such files there are at once. A checkpoint holds each trained weight
    and Adam's two moments in float32; beside it stand weights from before a rise of the held-out loss, twice for a moment.
    An adapter is kept in float32, a whole model in 16 bits.
    """
    trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
    every = sum(p.quant_state.shape.numel() if hasattr(p, "quant_state") else p.numel() for p in model.parameters())
    whole = not hasattr(model, "peft_config")
    checkpoint = 12 * trained
    return Needed(checkpoint * generations(checkpoint) + 8 * trained, 2 * trained if whole else 4 * trained, 2 * every)


def require_space(work: Path, needed: Needed, say: Callable[[str], None]) -> dict[str, float]:
    """Gate "disk space": what training writes must fit now. A merged export that would not fit is said only.

    Raises:
        GateError: there is not enough room where the adapters stand.
    """
    place = next(p for p in (work, *work.parents) if p.exists())
    free = shutil.disk_usage(place).free
    if free < needed.training:
        raise GateError(
            f"not enough disk space at {place}: {free / _GIB:.2f} GiB free, {needed.training / _GIB:.2f} GiB needed "
            f"({needed.checkpoints / _GIB:.2f} for checkpoints, {needed.made / _GIB:.2f} for what is trained)",
            hint="free space there; a smaller [finetune] rank, or lora instead of full, needs less",
        )
    if free - needed.made < needed.export:
        say(
            f"warning: doyen export --format merged will need {needed.export / _GIB:.1f} GiB, here are {free / _GIB:.1f}"
        )
    sizes = {"needed": needed.training, "free": free, "export": needed.export}
    return {f"{name}_gib": round(size / _GIB, 3) for name, size in sizes.items()}


@contextmanager
def disk_full_said(work: Path, command: str) -> Iterator[None]:
    """Turn "no space left", from whichever library, into an error that says what is kept and how to go on."""
    try:
        yield
    except Exception as error:
        if isinstance(error, DoyenError) or not is_disk_full(error):
            raise
        kept = any(work.rglob("checkpoint*.pt"))
        raise DoyenError(
            f"no space left on the disk of {work.parent}; "
            + ("the last checkpoint is kept" if kept else "there is no checkpoint yet"),
            hint=f"free space there, then {command}{' --resume' if kept else ''}",
        ) from error


def is_disk_full(error: BaseException | None) -> bool:
    """Whether an error, or what it came from, says that a disk, quota or file is full."""
    while error is not None:
        if (isinstance(error, OSError) and error.errno in _FULL) or "No space left on device" in str(error):
            return True
        error = error.__cause__ or error.__context__
    return False
