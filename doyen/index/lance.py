"""The store of one expert: chunks, summaries, vectors, documents and their versions in LanceDB tables, searched and kept in step.

Enters: documents and chunks with their vectors. Leaves: rows with cosine or BM25 scores, chunks, texts, versions. This
class is the front of rows.py, writing.py, maintenance.py, vectors.py; it knows no files, no models and no fusion.
"""

from __future__ import annotations

import contextlib
import json
import logging
import time
from collections.abc import Collection, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from doyen.errors import StoreError
from doyen.index import maintenance, writing
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
from doyen.index.following import Follower
from doyen.index.generations import MANIFEST, FolderRoot, Generation, Record, Root, new_generation
from doyen.index.publishing import publish
from doyen.index.rows import (
    CHUNK_COLUMNS,
    DATABASE_SCHEMES,
    DOCUMENT_COLUMNS,
    TABLE_MARK,
    VERSION_COLUMNS,
    FoundRow,
    IndexedDocument,
    IndexedItem,
    IndexEntry,
    StoredVersion,
    chunk_from,
    document_from,
    items_from,
    matrix,
    may_hold_table,
    missing_document,
    one_of,
    pages_from,
    quote,
    version_from,
)
from doyen.index.searching import ChunkSearch
from doyen.index.store import IndexManifest, VectorQuery, same_vectors
from doyen.index.summaries import SummarySearch
from doyen.index.tables import Tables, rows_of, rows_with, storage_fault
from doyen.index.vector_matrix import Recall
from doyen.index.vectors import StoredVectors
from doyen.records import Chunk, Page, Summary
from doyen.sources.item import Item

__all__ = [
    "IndexEntry",
    "IndexManifest",
    "IndexedDocument",
    "IndexedItem",
    "LanceIndex",
    "StoredVersion",
    "same_vectors",
]
log = logging.getLogger(__name__)

_DOCUMENTS_AT_ONCE = 500
_LABELS = ("id", "labels")


def recorded_fingerprint(folder: Path) -> str | None:
    """Return the embedder fingerprint of the index in a folder, None where there is none."""
    try:
        found: Any = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))["fingerprint"]
    except (OSError, ValueError, TypeError, KeyError):
        return None
    return found if isinstance(found, str) else None


