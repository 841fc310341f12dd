"""A database URL → a read-only connection that survives drops. Knows no tables; gives away no credentials.

Every statement is run as a whole and may be run again: after a dropped connection it waits, connects and repeats.
"""

from __future__ import annotations

import getpass
import logging
import os
import sqlite3
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import quote

from doyen.errors import DocumentError, UsageError

if TYPE_CHECKING:
    from sqlalchemy import Connection, Engine, Executable, Row
    from sqlalchemy.engine import URL

Result = TypeVar("Result")

DRIVERS = {
    "sqlite": "sqlite+pysqlite",
    "postgresql": "postgresql+pg8000",
    "postgres": "postgresql+pg8000",
    "mysql": "mysql+pymysql",
    "mariadb": "mariadb+pymysql",
}
READ_ONLY = {
    "sqlite": "PRAGMA query_only = ON",
    "postgresql": "SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY",
    "mysql": "SET SESSION TRANSACTION READ ONLY",
    "mariadb": "SET SESSION TRANSACTION READ ONLY",
}
LOGINS = {
    "postgresql": ("PGUSER", "PGPASSWORD"),
    "mysql": ("MYSQL_USER", "MYSQL_PWD"),
    "mariadb": ("MYSQL_USER", "MYSQL_PWD"),
}
"""The variables that hold user and password where the URL has none: those of the database's own tools."""

WAITS_S = (0.5, 1.0, 2.0, 4.0, 8.0, 15.0, 30.0)
_SILENCE_S = 600
_PASSING_CODES = ("08", "57P", "53300")
"""PostgreSQL's SQLSTATE of lost connections, of a server that stops or starts, of too many connections."""
_PASSING_ERRNOS = frozenset({1040, 1053, 1205, 1213, 2003, 2006, 2013, 2055})
"""MySQL's numbers of the same, and of locks held too long."""
_PASSING_SQLITE = ("locked", "busy", "disk i/o error")


