"""After writes: the end of old versions, segments of the full-text index merged, an HNSW index, statistics, erased rows vacuumed.

Nothing is to be recovered after a crash: each change was one transaction (writing.py).
"""

from __future__ import annotations

import dataclasses
import json
from typing import TYPE_CHECKING

import numpy as np

from doyen.index.postgresql.connecting import Database, execute
from doyen.index.postgresql.searching import LEAST_EF, as_text
from doyen.index.postgresql.tables import TABLES, set_meta, vectors_from
from doyen.index.vector_matrix import Recall

if TYPE_CHECKING:
    from sqlalchemy import Connection

EXACT_ROWS = 50_000
"""Up to here every vector is scored; beyond, the HNSW index finds the nearest."""
_MOST_DIMENSIONS = 2000  # of a vector that pgvector can index
_MOST_SEGMENTS = 8
_MOST_DEAD = 0.2
_QUERIES = 50
_DAY_S = 86400.0
_INDEX = "vectors_nearest"
_MERGE = """INSERT INTO postings (term, segment, chunks, counts)
 SELECT p.term, :merged, array_agg(u.chunk ORDER BY u.chunk), array_agg(u.times ORDER BY u.chunk)
 FROM postings p CROSS JOIN LATERAL unnest(p.chunks, p.counts) AS u(chunk, times) JOIN chunks c ON c.id = u.chunk
 WHERE p.segment = ANY(CAST(:segments AS int[])) GROUP BY p.term"""
_SIZE = "SELECT coalesce(sum(cardinality(chunks)), 0) AS size FROM postings WHERE segment = :merged"


def finish(database: Database, *, dim: int, erasing: bool, whole: bool, keep_versions_days: float, now: float) -> None:
    """Bring what speeds up searches up to date, drop what is too old; see `LanceIndex.finish`."""
    there = is_approximate(database)
    with database.transaction() as connection:
        execute(connection, "DELETE FROM versions WHERE retired_at <= :old", old=now - keep_versions_days * _DAY_S)
        _merge_segments(connection, all_of_them=erasing)
        rows = int(execute(connection, "SELECT chunks FROM totals")[0]["chunks"])
        made = not there and _index_vectors(connection, rows, dim)
    with database.connection() as connection:
        for table in TABLES:
            execute(connection, f"{'VACUUM (ANALYZE)' if erasing else 'ANALYZE'} {table}")
    if made:
        measured = measured_recall(database, rows, dim)
        with database.transaction() as connection:
            set_meta(connection, "recall", json.dumps(dataclasses.asdict(measured)))
    if whole:
        with database.transaction() as connection:
            set_meta(connection, "writing", None)
            set_meta(connection, "erasing", None)


def _merge_segments(connection: Connection, *, all_of_them: bool) -> None:
    """Merge small segments once there are many, all where many of their chunks are gone, or documents are erased."""
    found = {row["segment"]: row["postings"] for row in execute(connection, "SELECT segment, postings FROM segments")}
    totals = execute(connection, "SELECT chunks, dead FROM totals")[0]
    thinned = totals["dead"] and totals["dead"] > _MOST_DEAD * (totals["chunks"] + totals["dead"])
    if thinned or (all_of_them and totals["dead"]):
        merged = sorted(found)
        execute(connection, "UPDATE totals SET dead = 0")
    elif len(found) > _MOST_SEGMENTS:
        merged = sorted(segment for segment, size in found.items() if size < sum(found.values()) / 4)
    else:
        return
    if not merged:
        return
    number = int(execute(connection, "SELECT nextval('rows') AS number")[0]["number"])
    execute(connection, _MERGE, merged=number, segments=merged)
    for table in ("postings", "segments"):
        execute(connection, f"DELETE FROM {table} WHERE segment = ANY(CAST(:segments AS int[]))", segments=merged)
    size = execute(connection, _SIZE, merged=number)[0]["size"]
    execute(connection, "INSERT INTO segments VALUES (:merged, :size)", merged=number, size=size)


def is_approximate(database: Database) -> bool:
    """Whether there is an HNSW index."""
    return bool(database.value("SELECT to_regclass(:name) IS NOT NULL", name=f'"{database.schema}".{_INDEX}'))


def _index_vectors(connection: Connection, rows: int, dim: int) -> bool:
    """Make the HNSW index where there are many vectors; return whether there are."""
    if rows <= EXACT_ROWS or dim > _MOST_DIMENSIONS:
        return False
    execute(connection, "SET LOCAL maintenance_work_mem = '1GB'")
    execute(
        connection,
        f"CREATE INDEX {_INDEX} ON vectors USING hnsw (vector vector_ip_ops) WITH (m = 16, ef_construction = 100)",
    )
    return True


def measured_recall(database: Database, rows: int, dim: int) -> Recall:
    """Measure which of the 10 nearest the index finds, for stored vectors moved to a cosine of about 0.7 from themselves."""
    sample = database.rows("SELECT vector_send(vector) AS vector FROM vectors ORDER BY random() LIMIT :n", n=_QUERIES)
    own = vectors_from([row["vector"] for row in sample], dim)
    noise = np.random.default_rng(7).standard_normal(own.shape).astype(np.float32)
    own += noise / np.linalg.norm(noise, axis=1, keepdims=True)
    own /= np.linalg.norm(own, axis=1, keepdims=True)
    order = "SELECT chunk FROM vectors ORDER BY (vector <#> CAST(:query AS vector))"
    found = 0
    for query in own:
        with database.transaction() as connection:
            execute(connection, f"SET LOCAL hnsw.ef_search = {LEAST_EF}")
            near = execute(connection, f"{order} LIMIT 10", query=as_text(query))
            exact = execute(connection, f"{order} + 0 LIMIT 10", query=as_text(query))
        found += len({row["chunk"] for row in near} & {row["chunk"] for row in exact})
    return Recall(round(found / (10 * max(len(own), 1)), 4), LEAST_EF, len(own), rows)
