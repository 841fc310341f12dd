"""Search in the chunks table: nearest vectors and BM25, each as rows with a score; chunks by row.

Enters: vectors, words, conditions. Leaves: rows, best first. Vectors come from the snapshot beside the table where there
is one (vector_matrix.py); what the table has and the snapshot lacks is scanned in the table. Knows no fusion.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from doyen.errors import StoreError
from doyen.index.filtering import Where, parts_of
from doyen.index.rows import CHUNK_COLUMNS, FoundRow, chunks_of, matrix
from doyen.index.scanning import Floats, best
from doyen.index.store import VectorQuery
from doyen.index.tables import Tables, rows_with
from doyen.index.vector_matrix import FRAGMENT_ROWS, MatrixFolder, Recall, VectorMatrix
from doyen.records import Chunk

T = TypeVar("T")

_MASKS = 32
_RETRY_AFTER_S = 0.2
_COLUMNS = ("document", "start", "revision")
_ROWS_AT_ONCE = 8192


class ChunkSearch:
    """Searches the chunks of one store, from any number of threads."""

    def __init__(self, tables: Tables) -> None:
        self._tables = tables
        self._matrices = MatrixFolder(tables.folder, tables.dim)
        self._masks: dict[Any, NDArray[np.bool_]] = {}
        self._lock = threading.Lock()
        self._text_indexed = False

    @property
    def tables(self) -> Tables:
        """The tables as they are open now."""
        return self._tables

    def prepared(self) -> bool:
        """Return whether there is a snapshot of the vectors, or nothing to make one of."""
        return self._matrices.current() is not None or not self._tables.chunks.count_rows()

    def recall(self) -> Recall | None:
        """Return the measured recall of the search by code; None where the search is exact."""
        snapshot = self._matrices.current()
        return snapshot.recall if snapshot is not None else None

    # ---- nearest vectors

    def nearest(self, vector: Floats, limit: int, where: Where | None = None) -> list[FoundRow]:
        """Return the rows of highest cosine to a unit vector `(dim,)`."""
        return self.nearest_many([VectorQuery(vector, limit, where)])[0]

    def nearest_many(self, queries: Sequence[VectorQuery]) -> list[list[FoundRow]]:
        """Return what `nearest` does of several queries, of one state of the table."""
        return self.retried(lambda: self._nearest(queries))

    def _nearest(self, queries: Sequence[VectorQuery]) -> list[list[FoundRow]]:
        snapshot = self._matrices.current()
        if snapshot is None:
            return [self._scan(query.vector, query.limit, query.where) for query in queries]
        version = int(self._tables.chunks.version)
        masks = [None if q.where is None else self._mask(snapshot, version, q.where) for q in queries]
        whole = version == snapshot.version and not self._tables.unfinished
        limits = [query.limit if whole else 2 * query.limit for query in queries]
        near = snapshot.nearest_many([query.vector for query in queries], limits, masks)
        found = [_rows_at(snapshot, places, scores) for places, scores in near]
        if whole:
            return found
        return [self._with_newer(snapshot, query, rows) for query, rows in zip(queries, found, strict=True)]

    def _with_newer(self, snapshot: VectorMatrix, query: VectorQuery, found: list[FoundRow]) -> list[FoundRow]:
        """Return the nearest of what a snapshot gave, twice as many as are wanted, and of what the table has since then."""
        vector, limit, where = query.vector, query.limit, query.where
        alive = self._alive([row.row for row in found])
        newer = f"_rowaddr >= {(snapshot.newest_fragment + 1) * FRAGMENT_ROWS}"
        here = [row for row in found if row.row in alive]
        if len(here) < min(limit, len(found)) and len(found) == 2 * limit:
            return self._scan(vector, limit, where)
        here += [row for row in self._scan(vector, limit, where, newer) if row.row not in {h.row for h in here}]
        return sorted(here, key=lambda r: (-r.score, r.row))[:limit]

    def _scan(self, vector: Floats, limit: int, where: Where | None, also: str | None = None) -> list[FoundRow]:
        """Score the vectors of all rows that meet the conditions, in the table itself."""
        ids, condition = _split(where, also)
        found: list[FoundRow] = []
        query = self._tables.chunks.search()
        query = query if condition is None else query.where(condition)
        columns = [*_COLUMNS, "vector"]
        for batch in query.select(columns).with_row_id(True).limit(None).to_batches(_ROWS_AT_ONCE):
            if ids is not None:
                batch = batch.filter(_among(batch["document"], ids))
            vectors = matrix(batch["vector"], self._tables.dim)
            scores = vectors @ np.asarray(vector, dtype=np.float32)
            top = best(scores, limit)
            rows = self._current(batch.select([*_COLUMNS, "_rowid"]).take(top).to_pylist())
            found += [
                _found(row, float(scores[place]), vectors[place])
                for row, place in zip(rows, top, strict=True)
                if row is not None
            ]
            found = sorted(found, key=lambda r: (-r.score, r.row))[:limit]
        return found

    # ---- full text

    def matching(self, words: str, limit: int, where: Where | None = None) -> list[FoundRow]:
        """Return the rows of highest BM25 score for the words of a question (any of them)."""
        if not words.strip():
            return []
        return self.retried(lambda: self._matching(words, limit, where))

    def _matching(self, words: str, limit: int, where: Where | None) -> list[FoundRow]:
        if not self._text_indexed:
            self._text_indexed = bool(self._tables.chunks.list_indices())
            if not self._text_indexed:
                return []
        ids, condition = _split(where)
        # What else is needed of a row stands in the snapshot.
        snapshot = self._matrices.current() if ids is None and not self._tables.unfinished else None
        columns = _COLUMNS if snapshot is None else ()
        fetched = limit
        while True:
            query = self._tables.chunks.search(text_query(words), query_type="fts").limit(fetched)
            if condition is not None:
                query = query.where(condition, prefilter=True)
            table = query.select([*columns, "_score"]).with_row_id(True).to_arrow()
            kept = table if ids is None else table.filter(_among(table["document"], ids))
            if kept.num_rows >= limit or table.num_rows < fetched:
                break
            fetched *= 4
        kept = kept.slice(0, limit)
        if snapshot is not None:
            return self._rows_of(snapshot, kept["_rowid"].to_numpy(), kept["_score"].to_numpy())
        rows = [row for row in self._current(kept.to_pylist()) if row is not None]
        vectors = self._vectors([row["_rowid"] for row in rows])
        return [_found(row, float(row["_score"]), vectors[row["_rowid"]]) for row in rows if row["_rowid"] in vectors]

    def _rows_of(self, snapshot: VectorMatrix, rows: NDArray[np.uint64], scores: Floats) -> list[FoundRow]:
        """Return the rows of some addresses, in their order; those that a snapshot lacks are read in the table."""
        held, places = snapshot.places_of(rows)
        found = {row.row: row for row in _rows_at(snapshot, places[held], scores[held])}
        if not held.all():
            missing = dict(zip(rows[~held].tolist(), scores[~held].tolist(), strict=True))
            for row in self._take(list(missing), (*_COLUMNS, "vector")):
                vector = np.asarray(row["vector"], dtype=np.float32)
                found[row["_rowid"]] = _found(row, missing[row["_rowid"]], vector)
        return [found[row] for row in rows.tolist() if row in found]

    # ---- rows

    def chunks_at(self, rows: Sequence[int]) -> dict[int, Chunk]:
        """Return row → chunk; rows that the table has no more are absent."""
        table = self.retried(lambda: self._taken(rows, CHUNK_COLUMNS))
        return {} if table is None else dict(zip(table["_rowid"].to_pylist(), chunks_of(table), strict=True))

    def _taken(self, rows: Sequence[int], columns: Sequence[str]) -> Any:
        """Return an Arrow table of some rows and `_rowid`; None for no rows."""
        if not rows:
            return None
        query = self._tables.chunks.take_row_ids([int(row) for row in rows]).select(list(columns)).with_row_id()
        return query.to_arrow()

    def _take(self, rows: Sequence[int], columns: Sequence[str]) -> list[dict[str, Any]]:
        table = self._taken(rows, columns)
        taken: list[dict[str, Any]] = [] if table is None else table.to_pylist()
        return taken

    def _alive(self, rows: Sequence[int]) -> set[int]:
        """Return those rows that the table still has and whose document counts them as its own."""
        return {row["_rowid"] for row in self._current(self._take(rows, _COLUMNS)) if row is not None}

    def _vectors(self, rows: Sequence[int]) -> dict[int, NDArray[np.float32]]:
        snapshot = self._matrices.current()
        vectors: dict[int, NDArray[np.float32]] = {}
        if snapshot is not None and rows:
            held, places = snapshot.places_of(np.array(rows, dtype=np.uint64))
            own = snapshot.vectors[places[held]].astype(np.float32)
            vectors = dict(zip((row for row, there in zip(rows, held, strict=True) if there), own, strict=True))
        missing = [row for row in rows if row not in vectors]
        for row in self._take(missing, ("vector",)):
            vectors[row["_rowid"]] = np.asarray(row["vector"], dtype=np.float32)
        return vectors

    def _current(self, rows: list[dict[str, Any]]) -> list[dict[str, Any] | None]:
        """Put None for chunks that are not their document's current ones: during a write, and after an interrupted one."""
        if not self._tables.unfinished:
            return list(rows)
        ids = sorted({row["document"] for row in rows})
        known = rows_with(self._tables.documents, ("id", "revision"), "id", ids)
        revisions = {row["id"]: row["revision"] for row in known}
        return [row if revisions.get(row["document"]) == row["revision"] else None for row in rows]

    def _mask(self, snapshot: VectorMatrix, version: int, where: Where) -> NDArray[np.bool_]:
        """Return which rows of a snapshot meet a condition."""
        key = (snapshot.id, version, where)
        with self._lock:
            if key in self._masks:
                return self._masks[key]
        documents, condition = parts_of(where)
        mask = np.zeros(len(snapshot.rows), dtype=np.bool_)
        if condition is None:
            mask[:] = True
        else:
            query = self._tables.chunks.search().where(condition).select(["start"]).with_row_id(True).limit(None)
            held, places = snapshot.places_of(query.to_arrow()["_rowid"].to_numpy())
            mask[places[held]] = True
        if documents is not None:
            wanted = np.fromiter((name in documents.ids for name in snapshot.names), np.bool_, len(snapshot.names))
            mask &= wanted[snapshot.documents]
        with self._lock:
            if len(self._masks) >= _MASKS:
                self._masks.pop(next(iter(self._masks)))
            self._masks[key] = mask
        return mask

    # ---- a store that goes away

    def retried(self, work: Callable[[], T]) -> T:
        """Do the work; if the store fails, open it again and do it once more. Raises StoreError if that fails too."""
        try:
            return work()
        except (OSError, RuntimeError):
            time.sleep(_RETRY_AFTER_S)
        try:
            if not (self._tables.folder / "chunks.lance").is_dir():
                raise OSError("the chunks table is gone")
            self._tables, self._text_indexed = Tables.open(self._tables.folder, self._tables.dim), False
            return work()
        except (OSError, RuntimeError) as error:
            raise StoreError(
                f"the index {self._tables.folder} cannot be read: {error}",
                hint="see that its folder is there and readable; doyen ingest --rebuild SOURCE… makes it anew",
            ) from error