class LanceIndex:
    """The store of one expert: four LanceDB tables, in a folder or a bucket, with a snapshot of their vectors.

    Where finished states are published (a bucket), a reader sees one of them, whole, and `view` moves on to the next.
    """

    def __init__(
        self, root: Root, record: Record, generation: Generation | None = None, *, newest: bool = False
    ) -> None:
        """Open the current generation of a root, or one beside it; `newest`: its tables as they are, for who writes."""
        self.root = root
        self.generation = record.generation if generation is None else generation.id
        beside = None if generation is None else generation.manifest
        self.manifest = beside or record.manifest
        self.home = root.home(self.generation)
        self._open(
            Tables.open(self.home, self.manifest.dim, None if newest or generation is not None else record.state)
        )
        follows = self.home.publishes and not newest and generation is None
        self._follower = Follower(self, self._newer) if follows else None

    def _open(self, tables: Tables) -> None:
        self.tables = tables
        self._vectors = StoredVectors(tables)
        self._search = ChunkSearch(tables, self._newest_tables if tables.state is not None else None)
        self._summaries = SummarySearch()
        self._label_sets: tuple[tuple[int, int], set[tuple[str, ...]]] | None = None
        self._with_tables: tuple[int, dict[str, list[IndexedDocument]]] = (-1, {})

    @property
    def folder(self) -> Path:
        """The local folder of the generation."""
        return self.home.folder

    @classmethod
    def open(cls, folder: Path | Root) -> LanceIndex:
        """Open an existing index. Raises StoreError if there is none."""
        root = FolderRoot(folder) if isinstance(folder, Path) else folder
        found = root.read()
        if found is None:
            raise StoreError(f"there is no index in {root.name}", hint="doyen ingest FOLDER")
        with reading(root.name):
            return cls(root, found[0])

    @classmethod
    def open_or_create(cls, folder: Path | Root, manifest: IndexManifest) -> LanceIndex:
        """Open the index, or make it. Raises StoreError if it was made by another embedder or chunk size."""
        root = FolderRoot(folder) if isinstance(folder, Path) else folder
        found = root.read()
        if found is None:
            first = isinstance(root, FolderRoot)
            record = Record(manifest, "" if first else new_generation(manifest, "").id)
            root.write(record, None)
            with reading(root.name):
                return cls(root, record)
        index = cls.open(root)
        index.manifest.require(manifest)
        return index

    # ---- states and generations

    def view(self) -> LanceIndex:
        """Return the index as it was last finished: one question is answered from one view.

        Of a folder that is the index itself, whose newest state is always seen. Of a bucket, the one at hand goes on answering
        while a newer state is fetched, and where that fails (following.py).
        """
        return self if self._follower is None else self._follower.view()

    def _newer(self, than: LanceIndex) -> LanceIndex | None:
        """Open a state that is newer than that of a view, if there is one, with all that a question needs of it."""
        try:
            found = self.root.read()
            if found and found[0].generation == self.generation and found[0].state != than.tables.state:
                newer = LanceIndex(self.root, found[0])
                newer.tables.snapshot()
                return newer
        except (StoreError, OSError, RuntimeError, ValueError) as error:
            log.warning("%s: the state at hand goes on answering (%s)", self.root.name, error)
        return None

    def _newest_tables(self) -> Tables | None:
        found = self.root.read()
        if found is None or found[0].generation != self.generation:
            return None
        return Tables.open(self.home, self.manifest.dim, found[0].state)

    def take_hold(self) -> None:
        """Go over to the newest state, to write: called first by whoever holds the index (`Place.only_writer`).

        Raises:
            StoreError: the index was made anew since it was opened.
        """
        found = self.root.read()
        coming = found[0].upcoming if found else None
        if found is None or self.generation not in (found[0].generation, coming.id if coming else None):
            what = f"the index {self.root.name} was made anew meanwhile"
            raise StoreError(what, hint="run the same command again: it goes on")
        self._follower = None
        if self.tables.state is not None:
            with reading(self.root.name):
                self._open(Tables.open(self.home, self.manifest.dim))

    # ---- documents and versions

    def iter_documents(self, *, among: Visible | None = None) -> Iterator[IndexedDocument]:
        """Yield all documents, or those that someone may see, without their texts, in no order."""
        for batch in rows_of(self.tables.documents, DOCUMENT_COLUMNS, among.condition if among else None):
            yield from map(document_from, batch.to_pylist())

    def documents(self, *, among: Visible | None = None) -> list[IndexedDocument]:
        """Return all documents, or those that someone may see, sorted by id, without their texts."""
        return sorted(self.iter_documents(among=among), key=lambda d: d.id)

    def with_tables(self, *, among: Visible | None = None) -> list[IndexedDocument]:
        """Return the documents that have the rows of a table, or are a database's page on one, sorted by id."""
        version, seen = int(self.tables.documents.version), among.condition if among else ""
        if self._with_tables[0] != version:  # every question asks, and all documents are looked through
            self._with_tables = version, {}
        kept = self._with_tables[1]
        if seen not in kept:
            kept[seen] = self._find_with_tables(seen)
        return list(kept[seen])

    def _find_with_tables(self, seen: str) -> list[IndexedDocument]:
        pages = " OR ".join(f"starts_with(source, {quote(scheme)})" for scheme in DATABASE_SCHEMES)
        condition = f"(contains(metadata, {quote(TABLE_MARK)}) OR (media_type = 'text/markdown' AND ({pages})))"
        condition += f" AND {seen}" if seen else ""
        batches = rows_of(self.tables.documents, DOCUMENT_COLUMNS, condition)
        found = (document_from(row) for batch in batches for row in batch.to_pylist())
        return sorted(filter(may_hold_table, found), key=lambda d: d.id)

    def texts_below(
        self, prefix: str, *, among: Visible | None = None, most: int | None = None
    ) -> Iterator[tuple[IndexedDocument, str]]:
        """Yield the documents whose ids begin with a text, with their texts, in no order; at most `most`."""
        condition = f"starts_with(id, {quote(prefix)})" + (f" AND {among.condition}" if among else "")
        for batch in rows_of(self.tables.documents, (*DOCUMENT_COLUMNS, "text"), condition, most):
            yield from ((document_from(row), row["text"]) for row in batch.to_pylist())

    def labels_of(self, documents: Sequence[str]) -> dict[str, set[tuple[str, ...]]]:
        """Return document → the sets of labels that say who may see it: who may see all of them.

        That is one set, but of a document that is retired one for each kept version. One of which nothing is kept is absent.
        """
        found: dict[str, set[tuple[str, ...]]] = {}
        for table in (self.tables.documents, self.tables.versions):
            for row in rows_with(
                table, _LABELS, "id", [d for d in documents if table is not self.tables.versions or d not in found]
            ):
                found.setdefault(row["id"], set()).add(tuple(sorted(row["labels"] or ())))
        return found

    def label_sets(self) -> set[tuple[str, ...]]:
        """Return the different sets of labels that documents have, retired versions included, `()` for none."""
        state = (int(self.tables.documents.version), int(self.tables.versions.version))
        if self._label_sets is None or self._label_sets[0] != state:  # every request of a server asks
            found: set[tuple[str, ...]] = set()
            for table in (self.tables.documents, self.tables.versions):
                for batch in rows_of(table, ("labels",)):
                    found.update(tuple(sorted(labels or ())) for labels in batch["labels"].to_pylist())
            self._label_sets = state, found
        return set(self._label_sets[1])

    def items(self, ids: Sequence[str]) -> dict[str, IndexedItem]:
        """Return what the store holds of some items; those that it does not know are absent."""
        columns = ("id", "item", "item_sha256", "stamp", "source", "root", "labels")
        return items_from(rows_with(self.tables.documents, columns, "item", list(ids)))

    def text(self, document: str, sha256: str | None = None) -> tuple[str, tuple[Page, ...]]:
        """Return a document's extracted text and page map; with `sha256`, those of the version with that content.

        Raises:
            StoreError: it is not indexed, or that version is not kept any more.
        """
        columns = ("id", "sha256", "text", "page_starts", "page_ends")
        row = self._row(document, columns, "" if sha256 is None else f"sha256 = {quote(sha256)}")
        if row is None:
            raise missing_document(document, sha256=sha256)
        return row["text"], pages_from(row)

    def document_version(
        self, document: str, *, version: int | None = None, sha256: str | None = None
    ) -> tuple[StoredVersion, str, tuple[Page, ...]]:
        """Return one version of a document, its text and its page map; the current one if none is named.

        Raises:
            StoreError: it is not indexed, or that version is not kept any more.
        """
        conditions = [f"version = {version}"] if version is not None else []
        conditions += [f"sha256 = {quote(sha256)}"] if sha256 is not None else []
        row = self._row(document, (*VERSION_COLUMNS, "text"), " AND ".join(conditions))
        if row is None:
            raise missing_document(document, version=version, sha256=sha256)
        return version_from(row), row["text"], pages_from(row)

    def versions(self, document: str) -> list[StoredVersion]:
        """Return the versions of a document that are kept, newest first. Raises StoreError if there is none."""
        current = rows_with(self.tables.documents, VERSION_COLUMNS, "id", [document])
        old = rows_with(self.tables.versions, (*VERSION_COLUMNS, "retired_at"), "id", [document])
        found = {v.version: v for v in (*map(version_from, old), *map(version_from, current))}
        if not found:
            raise missing_document(document)
        return [found[number] for number in sorted(found, reverse=True)]

    def _row(self, document: str, columns: Sequence[str], also: str) -> dict[str, Any] | None:
        """Return the current row of a document, else (with a further condition) the newest retired one."""
        condition = f"id = {quote(document)}" + (f" AND {also}" if also else "")
        for table in (self.tables.documents, self.tables.versions) if also else (self.tables.documents,):
            names = (*columns, "retired_at") if table is self.tables.versions else columns
            rows: list[dict[str, Any]] = [r for batch in rows_of(table, names, condition) for r in batch.to_pylist()]
            if rows:
                return max(rows, key=lambda row: float(row.get("retired_at", 0.0)))
        return None

    def members(self, ids: Sequence[str]) -> list[StoredVersion]:
        """Return all kept versions of some documents, and of the documents that the items of these ids hold."""
        found: dict[tuple[str, int], StoredVersion] = {}
        for table in (self.tables.versions, self.tables.documents):
            for column in ("id", "item"):
                rows = rows_with(table, VERSION_COLUMNS, column, ids)
                found |= {(v.document, v.version): v for v in map(version_from, rows)}
        return list(found.values())

    def named(self, hashes: Collection[str], *, items: bool = True, without: Collection[str] = ()) -> set[str]:
        """Return those hashes that a document has, retired versions included, or (`items`) the item that it comes from.

        Documents `without` do not count.
        """
        found: set[str] = set()
        for table in (self.tables.documents, self.tables.versions) if hashes else ():
            for batch in rows_of(table, ("id", "sha256", "item_sha256")):
                for row in batch.to_pylist():
                    own = (row["sha256"], row["item_sha256"] if items else "") if row["id"] not in without else ()
                    found.update(h for h in own if h in hashes)
        return found

    def near_duplicates(self) -> list[DuplicateGroup]:
        """Return the groups of documents whose content is the same or nearly so, largest first."""
        ids: list[str] = []
        hashes: list[str] = []
        sketches: list[bytes] = []
        for batch in rows_of(self.tables.documents, ("id", "sha256", "sketch")):
            ids += batch["id"].to_pylist()
            hashes += batch["sha256"].to_pylist()
            sketches += batch["sketch"].to_pylist()
        matrix_ = np.frombuffer(b"".join(sketches), dtype="<u2").reshape(-1, BINS)
        return duplicate_groups(ids, hashes, matrix_)

    # ---- chunks and search

    def chunk_count(self) -> int:
        """Return the number of chunks."""
        return int(self.tables.chunks.count_rows())

    def chunks_of(self, documents: Sequence[str]) -> list[Chunk]:
        """Return the chunks of some documents in order of document and position."""
        rows = rows_with(self.tables.chunks, (*CHUNK_COLUMNS, "revision"), "document", documents)
        return sorted((chunk_from(row) for row in self._current(list(rows))), key=lambda c: (c.document, c.start))

    def vectors_of(self, document: str) -> NDArray[np.float32]:
        """Return the vectors `(n, dim)` of one document's chunks."""
        batches = rows_of(self.tables.chunks, ("vector",), f"document = {quote(document)}")
        parts = [matrix(batch["vector"], self.manifest.dim) for batch in batches]
        return np.concatenate([np.empty((0, self.manifest.dim), dtype=np.float32), *parts])

    def chunks_with_vectors(self, documents: Sequence[str]) -> tuple[list[Chunk], NDArray[np.float32]]:
        """Return the chunks of some documents and their vectors `(n, dim)`, in no order."""
        found: list[Chunk] = []
        vectors = [np.empty((0, self.manifest.dim), dtype=np.float32)]
        for i in range(0, len(documents), _DOCUMENTS_AT_ONCE):
            condition = one_of("document", documents[i : i + _DOCUMENTS_AT_ONCE])
            for batch in rows_of(self.tables.chunks, (*CHUNK_COLUMNS, "vector"), condition):
                found += map(chunk_from, batch.select(list(CHUNK_COLUMNS)).to_pylist())
                vectors.append(matrix(batch["vector"], self.manifest.dim))
        return found, np.concatenate(vectors)

    def nearest_rows(
        self, vector: NDArray[np.float32], limit: int, *, where: Where | None = None, without: str | None = None
    ) -> list[FoundRow]:
        """Return the rows of highest cosine to a unit vector `(dim,)`: exactly up to 131,072 chunks, beyond by code.

        `where` is what `filter_condition` returns, or a SQL condition over the chunks table. `without` leaves a document
        out. Chunks are fetched by `chunks_at`.
        """
        own = 0 if without is None else int(self.tables.chunks.count_rows(f"document = {quote(without)}"))
        found = self._search.nearest(vector, limit + own, where)
        return [row for row in found if row.document != without][:limit]

    def nearest_rows_of_many(self, queries: Sequence[VectorQuery]) -> list[list[FoundRow]]:
        """Return what `nearest_rows` does of several queries; where every vector is scored they are read once for all."""
        return self._search.nearest_many(queries)

    def matching_rows(self, words: str, limit: int, *, where: Where | None = None) -> list[FoundRow]:
        """Return the rows of highest BM25 score for the words of a question (any of them)."""
        return self._search.matching(words, limit, where)

    def chunks_at(self, rows: Sequence[int]) -> dict[int, Chunk]:
        """Return row → chunk for rows that a search found; those that the table has no more are absent."""
        return self._search.chunks_at(rows)

    # ---- summaries

    def summary_count(self) -> int:
        """Return the number of summaries, of documents and sections."""
        return int(self.tables.summaries.count_rows())

    def summaries_of(self, documents: Sequence[str]) -> dict[str, list[Summary]]:
        """Return the summaries of documents that have some: the whole document's first, then its sections' in order."""
        return self._search.retried(lambda: self._summaries.of(self._search.tables, documents))

    def summary_nearness(self, vector: NDArray[np.float32], documents: Collection[str]) -> dict[str, float]:
        """Return document → cosine of its summary to a unit vector `(dim,)`, of the named ones that have one."""
        return self._search.retried(lambda: self._summaries.nearness(self._search.tables, vector, documents))

    def nearest_summaries(
        self, vector: NDArray[np.float32], limit: int, *, where: Where | None = None
    ) -> dict[str, float]:
        """Return the documents of nearest summary with their cosines, best first.

        `where` is what `filter_condition` returns, or a `Visible`; a SQL condition is on chunks, and lets no summary through.
        """
        among = None if where is None else self._among(where)
        return self._search.retried(lambda: self._summaries.nearest(self._search.tables, vector, limit, among))

    def _among(self, where: Where) -> Collection[str]:
        if isinstance(where, str):
            return frozenset()
        if isinstance(where, DocumentSet):
            return where.ids
        seen = {i for b in rows_of(self.tables.documents, ("id",), where.condition) for i in b["id"].to_pylist()}
        return seen if where.documents is None else seen & where.documents.ids

    def titles_of(self, documents: Sequence[str]) -> dict[str, str]:
        """Return document → title, of those that are indexed."""
        return {row["id"]: row["title"] for row in rows_with(self.tables.documents, ("id", "title"), "id", documents)}

    def filter_condition(self, filters: Filters, *, among: Visible | None = None) -> DocumentSet:
        """Return the documents that meet all filters (doyen/index/filtering.py), as `where` of a search takes them.

        With `among`, of those that someone may see: the fields of others are not known then.

        Raises:
            UsageError: a filter is malformed, or on a field that no document has (the known ones are named).
        """
        parsed = parse_filters(filters)
        batches = rows_of(self.tables.documents, FILTER_COLUMNS, among.condition if among else None)
        return documents_that_meet(parsed, (row for batch in batches for row in batch.to_pylist()))

    @property
    def prepared(self) -> bool:
        """Whether there is a snapshot of the vectors, or nothing to make one of."""
        return self._search.prepared()

    def recall(self) -> Recall | None:
        """Return the measured recall of the search by code; None where the search is exact."""
        return self._search.recall()

    def _current(self, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """Drop chunks that are not their document's current ones: during a write, and after an interrupted one."""
        if not self.unfinished:
            return rows
        ids = sorted({row["document"] for row in rows})
        revisions = {r["id"]: r["revision"] for r in rows_with(self.tables.documents, ("id", "revision"), "id", ids)}
        return [row for row in rows if revisions.get(row["document"]) == row["revision"]]

    # ---- writing

    @property
    def unfinished(self) -> bool:
        """Whether writes were begun that no `finish` followed: an interruption, or another process at work."""
        return self.tables.unfinished

    @property
    def erasing(self) -> list[str]:
        """The documents whose erasure was begun and is not finished."""
        return self.tables.erasing

    def recover(self) -> int:
        """Undo what an interrupted write left over; return how many documents it touched.

        No document is lost by it: each is as it was before the write, or as the write made it. `finish` must follow
        where the index was `unfinished`.
        """
        return maintenance.recover(self.tables)

    def vectors_for(self, texts: Sequence[str]) -> tuple[NDArray[np.bool_], NDArray[np.float32]]:
        """Return which indexed texts the store has a vector of `(n,) bool`, and the vectors `(n, dim)`, 0 for the others.

        It sees all chunks of this moment, also of documents that are about to be replaced or retired.
        """
        return self._vectors.find(texts)

    def added(self, texts: Sequence[str]) -> None:
        """Take note of texts whose rows were added to the tables without `write`: `vectors_for` finds them then."""
        self._vectors.added(texts)

    def write(
        self,
        batch: Sequence[IndexEntry],
        vectors: NDArray[np.float32],
        *,
        keep: Sequence[str] = (),
        summary_vectors: NDArray[np.float32] | None = None,
    ) -> None:
        """Replace the documents of some items by a batch that has all documents of these items, in one step.

        `vectors` `(chunks in all, dim)` and `summary_vectors` `(summaries in all, dim)` are in the order of the batch. What
        the store has of these items and the batch lacks is retired, except the ids in `keep`, which stay with the item's
        new hash and stamp. The store numbers the versions; what the documents and chunks say is ignored.
        """
        if batch:
            writing.write(self.tables, batch, vectors, keep, summary_vectors)
            self._vectors.added([chunk.indexed for entry in batch for chunk in entry.chunks])
            self._vectors.added([summary.indexed for entry in batch for summary in entry.summaries])

    def touch(self, items: Sequence[Item]) -> None:
        """Take over root, source, stamp and time of items whose content is the same as before."""
        writing.touch(self.tables, items)

    def relabel(self, items: Sequence[Item]) -> None:
        """Give the documents of unchanged items, with their chunks and summaries, the labels that the items have now."""
        writing.relabel(self.tables, items)

    def retire(self, documents: Sequence[str]) -> None:
        """Take out documents that their source has no more; their versions stay resolvable for a while."""
        writing.retire(self.tables, documents)

    def remove(self, documents: Sequence[str]) -> None:
        """Erase documents and all their versions; `finish` takes them out of the files too."""
        writing.erase(self.tables, documents)

    def finish(self, *, whole: bool = True, keep_versions_days: float = 30, now: float | None = None) -> None:
        """After a series of writes: bring the full-text index and the vectors' snapshot up to date, compact, drop old versions.

        Versions retired more than `keep_versions_days` before `now` (seconds since the epoch) go. After `remove`, no file
        of the store holds anything of the documents any more; that rewrites what lay beside them. `whole=False`: the last
        write was interrupted (and may still be under way); the next ingest recovers.
        """
        now = time.time() if now is None else now
        show = partial(publish, self.root, self.generation, self.tables)
        maintenance.finish(self.tables, whole=whole, keep_versions_days=keep_versions_days, now=now, publish=show)


@contextlib.contextmanager
def reading(name: str) -> Iterator[None]:
    """Turn what LanceDB raises of a bucket's credentials and connection into a StoreError."""
    try:
        yield
    except (OSError, RuntimeError, ValueError) as error:
        raise storage_fault(error, name) or error from None
