"""The part `ray` of scale.py: ingest by workers of a Ray cluster against each other, the plain path, and kills."""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import signal
import statistics
import threading
import time
import warnings
from argparse import Namespace
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

import doyen
from doyen.cluster.connecting import require_ray
from doyen.config import load_settings
from doyen.ingesting import open_index
from doyen.ingesting.report import IngestReport

LEAST_SPEEDUP = 1.7
MOST_OVERHEAD = 0.15
SEED = 11


@contextlib.contextmanager
def on_cores(cores: set[int]) -> Iterator[None]:
    """Keep this process, and those that it starts, on some cores."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cores)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


@contextlib.contextmanager
def cluster(workers: int) -> Iterator[Any]:
    """Start a head without processors, and a machine of one core for each worker, on core 0, 1, …"""
    ray = require_ray()
    warnings.filterwarnings(
        "ignore", message="lancedb fork support", category=RuntimeWarning
    )  # it starts programs only
    from ray.cluster_utils import Cluster

    made = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
    before = os.environ.get("RAY_ADDRESS")
    os.environ["RAY_ADDRESS"] = made.address
    try:
        for core in range(workers):
            with on_cores({core}):
                made.add_node(num_cpus=1)
        yield made
    finally:
        ray.shutdown()
        made.shutdown()
        os.environ.pop("RAY_ADDRESS") if before is None else os.environ.update(RAY_ADDRESS=before)


class Clock:
    """Notes when the first document was done: what is before that is connecting, starting workers and loading."""

    def __init__(self) -> None:
        self.began, self.first = time.perf_counter(), 0.0

    def __call__(self, stage: str, done: int, total: int) -> None:
        """Take the progress of an ingest."""
        self.first = self.first or time.perf_counter() - self.began


def ingested(folder: Path, files: Path, on: str = "") -> tuple[IngestReport, dict[str, Any]]:
    """Make a new expert of the files; return its report and the figures."""
    shutil.rmtree(folder, ignore_errors=True)
    doyen.init(folder)
    clock = Clock()
    report = doyen.ingest(folder, [files], on=on, progress=clock)
    row = {"seconds": round(report.seconds, 2), "chunks": report.chunks, "first_written_s": round(clock.first, 2)}
    return report, row | {"chunks_per_s": round(report.chunks / report.seconds, 1)}


def content(folder: Path) -> dict[str, tuple[Any, ...]]:
    """Return document → hash, chunks and their vectors."""
    index = open_index(folder, load_settings(folder))
    found = {}
    for document in index.documents():
        chunks, vectors = index.chunks_with_vectors([document.id])
        order = sorted(range(len(chunks)), key=lambda i: chunks[i].start)
        found[document.id] = (document.sha256, [chunks[i] for i in order], vectors[order])
    return found


def compared(one: dict[str, tuple[Any, ...]], other: dict[str, tuple[Any, ...]]) -> dict[str, Any]:
    """Return how two indexes differ: documents that only one has, or with other chunks; the largest distance of vectors."""
    differing = [d for d in one.keys() ^ other.keys()]
    differing += [d for d in one.keys() & other.keys() if one[d][:2] != other[d][:2]]
    same = [d for d in one if d in other and d not in differing]
    apart = max((float(np.abs(one[d][2] - other[d][2]).max(initial=0)) for d in same), default=0.0)
    return {"documents": len(one), "differing": len(differing), "vectors_largest_difference": apart}


def chosen(data: Path, count: int, folder: Path) -> Path:
    """Return a folder with copies of the first so many files."""
    shutil.rmtree(folder, ignore_errors=True)
    for path in sorted(p for p in data.rglob("*") if p.is_file())[:count]:
        copy = folder / path.relative_to(data)
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, copy)
    return folder


def worker_processes(raylets: set[int]) -> list[int]:
    """Return the processes of ingest workers that these raylets have started."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            title = path.read_bytes()
            parent = int((path.parent / "stat").read_text().rpartition(")")[2].split()[1])
        except OSError:
            continue
        if b"ray::IngestWorker" in title and parent in raylets:
            found.append(int(path.parent.name))
    return found


