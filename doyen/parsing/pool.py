"""Tasks → outcomes through recycled worker processes, each task within limits of time and memory.

Enters: an iterable of tasks with a `size` in bytes and a picklable function. Leaves: one `Outcome` a task, in the order
in which they finish. Only a bounded number of tasks is under way, so memory stays flat. Knows nothing of documents.
"""

from __future__ import annotations

import contextlib
import json
import os
import queue
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Generic, Protocol, TypeVar

from doyen.errors import DoyenError
from doyen.parsing.limits import CLOCK_FACTOR, MEBIBYTE, Limits
from doyen.parsing.worker import cpu_seconds, receive, resident_bytes, send

_BOOT = "import json,sys;sys.path[:]=json.loads(sys.argv[1]);from doyen.parsing.worker import main;main()"
_START_S = 120.0
_TASKS_PER_WORKER = 16
_BYTES_UNDER_WAY = 64 * MEBIBYTE
_TASKS_FOR_ANOTHER = 4
_BYTES_FOR_ANOTHER = MEBIBYTE
_WATCH_S = 0.05


class Sized(Protocol):
    """A task: anything that can be pickled and says how many bytes go in."""

    @property
    def size(self) -> int:
        """Bytes of input, which set the time limit and the room in the queue."""
        ...


T = TypeVar("T", bound=Sized)
R = TypeVar("R")


@dataclass(frozen=True, slots=True)
class Outcome(Generic[T, R]):
    """What became of a task: a result, or the reason why there is none; `own` if it would fail the same way again."""

    task: T
    result: R | None
    reason: str | None = None
    own: bool = True


