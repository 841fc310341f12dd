"""SQL with bound parameters over an expert's tables and those of a workflow's files: what lookup steps ask. Knows no step.

Statements are checked and run as those of `doyen tables query` (doyen/tables): reading only, within limits, in a process of their own.
"""

from __future__ import annotations

import datetime
import decimal
import hashlib
import json
import os
import re
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import Any, Protocol

from doyen.errors import DoyenError, TableError, UsageError
from doyen.index.store import Index
from doyen.workflows.faults import near
from doyen.workflows.inputs import open_input
from doyen.workflows.kinds import ANY, BOOLEAN, LIST, NUMBER, TEXT, Kind

_SHAPE_MIB = 64
_MOST_KEPT = 10_000
_NUMBERS = (
    "TINYINT",
    "SMALLINT",
    "INTEGER",
    "BIGINT",
    "HUGEINT",
    "FLOAT",
    "DOUBLE",
    "DECIMAL",
    "UTINYINT",
    "USMALLINT",
)
_TEXTS = ("VARCHAR", "STRING", "DATE", "TIME", "TIMESTAMP")


class Tables(Protocol):
    """Tables that lookups read."""

    def names(self) -> list[str]:
        """Return the tables' names."""
        ...

    def columns(self, sql: str, parameters: Collection[str]) -> dict[str, Kind]:
        """Return the columns of a statement's rows. Raises TableError for what is not one SELECT over these tables."""
        ...

    def rows(self, sql: str, parameters: Mapping[str, Any], most: int) -> list[dict[str, Any]]:
        """Return the first rows. Raises TableError where the statement fails, or passes its limits."""
        ...

    def documents(self, sql: str) -> list[str]:
        """Return the documents whose tables a statement names."""
        ...

    def hashes(self) -> dict[str, str]:
        """Return name → a hash of the table's columns and rows."""
        ...

    def close(self) -> None:
        """End the process that runs statements."""
        ...


class ArrowTables:
    """Arrow tables by their names in SQL."""

    def __init__(self, tables: Mapping[str, Any], documents: Mapping[str, str]) -> None:
        """Take the tables, and the documents of those that were ingested; the first lookup starts the process."""
        from doyen.tables.sandbox import Sandbox

        self._tables = {name.lower(): table for name, table in tables.items()}
        self._documents = documents
        self._sandbox = Sandbox(self._tables)
        self._kept: dict[str, list[dict[str, Any]]] = {}

    def names(self) -> list[str]:
        """Return the tables' names."""
        return sorted(self._tables)

    def columns(self, sql: str, parameters: Collection[str]) -> dict[str, Kind]:
        """Return the columns of a statement's rows, by the tables' columns alone: no row is read."""
        import duckdb

        from doyen.tables.executing import Setup, open_tables
        from doyen.tables.guard import require_reading

        empty = {name: _without_rows(table) for name, table in self._tables.items()}
        connection = open_tables(Setup(empty, _SHAPE_MIB, os.getpid()))
        try:
            require_reading(sql, list(self._tables), connection)
            described = connection.execute(_first(sql, 0), dict.fromkeys(parameters)).description
        except duckdb.Error as error:
            raise TableError(f"the SQL is wrong: {' '.join(str(error).split())[:300]}") from None
        finally:
            connection.close()
        return {str(column[0]): _kind(str(column[1])) for column in described}

    def rows(self, sql: str, parameters: Mapping[str, Any], most: int) -> list[dict[str, Any]]:
        """Return the first rows; decimals are numbers, dates ISO texts. What was asked before is not asked again."""
        key = json.dumps([sql, parameters, most], sort_keys=True, default=str)
        if key not in self._kept:
            reply = self._sandbox.run(_first(sql, most), parameters)
            if len(self._kept) >= _MOST_KEPT:
                self._kept.clear()
            self._kept[key] = [dict(zip(reply.columns, map(_plain, row), strict=True)) for row in reply.rows]
        return self._kept[key]

    def documents(self, sql: str) -> list[str]:
        """Return the documents whose tables a statement names."""
        words = _words(sql)
        return sorted({document for name, document in self._documents.items() if name in words})

    def hashes(self) -> dict[str, str]:
        """Return name → a hash of the table's columns and rows."""
        return {name: _hash_of(table) for name, table in self._tables.items()}

    def close(self) -> None:
        """End the process."""
        self._sandbox.close()


def tables_for(statements: Iterable[str], files: Mapping[str, Path], index: Index | None) -> ArrowTables:
    """Return the tables that statements name: those of files, and the expert's ingested ones.

    Raises:
        UsageError: a file is no table.
    """
    from doyen.tables.catalogue import list_tables
    from doyen.tables.loading import load

    words = {word for sql in statements for word in _words(sql)}
    found = {name: table_of_file(name, path) for name, path in files.items()}
    own = {name.lower() for name in found}
    documents: dict[str, str] = {}
    for table in list_tables(index) if index is not None else ():
        if table.sql_name in words and table.sql_name not in own:
            assert index is not None
            found[table.sql_name] = load(index, table).data
            documents[table.sql_name] = table.document
    return ArrowTables(found, documents)


def _words(sql: str) -> set[str]:
    return set(re.findall(r"\w+", sql.lower()))


def table_of_file(name: str, path: Path) -> Any:
    """Return a file's rows as an Arrow table with types. Raises UsageError for what is no table."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    from doyen.tables.column_types import typed

    try:
        given = open_input(str(path))
        if given.schema is not None:
            return pq.read_table(path)
        rows = [cells for cells, _ in given.read()]
        if path.suffix.lower() == ".jsonl":
            return pa.Table.from_pylist(rows)
        return pa.table({column: typed([cells.get(column) for cells in rows]).array for column in given.columns})
    except (DoyenError, pa.ArrowException, OSError) as error:
        raise UsageError(f"table '{name}': {path.name} cannot be read ({error})") from None


def unknown_table(sql: str, names: Collection[str]) -> str:
    """Say which tables there are, for a statement that fails."""
    words = re.findall(r"(?i)\b(?:from|join)\s+(\w+)", sql)
    missing = [word for word in words if word.lower() not in names]
    return near(missing[0], names) if missing else ""


def _hash_of(table: Any) -> str:
    found = hashlib.sha256(table.schema.serialize())
    for batch in table.combine_chunks().to_batches():
        found.update(batch.serialize())
    return found.hexdigest()[:16]


def _without_rows(table: Any) -> bytes:
    import pyarrow as pa

    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema):
        pass
    return bytes(sink.getvalue())


def _first(sql: str, most: int) -> str:
    return f"SELECT * FROM (\n{sql.strip().rstrip(';')}\n) AS found LIMIT {most}"


def _kind(type_: str) -> Kind:
    if type_.endswith("[]") or type_ == "LIST":
        return LIST
    if type_.startswith("BOOL"):
        return BOOLEAN
    if type_.startswith(_NUMBERS) or type_ == "NUMBER":
        return NUMBER
    return TEXT if type_.startswith(_TEXTS) else ANY


def _plain(value: Any) -> Any:
    if isinstance(value, decimal.Decimal):
        return int(value) if value == value.to_integral_value() else float(value)
    if isinstance(value, datetime.datetime):
        return value.isoformat(" ")
    if isinstance(value, datetime.date | datetime.time):
        return value.isoformat()
    return value if value is None or isinstance(value, str | int | float | bool | list | dict) else str(value)