class Killer:
    """Kills workers while it is entered, one at a time, at random moments, at most `most` of them."""

    def __init__(self, raylets: set[int], most: int, seconds: float) -> None:
        self.killed = 0
        self._raylets, self._most, self._mean_s = raylets, most, seconds / (most + 1)
        self._random, self._ended = random.Random(SEED), threading.Event()
        self._thread = threading.Thread(target=self._kill, daemon=True)

    def __enter__(self) -> Killer:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()

    def _kill(self) -> None:
        while self.killed < self._most and not self._ended.wait(self._random.uniform(0.5, 1.5) * self._mean_s):
            if alive := worker_processes(self._raylets):
                os.kill(self._random.choice(alive), signal.SIGKILL)
                self.killed += 1


def raylets(made: Any) -> set[int]:
    """Return the process ids of a cluster's raylets."""
    return {n.all_processes["raylet"][0].process.pid for n in (made.head_node, *made.worker_nodes)}


def ray_part(given: Namespace) -> dict[str, Any]:
    """Measure; the order of the ways alternates from round to round."""
    given.work.mkdir(parents=True, exist_ok=True)
    files = chosen(given.data, given.files, given.work / "files")
    ways = {"plain": 0, "one": 1, "one_beside": 1, "two": 2}
    rows: dict[str, list[dict[str, Any]]] = {way: [] for way in ways}
    for round_ in range(given.repeats):
        for way in sorted(ways, reverse=bool(round_ % 2)):
            rows[way].append(_measured(way, ways[way], given.work / way, files))
            print(way, rows[way][-1])
    plain = content(given.work / "plain")
    equal = {way: compared(plain, content(given.work / way)) for way in ways if way != "plain"}
    killed = _killed(given, files, plain)
    seconds = {way: statistics.median(row["seconds"] for row in own) for way, own in rows.items()}
    speedup, overhead = seconds["one_beside"] / seconds["two"], seconds["one"] / seconds["plain"] - 1
    return {
        "files": given.files,
        "rows": rows,
        "median_seconds": seconds,
        "two_workers_to_one": round(speedup, 2),
        "overhead_to_plain": round(overhead, 3),
        "equal_to_plain": equal,
        "kills": killed,
        "bars": {
            "two_workers_to_one": speedup >= LEAST_SPEEDUP,
            "overhead_to_plain": overhead <= MOST_OVERHEAD,
            "nothing_lost_or_doubled": all(not row["differing"] for row in (*equal.values(), killed)),
        },
    }


def _measured(way: str, workers: int, folder: Path, files: Path) -> dict[str, Any]:
    """Ingest in one way: `plain` and `one` all on core 0, `one_beside` and `two` with the asking process on any core."""
    cores = {0} if way in ("plain", "one") else os.sched_getaffinity(0)
    if not workers:
        with on_cores(cores):
            return ingested(folder, files)[1]
    with cluster(workers), on_cores(cores):
        return ingested(folder, files, "ray")[1]


def _killed(given: Namespace, files: Path, plain: dict[str, tuple[Any, ...]]) -> dict[str, Any]:
    """Ingest with two workers that are killed; again where the ingest ended before all kills were made."""
    kills, found, runs = 0, {"documents": len(plain), "differing": 0, "vectors_largest_difference": 0.0}, 0
    while kills < given.kills and runs < 2 * given.kills:
        with cluster(2) as made:
            began = time.perf_counter()
            with Killer(raylets(made), given.kills - kills, max(10.0, 0.3 * given.files)) as killer:
                report, _ = ingested(given.work / "killed", files, "ray")
            kills, runs = kills + killer.killed, runs + 1
            row = compared(plain, content(given.work / "killed"))
            print(f"{killer.killed} kills, {time.perf_counter() - began:.0f} s", row, f"failed {len(report.failed)}")
        found = {key: max(found[key], row[key]) for key in row}
    return {"killed": kills, "ingests": runs} | found
