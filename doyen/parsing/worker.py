"""The child's side of the pool: reads tasks from stdin, writes replies to stdout, dies with its parent.

Enters: length-prefixed pickles, first (function, parent's process id, memory limit in bytes), then one task each.
Leaves: (result or None, reason or None, whether the fault is the task's own, resident bytes) for each. Knows nothing of
documents; imports little, so that it starts fast.
"""

from __future__ import annotations

import contextlib
import os
import pickle
import signal
import struct
import sys
from typing import IO, Any

_LENGTH = struct.Struct(">Q")
_DEATH_SIGNAL = 1  # PR_SET_PDEATHSIG, linux/prctl.h


class TaskFailedError(Exception):
    """Raised by a task's function: its text is the reason that is reported."""


def send(stream: IO[bytes], value: Any) -> None:
    """Write one value."""
    data = pickle.dumps(value, protocol=pickle.HIGHEST_PROTOCOL)
    stream.write(_LENGTH.pack(len(data)))
    stream.write(data)
    stream.flush()


def receive(stream: IO[bytes]) -> Any:
    """Read one value. Raises EOFError where the other side has gone."""
    data = stream.read(_LENGTH.unpack(_exactly(stream.read(_LENGTH.size), _LENGTH.size))[0])
    return pickle.loads(data)  # noqa: S301 - both ends are doyen


def _exactly(data: bytes, size: int) -> bytes:
    if len(data) < size:
        raise EOFError
    return data


def resident_bytes(process: int | str = "self") -> int:
    """Return the memory that a process holds; 0 where the system does not tell (only Linux does, in /proc)."""
    try:
        with open(f"/proc/{process}/statm", "rb") as file:
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError, IndexError):
        return 0


def cpu_seconds(process: int) -> float | None:
    """Return the processor time that a process and its ended children have used; None where only the clock tells."""
    try:
        with open(f"/proc/{process}/stat", "rb") as file:
            fields = file.read().rpartition(b")")[2].split()
        return sum(map(int, fields[11:15])) / os.sysconf("SC_CLK_TCK")
    except (OSError, ValueError, IndexError):
        return None


def main() -> None:
    """Work until stdin ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to handle
    tasks, replies = sys.stdin.buffer, os.fdopen(os.dup(1), "wb")
    silence = os.open(os.devnull, os.O_WRONLY)
    os.dup2(silence, 1)  # a parser that prints would garble the replies
    os.dup2(silence, 2)
    try:
        function, parent, memory = receive(tasks)
        _die_with(parent)
        _limit_memory(memory)
        send(replies, "ready")
        while True:
            reply = _done(function, receive(tasks))
            _reply(replies, reply)
    except (EOFError, BrokenPipeError):
        os._exit(0)


def _done(function: Any, task: Any) -> tuple[Any, str | None, bool]:
    try:
        return function(task), None, True
    except TaskFailedError as error:
        return None, str(error), True
    except MemoryError:
        return None, "MemoryError", True
    except RecursionError:
        return None, "is nested too deeply", True
    except Exception as error:  # the edge of a worker: it may be the machine's fault too (a full disk)
        return None, f"cannot be read ({type(error).__name__}: {' '.join(str(error).split())})"[:300], False


def _reply(replies: IO[bytes], reply: tuple[Any, str | None, bool]) -> None:
    try:
        send(replies, (*reply, resident_bytes()))
    except MemoryError:
        send(replies, (None, "MemoryError", True, resident_bytes()))


def _die_with(parent: int) -> None:
    """Have the kernel kill this process when the parent dies, even in the middle of a task (Linux)."""
    if sys.platform != "linux":
        return
    import ctypes

    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(_DEATH_SIGNAL, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(0)


def _limit_memory(size: int) -> None:
    """Make allocations beyond `size` bytes fail (POSIX; RLIMIT_DATA counts what is written to, not mapped files)."""
    try:
        import resource
    except ImportError:
        return
    with contextlib.suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_DATA, (size, size))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
