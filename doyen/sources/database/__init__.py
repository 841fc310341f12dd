"""A database → an item for each row and one for each table's schema. Knows no format beyond its own records.

Rows are listed by key in pages; a page's contents are fetched when the first of its rows is read, so that unchanged
rows cost no more than their key. Keys are the rows' primary key or the columns that the user names.
"""

from __future__ import annotations

import datetime
import hashlib
import threading
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any

from doyen.errors import DocumentError, UsageError
from doyen.sources.database.connecting import Database
from doyen.sources.database.relations import Key, Relation, find_relations
from doyen.sources.database.rows import key_text, plain, record_bytes
from doyen.sources.database.schema import schema_page
from doyen.sources.item import Item, printable
from doyen.sources.options import SourceOptions

ROW_NAME = "row.record"
SCHEMA_NAME = "schema.md"


class DatabaseSource:
    """The rows of a database's tables, or of one query: `DBNAME/table/key`, and `DBNAME/table` for the schema."""

    def __init__(
        self,
        url: str,
        *,
        suffixes: frozenset[str] = frozenset(),
        prefix: str = "",
        options: SourceOptions,
        database: Database | None = None,
    ) -> None:
        self.database = database or Database(url)
        self.root = self.database.root
        self.spec = self.database.spec
        self.complete = False
        self.skipped: list[str] = []
        self.warnings: list[str] = []
        self._prefix = prefix
        self._options = options

    def items(self) -> Iterator[Item]:
        """Yield, table by table in the order of their names, the schema and the rows in the order of their keys.

        Raises:
            DocumentError: no connection, no table; or, later, a connection that is lost for good.
            UsageError: an option names a table or column that does not exist.
        """
        self.complete = False
        relations, views = find_relations(self.database, self._options)
        self.skipped = [f"{self.root}/{view} (a view)" for view in views]
        self.warnings = []
        try:
            for relation in relations:
                if relation.key:
                    self._refuse_bad_keys(relation)
            for relation in relations:
                yield self._item(relation, "", SCHEMA_NAME, partial(schema_page, self.database, relation))
                yield from self._keyed(relation) if relation.key else self._keyless(relation)
        finally:
            self.database.close()  # an item that is read later connects again
        self.complete = True

    def covers(self, source: str) -> bool:
        """Return whether a URI is of this database and, where the options name tables or a query, of these."""
        if self._options.query:
            return _is_below(source, self._uri("query"))  # the next query under this name takes its place
        tables = self._options.tables
        if not tables:
            return source.startswith(self.root + "/") and not source.startswith(f"{self.root}/query:")
        return any(_is_below(source, self._uri(table)) for table in tables)

    def _keyed(self, relation: Relation) -> Iterator[Item]:
        options, width = self._options, len(relation.key)
        extra = [c for c in (options.updated_at, options.labels_column) if c in relation.columns]
        listed = list(dict.fromkeys((*relation.key, *extra)))
        shape = hashlib.sha256("\0".join(relation.columns).encode()).hexdigest()[:8]
        last: Key | None = None
        while True:
            rows = self.database.rows(relation.page(listed, last).limit(options.batch_rows))
            if not rows:
                return
            page = _Page(self.database, relation, last, tuple(rows[-1][:width]))
            for row in rows:
                key = tuple(row[:width])
                values = dict(zip(listed, row, strict=True))
                updated = values.get(options.updated_at)
                yield self._item(
                    relation,
                    key_text(key),
                    ROW_NAME,
                    partial(page.read, key),
                    stamp="" if updated is None else " ".join((shape, str(plain(updated)), *_labels(values, options))),
                    modified_at=_seconds(updated),
                    labels=_labels(values, options),
                )
            last = tuple(rows[-1][:width])

    def _keyless(self, relation: Relation) -> Iterator[Item]:
        """Yield the rows named by their hash, equal ones once; after a drop the rows are gone through again."""
        self.warnings.append(
            f"{relation.label} has no primary key: its rows are named by their content, a changed row is a new one"
            " (--key COLUMN names the column that identifies a row)"
        )
        seen: set[bytes] = set()
        for row in self.database.stream(relation.select(relation.columns)):
            values = dict(zip(relation.columns, row, strict=True))
            digest = hashlib.sha256(record_bytes(relation.label, "", values)).digest()[:8]
            if digest in seen:
                continue
            seen.add(digest)
            key = digest.hex()
            data = record_bytes(relation.label, key, values)
            labels = _labels(values, self._options)
            yield self._item(relation, key, ROW_NAME, partial(bytes, data), stamp=key, labels=labels)

    def _refuse_bad_keys(self, relation: Relation) -> None:
        import sqlalchemy as sa

        columns = [relation.source.c[name] for name in relation.key]
        missing = sa.select(sa.func.count()).select_from(relation.source).where(sa.or_(*(c.is_(None) for c in columns)))
        without = self.database.rows(missing)[0][0]
        if without:
            self.warnings.append(
                f"{relation.label}: {without} rows have no value in {', '.join(relation.key)}: not read"
            )
        if not relation.key_is_given:
            return
        twice = sa.select(*columns).group_by(*columns).having(sa.func.count() > 1).limit(1)
        for row in self.database.rows(twice.where(*(c.is_not(None) for c in columns))):
            raise UsageError(
                f"{relation.label}: more than one row has {', '.join(relation.key)} = {key_text(row)}",
                hint="give --key once for each column of the key",
            )

    def _item(self, relation: Relation, key: str, name: str, read: Callable[[], bytes], **more: Any) -> Item:
        path = f"{relation.label}/{key}" if key else relation.label
        return Item(
            id=printable(f"{self._prefix}{self.database.name}/{path}"),
            source=self._uri(path),
            root=self.root,
            name=name,
            read=read,
            **more,
        )

    def _uri(self, path: str) -> str:
        if self._options.query:  # queries under two names are two sources
            path = f"query:{self._prefix}".rstrip("/") + path.removeprefix("query")
        return printable(f"{self.root}/{path}")


