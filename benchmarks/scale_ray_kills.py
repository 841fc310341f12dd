"""The part `ray_kills` of scale.py: an ingest by two workers of a Ray cluster that are killed so many times meanwhile.

The kills of an ingest are spread over it by how many files are written. A worker is killed once it has used a random amount of
processor time, so that some die while they load and others in the middle of their work, on a fast machine and on a slow one. Where
an ingest ends before all kills were made, another one is begun.

Bar: after 10 kills, the index is the plain path's, chunk for chunk.
"""

from __future__ import annotations

import os
import random
import signal
import threading
from argparse import Namespace
from pathlib import Path
from typing import Any

from scale_ray import Clock, chosen, cluster, compared, content, ingested

import doyen
from doyen.parsing.worker import cpu_seconds

SEED = 11
LEAST_AGE_S, MOST_AGE_S = 0.5, 12.0
_LOOK_S = 0.05


class Killer:
    """Kills workers while it is entered, one at a time: the next after so many files were written, for each of `after`."""

    def __init__(self, raylets: set[int], after: list[int], clock: Clock, chance: random.Random) -> None:
        self.kills: list[dict[str, Any]] = []
        self._raylets, self._after, self._clock, self._random = raylets, after, clock, chance
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._kill, daemon=True)

    def __enter__(self) -> Killer:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()

    def _kill(self) -> None:
        age = self._age()
        while len(self.kills) < len(self._after) and not self._ended.wait(_LOOK_S):
            if self._clock.done < self._after[len(self.kills)]:
                continue
            old = [process for process in worker_processes(self._raylets) if (cpu_seconds(process) or 0.0) >= age]
            if old:
                process = self._random.choice(old)
                row = {"after_processor_s": round(cpu_seconds(process) or age, 1), "files_written": self._clock.done}
                try:
                    os.kill(process, signal.SIGKILL)
                except ProcessLookupError:  # it has ended meanwhile
                    continue
                self.kills.append(row)
                print("killed", self.kills[-1], flush=True)
                age = self._age()

    def _age(self) -> float:
        return self._random.uniform(LEAST_AGE_S, MOST_AGE_S)


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


def raylets(made: Any) -> set[int]:
    """Return the process ids of a cluster's raylets."""
    return {n.all_processes["raylet"][0].process.pid for n in (made.head_node, *made.worker_nodes)}


def ray_kills_part(given: Namespace) -> dict[str, Any]:
    """Ingest without a cluster, then on one whose workers are killed, until there were enough kills."""
    given.work.mkdir(parents=True, exist_ok=True)
    files = chosen(given.data, given.files, given.work / "files")
    if not (own := given.work / "plain").exists():
        doyen.init(own)
    doyen.ingest(own, [files])
    plain, chance = content(own), random.Random(SEED)
    runs: list[dict[str, Any]] = []
    killed = 0
    while killed < given.kills and len(runs) < given.kills:
        clock, after = Clock(), sorted(chance.randrange(given.files) for _ in range(given.kills - killed))
        with cluster(2) as made, Killer(raylets(made), after, clock, chance) as killer:
            report = ingested(given.work / "killed", files, "ray", clock)
        killed += len(killer.kills)
        row = {"kills": killer.kills, "chunks": report.chunks, "failed": len(report.failed)}
        runs.append(row | compared(plain, content(given.work / "killed")))
        print(runs[-1], flush=True)
    return {
        "files": given.files,
        "documents": len(plain) - 1,
        "chunks": plain["all chunks"][0],
        "killed": killed,
        "ingests": runs,
        "bars": {"nothing_lost_or_doubled": killed >= given.kills and not any(run["differing"] for run in runs)},
    }
