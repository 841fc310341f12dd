"""Safety of ingest: 200 hostile files between good ones, and 30 ingests killed at random moments and run again.

Both are what the slow tests assert (tests/test_hostile_ingest.py, tests/test_kill.py); here their figures are kept.
Memory is the largest resident set of this process, which hands the files on, and of its largest child.
"""

from __future__ import annotations

import resource
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

from measuring import parser, save

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))

from hostile_files import hostile_files
from test_hostile_ingest import check
from test_kill import check_kills, make_library

FILE_TIMEOUT_S = 30.0
KILLS = 30


def hostile(folder: Path) -> dict[str, Any]:
    """Ingest the hostile files; the check raises where one crashes, hangs, or costs another."""
    files = hostile_files()
    began = time.perf_counter()
    report = check(folder, files, timeout_s=FILE_TIMEOUT_S)
    reasons = Counter(kind for _, reason in report.failed for kind in KINDS if kind in reason)
    return {
        "files": len(files),
        "documents_read": len(report.new),
        "failures_listed": len(report.failed),
        "killed_by_limit": dict(sorted(reasons.items())),
        "seconds": round(time.perf_counter() - began, 1),
        "ingest_seconds": round(report.seconds, 1),
        "peak_memory_mib": peak_mib(),
    }


KINDS = ("took longer than", "of memory", "of text, more than", "the reader crashed")


def kills(folder: Path) -> dict[str, Any]:
    """Kill ingests with SIGKILL; the check raises where an index differs from that of an undisturbed run."""
    folder.mkdir()
    began = time.perf_counter()
    killed = check_kills(folder, make_library(folder), kills=KILLS, seed=KILLS)
    return {"killed": killed, "equal_to_undisturbed": killed, "seconds": round(time.perf_counter() - began, 1)}


def peak_mib() -> dict[str, int]:
    """Return the largest resident sets so far, in MiB."""
    who = {"ingest": resource.RUSAGE_SELF, "largest_worker": resource.RUSAGE_CHILDREN}
    return {name: resource.getrusage(which).ru_maxrss >> 10 for name, which in who.items()}


def main() -> None:
    """Run both and write the result."""
    arguments = parser(__doc__ or "").parse_args()
    arguments.work.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=arguments.work) as folder:
        found = {"hostile_files": hostile(Path(folder) / "hostile"), "kills": kills(Path(folder) / "kills")}
    save("ingest_safety", found, arguments.out)


if __name__ == "__main__":
    main()
