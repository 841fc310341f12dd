"""One ingest in a process of its own: `python -m doyen.serving.ingest_process EXPERT SOURCE NAME`.

Leaves on stdout: JSON lines, {"stage", "done", "total"} while it works, then {"report"} or {"error", "hint"}. SIGINT ends it
within a batch, and what is written stays. SOURCE "" is all known sources.
"""

from __future__ import annotations

import dataclasses
import json
import signal
import sys
from pathlib import Path
from typing import Any

from doyen.errors import DoyenError


def _say(row: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(row, ensure_ascii=False, default=str) + "\n")
    sys.stdout.flush()


def main(expert: str, source: str, name: str) -> int:
    """Ingest, and say how it goes; return the exit code."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        from doyen.ingesting import ingest

        report = ingest(
            Path(expert),
            [source] if source else (),
            name=name or None,
            progress=lambda stage, done, total: _say({"stage": stage, "done": done, "total": total}),
        )
    except DoyenError as error:
        _say({"error": str(error), "hint": error.hint})
        return 1
    except KeyboardInterrupt:
        _say({"error": "stopped", "hint": None})
        return 1
    except Exception as error:  # the edge of a process: the server tells its client that it failed, and why
        _say({"error": f"{type(error).__name__}: {error}", "hint": None})
        raise
    row = dataclasses.asdict(report)
    row["duplicates"] = [list(group.documents) for group in report.duplicates]
    _say({"report": row})
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:4]))
