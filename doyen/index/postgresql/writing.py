"""Documents and chunks into the tables, each change in one transaction: a process that is killed leaves what was there.

Knows no model and no file format; how versions are numbered and what is retired is the same as in LanceDB (writing.py there).
"""

from __future__ import annotations

import json
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from doyen.index.postgresql.connecting import Database, execute, storable
from doyen.index.postgresql.tables import insert, insert_lines, insert_vectors, set_meta
from doyen.index.postgresql.terms import counted
from doyen.index.replacing import HEAD_COLUMNS, Batch
from doyen.index.rows import (
    CHUNK_COLUMNS,
    IndexEntry,
    chunk_hash,
    document_row,
    searched_text,
    summary_row,
)
from doyen.sources.item import Item

if TYPE_CHECKING:
    from sqlalchemy import Connection

_COPIED = (
    "id, root, source, item, item_sha256, stamp, title, media_type, sha256, version, language, labels, modified_at, "
    "metadata, chunks, characters, page_starts, page_ends, text"
)
_AMONG = "IN (SELECT unnest(CAST(:ids AS text[])))"
_RETIRED = f"SELECT id, max(version) AS version FROM versions WHERE id {_AMONG} GROUP BY id"


def write(
    database: Database,
    batch: Sequence[IndexEntry],
    vectors: NDArray[np.float32],
    keep: Sequence[str],
    summary_vectors: NDArray[np.float32],
) -> None:
    """Replace the documents of the batch's items; see `LanceIndex.write`."""
    new = Batch.of(batch, vectors, summary_vectors)
    with database.transaction() as connection:
        set_meta(connection, "writing", "")
        old = _heads(connection, new.items, list(new.by_id))
        there = new.against(old, keep)
        _keep_versions(connection, [*there.gone, *there.changed])
        versions = new.versions(old, lambda ids: execute(connection, _RETIRED, ids=ids))
        _delete(connection, [*there.replaced, *there.gone])
        insert(connection, "documents", [document_row(e, versions[e.document.id], 0) for e in batch])
        _insert_chunks(connection, batch, versions, vectors)
        _insert_summaries(connection, batch, versions, summary_vectors)
        _mark_kept(connection, there.kept, new)


def _heads(connection: Connection, items: Sequence[str], ids: Sequence[str]) -> dict[str, Mapping[str, Any]]:
    """Return what there is of these items and ids."""
    find = f"SELECT {', '.join(HEAD_COLUMNS)} FROM documents WHERE {{}} {_AMONG}"
    found = {row["id"]: row for row in execute(connection, find.format("item"), ids=items)}
    elsewhere = [i for i in ids if i not in found]
    return found | {row["id"]: row for row in execute(connection, find.format("id"), ids=elsewhere)}


def _keep_versions(connection: Connection, documents: Sequence[str]) -> None:
    copy = f"INSERT INTO versions ({_COPIED}, retired_at) SELECT {_COPIED}, :now FROM documents WHERE id {_AMONG}"
    execute(connection, copy, ids=list(documents), now=time.time())


def _delete(connection: Connection, documents: Sequence[str]) -> list[int]:
    """Delete documents with their chunks and summaries; return the numbers of the chunks."""
    if not documents:
        return []
    ids = list(documents)
    execute(connection, f"DELETE FROM documents WHERE id {_AMONG}", ids=ids)
    delete = f"""WITH gone AS (DELETE FROM summaries WHERE document {_AMONG} RETURNING id)
 DELETE FROM summary_vectors WHERE summary IN (SELECT id FROM gone)"""
    execute(connection, delete, ids=ids)
    gone = execute(connection, f"DELETE FROM chunks WHERE document {_AMONG} RETURNING id, words", ids=ids)
    rows = [int(row["id"]) for row in gone]
    execute(connection, "DELETE FROM vectors WHERE chunk = ANY(CAST(:rows AS int[]))", rows=rows)
    less = "UPDATE totals SET chunks = chunks - :count, words = words - :words, dead = dead + :count"
    execute(connection, less, count=len(rows), words=sum(int(row["words"]) for row in gone))
    return rows


