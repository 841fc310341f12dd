"""The tables of one expert's schema, and rows on their way into them.

`documents`, `versions`, `chunks` and `summaries` have the columns of LanceDB's tables (rows.py); the vectors of the last two
stand beside them, `postings` is the full-text index: of each term the chunks that hold it, and how often, in segments.
"""

from __future__ import annotations

import io
import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from doyen.index.postgresql.connecting import Database, execute, storable
from doyen.index.store import IndexManifest

if TYPE_CHECKING:
    from sqlalchemy import Connection

_DOCUMENT = """id text NOT NULL, root text, source text, item text, item_sha256 text, stamp text, title text,
 media_type text, sha256 text, version int, language text, labels text[], modified_at float8, metadata text, chunks int,
 characters bigint, page_starts bigint[], page_ends bigint[], text text"""
_OF_DOCUMENT = "sha256 text, version int, language text, labels text[], hash bigint"
DEFINITIONS = (
    "CREATE TABLE meta (key text PRIMARY KEY, value text NOT NULL)",
    f"CREATE TABLE documents ({_DOCUMENT}, sketch bytea)",
    f"CREATE TABLE versions ({_DOCUMENT}, retired_at float8)",
    f"""CREATE TABLE chunks (id int PRIMARY KEY, document text NOT NULL, start bigint, "end" bigint, text text, context text,
 pages int[], section text, record text, words int, {_OF_DOCUMENT}) WITH (toast_tuple_target = 256)""",
    "CREATE TABLE vectors (chunk int PRIMARY KEY, vector vector({dim}))",
    f"""CREATE TABLE summaries (id int PRIMARY KEY, document text NOT NULL, section text, start bigint, "end" bigint,
 text text, span_starts bigint[], span_ends bigint[], indexed text, {_OF_DOCUMENT})""",
    "CREATE TABLE summary_vectors (summary int PRIMARY KEY, vector vector({dim}))",
    'CREATE TABLE postings (term text COLLATE "C", segment int, chunks int[], counts int[], PRIMARY KEY (term, segment))',
    "CREATE TABLE segments (segment int PRIMARY KEY, postings bigint)",
    "CREATE TABLE totals (chunks bigint NOT NULL, words bigint NOT NULL, dead bigint NOT NULL)",
    "INSERT INTO totals VALUES (0, 0, 0)",
    "CREATE SEQUENCE rows AS int",
    # Hash indexes: an id may be a URL, longer than an entry of a B-tree can be.
    *(f"CREATE INDEX {t}_{c} ON {t} USING hash ({c})" for t in ("documents", "versions") for c in ("id", "item")),
    *(f"CREATE INDEX {t}_{c} ON {t} USING hash ({c})" for t in ("chunks", "summaries") for c in ("document", "hash")),
)
TABLES = (
    "documents",
    "versions",
    "chunks",
    "vectors",
    "summaries",
    "summary_vectors",
    "postings",
    "segments",
    "totals",
    "meta",
)
_COPY_HEAD = b"PGCOPY\n\xff\r\n\0" + bytes(8)
_COPY_END = b"\xff\xff"


def create(database: Database, manifest: IndexManifest, value: str) -> None:
    """Make the schema and its tables; `value` is the manifest as it is kept. Raises StoreError."""
    require_vectors(database, make=True)
    with database.transaction() as connection:
        if not execute(connection, "SELECT 1 FROM pg_namespace WHERE nspname = :name", name=database.schema):
            execute(connection, f'CREATE SCHEMA "{database.schema}"')
        for definition in DEFINITIONS:
            execute(connection, definition.replace("{dim}", str(manifest.dim)))
        set_meta(connection, "manifest", value)


def drop(connection: Connection, schema: str) -> None:
    """Drop the tables, and nothing else that is in the schema; the schema stays, and who may use it."""
    names = ", ".join(f'"{schema}".{table}' for table in TABLES)
    execute(connection, f"DROP TABLE IF EXISTS {names}")
    execute(connection, f'DROP SEQUENCE IF EXISTS "{schema}".rows')


