"""`--processes N`: N processes on this machine that train together, started here, watched, and stopped together.

Enters: what `finetune` was called with. Leaves: the manifest that the main process returned, or the error that stopped
the run. `torchrun` does the same on several machines; this one asks for nothing but a number. Loads no torch.
"""

from __future__ import annotations

import json
import os
import queue
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from typing import IO, Any

from doyen import errors
from doyen.adapters import AdapterManifest
from doyen.errors import DoyenError, ProcessError, UsageError
from doyen.finetuning.parallel import processes as processes_here
from doyen.finetuning.preparing import Say
from doyen.finetuning.steps import Report, TrainingProgress

MARK = "doyen-process "
"""Begins the lines by which a process speaks to the one that started it."""
_GRACE_S = 20.0
_TAIL_LINES = 15


def launch(
    processes: int, expert: Path, given: dict[str, Any], report: Report | None, say: Say | None
) -> AdapterManifest:
    """Fine-tune in `processes` processes; `given` are the named arguments of `doyen.finetune`.

    Ctrl-C is handed on: all stop after the step, and a checkpoint is kept.

    Raises:
        ProcessError: a process ended without saying why.
        DoyenError: what stopped the run, as in one process.
    """
    if processes_here() > 1:
        raise UsageError("--processes inside of processes that torchrun started", hint="leave --processes out")
    run = Run(start_here(processes, [sys.executable, *arguments_of(expert, given)]))
    follow(run, report, say)
    return AdapterManifest(**run.made)


def arguments_of(expert: Path, given: dict[str, Any]) -> list[str]:
    """Return Python's arguments of one of the processes."""
    return ["-m", "doyen.finetuning.process", call_of(expert, given)]


def call_of(expert: Path, given: dict[str, Any]) -> str:
    """Write a call down for a process: JSON."""
    return json.dumps({"expert": str(expert), "given": given}, default=str)


def follow(run: Run, report: Report | None, say: Say | None) -> None:
    """Hand on what the processes of a run say, to their end.

    Raises:
        DoyenError: what stopped them.
    """
    try:
        while not run.over():
            _tell(run.next_message(), report, say)
    except KeyboardInterrupt:
        run.send(signal.SIGINT)
        while not run.over():
            _tell(run.next_message(), report, say)
        run.raise_fault()
        raise
    finally:
        run.end()
    run.raise_fault()


def _tell(message: dict[str, Any], report: Report | None, say: Say | None) -> None:
    if "say" in message and say:
        say(message["say"])
    if "progress" in message and report:
        known = {f.name for f in fields(TrainingProgress)}
        report(TrainingProgress(**{key: value for key, value in message["progress"].items() if key in known}))


def start_here(count: int, command: Sequence[str]) -> list[subprocess.Popen[str]]:
    """Start `count` processes of a command on this machine, each told its rank as `torchrun` tells it."""
    shared = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(_free_port()), "WORLD_SIZE": str(count)}
    shared["OMP_NUM_THREADS"] = os.environ.get("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // count)))
    return [
        subprocess.Popen(  # in a session of its own, so that Ctrl-C comes once, from here
            command,
            env=os.environ | shared | {"RANK": str(rank), "LOCAL_RANK": str(rank)},
            stdin=subprocess.PIPE,  # held open: its end tells the process that this one is gone
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
            start_new_session=True,
        )
        for rank in range(count)
    ]


class Run:
    """The started processes, what they say, and how they ended."""

    def __init__(self, processes: Sequence[Any]) -> None:
        """Take processes that were started, of this machine (`start_here`) or of a cluster."""
        self.made: dict[str, Any] = {}
        self._faults: dict[int, dict[str, Any]] = {}
        self._tails: list[list[str]] = [[] for _ in processes]
        self._messages: queue.Queue[dict[str, Any]] = queue.Queue()
        self._failed_at = 0.0
        self.processes = list(processes)
        self._readers = [
            threading.Thread(target=self._read, args=(rank, stream), daemon=True)
            for rank, process in enumerate(self.processes)
            for stream in (process.stdout, process.stderr)
        ]
        for reader in self._readers:
            reader.start()

    def _read(self, rank: int, stream: IO[str]) -> None:
        with stream:
            for line in stream:
                if line.startswith(MARK):
                    self._messages.put(json.loads(line[len(MARK) :]) | {"rank": rank})
                else:
                    self._tails[rank] = [*self._tails[rank], line.rstrip()][-_TAIL_LINES:]

    def next_message(self) -> dict[str, Any]:
        """Return the next thing that a process said; empty where it is quiet for a moment."""
        try:
            message = self._messages.get(timeout=0.1)
        except queue.Empty:
            return {}
        if "error" in message:
            self._faults[message["rank"]] = message["error"]
        self.made = message.get("made", self.made)
        return message

    def over(self) -> bool:
        """Tell whether all have ended and all was read; where one failed, the others are ended after a while."""
        codes = [process.poll() for process in self.processes]
        if any(codes) and not self._failed_at:
            self._failed_at = time.monotonic()
        if self._failed_at and time.monotonic() - self._failed_at > _GRACE_S:
            self.send(signal.SIGKILL)
        ended = None not in codes and not any(reader.is_alive() for reader in self._readers)
        return ended and self._messages.empty()

    def send(self, number: signal.Signals) -> None:
        """Send a signal to every process that runs."""
        for process in self.processes:
            if process.poll() is None:
                process.send_signal(number)

    def end(self) -> None:
        """Leave no process behind."""
        self.send(signal.SIGKILL)
        for process in self.processes:
            process.wait()
            process.stdin.close()

    def raise_fault(self) -> None:
        """Raise what stopped the run: an error that a process named, or that one ended without a word."""
        codes = [process.returncode for process in self.processes]
        named = [fault for _, fault in sorted(self._faults.items()) if fault["kind"] != "ProcessError"]
        if named:
            raise _error(named[0])
        silent = [rank for rank, code in enumerate(codes) if code and rank not in self._faults]
        if silent:
            raise ProcessError(
                "; ".join(f"process {rank} {_ended(codes[rank])}" for rank in silent)
                + "".join(f"\n{line}" for line in self._tails[silent[0]]),
                hint=f"doyen finetune --resume --processes {len(codes)} goes on from the last checkpoint, if there is one",
            )
        if self._faults:
            raise _error(self._faults[min(self._faults)])
        if not self.made:
            raise ProcessError("the processes ended without a result")


def _ended(code: int) -> str:
    return f"was ended by {signal.Signals(-code).name}" if code < 0 else f"ended with code {code}"


def _error(fault: dict[str, Any]) -> BaseException:
    if fault["kind"] == "KeyboardInterrupt":
        return KeyboardInterrupt()
    kind = getattr(errors, fault["kind"], DoyenError)
    found: DoyenError = kind(fault["message"], hint=fault["hint"])
    return found


def _free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port: int = s.getsockname()[1]
        return port