def _insert_chunks(
    connection: Connection, batch: Sequence[IndexEntry], versions: Mapping[str, int], vectors: NDArray[np.float32]
) -> None:
    chunks = [(e, c) for e in batch for c in e.chunks]
    if not chunks:
        return
    numbers = _numbers(connection, len(chunks))
    terms = [counted(searched_text(chunk)) for _, chunk in chunks]
    rows = [
        {
            **{name: getattr(chunk, name) for name in CHUNK_COLUMNS},
            "id": number,
            "version": versions[entry.document.id],
            "hash": chunk_hash(storable(chunk.indexed)),
            "words": own.total(),
        }
        for number, (entry, chunk), own in zip(numbers, chunks, terms, strict=True)
    ]
    insert(connection, "chunks", rows)
    insert_vectors(connection, "vectors", numbers, vectors)
    postings: dict[str, list[tuple[int, int]]] = defaultdict(list)
    for number, own in zip(numbers, terms, strict=True):
        for term, times in own.items():
            postings[term].append((number, times))
    segment = numbers[0]
    lines = [_posting_line(term, segment, places) for term, places in postings.items()]
    insert_lines(connection, "postings", lines)
    size = sum(map(len, postings.values()))
    execute(connection, "INSERT INTO segments VALUES (:segment, :size)", segment=segment, size=size)
    more = "UPDATE totals SET chunks = chunks + :count, words = words + :words"
    execute(connection, more, count=len(numbers), words=sum(own.total() for own in terms))


def _posting_line(term: str, segment: int, places: Sequence[tuple[int, int]]) -> str:
    chunks, counts = (",".join(map(str, column)) for column in zip(*places, strict=True))
    return f"{storable(term)}\t{segment}\t{{{chunks}}}\t{{{counts}}}\n"  # a term has neither backslash nor tab


def _numbers(connection: Connection, count: int) -> list[int]:
    """Return numbers for rows that were never given before, ascending."""
    found = execute(connection, "SELECT nextval('rows') AS number FROM generate_series(1, :count)", count=count)
    return sorted(int(row["number"]) for row in found)


def _insert_summaries(
    connection: Connection, batch: Sequence[IndexEntry], versions: Mapping[str, int], vectors: NDArray[np.float32]
) -> None:
    summaries = [(e.document, s) for e in batch for s in e.summaries]
    if not summaries:
        return
    numbers = _numbers(connection, len(summaries))
    rows = [
        {
            **summary_row(document, summary, versions[document.id]),
            "id": number,
            "hash": chunk_hash(storable(summary.indexed)),
        }
        for number, (document, summary) in zip(numbers, summaries, strict=True)
    ]
    insert(connection, "summaries", rows)
    insert_vectors(connection, "summary_vectors", numbers, vectors)


def _mark_kept(connection: Connection, kept: Sequence[str], batch: Batch) -> None:
    """Give documents that stay their item's new hash and stamp."""
    for item, (sha256, stamp) in batch.marks().items() if kept else ():
        update = f"UPDATE documents SET item_sha256 = :sha256, stamp = :stamp WHERE item = :item AND id {_AMONG}"
        execute(connection, update, item=item, sha256=sha256, stamp=stamp, ids=list(kept))


def retire(database: Database, documents: Sequence[str]) -> None:
    """Take documents out of what is searched, keeping their texts in `versions`."""
    if not documents:
        return
    with database.transaction() as connection:
        set_meta(connection, "writing", "")
        _keep_versions(connection, documents)
        _delete(connection, documents)


def erase(database: Database, documents: Sequence[str], begun: Sequence[str]) -> None:
    """Delete documents, all their versions and their part of the full-text index; `begun` are others not finished yet."""
    if not documents:
        return
    with database.transaction() as connection:
        set_meta(connection, "writing", "")
        set_meta(connection, "erasing", json.dumps(sorted({*begun, *documents}), ensure_ascii=False))
        execute(connection, f"DELETE FROM versions WHERE id {_AMONG}", ids=list(documents))
        _delete(connection, documents)


def touch(database: Database, items: Sequence[Item]) -> None:
    """Give the documents of unchanged items the root, source, stamp and time that the items have now."""
    names = ("id", "root", "source", "stamp", "modified_at")
    rows = [{name: storable(getattr(item, name)) for name in names} for item in items]
    with database.transaction() as connection:
        update = """UPDATE documents d SET root = i.root, source = i.source, stamp = i.stamp, modified_at = i.modified_at
 FROM json_to_recordset(CAST(:rows AS json)) AS i(id text, root text, source text, stamp text, modified_at float8)
 WHERE d.item = i.id"""
        execute(connection, update, rows=json.dumps(rows, ensure_ascii=False))


def relabel(database: Database, items: Sequence[Item]) -> None:
    """Give the documents of items, with their chunks and summaries, the items' labels, in one transaction."""
    labels = [{"id": storable(item.id), "labels": sorted(set(storable(item.labels)))} for item in items]
    rows = json.dumps(labels, ensure_ascii=False)
    given = "json_to_recordset(CAST(:rows AS json)) AS i(id text, labels text[])"
    with database.transaction() as connection:
        for table in ("chunks", "summaries"):
            update = f"UPDATE {table} t SET labels = i.labels FROM documents d JOIN {given} ON d.item = i.id"
            execute(connection, f"{update} WHERE t.document = d.id", rows=rows)
        update = f"UPDATE documents d SET labels = i.labels FROM {given} WHERE d.item = i.id"
        execute(connection, update, rows=rows)
