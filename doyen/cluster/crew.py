"""Workers on a cluster: jobs → results, each done by a worker that is free; what a lost worker had in hand goes to another.

Enters: a class whose objects work, and how many of them. Each is an actor on the cluster, fed by one thread here for each of
its lanes (kinds of jobs that it does beside each other). Knows nothing of what the jobs are.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any

from doyen.cluster.machines import Machine, last_line
from doyen.errors import ClusterError, DoyenError

TRIES = 5
READY_S = 600.0
"""How long a worker may take to load its model."""
PLACE_S = 120.0
"""How long the cluster may take to have room for a worker at the start."""
_NOBODY_S = 90.0
"""How long a run waits for a worker where none is left."""
_LOOK_S = 1.0
_AGAIN = "run the same command again: it goes on where it stopped"


@dataclass(frozen=True, slots=True)
class Places:
    """What the workers get: how many there are, and the cores, GPUs and memory of each."""

    workers: int
    cores: int
    gpus: int = 0
    memory_gib: float = 0.0


def places(
    machines: Sequence[Machine], workers: int, cores: int, *, gpus: bool = False, memory_gib: float = 0.0
) -> Places:
    """Return how many workers of how many cores the machines have room for, at most `workers` (0: all).

    With `gpus`, and where machines have some, a worker has one of them and a part of its machine's cores. A worker needs
    `memory_gib`, of machines that say how much they have.

    Raises:
        ClusterError: no machine has the memory for one.
    """
    with_gpus = [m for m in machines if m.gpus] if gpus else []
    used = with_gpus or machines
    cores = min(cores, *(max(1, m.cores // m.gpus) if with_gpus else m.cores for m in used))
    room = sum(min(m.gpus if with_gpus else m.cores // cores, _fitting(m, memory_gib)) for m in used)
    if not room:
        most = max(m.memory_gib for m in used)
        hint = "a smaller model, [model] bits = 4, or machines with more memory"
        raise ClusterError(f"a worker needs {memory_gib} GiB, and no machine gives more than {most:.1f} GiB", hint=hint)
    return Places(min(workers, room) if workers else room, cores, 1 if with_gpus else 0, memory_gib)


def _fitting(machine: Machine, memory_gib: float) -> int:
    """Return how many workers of that size a machine has memory for; very many where nothing is known."""
    return int(machine.memory_gib / memory_gib) if memory_gib and machine.memory_gib else machine.cores


@dataclass(slots=True)
class _Job:
    method: str
    given: tuple[Any, ...]
    future: Future[Any] = field(default_factory=Future)
    tries: int = 0


class _LostError(Exception):
    """A worker is gone."""


class Crew:
    """The workers. `with Crew(Worker, (arguments,), places, lanes) as crew: crew.submit("lane", "method", …).result()`.

    A worker's class has `where() -> str`, the name of its machine, and `ready() -> Any`, which loads what it needs and says
    what that is; a DoyenError of `ready` stops the run, with the machine's name.
    """

    def __init__(self, kind: type, given: tuple[Any, ...], places: Places, lanes: Sequence[str]) -> None:
        self.size = places.workers
        self._kind, self._given, self._places = kind, given, places
        self._jobs: dict[str, queue.SimpleQueue[_Job]] = {lane: queue.SimpleQueue() for lane in lanes}
        self._closing = threading.Event()
        self._fault: DoyenError | None = None
        self._members: list[_Member] = []
        self._threads: list[threading.Thread] = []
        self._starting = threading.Lock()
        self._said: list[Any] = []
        self._alike: Callable[[Sequence[Any]], None] | None = None

    def __enter__(self) -> Crew:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def start(self, alike: Callable[[Sequence[Any]], None] | None = None) -> list[Any]:
        """Start all workers, once; return what each said when it was ready.

        `alike` raises a DoyenError where they do not fit together; it is asked again for each that takes the place of one lost.

        Raises:
            DoyenError: a worker cannot start, or lacks what it needs: with the name of its machine.
        """
        with self._starting:
            if self._fault:
                raise self._fault
            if not self._members:
                self._members = [_Member(self._new_actor()) for _ in range(self.size)]
                try:
                    self._said = [self._first(member) for member in self._members]
                except BaseException as error:  # nobody may wait for workers that never began
                    self._fault = error if isinstance(error, DoyenError) else _ended(error)
                    raise
                for member in self._members:
                    for lane in self._jobs:
                        thread = threading.Thread(target=self._feed, args=(member, lane), daemon=True)
                        self._threads.append(thread)
                        thread.start()
            if alike is not None:
                self._alike = alike
                alike(self._said)
        return self._said[: self.size]

    def submit(self, lane: str, method: str, *given: Any) -> Future[Any]:
        """Have a worker call a method; the future ends with its result, or with the DoyenError that it raised.

        Raises:
            DoyenError: the workers cannot start (see `start`), or none is left.
        """
        self.start()
        job = _Job(method, given)
        self._jobs[lane].put(job)
        if self._fault or self._closing.is_set():  # looked at after putting: who ends the run empties the queues once
            self._give_up(ClusterError("the workers have ended", hint=_AGAIN))
        return job.future

    def close(self) -> None:
        """End the workers, at work or not."""
        self._closing.set()
        for member in self._members:
            _end(member.actor)
        for thread in self._threads:
            thread.join(timeout=5)
        self._give_up(self._fault or ClusterError("the workers have ended", hint=_AGAIN))

    # ---- actors

    def _first(self, member: _Member) -> Any:
        """Wait until the first worker of a place is ready, or another that takes the place of one lost meanwhile."""
        for _ in range(TRIES):
            try:
                return self._ready(member.actor)
            except _LostError as error:
                lost = error
                member.actor = self._new_actor()
        raise _cannot_start(lost)

    def _new_actor(self) -> Any:
        """Ask the cluster for one more worker; it may wait for room."""
        import ray

        kind = ray.remote(self._kind).options(
            num_cpus=self._places.cores,
            num_gpus=self._places.gpus,
            memory=int(self._places.memory_gib * 2**30) or None,
            max_concurrency=len(self._jobs) + 1,
            scheduling_strategy="SPREAD",
        )
        return kind.remote(self._places.cores, *self._given)

    def _ready(self, actor: Any) -> Any:
        """Wait until a worker is ready; return what it says. Raises ClusterError, _LostError where it is gone."""
        import ray

        try:
            where = ray.get(actor.where.remote(), timeout=PLACE_S)
        except ray.exceptions.GetTimeoutError as error:
            hint = "ray status shows what is in use; [cluster] workers = 1 asks for less"
            raise ClusterError(f"the cluster had no room for a worker within {PLACE_S:g} s", hint=hint) from error
        except ray.exceptions.RayError as error:
            raise _LostError from error
        try:
            return ray.get(actor.ready.remote(), timeout=READY_S)
        except ray.exceptions.GetTimeoutError as error:
            raise ClusterError(
                f"the worker on {where} was not ready within {READY_S:g} s", hint="ray status"
            ) from error
        except ray.exceptions.RayTaskError as error:
            cause = error.cause
            if isinstance(cause, DoyenError):
                mended = f"on {where}: {cause.hint}" if cause.hint else None
                raise ClusterError(f"the worker on {where}: {cause}", hint=mended) from error
            raise ClusterError(f"the worker on {where} cannot start: {last_line(error)}", hint="ray status") from error
        except ray.exceptions.RayError as error:
            raise _LostError from error

    # ---- jobs

    def _feed(self, member: _Member, lane: str) -> None:
        """Do jobs of a lane with one worker, to the end."""
        jobs = self._jobs[lane]
        while not self._closing.is_set():
            try:
                job = jobs.get(timeout=_LOOK_S)
            except queue.Empty:
                continue
            actor = member.actor
            if self._done(job, actor):
                continue
            job.tries += 1
            if job.tries < TRIES:
                jobs.put(job)
            else:
                lost = f"the worker ended {TRIES} times at the same piece of work"
                job.future.set_exception(ClusterError(lost, hint="doyen doctor on the cluster's machines; then again"))
            try:
                self._renew(member, actor)
            except Exception as error:  # the edge of a thread: whoever waits for a job is told
                self._give_up(error if isinstance(error, DoyenError) else _ended(error))

    def _done(self, job: _Job, actor: Any) -> bool:
        """Have a worker do a job; False where the worker was lost at it."""
        import ray

        try:
            result = ray.get(getattr(actor, job.method).remote(*job.given))
        except ray.exceptions.RayTaskError as error:
            job.future.set_exception(error.cause if isinstance(error.cause, DoyenError) else error)
        except ray.exceptions.RayError:
            if self._closing.is_set():
                job.future.set_exception(ClusterError("the workers have ended", hint=_AGAIN))
                return True
            return False
        except Exception as error:  # the edge of a thread: what Ray raises where the connection to the cluster ends
            self._give_up(_ended(error))
            job.future.set_exception(self._fault)
        else:
            job.future.set_result(result)
        return True

    def _renew(self, member: _Member, lost: Any) -> None:
        """Put a new worker in the place of a lost one; return where another lane has done so, or the run ends.

        Raises:
            ClusterError: the new one lacks what it needs, or there is none and all others are lost, too.
        """
        with member.lock:
            if member.actor is not lost:
                return
            member.absent_since = time.monotonic()
            _end(lost)
            for _ in range(TRIES):
                if self._closing.is_set():
                    return
                actor = self._new_actor()
                try:
                    if self._placed(actor):
                        self._take_in(member, actor)
                except _LostError as error:
                    gone = error
                    continue
                if self._closing.is_set():
                    _end(actor)
                return
            raise _cannot_start(gone)

    def _take_in(self, member: _Member, actor: Any) -> None:
        """Give a place to a new worker. Raises ClusterError where it lacks what it needs, or does not fit to the others."""
        said = self._ready(actor)
        if self._alike is not None:
            self._alike([self._said[0], said])
        self._said.append(said)
        member.actor, member.absent_since = actor, None

    def _placed(self, actor: Any) -> bool:
        """Wait until the cluster has room for a worker; False where the run ends before.

        Raises:
            ClusterError: no worker is left meanwhile.
        """
        import ray

        there = actor.where.remote()
        while not ray.wait([there], timeout=_LOOK_S)[0]:
            if self._closing.is_set():
                return False
            absent = [m.absent_since for m in self._members]
            if all(a is not None and time.monotonic() - a > _NOBODY_S for a in absent):
                raise ClusterError("no worker of the cluster is left", hint=f"ray status; then {_AGAIN}")
        return True

    def _give_up(self, error: DoyenError) -> None:
        """Let all jobs that wait end with an error, and those to come."""
        self._fault = self._fault or error
        for jobs in self._jobs.values():
            while True:
                try:
                    job = jobs.get_nowait()
                except queue.Empty:
                    break
                job.future.set_exception(self._fault)


class _Member:
    """A worker's place: the actor that holds it now."""

    def __init__(self, actor: Any) -> None:
        self.actor = actor
        self.lock = threading.Lock()
        self.absent_since: float | None = None


def _cannot_start(lost: _LostError) -> ClusterError:
    said = f"a worker ended {TRIES} times while it started: {last_line(lost.__cause__ or lost)}"
    return ClusterError(said, hint="ray status; doyen doctor on the cluster's machines")


def _ended(error: BaseException) -> ClusterError:
    return ClusterError(f"the connection to the cluster ended: {last_line(error)}", hint=_AGAIN)


def _end(actor: Any) -> None:
    """End an actor, whether it lives or not."""
    import ray

    try:
        if ray.is_initialized():  # else Ray would start a cluster in order to kill
            ray.kill(actor)
    except Exception:  # it is gone, or the cluster is: there is nothing to end
        return