class _Page:
    """Rows that were listed together: all fetched when the first is read, each given away once."""

    def __init__(self, database: Database, relation: Relation, after: Key | None, upto: Key) -> None:
        self._database = database
        self._relation = relation
        self._bounds = (after, upto)
        self._rows: dict[Key, bytes] | None = None
        self._turn = threading.Lock()

    def read(self, key: Key) -> bytes:
        """Return a row's record; DocumentError where it was deleted since it was listed."""
        with self._turn:
            if self._rows is None:
                self._rows = self._fetch(*self._bounds)
            data = self._rows.pop(key, None)
        if data is None:
            data = self._fetch(None, key, only=key).get(key)
        if data is None:
            raise DocumentError(f"the row {key_text(key)} of {self._relation.label} was deleted meanwhile")
        return data

    def _fetch(self, after: Key | None, upto: Key, only: Key | None = None) -> dict[Key, bytes]:
        relation = self._relation
        statement = relation.page(relation.columns, after, upto)
        if only is not None:
            statement = relation.select(relation.columns).where(*relation.equals(only))
        places = [relation.columns.index(name) for name in relation.key]
        found = {}
        for row in self._database.rows(statement):
            key = tuple(row[place] for place in places)
            found[key] = record_bytes(relation.label, key_text(key), dict(zip(relation.columns, row, strict=True)))
        return found


def _labels(values: Mapping[str, Any], options: SourceOptions) -> tuple[str, ...]:
    value = values.get(options.labels_column)
    parts = value if isinstance(value, list) else str("" if value is None else value).split(",")
    return tuple(str(part).strip() for part in parts if str(part).strip())


def _seconds(updated: Any) -> float:
    try:
        moment = updated if isinstance(updated, datetime.date) else datetime.datetime.fromisoformat(str(updated))
    except ValueError:
        return 0.0
    if not isinstance(moment, datetime.datetime):
        moment = datetime.datetime(moment.year, moment.month, moment.day)
    return (moment if moment.tzinfo else moment.replace(tzinfo=datetime.UTC)).timestamp()


def _is_below(source: str, uri: str) -> bool:
    return source == uri or source.startswith(uri + "/")
