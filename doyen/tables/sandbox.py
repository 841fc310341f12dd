"""Tables → a process of their own that runs statements over them within limits, and is killed where it overruns them.

Enters: Arrow tables and statements. Leaves: Replies. Knows no expert. The process gets no environment of the parent's.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Any

from doyen.errors import TableError
from doyen.parsing.worker import receive, send
from doyen.tables.executing import Reply, Setup, Statement
from doyen.tables.limits import QueryLimits

_BOOT = "import json,sys;sys.path[:]=json.loads(sys.argv[1]);from doyen.tables.executing import main;main()"
_START_S = 120.0
_GRACE_S = 2.0
"""What a statement may take beyond its limit: DuckDB looks for an interruption between its chunks of rows."""


class Sandbox:
    """A context manager: `with Sandbox(tables, limits) as sandbox: sandbox.run("SELECT …")`. One thread at a time."""

    def __init__(self, tables: Mapping[str, Any], limits: QueryLimits | None = None) -> None:
        """Take Arrow tables under their names in SQL (lower case)."""
        self._tables, self._limits = tables, limits or QueryLimits()
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Sandbox:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def process_id(self) -> int:
        """The id of the process; 0 before the first statement."""
        return self._process.pid if self._process else 0

    def run(
        self,
        sql: str,
        parameters: Sequence[Any] | Mapping[str, Any] = (),
        *,
        limits: QueryLimits | None = None,
    ) -> Reply:
        """Run a statement. Raises TableError where it is refused, fails, or passes its limits."""
        limits = limits or self._limits
        if len(sql) > limits.characters:
            raise TableError(f"the statement has {len(sql):,} characters; at most {limits.characters:,} are taken")
        process = self._process or self._start()
        own = list(parameters) if not isinstance(parameters, Mapping) else dict(parameters)
        reply: Reply | None = self._exchange(process, Statement(sql, own, limits), limits.seconds + _GRACE_S)
        if reply is None:
            self.close()
            seconds, memory = limits.seconds, limits.memory_mib
            raise TableError(f"the statement took longer than {seconds:g} s or needs more than {memory} MiB")
        if reply.reason:
            verb = "" if reply.refused else "the statement failed: "
            raise TableError(f"{verb}{reply.reason}", hint=reply.hint or None)
        return reply

    def close(self) -> None:
        """End the process."""
        process, self._process = self._process, None
        if process is None:
            return
        _kill(process)
        process.wait()
        for stream in (process.stdin, process.stdout):
            with contextlib.suppress(OSError):
                if stream:
                    stream.close()

    def _start(self) -> subprocess.Popen[bytes]:
        _require_duckdb()
        command = [sys.executable, "-P", "-c", _BOOT, json.dumps(sys.path)]
        environment = {"PATH": os.defpath, "OMP_NUM_THREADS": "1", "ARROW_DEFAULT_MEMORY_POOL": "system"}
        environment |= {k: os.environ[k] for k in ("SYSTEMROOT", "LD_LIBRARY_PATH") if k in os.environ}
        try:
            process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                env=environment,
                start_new_session=True,
            )
        except OSError as error:
            raise TableError("a process for questions over tables cannot be started", hint="doyen doctor") from error
        self._process = process
        setup = Setup({n: _stream_of(t) for n, t in self._tables.items()}, self._limits.memory_mib, os.getpid())
        if self._exchange(process, setup, _START_S) != "ready":
            self.close()
            raise TableError("the tables cannot be loaded", hint=f"more memory than {self._limits.memory_mib} MiB?")
        return process

    @staticmethod
    def _exchange(process: subprocess.Popen[bytes], order: Any, seconds: float) -> Any:
        """Send an order and return the reply; None where the process died or was killed for its time."""
        assert process.stdin is not None and process.stdout is not None
        watch = threading.Timer(seconds, _kill, (process,))
        watch.daemon = True
        watch.start()
        try:
            send(process.stdin, order)
            return receive(process.stdout)
        except (OSError, EOFError):
            return None
        finally:
            watch.cancel()


def _kill(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            if hasattr(os, "killpg"):
                os.killpg(process.pid, signal.SIGKILL)
            else:
                process.kill()


def _stream_of(table: Any) -> bytes:
    import pyarrow as pa

    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return bytes(sink.getvalue())


def _require_duckdb() -> None:
    import importlib.util

    if importlib.util.find_spec("duckdb") is None:
        raise TableError("questions over tables need the package duckdb", hint="pip install duckdb")
