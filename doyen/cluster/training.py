"""Processes on several machines that train together: started, watched and stopped as those of one machine are.

Enters: what a process is called with. Leaves: processes as `doyen.finetuning.launching` follows them. Each stands beside an actor
that hands on what it says; the expert's folder has to be on storage that all of the machines see.
"""

from __future__ import annotations

import contextlib
import io
import os
import queue
import signal
import socket
import subprocess
import sys
import threading
import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

from doyen.cluster.machines import Machine, last_line, place_name
from doyen.errors import ClusterError, DoyenError, ModelError, ProcessError
from doyen.models.fetching import require_model

ROOM_S = 120.0
"""How long the cluster may take to make room for all processes."""
_LOOK_S = 0.5
_TAKES = 200
_LOST = -signal.SIGKILL


@dataclass(frozen=True, slots=True)
class Seats:
    """What each of the processes gets; a part of a core where there are more processes than cores."""

    processes: int
    cores: float
    gpus: int = 0


def seats(machines: Sequence[Machine], processes: int, cores: int) -> Seats:
    """Return the places of `processes` (0: one a GPU, else one a machine) on the machines.

    Of machines without GPUs a process gets all cores where it is alone, else at most `cores`, or less where there is no room.
    """
    with_gpus = [m for m in machines if m.gpus]
    if with_gpus and processes <= sum(m.gpus for m in with_gpus):
        own = min(cores, *(max(1, m.cores // m.gpus) for m in with_gpus))
        return Seats(processes or sum(m.gpus for m in with_gpus), own, 1)
    if processes in (0, len(machines)):
        return Seats(len(machines), min(m.cores for m in machines))
    share = float(cores)
    while sum(int(m.cores / share) for m in machines) < processes:
        share /= 2
    return Seats(processes, share)


class TrainWorker:
    """An actor beside one training process: starts it, hands on its lines, signals it. It ends with the actor."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[str] | None = None
        self._lines: queue.SimpleQueue[str] = queue.SimpleQueue()
        self._readers: list[threading.Thread] = []

    def where(self) -> str:
        """Return the machine's name."""
        return place_name()

    def address(self) -> tuple[str, int]:
        """Return this machine's address and a free port, where the processes meet."""
        import ray

        with socket.socket() as s:
            s.bind(("", 0))
            return ray.util.get_node_ip_address(), s.getsockname()[1]

    def check(self, mark: Path, model: str) -> None:
        """Raise a DoyenError where this machine does not see the expert's folder, or lacks the model or torch."""
        if not mark.exists():
            folder = mark.parent.parent
            raise ClusterError(
                f"does not see {folder}", hint=f"mount {folder} at the same path on every machine of the cluster"
            )
        require_model(model)
        import importlib.util

        if importlib.util.find_spec("torch") is None:
            raise ModelError("fine-tuning needs torch, which is not installed", hint="pip install 'doyen[finetune]'")

    def start(self, arguments: Sequence[str], environment: Mapping[str, str]) -> None:
        """Start the process: this Python with `arguments`."""
        pipe = subprocess.PIPE
        process = self._process = subprocess.Popen(
            [sys.executable, *arguments],
            env=os.environ | dict(environment),
            stdin=pipe,  # its end tells the process that this actor is gone
            stdout=pipe,
            stderr=pipe,
            text=True,
            errors="replace",
            start_new_session=True,
        )
        for stream in (process.stdout, process.stderr):
            reader = threading.Thread(target=self._read, args=(stream,), daemon=True)
            self._readers.append(reader)
            reader.start()

    def _read(self, stream: Any) -> None:
        for line in stream:
            self._lines.put(line)

    def take(self) -> tuple[list[str], int | None]:
        """Return the lines that came, waiting a moment for the first, and the exit code after the last."""
        assert self._process is not None
        found = []
        read = not any(reader.is_alive() for reader in self._readers)  # asked first: the last lines come before
        with contextlib.suppress(queue.Empty):
            found.append(self._lines.get(timeout=_LOOK_S))
            while len(found) < _TAKES:
                found.append(self._lines.get_nowait())
        return found, self._process.wait() if read and not found else None

    def signal(self, number: int) -> None:
        """Send a signal to the process."""
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(number)


class FarProcess:
    """A process beside an actor, with what is used of a `subprocess.Popen`. An actor that is lost counts as killed."""

    def __init__(self, actor: Any, where: str) -> None:
        self.where, self.lost = where, False
        self.returncode: int | None = None
        self._actor = actor
        self.stdin = self.stderr = io.StringIO()
        self.stdout = self

    def __enter__(self) -> FarProcess:
        return self

    def __exit__(self, *_: object) -> None:
        """Close nothing: the actor holds the streams."""

    def __iter__(self) -> Iterator[str]:
        """Yield the lines of both streams to their end."""
        import ray

        while self.returncode is None:
            try:
                lines, code = ray.get(self._actor.take.remote())
            except (ray.exceptions.RayError, ConnectionError):
                self.lost, self.returncode = True, _LOST
                return
            yield from lines
            self.returncode = code

    def poll(self) -> int | None:
        """Return the exit code; None where it runs."""
        return self.returncode

    def wait(self) -> int:
        """Return the exit code. What was signalled last ends it, or the actor's end."""
        return _LOST if self.returncode is None else self.returncode

    def send_signal(self, number: signal.Signals) -> None:
        """Send a signal."""
        import ray

        with contextlib.suppress(ray.exceptions.RayError, ConnectionError):
            ray.get(self._actor.signal.remote(int(number)), timeout=5)


class Team:
    """The actors of one run, all placed at once. `with Team(seats) as team: …` ends them, and what they started."""

    def __init__(self, places: Seats) -> None:
        self._places = places
        self._group: Any = None
        self._actors: list[Any] = []
        self.processes: list[FarProcess] = []

    def __enter__(self) -> Team:
        """Place them.

        Raises:
            ClusterError: the cluster has no room for all.
        """
        import ray
        from ray.util.placement_group import placement_group
        from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

        count, cores, gpus = self._places.processes, self._places.cores, self._places.gpus
        bundle = {"CPU": cores} | ({"GPU": gpus} if gpus else {})
        self._group = placement_group([bundle] * count, strategy="SPREAD")
        if not self._group.wait(ROOM_S):
            self._leave()
            wanted = f"{count} processes of {cores:g} cores" + (f" and {gpus} GPU" if gpus else "")
            raise ClusterError(f"the cluster has no room for {wanted}", hint="ray status; or --processes N with less")
        kind = ray.remote(TrainWorker)
        for place in range(count):
            there = PlacementGroupSchedulingStrategy(self._group, placement_group_bundle_index=place)
            options = {"num_cpus": cores, "num_gpus": gpus, "max_concurrency": 4, "scheduling_strategy": there}
            self._actors.append(kind.options(**options).remote())
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._leave()

    def _leave(self) -> None:
        import ray
        from ray.util.placement_group import remove_placement_group

        for actor in self._actors:
            with contextlib.suppress(Exception):  # the edge of the run: it is gone, or the cluster is
                ray.kill(actor)
        with contextlib.suppress(Exception):
            remove_placement_group(self._group)

    @property
    def lost(self) -> list[str]:
        """The machines whose actor was lost."""
        return [process.where for process in self.processes if process.lost]

    def check(self, expert: Path, model: str) -> None:
        """Look whether every machine sees the expert's folder and has the model.

        Raises:
            ClusterError: one does not; with its name.
            ProcessError: one is gone.
        """
        import ray

        mark = expert / "adapters" / f".seen-{uuid.uuid4().hex}"
        mark.parent.mkdir(parents=True, exist_ok=True)
        mark.touch()
        try:
            for actor in self._actors:
                where = ray.get(actor.where.remote(), timeout=ROOM_S)
                self.processes.append(FarProcess(actor, where))
                try:
                    ray.get(actor.check.remote(mark, model), timeout=ROOM_S)
                except ray.exceptions.RayTaskError as error:
                    cause = error.cause
                    if not isinstance(cause, DoyenError):
                        raise
                    said = f"{where}, a machine of the cluster: {cause}"
                    raise ClusterError(said, hint=f"on {where}: {cause.hint}") from error
        except ray.exceptions.RayError as error:
            raise ProcessError(f"a machine of the cluster is gone: {last_line(error)}", hint="ray status") from error
        finally:
            mark.unlink(missing_ok=True)

    def start(self, arguments: Sequence[str]) -> list[FarProcess]:
        """Start all processes, each told its rank, and where they meet, as `torchrun` tells it."""
        import ray

        try:
            self._start(list(arguments))
        except ray.exceptions.RayError as error:
            raise ProcessError(f"a machine of the cluster is gone: {last_line(error)}", hint="ray status") from error
        return self.processes

    def _start(self, arguments: list[str]) -> None:
        import ray

        address, port = ray.get(self._actors[0].address.remote())
        shared = {"MASTER_ADDR": address, "MASTER_PORT": str(port), "WORLD_SIZE": str(len(self._actors))}
        shared |= {"OMP_NUM_THREADS": str(max(1, int(self._places.cores)))}
        if not self._places.gpus:  # Ray hides no GPU from who asked for none, and all would take the first
            shared |= {"CUDA_VISIBLE_DEVICES": ""}
        asked = [
            # each sees its own GPU alone, hence local rank 0
            actor.start.remote(arguments, shared | {"RANK": str(rank), "LOCAL_RANK": "0"})
            for rank, actor in enumerate(self._actors)
        ]
        ray.get(asked)