def require_vectors(database: Database, *, make: bool = False) -> str:
    """Return the version of the extension pgvector in the database; with `make`, create it. Raises StoreError."""
    from doyen.errors import StoreError

    find = "SELECT extversion FROM pg_extension WHERE extname = 'vector'"
    found = database.value(find)
    if found is None and make and database.value("SELECT 1 FROM pg_available_extensions WHERE name = 'vector'"):
        try:
            with database.transaction() as connection:
                execute(connection, "CREATE EXTENSION IF NOT EXISTS vector SCHEMA public")
        except StoreError as error:
            hint = f"as an administrator: psql {database.database} -c 'CREATE EXTENSION vector'"
            raise StoreError(f"{error}; the extension 'vector' is not in the database", hint=hint) from None
        database.close()  # open connections do not know yet where its operators are
        found = database.value(find)
    if found is None:
        raise StoreError(
            f"{database.name}: the database has no extension 'vector' (pgvector)",
            hint="install pgvector on the server (Debian: apt install postgresql-16-pgvector), then as an administrator: "
            f"psql {database.database} -c 'CREATE EXTENSION vector'",
        )
    return str(found)


def get_meta(database: Database, key: str) -> str | None:
    """Return a value kept beside the tables, None where there is none, or no store. Raises StoreError."""
    if not database.value("SELECT to_regclass(:name) IS NOT NULL", name=f'"{database.schema}".meta'):
        return None
    found = database.value("SELECT value FROM meta WHERE key = :key", key=key)
    return None if found is None else str(found)


def set_meta(connection: Connection, key: str, value: str | None) -> None:
    """Keep a value beside the tables, or (None) drop it."""
    if value is None:
        execute(connection, "DELETE FROM meta WHERE key = :key", key=key)
        return
    sql = "INSERT INTO meta VALUES (:key, :value) ON CONFLICT (key) DO UPDATE SET value = excluded.value"
    execute(connection, sql, key=key, value=value)


def insert(connection: Connection, table: str, rows: Sequence[Mapping[str, Any]]) -> None:
    """Add rows of column → value; further keys are ignored."""
    if not rows:
        return
    given = json.dumps(rows, ensure_ascii=False, default=lambda value: f"\\x{value.hex()}")
    if "\\u0000" in given:
        given = json.dumps(
            [{k: storable(v) for k, v in row.items()} for row in rows],
            ensure_ascii=False,
            default=lambda value: f"\\x{value.hex()}",
        )
    sql = f"INSERT INTO {table} SELECT * FROM json_populate_recordset(NULL::{table}, CAST(:rows AS json))"
    execute(connection, sql, rows=given)


def insert_vectors(connection: Connection, table: str, rows: Sequence[int], vectors: NDArray[np.float32]) -> None:
    """Add vectors `(n, dim)` by the number of their row, rounded to float16 as LanceDB keeps them."""
    if not len(rows):
        return
    dim = vectors.shape[1]
    # COPY's binary format: fields, then for each its length and bytes; a vector is dim, 0 and its numbers (pgvector).
    form = [("fields", ">i2"), ("a", ">i4"), ("row", ">i4"), ("b", ">i4"), ("dim", ">i2"), ("zero", ">i2")]
    records = np.zeros(len(rows), dtype=np.dtype([*form, ("vector", ">f4", (dim,))]))
    records["fields"], records["a"], records["row"], records["b"], records["dim"] = 2, 4, rows, 4 * dim + 4, dim
    records["vector"] = vectors.astype(np.float16)
    data = io.BytesIO(_COPY_HEAD + records.tobytes() + _COPY_END)
    _copy(connection, f"COPY {table} FROM STDIN (FORMAT binary)", data)


def insert_lines(connection: Connection, table: str, lines: Sequence[str]) -> None:
    """Add rows in COPY's text format."""
    if lines:
        _copy(connection, f"COPY {table} FROM STDIN", io.BytesIO("".join(lines).encode()))


def _copy(connection: Connection, sql: str, data: io.BytesIO) -> None:
    cursor = connection.connection.cursor()
    cursor.execute(sql, stream=data)  # type: ignore[call-arg]  # pg8000's own
    cursor.close()


def vectors_from(column: Sequence[bytes], dim: int) -> NDArray[np.float32]:
    """Return vectors `(n, dim)` from what `vector_send` gives."""
    flat = np.frombuffer(b"".join(column), dtype=np.uint8).reshape(len(column), 4 * dim + 4)
    return np.ascontiguousarray(flat[:, 4:]).view(">f4").astype(np.float32)
