"""A store's URI → pooled connections to one schema of a PostgreSQL database, and its errors with what mends them.

Knows no tables. The password comes from PGPASSWORD or the password file, never from the URI, so that no settings, manifest
or message can hold it. SQLAlchemy keeps the pool, pg8000 speaks the protocol: both are in `doyen[databases]` already.
"""

from __future__ import annotations

import getpass
import logging
import os
import re
import threading
import weakref
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from doyen.errors import StoreError

if TYPE_CHECKING:
    from sqlalchemy import Connection
    from sqlalchemy.engine import URL

_FORM = "postgresql://user@host/database?schema=NAME"
_SCHEMA = re.compile(r"[a-z_][a-z0-9_]{0,62}")
_KNOWN = frozenset({"schema", "sslmode", "host"})
_SILENCE_S = 600
_POOL, _OVERFLOW = 4, 12  # of the 100 connections that a server allows by default; who finds none waits
_FIND_VECTOR = """SELECT set_config('search_path', '"{schema}",' || coalesce((SELECT quote_ident(n.nspname)
 FROM pg_extension e JOIN pg_namespace n ON n.oid = e.extnamespace WHERE e.extname = 'vector'), 'public'), false)"""


class Database:
    """Connections to the schema of one expert. `name` is its URI without a user."""

    def __init__(self, uri: str) -> None:
        url = parse(uri)
        self.schema = str(url.query["schema"])
        self.user = url.username or os.environ.get("PGUSER") or getpass.getuser()
        self.host = str(url.query.get("host") or url.host or "localhost")
        self.port = url.port or 5432
        self.database = str(url.database)
        where = url.host or "" if "host" in url.query else self.host
        self.name = f"postgresql://{where}{f':{url.port}' if url.port else ''}/{self.database}?schema={self.schema}"
        self._engine = self._made(url)
        weakref.finalize(self, self._engine.dispose)

    def _made(self, url: URL) -> Any:
        import sqlalchemy

        password = os.environ.get("PGPASSWORD") or password_of(self.host, self.port, self.database, self.user)
        settings: dict[str, Any] = {"timeout": _SILENCE_S, "application_name": "doyen"}
        if self.host.startswith("/"):
            settings["unix_sock"] = f"{self.host}/.s.PGSQL.{self.port}"
        else:
            settings |= _encryption(str(url.query.get("sslmode", "prefer")))
        target = sqlalchemy.URL.create(
            "postgresql+pg8000",
            self.user,
            password,
            None if self.host.startswith("/") else self.host,
            self.port,
            self.database,
        )
        engine = sqlalchemy.create_engine(
            target,
            connect_args=settings,
            pool_pre_ping=True,
            pool_size=_POOL,
            max_overflow=_OVERFLOW,
            pool_logging_name="doyen",
            hide_parameters=True,
        )
        # A dropped connection is no news to print with its stack: another is opened, or it is reported in the end.
        logging.getLogger(f"sqlalchemy.pool.impl.{type(engine.pool).__name__}.doyen").setLevel(logging.CRITICAL)
        sqlalchemy.event.listen(engine, "connect", self._in_schema)
        return engine

    def _in_schema(self, connection: Any, _record: Any) -> None:
        """Let names mean the tables of this schema, wherever the extension's operators are."""
        cursor = connection.cursor()
        cursor.execute(_FIND_VECTOR.format(schema=self.schema))
        cursor.close()
        connection.commit()

    def close(self) -> None:
        """Close the connections that nobody uses; new ones are opened when they are needed."""
        self._engine.dispose()

    @contextmanager
    def transaction(self) -> Iterator[Connection]:
        """Give a connection whose changes all count when the block ends, or none. Raises StoreError."""
        with self._told(), self._engine.begin() as connection:
            yield connection

    @contextmanager
    def connection(self) -> Iterator[Connection]:
        """Give a connection on which each statement counts at once. Raises StoreError."""
        with self._told(), self._engine.connect() as connection:
            connection.connection.rollback()  # the pool's test of the connection began a transaction
            yield connection.execution_options(isolation_level="AUTOCOMMIT")

    def rows(self, sql: str, **values: Any) -> list[Mapping[str, Any]]:
        """Return the rows of a statement; `:name` stands for a value. Raises StoreError."""
        import sqlalchemy

        with self.connection() as connection:
            return list(map(dict, connection.execute(sqlalchemy.text(sql), _sent(values)).mappings()))

    def value(self, sql: str, **values: Any) -> Any:
        """Return the first value of the first row, None without rows. Raises StoreError."""
        return next((next(iter(row.values())) for row in self.rows(sql, **values)), None)

    @contextmanager
    def _told(self) -> Iterator[None]:
        import pg8000.exceptions
        import sqlalchemy.exc

        try:
            yield
        except (sqlalchemy.exc.SQLAlchemyError, pg8000.exceptions.Error, OSError) as error:
            raise self.fault(error) from None  # the cause may quote what was sent

    def fault(self, error: Exception) -> StoreError:
        """Return a database's error with what mends it."""
        code, said = _said(getattr(error, "orig", None) or error)
        where, user = self.name, self.user
        login = "set PGPASSWORD, or put the password into ~/.pgpass (host:port:database:user:password)"
        if code in ("28P01", "28000") or "password" in said.lower():
            return StoreError(f"{where}: the server refuses user '{user}' ({said})", hint=login)
        if code == "3D000":
            return StoreError(f"{where}: {said}", hint=f"createdb -h {self.host} -p {self.port} {self.database}")
        if code == "42501":
            return may_not_create(self, said)
        if code == "53100":
            return StoreError(f"{where}: the server's disk is full ({said})", hint="free disk space there, and go on")
        if not code:
            hint = f"see whether the server runs: pg_isready -h {self.host} -p {self.port}"
            return StoreError(f"{where}: the server cannot be reached ({said or type(error).__name__})", hint=hint)
        return StoreError(f"{where}: {said} ({code})", hint="doyen doctor checks the database")


