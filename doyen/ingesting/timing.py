"""What each ingest took → `ingests.jsonl` in the index, and back: what a changed document costs."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

from doyen.config import write_atomic
from doyen.ingesting.report import IngestReport

TIMING_FILE = "ingests.jsonl"
MOST_LINES = 500


def record_ingest(folder: Path, report: IngestReport) -> None:
    """Add a line of an ingest that changed the index: when it ended, seconds, and how much was written."""
    if not report.written or not folder.is_dir():
        return
    row = {"ended": round(time.time(), 1), "seconds": round(report.seconds, 3), "interrupted": report.interrupted}
    row |= {name: len(getattr(report, name)) for name in ("new", "changed", "moved", "removed")}
    row |= {"chunks": report.chunks, "reused": report.reused}
    rows = [*recorded_ingests(folder), row][-MOST_LINES:]
    write_atomic(folder / TIMING_FILE, "".join(json.dumps(one) + "\n" for one in rows))


def recorded_ingests(folder: Path) -> list[dict[str, Any]]:
    """Return the lines, oldest first; none where no ingest was recorded, and without broken ones."""
    try:
        lines = (folder / TIMING_FILE).read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError):
        return []
    found = []
    for line in lines:
        try:
            row = json.loads(line)
        except ValueError:
            continue
        if isinstance(row, dict) and isinstance(row.get("seconds"), int | float):
            found.append(row)
    return found
