"""The store of one expert in a schema of a PostgreSQL database: the same methods as LanceIndex, with the same results.

This class is the front of writing.py, searching.py and maintenance.py; it knows no files, no models and no fusion. What a
method returns and raises stands in lance.py.
"""

from __future__ import annotations

import json
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
from numpy.typing import NDArray

from doyen.errors import StoreError
from doyen.index.duplicates import BINS, DuplicateGroup, duplicate_groups
from doyen.index.filtering import (
    FILTER_COLUMNS,
    DocumentSet,
    Filters,
    Visible,
    Where,
    documents_that_meet,
    parse_filters,
)
from doyen.index.postgresql import maintenance, searching, writing
from doyen.index.postgresql.connecting import Database, storable
from doyen.index.postgresql.tables import create, get_meta, vectors_from
from doyen.index.rows import (
    CHUNK_COLUMNS,
    DATABASE_SCHEMES,
    DOCUMENT_COLUMNS,
    SUMMARY_COLUMNS,
    TABLE_MARK,
    VERSION_COLUMNS,
    FoundRow,
    IndexedDocument,
    IndexedItem,
    IndexEntry,
    StoredVersion,
    chunk_from,
    chunk_hash,
    document_from,
    items_from,
    may_hold_table,
    missing_document,
    pages_from,
    summary_from,
    version_from,
)
from doyen.index.store import IndexManifest, VectorQuery
from doyen.index.vector_matrix import Recall
from doyen.records import Chunk, Page, Summary, indexed_text
from doyen.sources.item import Item

_AMONG = "IN (SELECT unnest(CAST(:ids AS text[])))"
_STORED_TEXTS = """SELECT c.context, c.text, vector_send(v.vector) AS vector FROM chunks c JOIN vectors v ON v.chunk = c.id
 WHERE c.hash = ANY(CAST(:hashes AS bigint[])) UNION ALL
 SELECT '', s.indexed, vector_send(v.vector) FROM summaries s JOIN summary_vectors v ON v.summary = s.id
 WHERE s.hash = ANY(CAST(:hashes AS bigint[]))"""
_MOST_HASHES = 1000


def _columns(names: Sequence[str], table: str = "") -> str:
    return ", ".join(f'{table}"{name}"' for name in names)