def _said(error: BaseException) -> tuple[str, str]:
    """Return the SQLSTATE and message of the server, ("", the driver's own) where the server said nothing.

    Where a server refuses and hangs up, the driver's failing goodbye hides what it said.
    """
    link: BaseException | None = error
    while link is not None:
        if link.args and isinstance(link.args[0], dict):
            return str(link.args[0].get("C", "")), " ".join(str(link.args[0].get("M", "")).split())[:300]
        link = link.__cause__ or link.__context__
    return "", " ".join(str(error).split())[:300]


def may_not_create(database: Database, said: str = "permission denied for database") -> StoreError:
    """Return the error for a user without rights."""
    grant = f'GRANT CREATE ON DATABASE "{database.database}" TO "{database.user}"'
    return StoreError(
        f"{database.name}: user '{database.user}' may not do this ({said})",
        hint=f"as an administrator: psql {database.database} -c '{grant}'",
    )


def parse(uri: str) -> URL:
    """Return the parts of a store's URI.

    Raises:
        StoreError: it is malformed, names no database or schema, holds a password, or packages are missing.
    """
    try:
        import pg8000  # noqa: F401
        import sqlalchemy
    except ImportError as error:
        raise StoreError(
            "an index in PostgreSQL needs packages that are not installed", hint="pip install 'doyen[databases]'"
        ) from error
    try:
        url = sqlalchemy.make_url(uri)
    except (sqlalchemy.exc.ArgumentError, ValueError):
        raise StoreError("[store] uri is no PostgreSQL URI", hint=_FORM) from None
    if url.password is not None:
        raise StoreError(
            "[store] uri holds a password, and settings are copied into manifests",
            hint=f"write {_FORM} and give the password in PGPASSWORD or ~/.pgpass",
        )
    unknown = sorted(set(url.query) - _KNOWN)
    if not url.database or unknown:
        what = f"has {unknown[0]}=, which is not known" if unknown else "names no database"
        raise StoreError(f"[store] uri {what}", hint=f"{_FORM}; also sslmode=, host=/folder/of/the/socket")
    if not _SCHEMA.fullmatch(str(url.query.get("schema", ""))):
        raise StoreError(
            "[store] uri names no schema (small letters, digits and _) for this expert's tables",
            hint=f'uri = "{_FORM}": another NAME for each expert in the database',
        )
    return url


