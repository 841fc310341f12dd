"""After writes: full-text index, compaction, the end of old versions, erasure; after a crash: recovery.

Knows what holds between the tables (writing.py), nothing of the documents' content.
"""

from __future__ import annotations

import re
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Any

import numpy as np
from numpy.typing import NDArray

from doyen.index.generations import State
from doyen.index.tables import TABLES, Tables, delete_where, rows_of
from doyen.index.vector_matrix import FRAGMENT_ROWS
from doyen.index.vector_writing import write_snapshot
from doyen.index.writing import erase, retire

_KEEP_ALL = timedelta(days=36500)
_CLOCKS_APART = timedelta(minutes=10)
"""By so much may the clocks of writers on several machines differ."""
_KEEP_NO_STATE = timedelta(milliseconds=1)
_FEW_FRAGMENTS = 8
"""Up to here, a table is left as it is: compacting one changed document would copy all the others."""
_FEW_ROWS = 64
"""So many chunks are searched beside the full-text index: 7 ms a question, against a second of compacting at each change."""
_SLICE_CHARACTERS = 16 << 20
_CHUNK_CHARACTERS = 4000  # with its vector, and its text twice
_DAY_S = 86400.0
_FTS_MEMORY_MIB = 64


def recover(tables: Tables) -> int:
    """Undo what an interrupted write left over; return how many documents it touched.

    Chunks and summaries whose revision is not their document's go, and retired copies of what is still current; an erasure that was
    begun is done again. A document that lacks chunks is retired, so that the next ingest reads it anew. Takes 24 bytes
    of memory a document.
    """
    if not tables.unfinished:
        return 0
    erase(tables, tables.erasing)
    keys, stated = _current(tables)
    stored, stale = _sort_out(tables.chunks, keys)
    _, stale_summaries = _sort_out(tables.summaries, keys)
    copies: dict[int, set[str]] = defaultdict(set)
    _each(tables.versions, "id", keys, lambda _, held, batch: _note(copies, batch, np.flatnonzero(held), "id"))
    _delete_revisions(tables.versions, "id", copies)
    lacking = _ids_of(tables, keys[stored != stated])
    retire(tables, lacking)
    return len({*lacking, *(i for found in (stale, stale_summaries, copies) for ids in found.values() for i in ids)})


def _sort_out(table: Any, keys: NDArray[np.int64]) -> tuple[NDArray[np.int64], dict[int, set[str]]]:
    """Delete the rows of a table of parts that are of no current document.

    Returns the number of rows that each of the `keys` has, and revision → documents of what is deleted.
    """
    stored = np.zeros(len(keys), dtype=np.int64)
    stale: dict[int, set[str]] = defaultdict(set)

    def take(places: NDArray[np.intp], held: NDArray[np.bool_], batch: Any) -> None:
        np.add.at(stored, places[held], 1)
        _note(stale, batch, np.flatnonzero(~held), "document")

    _each(table, "document", keys, take)
    _delete_revisions(table, "document", stale)
    return stored, stale


def _current(tables: Tables) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return a sorted 64-bit key of each document's id and revision, and the number of chunks that it should have."""
    keys, chunks = [np.empty(0, np.int64)], [np.empty(0, np.int64)]
    for batch in rows_of(tables.documents, ("id", "revision", "chunks")):
        keys.append(_keys(batch, "id"))
        chunks.append(batch["chunks"].to_numpy().astype(np.int64))
    order = np.argsort(found := np.concatenate(keys))
    return found[order], np.concatenate(chunks)[order]


def _keys(batch: Any, column: str) -> NDArray[np.int64]:
    pairs = zip(batch[column].to_pylist(), batch["revision"].to_pylist(), strict=True)
    return np.fromiter((hash(pair) for pair in pairs), dtype=np.int64, count=batch.num_rows)


def _each(
    table: Any,
    column: str,
    keys: NDArray[np.int64],
    take: Callable[[NDArray[np.intp], NDArray[np.bool_], Any], None],
) -> None:
    """Call `take(places in keys, whether there, batch)` for the rows of a table, batch by batch."""
    for batch in rows_of(table, (column, "revision")):
        own = _keys(batch, column)
        places = np.searchsorted(keys, own).clip(max=max(len(keys) - 1, 0))
        held = keys[places] == own if len(keys) else np.zeros(len(own), dtype=np.bool_)
        take(places, held, batch)


def _note(found: dict[int, set[str]], batch: Any, rows: NDArray[np.intp], column: str) -> None:
    for row in batch.take(rows).to_pylist():
        found[row["revision"]].add(row[column])


def _delete_revisions(table: Any, column: str, found: dict[int, set[str]]) -> None:
    for revision, ids in found.items():
        delete_where(table, column, sorted(ids), also=f"revision = {revision}")


def _ids_of(tables: Tables, keys: NDArray[np.int64]) -> list[str]:
    if not len(keys):
        return []
    wanted = set(keys.tolist())
    batches = rows_of(tables.documents, ("id", "revision"))
    return sorted(
        row["id"] for batch in batches for row in batch.to_pylist() if hash((row["id"], row["revision"])) in wanted
    )


