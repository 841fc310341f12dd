"""Resident memory of the comparing process, by arm; of one of the workers where a cluster answers."""

from __future__ import annotations

import os
from pathlib import Path

from doyen.cluster.answering import ClusterEngine
from doyen.evaluation.arm_notes import add_note, read_notes
from doyen.models.engine import Engine

MEMORY_FILE = "memory.json"


def resident_gib() -> float | None:
    """Return this process's resident memory now, in GiB; None where the system does not tell (it does on Linux)."""
    try:
        with open("/proc/self/statm", encoding="ascii") as file:
            pages = int(file.read().split()[1])
    except (OSError, ValueError, IndexError):
        return None
    return round(pages * os.sysconf("SC_PAGE_SIZE") / 2**30, 3)


def memory_by_arm(folder: Path) -> dict[str, float]:
    """Return arm → GiB as noted in a comparison's folder; empty where nothing was, or it cannot be read."""
    return read_notes(folder / MEMORY_FILE)


def note_memory(folder: Path, arm: str, engine: Engine) -> None:
    """Note the memory now, after this process has asked an arm."""
    held = engine.resident_gib() if isinstance(engine, ClusterEngine) else resident_gib()
    if engine.kind != "server" and held is not None:
        add_note(folder / MEMORY_FILE, arm, held)
