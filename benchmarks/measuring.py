"""What every benchmark shares: the machine and versions of a result, where results go, small folders to work in."""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import os
import platform
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results"
PACKAGES = ("doyen", "torch", "transformers", "peft", "bitsandbytes", "lancedb", "openvino", "tokenizers", "numpy")

WATCH_S = 0.2


def machine() -> dict[str, Any]:
    """Return processor, cores, memory, Python and package versions."""
    model = platform.processor()
    info = Path("/proc/cpuinfo")
    if info.exists():
        names = [
            line.split(":", 1)[1].strip() for line in info.read_text().splitlines() if line.startswith("model name")
        ]
        model = names[0] if names else model
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    versions = {}
    for package in PACKAGES:
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            versions[package] = "not installed"
    return {
        "commit": _commit(),
        "processor": model,
        "avx512_bf16": info.exists() and "avx512_bf16" in info.read_text(),
        "cores": os.cpu_count(),
        "memory_gib": round(memory, 1),
        "python": platform.python_version(),
        "versions": versions,
    }


def _commit() -> str:
    """Return the checkout's commit, with "-dirty" where files differ from it."""
    command = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def parser(description: str) -> argparse.ArgumentParser:
    """Return a parser with the options of every benchmark."""
    made = argparse.ArgumentParser(description=description)
    made.add_argument("--work", type=Path, required=True, help="folder for the expert (kept; run again to go on)")
    made.add_argument("--out", type=Path, default=None, help="result file (default: benchmarks/results/NAME.json)")
    return made


def save(name: str, result: dict[str, Any], out: Path | None = None) -> None:
    """Write a result with the machine it was measured on and the command that made it."""
    path = out or RESULTS / f"{name}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    whole = {
        "benchmark": name,
        "command": "python " + " ".join(_plain(sys.argv)),
        "date": time.strftime("%Y-%m-%d"),
        "machine": machine(),
        **result,
    }
    path.write_text(json.dumps(whole, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    print(f"wrote {path.name}")


def _plain(arguments: list[str]) -> list[str]:
    """Show given paths as DIR: a result names no folder of a machine."""
    shown = [f"benchmarks/{Path(arguments[0]).name}"]
    return shown + ["DIR" if "/" in a else a for a in arguments[1:]]


def figures(report: dict[str, Any]) -> dict[str, Any]:
    """Return a comparison report without questions, answers and texts: the metrics, the differences, the advice."""
    arms = {arm: row["metrics"] | {"by_kind": row["by_kind"]} for arm, row in report["arms"].items()}
    manifest = {k: v for k, v in report["manifest"].items() if k != "settings"}
    kept = {
        "arms": arms,
        "differences": report["differences"],
        "retrieval": report["retrieval"],
        "advice": report["advice"],
    }
    return kept | {"questions": report["questions"], "manifest": manifest, "seed": report["seed"]}


def adapter_figures(expert: Path, name: str) -> dict[str, Any]:
    """Return what an adapter's training took and reached, without the texts and hashes of its manifest."""
    manifest = json.loads((expert / "adapters" / name / "manifest.json").read_text(encoding="utf-8"))
    kept = ("method", "created", "steps", "tokens", "seconds", "peak_memory_gib", "trained_parameters")
    return {k: manifest[k] for k in (*kept, "train_loss", "validation_loss", "settings", "calibration", "versions")}


def show_arms(report: dict[str, Any]) -> None:
    """Print one line an arm."""
    for arm, row in report["arms"].items():
        cells = (
            f"{k} {v['value']:.3f} [{v['low']:.3f}, {v['high']:.3f}]"
            for k, v in row["metrics"].items()
            if k
            in (
                "token_f1",
                "answer_score",
                "containment",
                "unanswerable_refused",
                "false_refusal_rate",
                "citation_precision",
            )
        )
        print(f"{arm:14s}", "  ".join(cells))


# ---- memory


def tree_bytes(root: int) -> int:
    """Return the memory that a process and its descendants hold, shared pages counted once a process's share (PSS)."""
    children: dict[int, list[int]] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            parent = int(stat.read_text().rpartition(")")[2].split()[1])
        except (OSError, ValueError, IndexError):
            continue
        children.setdefault(parent, []).append(int(stat.parent.name))
    total, waiting = 0, [root]
    while waiting:
        process = waiting.pop()
        waiting += children.get(process, [])
        try:
            rollup = Path(f"/proc/{process}/smaps_rollup").read_text()
        except OSError:
            continue
        total += next((int(row.split()[1]) << 10 for row in rollup.splitlines() if row.startswith("Pss:")), 0)
    return total


class PeakMemory:
    """Watches a process and its descendants; `gib` is the most that they held together."""

    def __init__(self, process: int) -> None:
        self._process, self._most, self._done = process, 0, threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def _watch(self) -> None:
        while not self._done.wait(WATCH_S):
            self._most = max(self._most, tree_bytes(self._process))

    def gib(self) -> float:
        """Stop watching; return the peak."""
        self._done.set()
        self._thread.join()
        return round(self._most / 2**30, 3)
