"""SQL with bound parameters over tables, read-only: what lookup steps ask. Knows no step.

Tables of files are read into a DuckDB in memory, which then gives up files, extensions and its own settings.
"""

from __future__ import annotations

import datetime
import decimal
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol, TypeVar

from doyen.errors import UsageError
from doyen.workflows.kinds import ANY, BOOLEAN, LIST, NUMBER, TEXT, Kind

TIME_LIMIT_S = 10.0
MEMORY = "512MB"
_READERS = {
    ".csv": "read_csv(?, all_varchar = true, header = true)",
    ".tsv": "read_csv(?, all_varchar = true, header = true, delim = '\t')",
    ".parquet": "read_parquet(?)",
    ".jsonl": "read_json(?, format = 'newline_delimited')",
}
_NUMBERS = ("TINYINT", "SMALLINT", "INTEGER", "BIGINT", "HUGEINT", "FLOAT", "DOUBLE", "DECIMAL", "U")
Result = TypeVar("Result")


class Tables(Protocol):
    """Tables that lookups read."""

    def names(self) -> list[str]:
        """Return the tables' names."""
        ...

    def columns(self, sql: str, parameters: Mapping[str, Any]) -> dict[str, Kind]:
        """Return the columns of a statement's rows. Raises UsageError for what is not one SELECT over these tables."""
        ...

    def rows(self, sql: str, parameters: Mapping[str, Any], most: int) -> list[dict[str, Any]]:
        """Return the first rows. Raises UsageError where the statement fails, or takes too long."""
        ...


class FileTables:
    """Tables of files, by name."""

    def __init__(self, files: Mapping[str, Path]) -> None:
        """Read the files. Raises UsageError for one that is no table, or without DuckDB."""
        try:
            import duckdb
        except ImportError as error:
            raise UsageError("lookup steps need DuckDB, which is not here", hint="pip install duckdb") from error
        self._names = sorted(files)
        self._error = duckdb.Error
        self._connection = duckdb.connect(":memory:", config={"threads": "1", "memory_limit": MEMORY})
        self._connection.execute("SET autoinstall_known_extensions = false; SET autoload_known_extensions = false")
        for name, path in files.items():
            self._load(name, path)
        self._connection.execute("SET enable_external_access = false; SET lock_configuration = true")

    def names(self) -> list[str]:
        """Return the tables' names."""
        return self._names

    def _load(self, name: str, path: Path) -> None:
        reader = _READERS.get(path.suffix.lower())
        if reader is None:
            raise UsageError(f"table '{name}': {path.name} is no {', '.join(_READERS)} file")
        try:
            self._connection.execute(f'CREATE TABLE "{name}" AS SELECT * FROM {reader}', [str(path)])
            if path.suffix.lower() in (".csv", ".tsv"):
                self._type(name)
        except self._error as error:
            raise UsageError(f"table '{name}': {path.name} cannot be read: {_short(error)}") from None

    def _type(self, name: str) -> None:
        """Make numbers of the columns that hold numbers alone; what has leading zeros is a text."""
        for column, *_ in self._connection.execute(f'DESCRIBE "{name}"').fetchall():
            quoted = '"' + str(column).replace('"', '""') + '"'
            for kind in ("BIGINT", "DOUBLE"):
                wrong = f"TRY_CAST({quoted} AS {kind}) IS NULL OR regexp_matches({quoted}, '^\\s*[-+]?0[0-9]')"
                query = f'SELECT count(*) FILTER ({wrong}), count(*) FROM "{name}" WHERE {quoted} IS NOT NULL'
                found = self._connection.execute(query).fetchone()
                if found and not found[0] and found[1]:
                    self._connection.execute(f'ALTER TABLE "{name}" ALTER {quoted} TYPE {kind}')
                    break

    def columns(self, sql: str, parameters: Mapping[str, Any]) -> dict[str, Kind]:
        """Return the columns of a statement's rows, asked with no rows."""
        self._require_reading(sql)
        described = self._within_limits(lambda: self._connection.execute(_first(sql, 0), dict(parameters)).description)
        return {str(column[0]): _kind(str(column[1])) for column in described}

    def rows(self, sql: str, parameters: Mapping[str, Any], most: int) -> list[dict[str, Any]]:
        """Return the first rows; decimals are numbers, dates ISO texts."""
        self._require_reading(sql)

        def ask() -> list[dict[str, Any]]:
            cursor = self._connection.execute(_first(sql, most), dict(parameters))
            names = [str(column[0]) for column in cursor.description]
            return [dict(zip(names, map(_plain, row), strict=True)) for row in cursor.fetchall()]

        return self._within_limits(ask)

    def _require_reading(self, sql: str) -> None:
        import duckdb

        try:
            statements = duckdb.extract_statements(sql)
        except self._error as error:
            raise UsageError(f"the SQL is wrong: {_short(error)}") from None
        if len(statements) != 1 or statements[0].type != duckdb.StatementType.SELECT:
            raise UsageError("a lookup is one SELECT")

    def _within_limits(self, ask: Callable[[], Result]) -> Result:
        timer = threading.Timer(TIME_LIMIT_S, self._connection.interrupt)
        timer.start()
        try:
            return ask()
        except self._error as error:
            said = _short(error)
            late = "INTERRUPT" in said.upper()
            raise UsageError(
                f"the lookup took longer than {TIME_LIMIT_S:g} s" if late else f"the SQL fails: {said}"
            ) from None
        finally:
            timer.cancel()


def _first(sql: str, most: int) -> str:
    return f"SELECT * FROM (\n{sql.strip().rstrip(';')}\n) LIMIT {most}"


def _kind(type_: str) -> Kind:
    if type_.endswith("[]") or type_ == "LIST":
        return LIST
    if type_ == "BOOLEAN":
        return BOOLEAN
    if type_.startswith(_NUMBERS) and not type_.startswith("UUID") or type_ == "NUMBER":
        return NUMBER
    return TEXT if type_ in ("VARCHAR", "DATE", "TIMESTAMP", "TIME", "UUID", "STRING") or "TIMESTAMP" in type_ else ANY


def _plain(value: Any) -> Any:
    if isinstance(value, decimal.Decimal):
        return int(value) if value == value.to_integral_value() else float(value)
    if isinstance(value, datetime.datetime):
        return value.isoformat(" ")
    if isinstance(value, datetime.date | datetime.time):
        return value.isoformat()
    return value if value is None or isinstance(value, str | int | float | bool | list | dict) else str(value)


def _short(error: Exception) -> str:
    return " ".join(str(error).split())[:300]
