"""A checkpoint file and the one before it: a damaged file is told, and the one before takes its place. Knows no model."""

from __future__ import annotations

import os
import pickle
from contextlib import suppress
from pathlib import Path
from typing import Any

from doyen.errors import GateError

SMALL = 2**30
"""Bytes of a checkpoint of which the one before is kept: those of adapters, not of whole models."""
_BROKEN = (RuntimeError, ValueError, EOFError, KeyError, OSError, pickle.UnpicklingError)


def generations(size: int) -> int:
    """Return how many files of a checkpoint of `size` bytes there are at once: the new one, the last, perhaps one before."""
    return 3 if size <= SMALL else 2


def before(path: Path) -> Path:
    """Return the name of the checkpoint before one."""
    return path.with_name(f"{path.stem}-before{path.suffix}")


def keep_before(path: Path) -> None:
    """Keep the checkpoint that is about to be replaced, if it is small; at no moment is there none."""
    if not path.exists() or path.stat().st_size > SMALL:
        return
    link = path.with_name(f".{path.name}.{os.getpid()}.before")
    with suppress(OSError):  # a disk without hard links: then there is one generation
        link.unlink(missing_ok=True)
        os.link(path, link)
        link.replace(before(path))


def read_checkpoint(path: Path) -> dict[str, Any]:
    """Read a checkpoint, or the one before if it is damaged; that one takes its place.

    Raises:
        GateError: both are damaged.
    """
    import torch

    broken: Exception | None = None
    for file in (path, before(path)):
        if not file.exists():
            continue
        try:
            found: dict[str, Any] = torch.load(file, map_location="cpu", weights_only=True)
            _ = found["state"], found["weights"], found["optimiser"], found["random"]
        except _BROKEN as error:
            broken = broken or error
            continue
        if file != path:
            file.replace(path)
        return found
    said = str(broken).strip().splitlines()[0][:200] if broken and str(broken).strip() else type(broken).__name__
    runs = [p.name[1:].removesuffix(".training") for p in path.parents if p.name.endswith(".training")]
    raise GateError(
        f"the checkpoint {path} is damaged ({said}), and there is no sound one before it",
        hint=f"doyen finetune --name {runs[0] if runs else 'NAME'} without --resume starts anew",
    ) from broken