class PostgresIndex:
    """An open schema with the tables of one expert."""

    def __init__(self, database: Database, manifest: IndexManifest) -> None:
        self.database = database
        self.manifest = manifest
        self._approximate = maintenance.is_approximate(database)

    @classmethod
    def open(cls, database: Database) -> PostgresIndex:
        """Open an existing index. Raises StoreError if there is none."""
        found = get_meta(database, "manifest")
        if found is None:
            raise StoreError(f"there is no index in {database.name}", hint="doyen ingest FOLDER")
        broken = f"{database.name}: the manifest in the table meta is broken"
        return cls(database, IndexManifest.read(found, database.name, broken))

    @classmethod
    def open_or_create(cls, database: Database, manifest: IndexManifest) -> PostgresIndex:
        """Open the index, or make it. Raises StoreError if it was made by another embedder or chunk size."""
        if get_meta(database, "manifest") is None:
            create(database, manifest, json.dumps(asdict(manifest)))
            return cls(database, manifest)
        index = cls.open(database)
        index.manifest.require(manifest)
        return index

    # ---- documents and versions

    def iter_documents(self, *, among: Visible | None = None) -> Iterator[IndexedDocument]:
        """Yield all documents, or those that someone may see, without their texts, in no order."""
        yield from map(document_from, self._documents(DOCUMENT_COLUMNS, among))

    def documents(self, *, among: Visible | None = None) -> list[IndexedDocument]:
        """Return all documents, or those that someone may see, sorted by id, without their texts."""
        return sorted(self.iter_documents(among=among), key=lambda d: d.id)

    def _documents(
        self, names: Sequence[str], among: Visible | None, also: str = "true", limit: str = "", **more: Any
    ) -> Sequence[Mapping[str, Any]]:
        condition, values = searching.condition_of(among, "c.id")
        sql = f"SELECT {_columns(names, 'c.')} FROM documents c WHERE {condition} AND {also}{limit}"
        return self.database.rows(sql, **values, **more)

    def with_tables(self, *, among: Visible | None = None) -> list[IndexedDocument]:
        """Return the documents that have the rows of a table, or are a database's page on one, sorted by id."""
        own = """(position(:mark IN c.metadata) > 0 OR (c.media_type = 'text/markdown'
 AND EXISTS (SELECT 1 FROM unnest(CAST(:schemes AS text[])) s WHERE starts_with(c.source, s))))"""
        rows = self._documents(DOCUMENT_COLUMNS, among, own, mark=TABLE_MARK, schemes=list(DATABASE_SCHEMES))
        return sorted(filter(may_hold_table, map(document_from, rows)), key=lambda d: d.id)

    def texts_below(
        self, prefix: str, *, among: Visible | None = None, most: int | None = None
    ) -> Iterator[tuple[IndexedDocument, str]]:
        """Yield the documents whose ids begin with a text, with their texts, in no order; at most `most`."""
        limit = "" if most is None else f" LIMIT {int(most)}"
        own = "starts_with(c.id, :prefix)"
        for row in self._documents((*DOCUMENT_COLUMNS, "text"), among, own, limit, prefix=prefix):
            yield document_from(row), row["text"]

    def labels_of(self, documents: Sequence[str]) -> dict[str, set[tuple[str, ...]]]:
        """Return document → the sets of labels that say who may see it: who may see all of them.

        That is one set, but of a document that is retired one for each kept version. One of which nothing is kept is absent.
        """
        sql = f"""SELECT id, labels FROM documents WHERE id {_AMONG} UNION ALL
 SELECT id, labels FROM versions v WHERE id {_AMONG} AND NOT EXISTS (SELECT 1 FROM documents d WHERE d.id = v.id)"""
        found: dict[str, set[tuple[str, ...]]] = {}
        for row in self.database.rows(sql, ids=list(documents)):
            found.setdefault(row["id"], set()).add(tuple(sorted(row["labels"] or ())))
        return found

    def label_sets(self) -> set[tuple[str, ...]]:
        """Return the different sets of labels that documents have, retired versions included, `()` for none."""
        rows = self.database.rows("SELECT labels FROM documents UNION SELECT labels FROM versions")
        return {tuple(sorted(row["labels"] or ())) for row in rows}

    def items(self, ids: Sequence[str]) -> dict[str, IndexedItem]:
        """Return what the store holds of some items; those that it does not know are absent."""
        names = ("id", "item", "item_sha256", "stamp", "source", "root", "labels")
        return items_from(
            self.database.rows(f"SELECT {_columns(names)} FROM documents WHERE item {_AMONG}", ids=list(ids))
        )

    def text(self, document: str, sha256: str | None = None) -> tuple[str, tuple[Page, ...]]:
        """Return a document's extracted text and page map; with `sha256`, those of the version with that content."""
        row = self._row(document, ("text", "page_starts", "page_ends"), sha256=sha256)
        if row is None:
            raise missing_document(document, sha256=sha256)
        return row["text"], pages_from(row)

    def document_version(
        self, document: str, *, version: int | None = None, sha256: str | None = None
    ) -> tuple[StoredVersion, str, tuple[Page, ...]]:
        """Return one version of a document, its text and its page map; the current one if none is named."""
        row = self._row(document, (*VERSION_COLUMNS, "text"), version=version, sha256=sha256)
        if row is None:
            raise missing_document(document, version=version, sha256=sha256)
        return version_from(row), row["text"], pages_from(row)

    def _row(self, document: str, names: Sequence[str], **also: int | str | None) -> dict[str, Any] | None:
        """Return the current row of a document, else (with a further condition) the newest retired one."""
        asked = {name: value for name, value in also.items() if value is not None}
        where = " AND ".join(["id = :document", *(f"{name} = :{name}" for name in asked)])
        sql = f"SELECT {_columns(names)}, CAST(NULL AS float8) AS retired_at FROM documents WHERE {where}"
        if asked:
            sql += f" UNION ALL SELECT {_columns(names)}, retired_at FROM versions WHERE {where}"
        rows = self.database.rows(f"{sql} ORDER BY retired_at DESC NULLS FIRST LIMIT 1", document=document, **asked)
        return dict(rows[0]) if rows else None

    def versions(self, document: str) -> list[StoredVersion]:
        """Return the versions of a document that are kept, newest first. Raises StoreError if there is none."""
        found = {v.version: v for v in self._versions("id", [document])}
        if not found:
            raise missing_document(document)
        return [found[number] for number in sorted(found, reverse=True)]

    def _versions(self, column: str, ids: Sequence[str]) -> list[StoredVersion]:
        names, where = _columns(VERSION_COLUMNS), f"WHERE {column} {_AMONG}"
        sql = f"""SELECT {names}, retired_at FROM versions {where} UNION ALL
 SELECT {names}, NULL FROM documents {where} ORDER BY retired_at NULLS LAST"""
        return [version_from(row) for row in self.database.rows(sql, ids=list(ids))]

    def members(self, ids: Sequence[str]) -> list[StoredVersion]:
        """Return all kept versions of some documents, and of the documents that the items of these ids hold."""
        found = sorted([*self._versions("id", ids), *self._versions("item", ids)], key=lambda v: v.retired_at is None)
        return list({(v.document, v.version): v for v in found}.values())

    def named(self, hashes: Collection[str], *, items: bool = True, without: Collection[str] = ()) -> set[str]:
        """Return those hashes that a document has, retired versions included, or (`items`) the item that it comes from."""
        hash_of = ("sha256", "item_sha256") if items else ("sha256",)
        sql = " UNION ".join(
            f"SELECT {column} AS hash FROM {table} WHERE {column} = ANY(CAST(:hashes AS text[])) AND NOT id {_AMONG}"
            for table in ("documents", "versions")
            for column in hash_of
        )
        return (
            {row["hash"] for row in self.database.rows(sql, hashes=list(hashes), ids=list(without))}
            if hashes
            else set()
        )

    def near_duplicates(self) -> list[DuplicateGroup]:
        """Return the groups of documents whose content is the same or nearly so, largest first."""
        rows = self.database.rows("SELECT id, sha256, sketch FROM documents ORDER BY id")
        sketches = np.frombuffer(b"".join(row["sketch"] for row in rows), dtype="<u2").reshape(-1, BINS)
        return duplicate_groups([row["id"] for row in rows], [row["sha256"] for row in rows], sketches)

    def titles_of(self, documents: Sequence[str]) -> dict[str, str]:
        """Return document → title, of those that are indexed."""
        rows = self.database.rows(f"SELECT id, title FROM documents WHERE id {_AMONG}", ids=list(documents))
        return {row["id"]: row["title"] for row in rows}

    # ---- chunks and search

    def chunk_count(self) -> int:
        """Return the number of chunks."""
        return int(self.database.value("SELECT count(*) FROM chunks"))

    def chunks_of(self, documents: Sequence[str]) -> list[Chunk]:
        """Return the chunks of some documents in order of document and position."""
        sql = f"SELECT {_columns(CHUNK_COLUMNS)} FROM chunks WHERE document {_AMONG}"
        rows = self.database.rows(sql, ids=list(documents))
        return sorted((chunk_from(row) for row in rows), key=lambda c: (c.document, c.start))

    def chunks_with_vectors(self, documents: Sequence[str]) -> tuple[list[Chunk], NDArray[np.float32]]:
        """Return the chunks of some documents and their vectors `(n, dim)`, in no order."""
        sql = f"""SELECT {_columns(CHUNK_COLUMNS, "c.")}, vector_send(v.vector) AS vector
 FROM chunks c JOIN vectors v ON v.chunk = c.id WHERE c.document {_AMONG} ORDER BY c.id"""
        rows = self.database.rows(sql, ids=list(documents))
        return [chunk_from(row) for row in rows], self._vectors(rows)

    def vectors_of(self, document: str) -> NDArray[np.float32]:
        """Return the vectors `(n, dim)` of one document's chunks."""
        return self.chunks_with_vectors([document])[1]

    def _vectors(self, rows: Sequence[Mapping[str, Any]]) -> NDArray[np.float32]:
        return vectors_from([row["vector"] for row in rows], self.manifest.dim)

    def nearest_rows(
        self, vector: NDArray[np.float32], limit: int, *, where: Where | None = None, without: str | None = None
    ) -> list[FoundRow]:
        """Return the rows of highest cosine to a unit vector `(dim,)`: exactly up to 50,000 chunks and under any filter."""
        dim, approximate = self.manifest.dim, self._approximate
        return searching.nearest(self.database, vector, limit, where, without, approximate, dim)

    def nearest_rows_of_many(self, queries: Sequence[VectorQuery]) -> list[list[FoundRow]]:
        """Return what `nearest_rows` does of several queries."""
        return [self.nearest_rows(query.vector, query.limit, where=query.where) for query in queries]

    def matching_rows(self, words: str, limit: int, *, where: Where | None = None) -> list[FoundRow]:
        """Return the rows of highest BM25 score for the words of a question (any of them)."""
        return searching.matching(self.database, words, limit, where, self.manifest.dim)

    def chunks_at(self, rows: Sequence[int]) -> dict[int, Chunk]:
        """Return row → chunk for rows that a search found; those that are gone are absent."""
        known = [int(row) for row in rows if 0 <= row < 2**31]
        sql = f"SELECT id, {_columns(CHUNK_COLUMNS)} FROM chunks WHERE id = ANY(CAST(:rows AS int[]))"
        found = self.database.rows(sql, rows=known) if known else []
        return {row["id"]: chunk_from(row) for row in found}

    def filter_condition(self, filters: Filters, *, among: Visible | None = None) -> DocumentSet:
        """Return the documents that meet all filters, for `where`; `among` those that someone may see. Raises UsageError."""
        parsed = parse_filters(filters)
        return documents_that_meet(parsed, map(dict, self._documents(FILTER_COLUMNS, among)))

    @property
    def prepared(self) -> bool:
        """Whether what speeds up a search is there, or nothing to make it of."""
        return True

    def recall(self) -> Recall | None:
        """Return the measured recall of the HNSW index; None where the search is exact."""
        found = get_meta(self.database, "recall") if self._approximate else None
        return Recall(**json.loads(found)) if found else None

    # ---- summaries

    def summary_count(self) -> int:
        """Return the number of summaries, of documents and sections."""
        return int(self.database.value("SELECT count(*) FROM summaries"))

    def summaries_of(self, documents: Sequence[str]) -> dict[str, list[Summary]]:
        """Return the summaries of documents that have some: the whole document's first, then its sections' in order."""
        sql = f"SELECT {_columns(SUMMARY_COLUMNS)} FROM summaries WHERE document {_AMONG}"
        found: dict[str, list[Summary]] = {}
        rows = self.database.rows(f"{sql} ORDER BY section IS NOT NULL, start, id", ids=list(documents))
        for row in rows:
            found.setdefault(row["document"], []).append(summary_from(row))
        return found

    def summary_nearness(self, vector: NDArray[np.float32], documents: Collection[str]) -> dict[str, float]:
        """Return document → cosine of its summary to a unit vector `(dim,)`, of the named ones that have one."""
        return searching.summary_nearness(self.database, vector, documents)

    def nearest_summaries(
        self, vector: NDArray[np.float32], limit: int, *, where: Where | None = None
    ) -> dict[str, float]:
        """Return the documents of nearest summary with their cosines, best first."""
        return searching.nearest_summaries(self.database, vector, limit, where)

    # ---- writing

    @property
    def unfinished(self) -> bool:
        """Whether writes were made that no `finish` followed. What was written is whole; the search may be slower."""
        return get_meta(self.database, "writing") is not None

    @property
    def erasing(self) -> list[str]:
        """The documents that were erased without a `finish` that takes them out of the tables' files."""
        found: list[str] = json.loads(get_meta(self.database, "erasing") or "[]")
        return found

    def recover(self) -> int:
        """Return 0: each write was a transaction, an interruption leaves nothing over."""
        return 0

    def vectors_for(self, texts: Sequence[str]) -> tuple[NDArray[np.bool_], NDArray[np.float32]]:
        """Return which indexed texts the store has a vector of `(n,) bool`, and the vectors `(n, dim)`, 0 for the others."""
        found = np.zeros(len(texts), dtype=np.bool_)
        vectors = np.zeros((len(texts), self.manifest.dim), dtype=np.float32)
        places: dict[str, list[int]] = {}
        for place, text in enumerate(texts):
            places.setdefault(storable(text), []).append(place)
        hashes = sorted({chunk_hash(text) for text in places})
        for start in range(0, len(hashes), _MOST_HASHES):
            rows = self.database.rows(_STORED_TEXTS, hashes=hashes[start : start + _MOST_HASHES])
            for row, vector in zip(rows, self._vectors(rows), strict=True):
                for place in places.get(indexed_text(row["context"], row["text"]), ()):
                    found[place], vectors[place] = True, vector
        return found, vectors

    def write(
        self,
        batch: Sequence[IndexEntry],
        vectors: NDArray[np.float32],
        *,
        keep: Sequence[str] = (),
        summary_vectors: NDArray[np.float32] | None = None,
    ) -> None:
        """Replace the documents of some items by a batch that has all documents of these items, in one transaction."""
        if batch:
            empty = np.empty((0, self.manifest.dim), np.float32)
            writing.write(self.database, batch, vectors, keep, empty if summary_vectors is None else summary_vectors)

    def touch(self, items: Sequence[Item]) -> None:
        """Take over root, source, stamp and time of items whose content is the same as before."""
        writing.touch(self.database, items)

    def relabel(self, items: Sequence[Item]) -> None:
        """Give the documents of unchanged items, with their chunks and summaries, the labels that the items have now."""
        writing.relabel(self.database, items)

    def retire(self, documents: Sequence[str]) -> None:
        """Take out documents that their source has no more; their versions stay resolvable for a while."""
        writing.retire(self.database, documents)

    def remove(self, documents: Sequence[str]) -> None:
        """Erase documents and all their versions; `finish` takes what the tables' files still hold of them."""
        writing.erase(self.database, documents, self.erasing)

    def finish(self, *, whole: bool = True, keep_versions_days: float = 30, now: float | None = None) -> None:
        """After a series of writes: merge the full-text index, make the HNSW index where it pays, drop old versions.

        After `remove`, the tables are vacuumed, so that no row of the documents is left in them.
        """
        maintenance.finish(
            self.database,
            dim=self.manifest.dim,
            erasing=bool(self.erasing),
            whole=whole,
            keep_versions_days=keep_versions_days,
            now=time.time() if now is None else now,
        )
        self._approximate = maintenance.is_approximate(self.database)