def with_schema(uri: str, name: str) -> str:
    """Return a store's URI that names a schema; a new one, made from `name`, where it does not."""
    import secrets

    if re.search(r"[?&]schema=", uri):
        return uri
    plain = re.sub(r"[^a-z0-9]+", "_", name.lower()).strip("_")[:40] or "expert"
    return f"{uri}{'&' if '?' in uri else '?'}schema=doyen_{plain}_{secrets.token_hex(3)}"


def password_of(host: str, port: int, database: str, user: str) -> str | None:
    r"""Return the password that the password file of PostgreSQL's own tools has (`host:port:database:user:password`).

    `*` stands for anything, `\:` for a colon; the socket's folder counts as localhost. A file that others may read is
    left alone, as those tools do.
    """
    path = Path(os.environ.get("PGPASSFILE") or Path.home() / ".pgpass")
    try:
        if os.name == "posix" and path.stat().st_mode & 0o077:
            return None
        lines = path.read_text(encoding="utf-8").splitlines()
    except OSError:
        return None
    wanted = ("localhost" if host.startswith("/") else host, str(port), database, user)
    for line in lines:
        fields = [re.sub(r"\\(.)", r"\1", field) for field in re.split(r"(?<!\\):", line, maxsplit=4)]
        if len(fields) == 5 and all(a in ("*", b) for a, b in zip(fields[:4], wanted, strict=True)):
            return fields[4]
    return None


def _encryption(mode: str) -> dict[str, Any]:
    """Return what the driver needs for an `sslmode` of libpq."""
    if mode in ("verify-ca", "verify-full"):
        import ssl

        return {"ssl_context": ssl.create_default_context()}
    if mode in ("require", "disable"):
        return {"ssl_context": mode == "require"}
    if mode in ("allow", "prefer"):
        return {}
    raise StoreError(f"[store] uri: sslmode={mode} is not known", hint="disable, prefer, require, verify-full")


_OPEN: dict[tuple[str, int, str | None], Database] = {}
_LOCK = threading.Lock()


def database_of(uri: str) -> Database:
    """Return the connections to a store's schema, the same ones each time within a process. Raises StoreError."""
    key = (uri, os.getpid(), os.environ.get("PGPASSWORD"))  # a forked process must not share its parent's sockets
    with _LOCK:
        if key not in _OPEN:
            _OPEN[key] = Database(uri)
        return _OPEN[key]


def close_databases() -> None:
    """Close all connections that this process keeps and nobody uses."""
    with _LOCK:
        for database in _OPEN.values():
            database.close()
        _OPEN.clear()


def execute(connection: Connection, sql: str, **values: Any) -> Sequence[Mapping[str, Any]]:
    """Run a statement within a transaction; return its rows, none where it gives none."""
    import sqlalchemy

    result = connection.execute(sqlalchemy.text(sql), _sent(values))
    return list(map(dict, result.mappings())) if result.returns_rows else []


def storable(value: Any) -> Any:
    """Return a text, or the texts of a list, as PostgreSQL can hold them: without character 0, which U+FFFD takes the place of."""
    if isinstance(value, list | tuple):
        return [storable(one) for one in value]
    return value.replace("\0", "\ufffd") if isinstance(value, str) else value


def _sent(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return values as the server takes them. The texts of a list are put into quotes: the driver lets `null` be no text."""
    return {name: _quoted(v) if isinstance(v, list) else storable(v) for name, v in values.items()}


def _quoted(values: list[Any]) -> Any:
    if not any(isinstance(value, str) for value in values):
        return values
    escaped = (storable(value).replace("\\", "\\\\").replace('"', '\\"') for value in values)
    return "{" + ",".join(f'"{value}"' for value in escaped) + "}"
