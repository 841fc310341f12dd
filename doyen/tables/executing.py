"""The child's side of a sandbox: tables in a DuckDB of its own in memory, one checked statement after the other.

Enters: length-prefixed pickles, first a Setup, then Statements. Leaves: a Reply for each. Before the first statement the
process gives up opening files and writing, in DuckDB's settings and by the kernel's limits.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from doyen.errors import TableError
from doyen.parsing.worker import _die_with, receive, send
from doyen.tables.guard import require_reading, table_names
from doyen.tables.limits import QueryLimits

_SPARE_MIB = 192
_CONFIG = {
    "autoinstall_known_extensions": "false",
    "autoload_known_extensions": "false",
    "allow_unsigned_extensions": "false",
    "allow_community_extensions": "false",
    "enable_external_access": "false",
    "python_enable_replacements": "false",
    "allow_persistent_secrets": "false",
    "temp_directory": "",
    "max_temp_directory_size": "0B",
    "threads": "1",
    "max_expression_depth": "200",
}


@dataclass(frozen=True, slots=True)
class Setup:
    """Tables as Arrow IPC streams under their names in SQL, and the parent's process id."""

    tables: Mapping[str, bytes]
    memory_mib: int
    parent: int


@dataclass(frozen=True, slots=True)
class Statement:
    """One statement with its parameters (a list for `?`, a mapping for `$name`)."""

    sql: str
    parameters: Sequence[Any] | Mapping[str, Any]
    limits: QueryLimits


@dataclass(frozen=True, slots=True)
class Reply:
    """Rows, or what is wrong with the statement: `refused` where it was not run, `reason` in one line."""

    columns: tuple[str, ...] = ()
    rows: tuple[tuple[Any, ...], ...] = ()
    truncated: bool = False
    tables: tuple[str, ...] = ()
    reason: str = ""
    hint: str = ""
    refused: bool = False


def main() -> None:
    """Work until stdin ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    orders, replies = sys.stdin.buffer, os.fdopen(os.dup(1), "wb")
    silence = os.open(os.devnull, os.O_WRONLY)
    os.dup2(silence, 1)
    os.dup2(silence, 2)
    os.close(silence)
    try:
        setup: Setup = receive(orders)
        _die_with(setup.parent)
        connection = open_tables(setup)
        _give_up(setup.memory_mib)
        send(replies, "ready")
        while True:
            send(replies, run(connection, frozenset(setup.tables), receive(orders)))
    except (EOFError, BrokenPipeError):
        os._exit(0)
    except MemoryError:
        os._exit(3)


def open_tables(setup: Setup) -> Any:
    """Return a connection to a new database in memory that holds the tables and can reach nothing else."""
    import duckdb
    import pyarrow as pa

    connection = duckdb.connect(":memory:", config={**_CONFIG, "memory_limit": f"{setup.memory_mib}MiB"})
    connection.execute("SET preserve_insertion_order = true")
    for name, data in setup.tables.items():
        with pa.ipc.open_stream(data) as stream:
            connection.register("doyen_incoming", stream.read_all())
        connection.execute(f"CREATE TABLE {quoted(name)} AS SELECT * FROM doyen_incoming")
        connection.unregister("doyen_incoming")
    connection.execute("SELECT json_serialize_sql('SELECT 1')").fetchone()
    connection.execute("SET lock_configuration = true")
    return connection


def run(connection: Any, tables: frozenset[str], statement: Statement) -> Reply:
    """Check a statement, run it in a transaction that cannot write, and take that back."""
    try:
        tree = require_reading(statement.sql, tables, connection)
    except TableError as error:
        return Reply(reason=str(error), hint=error.hint or "", refused=True)
    watch = threading.Timer(statement.limits.seconds, connection.interrupt)
    watch.daemon = True
    watch.start()
    try:
        connection.execute("BEGIN TRANSACTION READ ONLY")
        return _fetched(connection, statement, tuple(sorted(table_names(tree) & tables)))
    except MemoryError:
        return Reply(reason=f"needs more than {statement.limits.memory_mib} MiB of memory")
    except Exception as error:  # the edge: DuckDB's errors, in its words
        return Reply(reason=_reason(error, statement.limits))
    finally:
        watch.cancel()
        with contextlib.suppress(Exception):
            connection.execute("ROLLBACK")


def _fetched(connection: Any, statement: Statement, tables: tuple[str, ...]) -> Reply:
    limits, parameters = statement.limits, statement.parameters
    cursor = connection.execute(statement.sql, parameters if parameters else None)
    columns = tuple(str(part[0]) for part in cursor.description)
    rows: list[tuple[Any, ...]] = []
    size = 0
    while len(rows) <= limits.rows and (part := cursor.fetchmany(min(100, limits.rows + 1 - len(rows)))):
        rows += part
        size += sum(len(value) for row in part for value in row if isinstance(value, str)) + 16 * len(part)
        if size > limits.result_mib << 20:
            return Reply(reason=f"gives more than {limits.result_mib} MiB")
    truncated = len(rows) > limits.rows
    return Reply(columns, tuple(rows[: limits.rows]), truncated, tables)


def _reason(error: Exception, limits: QueryLimits) -> str:
    text = " ".join(str(error).split())
    if "INTERRUPT" in text.upper():
        return f"took longer than {limits.seconds:g} s"
    if "out of memory" in text.lower() or "bad_alloc" in text:
        return f"needs more than {limits.memory_mib} MiB of memory"
    return text.split(" LINE 1:")[0][:300]


def _give_up(memory_mib: int) -> None:
    """Let the kernel refuse every further file, every written byte and memory beyond the limit (POSIX)."""
    try:
        import resource
    except ImportError:
        return
    own = _data_bytes()
    most = own + ((memory_mib + _SPARE_MIB) << 20)
    with contextlib.suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
        if own:
            resource.setrlimit(resource.RLIMIT_DATA, (most, most))
        first_free = os.dup(0)
        os.close(first_free)
        resource.setrlimit(resource.RLIMIT_NOFILE, (first_free, first_free))


def _data_bytes() -> int:
    """Return what counts towards RLIMIT_DATA now; 0 where the system does not tell."""
    try:
        with open("/proc/self/status", encoding="ascii") as file:
            return sum(int(line.split()[1]) << 10 for line in file if line.startswith("VmData:"))
    except (OSError, ValueError, IndexError):
        return 0


def quoted(name: str) -> str:
    """Return a name as an identifier in SQL."""
    return '"' + name.replace('"', '""') + '"'
