"""Resident memory of the comparing process, by arm ↔ a file beside the answers: an interrupted comparison has that of all its arms.

Nothing is known of arms whose answers were taken over, or given by a server.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

from doyen.config import write_atomic
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
    try:
        found = json.loads((folder / MEMORY_FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def note_memory(folder: Path, arm: str, engine: Engine) -> None:
    """Note the memory now, after this process has asked an arm."""
    if engine.kind != "server" and (held := resident_gib()) is not None:
        write_atomic(folder / MEMORY_FILE, json.dumps(memory_by_arm(folder) | {arm: held}))