def finish(
    tables: Tables,
    *,
    whole: bool,
    keep_versions_days: float,
    now: float,
    publish: Callable[[], State | None] | None = None,
) -> None:
    """Bring the full-text index up to date, compact, drop what is too old; see `LanceIndex.finish`.

    `publish` makes the state that was reached the one that readers see, and returns the oldest one that they may still
    answer from; what is older goes after that.
    """
    tables.home.require_hold()
    too_old = f"retired_at <= {now - keep_versions_days * _DAY_S!r}"
    if tables.versions.count_rows(too_old):
        tables.versions.delete(too_old)
    erasing = bool(tables.erasing)
    compacted: Sequence[str] = TABLES if erasing else ()
    if erasing:
        _erase_from_files(tables)
    else:
        compacted = [name for name in TABLES if _wants_compacting(tables, name)]
        for name in compacted:
            _compact(tables, name)
        if not tables.chunks.list_indices():  # after compacting, which would have to renumber its rows
            _index_text(tables)
    write_snapshot(tables.folder, tables.chunks, tables.dim, anew=erasing)
    if whole:
        oldest = publish() if publish is not None else None
        if tables.home.publishes and compacted:
            _drop_states(tables, compacted, oldest, erasing=erasing)
            if publish is not None and erasing:
                write_snapshot(
                    tables.folder, tables.chunks, tables.dim
                )  # of the state that dropping the others has made
                publish()
        tables.end()


def _wants_compacting(tables: Tables, name: str) -> bool:
    return _fragments(tables, name) > _FEW_FRAGMENTS or (name == "chunks" and _beside_the_index(tables))


def _drop_states(tables: Tables, names: Sequence[str], oldest: State | None, *, erasing: bool) -> None:
    """Drop states of tables from before the oldest one that a reader may still answer from; all old ones where rows are erased.

    Not before the newest one is published.
    """
    for name in names:
        table = getattr(tables, name)
        if erasing:
            table.optimize(cleanup_older_than=_KEEP_NO_STATE, delete_unverified=True)
        elif table.count_rows() and oldest is not None:
            made = [row["timestamp"] for row in table.list_versions() if row["version"] == oldest.versions[name]]
            if made:  # else it went already, and nothing older is left
                age = timedelta(seconds=time.time() - made[0].timestamp())
                table.optimize(cleanup_older_than=max(age, timedelta(0)) + _CLOCKS_APART)


def _beside_the_index(tables: Tables) -> bool:
    """Whether more chunks than a few are not in the full-text index: compacting takes them into it."""
    indexed = [tables.chunks.index_stats(index.name) for index in tables.chunks.list_indices()]
    return not indexed or any(stats.num_unindexed_rows > _FEW_ROWS for stats in indexed)


def _fragments(tables: Tables, name: str) -> int:
    return int(getattr(tables, name).stats()["fragment_stats"]["num_fragments"])


def _compact(tables: Tables, name: str, *, erasing: bool = False) -> None:
    """Merge small files, take new rows into the full-text index, drop old states of the table."""
    table = getattr(tables, name)
    if erasing or table.count_rows():
        if tables.home.publishes:
            table.optimize(cleanup_older_than=_KEEP_ALL)
        else:
            keep = _KEEP_NO_STATE if erasing else tables.home.keep
            table.optimize(cleanup_older_than=keep, delete_unverified=erasing)


def _index_text(tables: Tables) -> None:
    from lancedb.index import FTS

    if tables.chunks.count_rows():
        config = FTS(
            base_tokenizer="icu/split",
            language="English",
            stem=True,
            remove_stop_words=False,
            ascii_folding=True,
            memory_limit=_FTS_MEMORY_MIB,
            num_workers=1,
        )
        tables.chunks.create_index("searched", config=config)


def _erase_from_files(tables: Tables) -> None:
    """Leave no file that holds a deleted row: thinned fragments are copied, the full-text index is built anew."""
    for index in list(tables.chunks.list_indices()):
        tables.chunks.drop_index(index.name)
    for name in TABLES:
        _rewrite_thinned_fragments(tables, name)
        _compact(tables, name, erasing=True)
    _index_text(tables)


def _rewrite_thinned_fragments(tables: Tables, name: str) -> None:
    """Copy the live rows of every fragment that has deleted ones: compaction leaves it as it is below a tenth of them.

    In slices, since an update holds all rows that it copies in memory, several times over.
    """
    table = getattr(tables, name)
    for fragment in _thinned_fragments(tables, name):
        start = fragment * FRAGMENT_ROWS
        for first, last in _slices(table, f"_rowaddr >= {start} AND _rowaddr < {start + FRAGMENT_ROWS}"):
            within = f"_rowaddr >= {first} AND _rowaddr <= {last}"
            table.update(where=within, values_sql={"revision": "revision"})


def _slices(table: Any, condition: str) -> list[tuple[int, int]]:
    """Return the first and last row address of slices of about _SLICE_CHARACTERS, of the rows that meet a condition."""
    wide = "characters" in table.schema.names
    query = table.search().where(condition).select(["characters"] if wide else ["start"]).with_row_id(True).limit(None)
    rows = query.to_arrow()  # as long as row ids are not made stable, they are addresses
    if not rows.num_rows:
        return []
    addresses = rows["_rowid"].to_numpy()
    sizes = rows["characters"].to_numpy() if wide else np.full(len(addresses), _CHUNK_CHARACTERS)
    order = np.argsort(addresses)
    addresses, numbers = addresses[order], np.cumsum(sizes[order]) // _SLICE_CHARACTERS
    cuts = np.flatnonzero(np.diff(numbers)) + 1
    return [(int(part[0]), int(part[-1])) for part in np.split(addresses, cuts)]


def _thinned_fragments(tables: Tables, name: str) -> Sequence[int]:
    """Return the numbers of the fragments with deleted rows: their deletion files begin with them (Lance's format)."""
    files = tables.home.names(f"{name}.lance/_deletions")
    found = {int(match[1]) for file in files if (match := re.match(r"(\d+)-", file))}
    return sorted(found)
