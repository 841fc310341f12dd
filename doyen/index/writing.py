"""Documents and chunks into the tables, in an order that a crash cannot break.

One write is: old rows copied to `versions`; new chunks and summaries added; the documents' rows replaced — the commit, by
which alone the new state counts —; old chunks and summaries deleted. Before the commit the old state is whole, after it the new one; `recover`
(maintenance.py) takes away what the interruption left over. Knows no model and no file format.
"""

from __future__ import annotations

import dataclasses
import secrets
import time
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from doyen.index.replacing import HEAD_COLUMNS, Batch
from doyen.index.rows import IndexEntry, chunk_table, document_row, one_of, quote, summary_table
from doyen.index.tables import PARTS, Tables, delete_where, rows_with
from doyen.records import Chunk
from doyen.sources.item import Item

_RETIRED_AT_ONCE = 50
_RELABELLED_AT_ONCE = 500


def write(
    tables: Tables,
    batch: Sequence[IndexEntry],
    vectors: NDArray[np.float32],
    keep: Sequence[str],
    summary_vectors: NDArray[np.float32] | None = None,
) -> None:
    """Replace the documents of the batch's items; see `LanceIndex.write`."""
    import pyarrow as pa

    of_summaries = np.empty((0, tables.dim), np.float32) if summary_vectors is None else summary_vectors
    new = Batch.of(batch, vectors, of_summaries)
    tables.begin()
    old = _heads(tables, new.items, list(new.by_id))
    there = new.against(old, keep)
    keep_versions(tables, [*there.gone, *there.changed])
    revision = secrets.randbits(62)
    versions = new.versions(old, lambda ids: rows_with(tables.versions, ("id", "version"), "id", ids))
    rows = [document_row(e, versions[e.document.id], revision) for e in batch]
    tables.home.require_hold()
    if len(vectors):
        chunks = [chunk for e in batch for chunk in _numbered(e, versions[e.document.id])]
        tables.chunks.add(chunk_table(chunks, revision, vectors, tables.chunks.schema))
    if len(of_summaries):
        table = summary_table(batch, versions, revision, of_summaries, tables.summaries.schema)
        tables.summaries.add(table)
    rows += _kept_rows(tables, there.kept, new)
    tables.home.require_hold()
    _commit(tables, pa.Table.from_pylist(rows, schema=tables.documents.schema), new.items, new=not old)
    _delete_parts(tables, [*there.replaced, *there.gone], also=f"revision != {revision}")


def _delete_parts(tables: Tables, documents: Sequence[str], *, also: str = "") -> None:
    """Delete chunks and summaries of documents; a table that has none is not written to."""
    for name in PARTS:
        table = getattr(tables, name)
        if name == "chunks" or table.count_rows():
            delete_where(table, "document", documents, also=also)


def _heads(tables: Tables, items: Sequence[str], ids: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Return the rows that the store has of these items and ids, without texts."""
    found = {row["id"]: row for row in rows_with(tables.documents, HEAD_COLUMNS, "item", items)}
    elsewhere = [i for i in ids if i not in found]
    return found | {row["id"]: row for row in rows_with(tables.documents, HEAD_COLUMNS, "id", elsewhere)}


def _numbered(entry: IndexEntry, version: int) -> list[Chunk]:
    return [c if c.version == version else dataclasses.replace(c, version=version) for c in entry.chunks]


def _kept_rows(tables: Tables, kept: Sequence[str], batch: Batch) -> list[dict[str, Any]]:
    """Return the rows of documents that stay, with their item's new hash and stamp."""
    marks = batch.marks()
    rows = list(rows_with(tables.documents, tables.documents.schema.names, "id", kept))
    for row in rows:
        row["item_sha256"], row["stamp"] = marks.get(row["item"], (row["item_sha256"], row["stamp"]))
    return rows


def _commit(tables: Tables, rows: Any, items: Sequence[str], *, new: bool) -> None:
    """Make the rows current, and drop those of the items that are not among them, in one commit."""
    if new:
        tables.documents.add(rows)
        return
    merge = tables.documents.merge_insert("id").when_matched_update_all().when_not_matched_insert_all()
    merge.when_not_matched_by_source_delete(one_of("item", items)).execute(rows)


def keep_versions(tables: Tables, documents: Sequence[str]) -> None:
    """Copy the current rows of documents to `versions`, once each."""
    import pyarrow as pa

    names = [name for name in tables.versions.schema.names if name != "retired_at"]
    for i in range(0, len(documents), _RETIRED_AT_ONCE):
        rows = list(rows_with(tables.documents, names, "id", documents[i : i + _RETIRED_AT_ONCE]))
        table = pa.Table.from_pylist([row | {"retired_at": time.time()} for row in rows], schema=tables.versions.schema)
        tables.versions.merge_insert(["id", "revision"]).when_not_matched_insert_all().execute(table)


def retire(tables: Tables, documents: Sequence[str]) -> None:
    """Take documents out of what is searched, keeping their texts in `versions`."""
    if not documents:
        return
    tables.begin()
    keep_versions(tables, documents)
    delete_where(tables.documents, "id", documents)
    _delete_parts(tables, documents)


def erase(tables: Tables, documents: Sequence[str]) -> None:
    """Delete documents and all their versions; `finish` then takes them out of the files as well."""
    if not documents:
        return
    tables.begin_erasing(documents)
    delete_where(tables.documents, "id", documents)
    delete_where(tables.versions, "id", documents)
    _delete_parts(tables, documents)


def touch(tables: Tables, items: Sequence[Item]) -> None:
    """Give the documents of unchanged items the root, source, stamp and time that the items have now."""
    import pyarrow as pa

    known = {item.id: item for item in items}
    rows = [
        {
            "id": row["id"],
            "root": item.root,
            "source": item.source,
            "stamp": item.stamp,
            "modified_at": item.modified_at,
        }
        for row in rows_with(tables.documents, ("id", "item"), "item", list(known))
        if (item := known[row["item"]])
    ]
    if rows:
        schema = pa.schema([tables.documents.schema.field(name) for name in rows[0]])
        merge = tables.documents.merge_insert("id").when_matched_update_all()
        merge.execute(pa.Table.from_pylist(rows, schema=schema))


def relabel(tables: Tables, items: Sequence[Item]) -> None:
    """Give the documents of items the items' labels; the documents' own rows last, so that a crash leaves them to be done again."""
    by_labels: dict[tuple[str, ...], list[str]] = {}
    known = {item.id: tuple(sorted(set(item.labels))) for item in items}
    for row in rows_with(tables.documents, ("id", "item"), "item", list(known)):
        by_labels.setdefault(known[row["item"]], []).append(row["id"])
    if not by_labels:
        return
    tables.begin()
    for labels, documents in by_labels.items():
        values = {"labels": f"make_array({', '.join(map(quote, labels))})"}
        for table, column in ((tables.summaries, "document"), (tables.chunks, "document"), (tables.documents, "id")):
            for i in range(0, len(documents), _RELABELLED_AT_ONCE):
                if table.count_rows():
                    table.update(where=one_of(column, documents[i : i + _RELABELLED_AT_ONCE]), values_sql=values)
