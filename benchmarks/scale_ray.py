"""The part `ray` of scale.py: an ingest by workers of a Ray cluster against one worker, and against the plain path.

One index of the same files is made by one and by two workers of a local cluster, each on a machine (raylet) of its own that runs
on one core, and by the plain path on one core. The process that asks runs on all cores beside one and two workers, and on the
plain path's core where the cost of Ray is measured. Connecting and loading the model are part of the time; `first_written_s` is
when the first batch was written.

Bars: two workers at least 1.7 times one; Ray at most 15% slower than the plain path; every index equal to the plain one, chunk for chunk.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import statistics
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
WAYS = {"plain": 0, "one": 1, "one_beside": 1, "two": 2}
"""Workers of each way. `plain` and `one` have all their work on core 0."""


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
    """Start a head without processors, and a machine of one core for each worker, on core 0, 1, …

    Workers have the priority of this process: Ray would give them nice 15.
    """
    ray = require_ray()
    os.environ["RAY_worker_niceness"] = "0"
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
    """Notes when the first documents were written, and how many are."""

    def __init__(self) -> None:
        self.began, self.first, self.done = time.perf_counter(), 0.0, 0

    def __call__(self, stage: str, done: int, total: int) -> None:
        """Take the progress of an ingest."""
        self.first, self.done = self.first or time.perf_counter() - self.began, done


def ingested(folder: Path, files: Path, on: str = "", clock: Clock | None = None) -> IngestReport:
    """Make a new expert of the files."""
    shutil.rmtree(folder, ignore_errors=True)
    doyen.init(folder)
    return doyen.ingest(folder, [files], on=on, progress=clock)


def content(folder: Path) -> dict[str, tuple[Any, ...]]:
    """Return document → hash, chunks and their vectors; a document that is held twice counts as another one."""
    index = open_index(folder, load_settings(folder))
    found: dict[str, tuple[Any, ...]] = {}
    for document in index.iter_documents():
        chunks, vectors = index.chunks_with_vectors([document.id])
        order = sorted(range(len(chunks)), key=lambda i: chunks[i].start)
        again = " again" if document.id in found else ""
        found[document.id + again] = (document.sha256, [chunks[i] for i in order], vectors[order])
    found["all chunks"] = (index.chunk_count(), [], np.empty(0))  # none that belongs to no document
    return found


def compared(one: dict[str, tuple[Any, ...]], other: dict[str, tuple[Any, ...]]) -> dict[str, Any]:
    """Return how two indexes differ: documents that only one has, or with other chunks; the largest distance of vectors."""
    differing = [d for d in one.keys() ^ other.keys()]
    differing += [d for d in one.keys() & other.keys() if one[d][:2] != other[d][:2]]
    same = [d for d in one if d in other and d not in differing]
    apart = max((float(np.abs(one[d][2] - other[d][2]).max(initial=0)) for d in same), default=0.0)
    return {"differing": sorted(differing), "vectors_largest_difference": apart}


def chosen(data: Path, count: int, folder: Path) -> Path:
    """Return a folder with copies of the first so many files."""
    shutil.rmtree(folder, ignore_errors=True)
    for path in sorted(p for p in data.rglob("*") if p.is_file())[:count]:
        copy = folder / path.relative_to(data)
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, copy)
    return folder


def ray_part(given: Namespace) -> dict[str, Any]:
    """Measure; the order of the ways alternates from round to round."""
    given.work.mkdir(parents=True, exist_ok=True)
    files = chosen(given.data, given.files, given.work / "files")
    rows: dict[str, list[dict[str, Any]]] = {way: [] for way in WAYS}
    for round_ in range(given.repeats):
        for way in sorted(WAYS, reverse=bool(round_ % 2)):
            rows[way].append(_measured(way, given.work / way, files))
            print(way, rows[way][-1], flush=True)
    plain = content(given.work / "plain")
    equal = {way: compared(plain, content(given.work / way)) for way in WAYS if way != "plain"}
    seconds = {way: statistics.median(row["seconds"] for row in own) for way, own in rows.items()}
    speedup, overhead = seconds["one_beside"] / seconds["two"], seconds["one"] / seconds["plain"] - 1
    return {
        "files": given.files,
        "rows": rows,
        "median_seconds": seconds,
        "two_workers_to_one": round(speedup, 2),
        "overhead_to_plain": round(overhead, 3),
        "equal_to_plain": equal,
        "bars": {
            "two_workers_to_one": speedup >= LEAST_SPEEDUP,
            "overhead_to_plain": overhead <= MOST_OVERHEAD,
            "nothing_lost_or_doubled": all(not row["differing"] for row in equal.values()),
        },
    }


def _measured(way: str, folder: Path, files: Path) -> dict[str, Any]:
    """Ingest in one way; return the figures, with the seconds of processor time that this process took."""
    clock, used = Clock(), time.process_time()
    if workers := WAYS[way]:
        cores = {0} if way == "one" else os.sched_getaffinity(0)
        with on_cores(cores), cluster(workers):
            clock, used = Clock(), time.process_time()
            report = ingested(folder, files, "ray", clock)
    else:
        with on_cores({0}):
            report = ingested(folder, files, clock=clock)
    return {
        "seconds": round(report.seconds, 2),
        "first_written_s": round(clock.first, 2),
        "asking_processor_s": round(time.process_time() - used, 2),
        "chunks": report.chunks,
        "chunks_per_s": round(report.chunks / report.seconds, 1),
    }
