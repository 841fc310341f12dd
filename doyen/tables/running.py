"""`query`: one read-only statement over an expert's tables, within limits → rows.

Enters: an expert or its index, a statement, parameters. Leaves: Rows. What may be asked is in guard.py; it runs in a
process of its own (sandbox.py). Knows no question and no model.
"""

from __future__ import annotations

import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from doyen.errors import TableError
from doyen.index.filtering import Where
from doyen.index.store import Index
from doyen.tables.catalogue import StoredTable, list_tables
from doyen.tables.limits import QueryLimits
from doyen.tables.loading import LoadedTable, load
from doyen.tables.sandbox import Sandbox

Parameters = Sequence[Any] | Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Rows:
    """What a statement gives: `truncated` where there were more rows than the limit; `tables` are those that it read."""

    sql: str
    columns: tuple[str, ...]
    rows: tuple[tuple[Any, ...], ...]
    truncated: bool = False
    tables: tuple[StoredTable, ...] = ()
    seconds: float = 0.0

    def as_dicts(self) -> list[dict[str, Any]]:
        """Return each row as column → value."""
        return [dict(zip(self.columns, row, strict=True)) for row in self.rows]


def query(
    expert: Path | str | Index,
    sql: str,
    parameters: Parameters = (),
    limits: QueryLimits | None = None,
    *,
    where: Where | None = None,
) -> Rows:
    """Run one SELECT over an expert's ingested tables and return its rows.

    `expert` is an expert's folder, or its open index; `where` holds it to documents that someone may see. Tables are
    called as `list_tables` names them; parameters are a list for `?`, a mapping for `$name`.

    Raises:
        TableError: the statement is refused (it does not only read, or names what is not there), fails, or passes its limits.
        ExpertError, StoreError: there is no expert, or nothing is indexed.
    """
    started = time.perf_counter()
    index = _index_of(expert) if isinstance(expert, str | Path) else expert
    named = named_tables(sql, list_tables(index, where=where))
    loaded = [load(index, table, where=where) for table in named]
    with Sandbox(arrow_of(loaded), limits) as sandbox:
        reply = sandbox.run(sql, parameters)
    used = tuple(table for table in named if table.sql_name in reply.tables)
    return Rows(sql, reply.columns, reply.rows, reply.truncated, used, time.perf_counter() - started)


def named_tables(sql: str, tables: Sequence[StoredTable]) -> list[StoredTable]:
    """Return the tables whose names stand in a statement. Raises TableError where none does."""
    words = set(re.findall(r"\w+", sql.lower()))
    named = [table for table in tables if table.sql_name in words]
    if not named:
        known = ", ".join(table.sql_name for table in tables[:10]) or "none"
        raise TableError(f"the statement names no ingested table; there are {known}", hint="doyen tables lists them")
    return named


def arrow_of(tables: Sequence[LoadedTable]) -> dict[str, Any]:
    """Return name in SQL → Arrow table."""
    return {loaded.table.sql_name: loaded.data for loaded in tables}


def _index_of(expert: Path | str) -> Index:
    from doyen.config import load_settings
    from doyen.ingesting import open_index

    folder = Path(expert)
    return open_index(folder, load_settings(folder))
