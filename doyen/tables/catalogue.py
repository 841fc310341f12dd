"""An index → the tables that its documents hold, as one who asks may see them.

A table of a file (CSV, Excel, Parquet) is one document or a part of one; a database's table is all documents below the page
that describes it, as they were ingested. Reads no rows; knows no SQL but the names that tables have in it.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from doyen.documents.tables import TABLE, TableNote
from doyen.index.filtering import DocumentSet, Visible, Where
from doyen.index.rows import IndexedDocument
from doyen.index.store import Index

_DATABASE_PAGE = re.compile(r"^Table .* has ([\d,]+) rows and \d+ columns?: (.*)\.$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class StoredTable:
    """One table: `name` as its file or database has it, `sql_name` as statements call it.

    `note` says where its rows stand in the document's text; None for a database's table, whose rows are the documents
    below `document/`.
    """

    document: str
    name: str
    sql_name: str
    columns: tuple[str, ...]
    rows: int
    sha256: str
    version: int
    title: str = ""
    note: TableNote | None = None

    def as_dict(self) -> dict[str, Any]:
        """Return the table as `doyen tables --json` lists it."""
        row: dict[str, Any] = {"table": self.sql_name, "name": self.name, "document": self.document}
        return row | {"rows": self.rows, "columns": list(self.columns)}


def list_tables(index: Index, *, where: Where | None = None) -> list[StoredTable]:
    """Return the tables of the documents that `where` lets through (a SQL condition lets none), in order of documents."""
    taken: dict[str, int] = {}
    found: list[StoredTable] = []
    for document in _seen(index.with_tables(among=among(where)), where):
        notes = [n for name, value in document.metadata if name == TABLE and (n := TableNote.parse(value))]
        found += [_of_note(document, note, _sql_name(note.name, taken)) for note in notes]
        if not notes and (table := _of_page(index, document, taken)) is not None:
            found.append(table)
    return found


def among(where: Where | None) -> Visible | None:
    """Return what of `where` the store tests itself: labels."""
    return where if isinstance(where, Visible) else None


def allowed_ids(where: Where | None) -> frozenset[str] | None:
    """Return the documents that `where` names, None for any."""
    if isinstance(where, str):
        return frozenset()
    documents = where.documents if isinstance(where, Visible) else where
    return documents.ids if isinstance(documents, DocumentSet) else None


def _seen(documents: Iterable[IndexedDocument], where: Where | None) -> list[IndexedDocument]:
    ids = allowed_ids(where)
    return [d for d in documents if ids is None or d.id in ids]


def _of_note(document: IndexedDocument, note: TableNote, sql_name: str) -> StoredTable:
    return StoredTable(
        document.id,
        note.name,
        sql_name,
        note.columns,
        note.rows,
        document.sha256,
        document.version,
        document.title,
        note,
    )


def _of_page(index: Index, document: IndexedDocument, taken: dict[str, int]) -> StoredTable | None:
    """Return the table that a database's page describes; None for a page of another kind."""
    page = _DATABASE_PAGE.search(index.text(document.id)[0])
    if page is None:
        return None
    name = document.id.rpartition("/")[2]
    columns = tuple(part.strip() for part in page[2].split(", "))
    rows = int(page[1].replace(",", ""))
    sql_name = _sql_name(name, taken)
    return StoredTable(document.id, name, sql_name, columns, rows, document.sha256, document.version, document.title)


def _sql_name(name: str, taken: dict[str, int]) -> str:
    """Return a name of letters, digits and `_`; a second one of the same name gets a number."""
    plain = unicodedata.normalize("NFC", name).lower()
    base = re.sub(r"[^\w]+", "_", plain).strip("_")[:60] or "table"
    base = f"t_{base}" if base[0].isdigit() else base
    number = taken[base] = taken.get(base, 0) + 1
    return base if number == 1 else _sql_name(f"{base}_{number}", taken)
