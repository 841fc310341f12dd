"""A stored table → its rows in an Arrow table with types, and where in the documents each row stands.

Tables of files are kept in memory, up to a number of cells in all; a database's rows are read anew for each question.
"""

from __future__ import annotations

import threading
import weakref
from collections import OrderedDict
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from doyen.documents.record import MAX_METADATA_CHARS
from doyen.documents.tables import MAX_ROWS
from doyen.index.filtering import Where
from doyen.index.store import Index
from doyen.tables.catalogue import StoredTable, allowed_ids, among
from doyen.tables.column_types import Kind, typed
from doyen.tables.rows import Cells, RowPlace, distinct_names, record_cells, table_cells

_MOST_CELLS_KEPT = 20_000_000
_MOST_VALUES = 5_000


@dataclass(frozen=True, slots=True)
class Column:
    """A column: its kind, the unit that stands at its numbers, how many cells are filled, and with how many values.

    `values` are texts, most frequent first, () where there are more than 5,000; `low` and `high` those of numbers and dates.
    """

    name: str
    kind: Kind
    unit: str = ""
    filled: int = 0
    distinct: int = 0
    values: tuple[str, ...] = ()
    low: Any = None
    high: Any = None
    sql: str = ""
    """What it is calculated by, where it is no column of the table itself."""

    @property
    def is_number(self) -> bool:
        """Whether it can be summed."""
        return self.kind in ("integer", "number")

    @property
    def is_key(self) -> bool:
        """Whether each filled cell has a value of its own, so that rows are told apart by it."""
        return self.filled > 1 and self.distinct == self.filled

    @property
    def is_moment(self) -> bool:
        """Whether it holds dates or times."""
        return self.kind in ("date", "timestamp")


class LoadedTable:
    """A table in memory: `data` is an Arrow table, `places[n]` where its row `n` (`rowid` in SQL) stands."""

    def __init__(self, table: StoredTable, cells: Cells) -> None:
        import pyarrow as pa

        columns = [typed(values) for values in cells.values]
        self.table = table
        self.places: list[RowPlace] = cells.places
        self.data = pa.table([c.array for c in columns], names=list(cells.columns))
        self._typed = dict(zip(cells.columns, columns, strict=True))

    @property
    def cells(self) -> int:
        """How many cells it has."""
        return int(self.data.num_rows) * len(self._typed)

    @cached_property
    def columns(self) -> tuple[Column, ...]:
        """What is known of each column."""
        return tuple(_profile(name, column.kind, column.unit, column.array) for name, column in self._typed.items())


def _profile(name: str, kind: Kind, unit: str, array: Any) -> Column:
    import pyarrow.compute as pc

    filled = len(array) - array.null_count
    if kind != "text":
        bounds = pc.min_max(array).as_py() if kind != "boolean" and filled else {"min": None, "max": None}
        distinct = int(pc.count_distinct(array).as_py())
        return Column(name, kind, unit, filled, distinct, (), bounds["min"], bounds["max"])
    counts = pc.value_counts(array.drop_null())
    if len(counts) > _MOST_VALUES:
        return Column(name, kind, unit, filled, len(counts))
    ordered = sorted(counts.to_pylist(), key=lambda pair: -pair["counts"])
    return Column(name, kind, unit, filled, len(counts), tuple(pair["values"] for pair in ordered))


_kept: weakref.WeakKeyDictionary[Any, OrderedDict[tuple[str, str, str], LoadedTable]] = weakref.WeakKeyDictionary()
_lock = threading.Lock()


def load(index: Index, table: StoredTable, *, where: Where | None = None) -> LoadedTable:
    """Return the rows of a table that `where` lets through."""
    if table.note is None:
        return LoadedTable(table, _database_cells(index, table, where))
    key = (table.document, table.sha256, table.sql_name)
    with _lock:
        kept = _kept.setdefault(index, OrderedDict())
        if key in kept:
            kept.move_to_end(key)
            return kept[key]
    text, _ = index.text(table.document)
    loaded = LoadedTable(table, table_cells(table.document, text, table.note))
    with _lock:
        kept[key] = loaded
        while len(kept) > 1 and sum(one.cells for one in kept.values()) > _MOST_CELLS_KEPT:
            kept.popitem(last=False)
    return loaded


def _database_cells(index: Index, table: StoredTable, where: Where | None) -> Cells:
    ids = allowed_ids(where)
    prefix = f"{table.document}/"
    names: dict[str, int] = {name: n for n, name in enumerate(table.columns)}
    rows: list[tuple[RowPlace, dict[str, str]]] = []
    for document, text in index.texts_below(prefix, among=among(where), most=MAX_ROWS):
        if ids is not None and document.id not in ids:
            continue
        row = {name: value for name, value in document.metadata if name != "part_of"}
        if any(len(value) >= MAX_METADATA_CHARS for value in row.values()):
            read = record_cells(text, tuple(row))
            row = {name: whole or clipped for (name, clipped), whole in zip(row.items(), read, strict=True)}
        for name in row:
            names.setdefault(name, len(names))
        key = document.id.removeprefix(prefix)
        rows.append((RowPlace(document.id, key, 0, len(text), document.sha256, document.version), row))
    rows.sort(key=lambda pair: pair[0].key)
    used = [name for name in names if any(name in row for _, row in rows) or name in table.columns]
    values = tuple([row.get(name) for _, row in rows] for name in used)
    return Cells(distinct_names(used), values, [place for place, _ in rows])