class Database:
    """Runs reading statements on one database; `root` is its URI without credentials, `name` its name in ids."""

    def __init__(
        self,
        url: str,
        *,
        connect: Callable[[], Any] | None = None,
        waits_s: Sequence[float] = WAITS_S,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._url = _parse(url)
        self.root, self.name = _identity(self._url)
        self.spec = self.root + (f"?sslmode={self._url.query['sslmode']}" if "sslmode" in self._url.query else "")
        self._connect = connect
        self._waits_s = tuple(waits_s)
        self._sleep = sleep
        self._engine: Engine | None = None
        self._reached = False

    @property
    def is_sqlite(self) -> bool:
        """Whether values come as SQLite stores them, whatever the column's declared type."""
        return self._url.get_backend_name() == "sqlite"

    def rows(self, statement: Executable) -> list[Row[Any]]:
        """Return all rows of a statement."""
        return self.attempt(lambda connection: list(connection.execute(statement)))

    def attempt(self, work: Callable[[Connection], Result]) -> Result:
        """Return what `work` does with a connection; after a drop it is done again, from its start.

        Raises:
            DocumentError: no connection at first, a statement that fails for itself, or dropped too often.
        """
        import sqlalchemy.exc

        for wait_s in (*self._waits_s, None):
            try:
                with self._connected().connect() as connection:
                    result = work(connection)
                self._reached = True
                return result
            except (sqlalchemy.exc.DBAPIError, OSError) as error:
                if wait_s is None or not self._reached or not _is_passing(error):
                    raise self._fault(error) from None  # the cause may quote the URL
            self._connected().dispose()
            self._sleep(wait_s)
        raise AssertionError("the last attempt returns or raises")

    def stream(self, statement: Executable) -> Iterator[Row[Any]]:
        """Yield the rows of a statement as they come; after a drop it starts again, and the first rows come twice."""
        import sqlalchemy.exc

        for wait_s in (*self._waits_s, None):
            try:
                with self._connected().connect() as connection:
                    streamed = connection.execution_options(stream_results=True, yield_per=500)
                    with streamed.execute(statement) as result:
                        yield from result
                return
            except (sqlalchemy.exc.DBAPIError, OSError) as error:
                if wait_s is None or not _is_passing(error):
                    raise self._fault(error) from None
            self._connected().dispose()
            self._sleep(wait_s)

    def close(self) -> None:
        """Close the connections."""
        if self._engine is not None:
            self._engine.dispose()

    def _connected(self) -> Engine:
        if self._engine is None:
            import sqlalchemy

            settings: dict[str, Any] = {"pool_pre_ping": True, "hide_parameters": True, "pool_logging_name": "doyen"}
            if self._connect or self.is_sqlite:
                settings["creator"] = self._connect or self._open_sqlite
            else:
                settings["connect_args"] = _driver_settings(self._url)
            url = self._url.difference_update_query(("sslmode",))
            self._engine = sqlalchemy.create_engine(url, **settings)
            sqlalchemy.event.listen(self._engine, "connect", self._make_read_only)
            # A dropped connection is no news to print with its stack: it is taken up again, or reported in the end.
            logging.getLogger(f"sqlalchemy.pool.impl.{type(self._engine.pool).__name__}.doyen").setLevel(
                logging.CRITICAL
            )
        return self._engine

    def _open_sqlite(self) -> sqlite3.Connection:
        path = Path(self._url.database or "")
        connection = sqlite3.connect(f"file:{quote(str(path))}?mode=ro", uri=True, check_same_thread=False)
        connection.text_factory = lambda data: data.decode("utf-8", "replace")
        return connection

    def _make_read_only(self, connection: Any, _record: Any) -> None:
        cursor = connection.cursor()
        cursor.execute(READ_ONLY[self._url.get_backend_name()])
        cursor.close()
        connection.commit()  # PostgreSQL takes the setting back with the transaction

    def _fault(self, error: Exception) -> DocumentError:
        reason = _reason(error)
        if self._url.password:
            reason = reason.replace(str(self._url.password), "***")
        what = "the connection was lost" if self._reached and _is_passing(error) else "cannot be read"
        hint = (
            "check host, name, user and password" if not self._reached else "mend it, then run the same command again"
        )
        return DocumentError(f"{self.root}: {what} ({reason})", hint=hint)


def _parse(url: str) -> URL:
    try:
        import sqlalchemy
    except ImportError as error:
        raise DocumentError(
            "databases need packages that are not installed", hint="pip install 'doyen[databases]'"
        ) from error
    try:
        parsed = sqlalchemy.make_url(url)
    except (sqlalchemy.exc.ArgumentError, ValueError):
        scheme = url.partition("://")[0]
        raise UsageError(
            f"the {scheme} URL is malformed",
            hint="sqlite:///shop.db or postgresql://user:password@host/database (write %40 for an @ in a password)",
        ) from None
    backend = parsed.drivername.split("+")[0]
    driver = parsed.drivername if "+" in parsed.drivername else DRIVERS[backend]
    parsed = parsed.set(drivername=driver)
    if parsed.get_backend_name() == "sqlite":
        return _sqlite_file(parsed)
    if not parsed.database:
        raise UsageError(f"the {backend} URL names no database", hint=f"{backend}://user:password@host/database")
    user, password = (os.environ.get(variable) for variable in LOGINS[parsed.get_backend_name()])
    return parsed.set(
        username=parsed.username or user or getpass.getuser(),
        password=parsed.password if parsed.password is not None else password,
    )


def _sqlite_file(url: URL) -> URL:
    if not url.database or url.database == ":memory:":
        raise UsageError("the sqlite URL names no file", hint="sqlite:///shop.db, or sqlite:////srv/shop.db")
    path = Path(url.database).expanduser().resolve()
    if not path.is_file():
        raise DocumentError(f"there is no database file {path}", hint="sqlite:///relative.db, sqlite:////absolute.db")
    return url.set(database=str(path), query={})


def _identity(url: URL) -> tuple[str, str]:
    """Return the URI without credentials, driver and settings, and the database's name."""
    backend = url.get_backend_name()
    if backend == "sqlite":
        return f"sqlite:///{url.database}", Path(url.database or "").stem
    host = f"{url.host or 'localhost'}:{url.port}" if url.port else url.host or "localhost"
    return f"{backend}://{host}/{url.database}", str(url.database)


def _driver_settings(url: URL) -> dict[str, Any]:
    """Return what the driver needs to notice a dead server, and TLS where `sslmode` asks for it (as in libpq)."""
    if url.get_driver_name() == "pymysql":
        return {"connect_timeout": 15, "read_timeout": _SILENCE_S, "charset": "utf8mb4"}
    if url.get_driver_name() != "pg8000":
        return {}
    settings: dict[str, Any] = {"timeout": _SILENCE_S}
    mode = url.query.get("sslmode", "prefer")
    if mode in ("verify-ca", "verify-full"):
        import ssl

        settings["ssl_context"] = ssl.create_default_context()
    elif mode in ("require", "disable"):
        settings["ssl_context"] = mode == "require"
    return settings


def _is_passing(error: Exception) -> bool:
    """Return whether an error is one of the connection or the server's moment, not of the statement."""
    import sqlalchemy.exc

    if not isinstance(error, sqlalchemy.exc.DBAPIError):
        return True  # OSError: a socket that drivers did not wrap
    if error.connection_invalidated or isinstance(error, sqlalchemy.exc.InterfaceError):
        return True
    first = error.orig.args[0] if error.orig is not None and error.orig.args else ""
    if isinstance(first, dict):
        return str(first.get("C", "")).startswith(_PASSING_CODES)
    if isinstance(first, int):
        return first in _PASSING_ERRNOS
    text = str(first).lower()
    return isinstance(error, sqlalchemy.exc.OperationalError) and any(word in text for word in _PASSING_SQLITE)


def _reason(error: Exception) -> str:
    """Return the database's own message in one line, without statement and parameters."""
    original = getattr(error, "orig", None) or error
    first = original.args[0] if original.args else ""
    text = first.get("M", "") if isinstance(first, dict) else " ".join(str(arg) for arg in original.args)
    return " ".join(str(text).split())[:300] or type(original).__name__