def text_query(words: str) -> Any:
    """Return the full-text query for a question: any of its words, no syntax."""
    from lancedb.query import MatchQuery

    return MatchQuery(words, "searched")


def _rows_at(snapshot: VectorMatrix, places: NDArray[np.intp], scores: Floats) -> list[FoundRow]:
    vectors = snapshot.vectors[places].astype(np.float32)
    columns = (snapshot.rows[places].tolist(), snapshot.documents[places].tolist(), snapshot.starts[places].tolist())
    return [
        FoundRow(row, snapshot.names[document], start, score, vector)
        for row, document, start, score, vector in zip(*columns, scores.tolist(), vectors, strict=True)
    ]


def _found(row: dict[str, Any], score: float, vector: NDArray[np.float32]) -> FoundRow:
    return FoundRow(row["_rowid"], row["document"], row["start"], score, vector)


def _split(where: Where | None, also: str | None = None) -> tuple[frozenset[str] | None, str | None]:
    """Return what of a condition is left to be tested row by row, and what the table tests."""
    documents, condition = parts_of(where)
    named = documents.condition if documents is not None else None
    ids = documents.ids if documents is not None and named is None else None
    both = [f"({part})" for part in (condition, named, also) if part is not None]
    return ids, " AND ".join(both) or None


def _among(column: Any, ids: frozenset[str]) -> Any:
    import pyarrow as pa

    return pa.array([document in ids for document in column.to_pylist()], type=pa.bool_())
