"""How long a command takes in a fresh process: `doyen --help`, `doyen search`, `doyen ask`; medians of several runs.

    python benchmarks/cold_start.py --work EXPERT

EXPERT is an ingested expert (for example the one of `make demo`). Bars: help < 0.4 s, search < 2.5 s, ask < 6 s. Bytecode is kept, as an installed
package's is.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from measuring import parser, save

DOYEN = Path(sys.executable).parent / "doyen"
QUESTION = "What is the limit for theft of jewellery?"
COMMANDS: dict[str, tuple[float, list[str]]] = {
    "doyen --help": (0.4, ["--help"]),
    "doyen search": (2.5, ["search", QUESTION, "-k", "5"]),
    "doyen ask --arm rag": (6.0, ["ask", QUESTION, "--arm", "rag", "--no-cache"]),
}


def seconds(arguments: list[str], folder: Path) -> float:
    """Run one command and return its wall time."""
    started = time.perf_counter()
    kept = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    subprocess.run([str(DOYEN), *arguments], cwd=folder, check=True, capture_output=True, env=kept)
    return time.perf_counter() - started


def main() -> None:
    made = parser(__doc__ or "")
    made.add_argument("--runs", type=int, default=5)
    arguments = made.parse_args()
    rows: dict[str, Any] = {}
    for name, (bar, command) in COMMANDS.items():
        seconds(command, arguments.work)  # not counted: an installed package has its bytecode
        times = [seconds(command, arguments.work) for _ in range(arguments.runs)]
        rows[name] = {
            "median_s": round(statistics.median(times), 3),
            "min_s": round(min(times), 3),
            "max_s": round(max(times), 3),
            "bar_s": bar,
        }
        print(f"{name}: median {rows[name]['median_s']} s (bar {bar} s)")
    save("cold_start", {"runs": arguments.runs, "commands": rows}, arguments.out)


if __name__ == "__main__":
    main()
