"""Where an index in PostgreSQL is: a schema of a database, and a local folder for what an ingest remembers of its sources."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from doyen.errors import StoreError
from doyen.index.postgresql.connecting import Database, database_of, execute, may_not_create
from doyen.index.postgresql.store import PostgresIndex
from doyen.index.postgresql.tables import drop, get_meta, require_vectors
from doyen.index.store import IndexManifest

STATE = "postgresql"
"""The expert's folder of what is kept beside the database: failed files, and how far a crawl has come."""
_PATIENCE_S = 3.0
"""For the server to notice that a process was killed, and to let go of its hold."""
_LOCK = "SELECT pg_try_advisory_lock(hashtext('doyen'), hashtext(:schema)) AS held"
_UNLOCK = "SELECT pg_advisory_unlock(hashtext('doyen'), hashtext(:schema))"


@dataclass(frozen=True)
class PostgresPlace:
    """The schema that a URI names, whether it is there or not."""

    uri: str
    expert: Path

    @property
    def database(self) -> Database:
        """The connections. Raises StoreError where the URI is wrong."""
        return database_of(self.uri)

    @property
    def name(self) -> str:
        """The URI without a user."""
        return self.database.name

    @property
    def state(self) -> Path:
        """The local folder of what an ingest remembers of its sources."""
        return self.expert / STATE

    def checked(self) -> str:
        """Return what the server is. Raises StoreError where it is not reached, lacks pgvector, or its user lacks rights."""
        database = self.database
        version = str(database.value("SHOW server_version")).split()[0]
        extension = require_vectors(database, make=False)
        if not self.exists() and not database.value("SELECT has_database_privilege(current_database(), 'CREATE')"):
            raise may_not_create(database)
        return f"PostgreSQL {version} with pgvector {extension} at {self.name}"

    def exists(self) -> bool:
        """Whether doyen made an index there. Raises StoreError if the database cannot be reached."""
        return get_meta(self.database, "manifest") is not None

    def stamp(self) -> float | None:
        """Return the number of the index's first table; None where there is none. Raises StoreError."""
        name = f'"{self.database.schema}".meta'
        found = self.database.value("SELECT CAST(to_regclass(:name) AS oid) AS number", name=name)
        return None if found is None else float(found)

    def recorded_fingerprint(self) -> str | None:
        """Return the embedder fingerprint of the index there, None where there is none."""
        try:
            found = json.loads(get_meta(self.database, "manifest") or "{}").get("fingerprint")
        except (ValueError, AttributeError):
            return None
        return found if isinstance(found, str) else None

    def open(self) -> PostgresIndex:
        """Open the index. Raises StoreError if there is none."""
        return PostgresIndex.open(self.database)

    def open_or_create(self, manifest: IndexManifest) -> PostgresIndex:
        """Open the index, or make it. Raises StoreError if it was made by another embedder or chunk size."""
        index = PostgresIndex.open_or_create(self.database, manifest)
        self.state.mkdir(parents=True, exist_ok=True)
        return index

    def clear(self) -> None:
        """Drop the tables, and what was remembered of the sources. Raises StoreError if another process writes them."""
        if self.exists():
            with self.only_writer(), self.database.transaction() as connection:
                drop(connection, self.database.schema)
        shutil.rmtree(self.state, ignore_errors=True)

    @contextmanager
    def only_writer(self) -> Iterator[None]:
        """Hold the schema against a second ingest, on whatever machine; the hold ends with the process.

        Raises:
            StoreError: another process is at work on it.
        """
        schema = self.database.schema
        with self.database.connection() as connection:
            until = time.monotonic() + _PATIENCE_S
            while not execute(connection, _LOCK, schema=schema)[0]["held"]:
                if time.monotonic() > until:
                    raise StoreError(f"another doyen is writing the index {self.name}", hint="wait until it is done")
                time.sleep(0.1)
            try:
                yield
            finally:
                execute(connection, _UNLOCK, schema=schema)
