"""What is measured of an arm while it is asked ↔ a file beside the answers: an interrupted comparison has that of all its arms.

Nothing is known of arms whose answers were taken over, or given by a server.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from doyen.config import write_atomic


def read_notes(path: Path) -> dict[str, Any]:
    """Return arm → what was noted; empty where nothing was, or it cannot be read."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def add_note(path: Path, arm: str, value: Any) -> None:
    """Note something of an arm, in one step."""
    write_atomic(path, json.dumps(read_notes(path) | {arm: value}))
