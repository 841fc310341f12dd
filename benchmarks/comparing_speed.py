"""How long `doyen compare` takes for four arms on so many questions: index and adapter there, no answer kept.

    python benchmarks/comparing_speed.py --expert DIR [--count 150] [--adapter NAME]

The bar: 150 questions in four arms with the default model in at most 6 minutes on 2 cores. The expert is not changed but for
a comparison, which is removed again. The whole command is timed in a process of its own, start and imports among it, after
one question has been asked in each arm, so that weights and index lie in the system's cache.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from measuring import save

BAR_S = 360.0
BAR_QUESTIONS = 150


def compare(expert: Path, count: int, adapter: str, out: Path) -> tuple[float, dict[str, Any]]:
    """Run the command once with answers of its own; return its seconds and its report."""
    command = [sys.executable, "-m", "doyen", "compare", "--expert", str(expert), "--limit", str(count), "--json"]
    command += ["--out", str(out), *(["--adapter", adapter] if adapter else [])]
    begun = time.perf_counter()
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    return time.perf_counter() - begun, json.loads(done.stdout)


def without_answers(expert: Path, count: int, adapter: str) -> tuple[float, dict[str, Any]]:
    """Compare into a new folder outside the expert: answers of earlier comparisons are taken over only from beside it."""
    folder = Path(tempfile.mkdtemp(prefix="doyen-comparing-"))
    try:
        return compare(expert, count, adapter, folder / "comparison")
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--expert", type=Path, required=True, help="an expert with an index, an adapter and questions")
    parser.add_argument(
        "--count", type=int, default=BAR_QUESTIONS, help="questions, a seeded sample of the held-out ones"
    )
    parser.add_argument("--adapter", default="", help="default: the newest")
    parser.add_argument("--out", type=Path, default=None, help="result file")
    given = parser.parse_args()
    without_answers(given.expert, 1, given.adapter)  # warms the system's cache
    seconds, report = without_answers(given.expert, given.count, given.adapter)
    asked = report["questions"]["total"]
    assert "taken_over" not in report["manifest"], "answers were taken over: nothing was measured"
    arms = {
        arm: {name: row["metrics"][name]["value"] for name in ("seconds_mean", "prompt_tokens", "completion_tokens")}
        for arm, row in report["arms"].items()
    }
    answering = sum(row["seconds_mean"] for row in arms.values()) * asked
    result = {
        "questions": asked,
        "arms": arms,
        "seconds": round(seconds, 1),
        "answering_seconds": round(answering, 1),
        "seconds_beside": round(seconds - answering, 1),
        "model": report["manifest"]["model"],
        "engine": report["manifest"]["engine"],
        "adapter": report["manifest"]["adapter"]["method"] if "adapter" in report["manifest"] else None,
        "bar": {
            "questions": BAR_QUESTIONS,
            "seconds": BAR_S,
            "met": seconds <= BAR_S if asked >= BAR_QUESTIONS else None,
        },
    }
    print(f"{asked} questions in {len(arms)} arms: {seconds:.0f} s, {answering:.0f} s of them writing answers")
    save("comparing_speed", result, given.out)


if __name__ == "__main__":
    main()