def worker_count() -> int:
    """Return how many workers this machine gets: its cores, at most four."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min(cores, 4))


class WorkerPool(Generic[T, R]):
    """A context manager: `with WorkerPool(function) as pool: for outcome in pool.run(tasks): …`.

    Workers start with the first tasks; a handful of small ones gets a single worker. Leaving the block ends them.
    """

    def __init__(self, function: Callable[[T], R], *, workers: int | None = None, limits: Limits | None = None) -> None:
        self._function = function
        self._most = workers or worker_count()
        self._limits = limits or Limits()
        self._tasks: queue.SimpleQueue[T | None] = queue.SimpleQueue()
        self._outcomes: queue.SimpleQueue[Outcome[T, R] | DoyenError] = queue.SimpleQueue()
        self._seats: list[_Seat[T, R]] = []
        self._closing = threading.Event()

    def __enter__(self) -> WorkerPool[T, R]:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def processes(self) -> list[int]:
        """The process ids of the workers that live now."""
        return [seat.process.pid for seat in self._seats if seat.process and seat.process.poll() is None]

    def run(self, tasks: Iterable[T]) -> Iterator[Outcome[T, R]]:
        """Yield the outcome of each task as it is done; tasks are taken from the iterable as room becomes free.

        Raises:
            DoyenError: workers cannot be started on this machine.
        """
        count = size = 0
        for task in tasks:
            while count and (count >= self._most * _TASKS_PER_WORKER or size + task.size > _BYTES_UNDER_WAY):
                outcome = self._take()
                count, size = count - 1, size - outcome.task.size
                yield outcome
            count, size = count + 1, size + task.size
            self._submit(task, count, size)
            for outcome in self._ready():
                count, size = count - 1, size - outcome.task.size
                yield outcome
        for _ in range(count):
            yield self._take()

    def _submit(self, task: T, count: int, size: int) -> None:
        seats = len(self._seats)
        crowded = count > seats * _TASKS_FOR_ANOTHER or size > seats * _BYTES_FOR_ANOTHER
        if not seats or (seats < self._most and crowded and count > seats):
            self._seats.append(_Seat(self._function, self._limits, self._tasks, self._outcomes, self._closing))
        self._tasks.put(task)

    def _take(self) -> Outcome[T, R]:
        outcome = self._outcomes.get()
        if isinstance(outcome, DoyenError):
            raise outcome
        return outcome

    def _ready(self) -> Iterator[Outcome[T, R]]:
        while not self._outcomes.empty():
            yield self._take()

    def close(self) -> None:
        """End the workers, at work or not."""
        self._closing.set()
        for seat in self._seats:
            self._tasks.put(None)
            seat.kill()
        for seat in self._seats:
            seat.join()


class _Seat(Generic[T, R]):
    """One place in the pool: a thread that feeds its worker process, and a second that watches over the limits."""

    def __init__(
        self,
        function: Callable[[T], R],
        limits: Limits,
        tasks: queue.SimpleQueue[T | None],
        outcomes: queue.SimpleQueue[Outcome[T, R] | DoyenError],
        closing: threading.Event,
    ) -> None:
        self._function, self._limits, self._closing = function, limits, closing
        self._tasks, self._outcomes = tasks, outcomes
        self.process: subprocess.Popen[bytes] | None = None
        self._deadline = self._cpu_deadline = float("inf")
        self._overrun = "did not start"
        self._killed_for: str | None = None
        self._largest = 0
        self._lock = threading.Lock()
        self._threads = [threading.Thread(target=work, daemon=True) for work in (self._feed, self._watch)]
        for thread in self._threads:
            thread.start()

    def join(self) -> None:
        """Wait for the threads' end; a worker that was starting while the pool closed is killed too."""
        for thread in self._threads:
            while thread.is_alive():
                self.kill()
                thread.join(_WATCH_S)
        self._discard()

    def kill(self, reason: str | None = None) -> None:
        """Kill the worker and what it has started."""
        with self._lock:
            if self.process is None or self.process.poll() is not None:
                return
            self._killed_for = reason
            with contextlib.suppress(ProcessLookupError, PermissionError):
                if hasattr(os, "killpg"):
                    os.killpg(self.process.pid, signal.SIGKILL)
                else:
                    self.process.kill()

    def _feed(self) -> None:
        done = 0
        while (task := self._tasks.get()) is not None and not self._closing.is_set():
            try:
                if self.process is None or self.process.poll() is not None:
                    self._start()
                    done = 0
            except DoyenError as error:
                self._outcomes.put(error)
                return
            outcome, resident = self._exchange(task)
            done += 1
            spent = resident > self._limits.keep_mib * MEBIBYTE
            if spent or done >= self._limits.tasks or outcome.reason == self._limits.too_big():
                self._discard()
            self._outcomes.put(outcome)

    def _start(self) -> None:
        self._discard()
        self._deadline = time.monotonic() + _START_S
        environment = os.environ | {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "PYTHONWARNINGS": "ignore"}
        command = [sys.executable, "-P", "-c", _BOOT, json.dumps(sys.path)]
        pipe = subprocess.PIPE
        try:
            with self._lock:
                self.process = subprocess.Popen(
                    command, stdin=pipe, stdout=pipe, stderr=subprocess.DEVNULL, env=environment, start_new_session=True
                )
            self._killed_for, self._largest = None, 0
            memory = int(self._limits.memory_gib * 2**30)
            self._send((self._function, os.getpid(), memory))
            if self._receive() == "ready":
                return
        except (OSError, EOFError):
            pass
        if not self._closing.is_set():
            raise DoyenError("a worker process for reading files cannot be started", hint="doyen doctor")

    def _exchange(self, task: T) -> tuple[Outcome[T, R], int]:
        """Have the worker do a task; return the outcome and the bytes that the worker holds."""
        assert self.process is not None
        seconds, used = self._limits.seconds_for(task.size), cpu_seconds(self.process.pid)
        self._cpu_deadline = float("inf") if used is None else used + seconds
        self._deadline = time.monotonic() + seconds * (1.0 if used is None else CLOCK_FACTOR)
        self._overrun = self._limits.too_long(task.size)
        try:
            self._send(task)
            result, reason, own, resident = self._receive()
        except (OSError, EOFError):
            reason = self._epitaph()
            self._discard()
            return Outcome(task, None, reason), 0
        finally:
            self._deadline = self._cpu_deadline = float("inf")
        if reason == "MemoryError":
            reason = self._limits.too_big()
        return Outcome(task, result, reason, own), resident

    def _epitaph(self) -> str:
        """Say why the worker died."""
        assert self.process is not None
        code = self.process.wait()
        if self._killed_for:
            return self._killed_for
        if self._largest > self._limits.memory_gib * 2**29:  # libraries that cannot allocate abort
            return self._limits.too_big()
        return f"the reader crashed ({signal.Signals(-code).name if code < 0 else f'exit code {code}'})"

    def _watch(self) -> None:
        """Kill the worker where a task overruns its time or its memory."""
        while not self._closing.wait(_WATCH_S):
            process = self.process
            if self._deadline == float("inf") or process is None:
                continue
            used = cpu_seconds(process.pid) or 0.0
            if time.monotonic() > self._deadline or used > self._cpu_deadline:
                self.kill(self._overrun)
            self._largest = max(self._largest, resident_bytes(process.pid))
            if self._largest > self._limits.memory_gib * 2**30:
                self.kill(self._limits.too_big())

    def _send(self, value: Any) -> None:
        assert self.process is not None and self.process.stdin is not None
        send(self.process.stdin, value)

    def _receive(self) -> Any:
        assert self.process is not None and self.process.stdout is not None
        return receive(self.process.stdout)

    def _discard(self) -> None:
        """End the worker and close its pipes."""
        self.kill()
        with self._lock:
            process, self.process = self.process, None
        if process is not None:
            process.wait()
            for stream in (process.stdin, process.stdout):
                with contextlib.suppress(OSError):
                    if stream:
                        stream.close()
