"""The four LanceDB tables of a store and the marks beside them. Knows the rows' names, not what they mean.

`chunks` (passages, vectors, full text), `summaries` (with vectors), `documents` (current versions), `versions` (retired ones). `writing` says that a
write was begun and no `finish` followed, `erasing.json` which documents are to vanish from the files too.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from doyen.errors import StoreError
from doyen.index.generations import FolderHome, Home, State
from doyen.index.importing import load_lancedb
from doyen.index.rows import one_of, schema_of

TABLES = ("chunks", "summaries", "documents", "versions")
PARTS = ("chunks", "summaries")
"""Tables whose rows belong to a row of `documents`."""
# At most, where an index has so much: the lists of words of two million passages are 240 MB, and are read anew for each
# question where they do not fit (LOG.md, 30 November: a fifth of a search's 95th percentile).
_INDEX_CACHE_BYTES = 512 << 20
# Every write makes a state of the table that lists all its files: LanceDB's default of 1 GiB fills up with them.
_METADATA_CACHE_BYTES = 32 << 20
# Of Lance's files. In 2.2 a page of one value is unpacked whole for each row that is read: 4 to 5 ms a column at two million
# rows (LOG.md, 30 November, format 2.1). Tables that are there keep theirs.
_FILE_FORMAT = {"new_table_data_storage_version": "2.1"}
_MOST_VALUES = 500
"""Of one condition: LanceDB's parser slows down with the square of a list's length."""


@dataclass(frozen=True, slots=True)
class Tables:
    """Open tables of one generation; `dim` is the length of its vectors. Of a finished `state`, or of the newest one."""

    home: Home
    dim: int
    chunks: Any
    summaries: Any
    documents: Any
    versions: Any
    state: State | None = None

    @classmethod
    def open(cls, home: Home | Path, dim: int, state: State | None = None) -> Tables:
        """Open the tables as they were in a state; without one as they are, making those that are missing."""
        home = FolderHome(home) if isinstance(home, Path) else home
        lancedb = load_lancedb()
        session = lancedb.Session(_INDEX_CACHE_BYTES, _METADATA_CACHE_BYTES)
        database = home.connect(session) if state is None else home.connect_state(session)
        if state is not None:
            found = [database.open_table(name) for name in TABLES]
            for name, table in zip(TABLES, found, strict=True):
                table.checkout(state.versions[name])
            return cls(home, dim, found[0], found[1], found[2], found[3], state)
        names = database.list_tables().tables
        found = [database.open_table(name) if name in names else _make(database, name, dim, names) for name in TABLES]
        return cls(home, dim, *found)

    @property
    def folder(self) -> Path:
        """The local folder in which the snapshot of the vectors lies."""
        return self.home.folder

    def shown(self, snapshot: str | None) -> State:
        """Return the state that the tables have now."""
        return State({name: int(getattr(self, name).version) for name in TABLES}, snapshot)

    def snapshot(self) -> str | None:
        """Return the snapshot that shows the state, once it is in the folder; None where there is none."""
        if self.state is None or self.state.snapshot is None:
            return None
        self.home.fetch_snapshot(self.state.snapshot)
        return self.state.snapshot

    @property
    def unfinished(self) -> bool:
        """Whether a write was begun that no `finish` followed; never of a finished state."""
        return self.state is None and self.home.read("writing") is not None

    def begin(self) -> None:
        """Mark the store as being written to. Raises StoreError where another process has taken the hold on it."""
        self.home.require_hold()
        if not self.unfinished:
            self.home.write("writing", b"")

    def end(self) -> None:
        """Take the marks away."""
        self.home.remove("erasing.json")
        self.home.remove("writing")

    @property
    def erasing(self) -> list[str]:
        """The documents whose erasure was begun and is not finished."""
        data = self.home.read("erasing.json")
        found: list[str] = json.loads(data) if data is not None else []
        return found

    def begin_erasing(self, documents: Sequence[str]) -> None:
        """Note documents to be erased, so that a crash forgets none."""
        self.begin()
        self.home.write("erasing.json", json.dumps(sorted({*self.erasing, *documents})).encode())


def _make(database: Any, name: str, dim: int, others: Sequence[str]) -> Any:
    """Make an empty table; in memory where the store is there already and cannot be written: an older one on a read-only disk."""
    lancedb = load_lancedb()
    try:
        return database.create_table(name, schema=schema_of(name, dim), exist_ok=True, storage_options=_FILE_FORMAT)
    except (OSError, RuntimeError):
        if "documents" not in others:
            raise
        return lancedb.connect("memory://").create_table(
            name, schema=schema_of(name, dim), storage_options=_FILE_FORMAT
        )


def rows_of(table: Any, columns: Sequence[str], condition: str | None = None, most: int | None = None) -> Iterator[Any]:
    """Yield the record batches of some columns, of the rows (at most `most`) that meet a condition."""
    query = table.search()
    if condition is not None:
        query = query.where(condition)
    try:
        yield from query.select(list(columns)).limit(most).to_batches()
    except (OSError, RuntimeError) as error:
        raise storage_fault(error) or error from None


def storage_fault(error: BaseException, name: str = "the index") -> StoreError | None:
    """Return what an error of Lance says of a bucket: credentials, connection; None for all else."""
    if "s3" not in str(error).lower():
        return None
    from doyen.index.s3.connecting import fault

    return fault(error, name)


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


def delete_rows(table: Any, rows: Any) -> None:
    """Delete rows by their ids `(n,)`."""
    for i in range(0, len(rows), _MOST_VALUES):
        table.delete(f"_rowid IN ({', '.join(map(str, rows[i : i + _MOST_VALUES].tolist()))})")
