"""The four LanceDB tables of a store and the marks beside them. Knows the rows' names, not what they mean.

`chunks` (passages, vectors, full text), `summaries` (with vectors), `documents` (current versions), `versions` (retired ones). `writing` says that a
write was begun and no `finish` followed, `erasing.json` which documents are to vanish from the files too.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

from doyen.config import write_atomic
from doyen.index.importing import load_lancedb
from doyen.index.rows import one_of, schema_of

TABLES = ("chunks", "summaries", "documents", "versions")
PARTS = ("chunks", "summaries")
"""Tables whose rows belong to a row of `documents`."""
_INDEX_CACHE_BYTES = 128 << 20
# Every write makes a state of the table that lists all its files: LanceDB's default of 1 GiB fills up with them.
_METADATA_CACHE_BYTES = 32 << 20
_MOST_VALUES = 500
"""Of one condition: LanceDB's parser slows down with the square of a list's length."""


@dataclass(frozen=True, slots=True)
class Tables:
    """Open tables of one store folder; `dim` is the length of its vectors."""

    folder: Path
    dim: int
    chunks: Any
    summaries: Any
    documents: Any
    versions: Any

    @classmethod
    def open(cls, folder: Path, dim: int) -> Tables:
        """Open the tables, making those that are missing. Reads always see the newest state, also of other processes."""
        lancedb = load_lancedb()
        session = lancedb.Session(_INDEX_CACHE_BYTES, _METADATA_CACHE_BYTES)
        database = lancedb.connect(str(folder), read_consistency_interval=timedelta(0), session=session)
        names = database.list_tables().tables
        found = [database.open_table(name) if name in names else _make(database, name, dim, names) for name in TABLES]
        return cls(folder, dim, *found)

    @property
    def unfinished(self) -> bool:
        """Whether a write was begun that no `finish` followed."""
        return (self.folder / "writing").exists()

    def begin(self) -> None:
        """Mark the store as being written to."""
        if not self.unfinished:
            write_atomic(self.folder / "writing", "")

    def end(self) -> None:
        """Take the marks away."""
        (self.folder / "erasing.json").unlink(missing_ok=True)
        (self.folder / "writing").unlink(missing_ok=True)

    @property
    def erasing(self) -> list[str]:
        """The documents whose erasure was begun and is not finished."""
        path = self.folder / "erasing.json"
        found: list[str] = json.loads(path.read_text(encoding="utf-8")) if path.exists() else []
        return found

    def begin_erasing(self, documents: Sequence[str]) -> None:
        """Note documents to be erased, so that a crash forgets none."""
        self.begin()
        write_atomic(self.folder / "erasing.json", json.dumps(sorted({*self.erasing, *documents})))


def _make(database: Any, name: str, dim: int, others: Sequence[str]) -> Any:
    """Make an empty table; in memory where the store is there already and cannot be written: an older one on a read-only disk."""
    lancedb = load_lancedb()
    try:
        return database.create_table(name, schema=schema_of(name, dim), exist_ok=True)
    except (OSError, RuntimeError):
        if "documents" not in others:
            raise
        return lancedb.connect("memory://").create_table(name, schema=schema_of(name, dim))


def rows_of(table: Any, columns: Sequence[str], condition: str | None = None) -> Iterator[Any]:
    """Yield the record batches of some columns, of the rows that meet a condition."""
    query = table.search()
    if condition is not None:
        query = query.where(condition)
    yield from query.select(list(columns)).limit(None).to_batches()


def rows_with(table: Any, columns: Sequence[str], column: str, values: Sequence[str]) -> Iterator[dict[str, Any]]:
    """Yield the rows whose `column` has one of `values`, as dictionaries."""
    for i in range(0, len(values), _MOST_VALUES):
        for batch in rows_of(table, columns, one_of(column, values[i : i + _MOST_VALUES])):
            yield from batch.to_pylist()


def delete_where(table: Any, column: str, values: Sequence[str], *, also: str = "") -> None:
    """Delete the rows whose `column` has one of `values`; `also` is a further condition."""
    for i in range(0, len(values), _MOST_VALUES):
        condition = one_of(column, values[i : i + _MOST_VALUES])
        table.delete(f"{condition} AND {also}" if also else condition)
