"""Chunks, vectors and document rows in two LanceDB tables (local folder), with vector and full-text search.

Enters: chunks with their vectors, documents. Leaves: candidate chunks with cosine or BM25 scores. Knows no files,
no models and no fusion. A batch that was interrupted is undone by `recover`.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from doyen.config import write_atomic
from doyen.errors import StoreError
from doyen.records import Chunk, Document, Page

FORMAT_VERSION = 1
_CHUNK_COLUMNS = (
    "document",
    "start",
    "end",
    "text",
    "context",
    "pages",
    "section",
    "record",
    "sha256",
    "version",
    "language",
    "labels",
)


@dataclass(frozen=True, slots=True)
class IndexedDocument:
    """One row of the documents table, without its text. `root` is the folder that was ingested."""

    id: str
    root: str
    source: str
    sha256: str
    version: int
    title: str
    media_type: str
    language: str
    labels: tuple[str, ...]
    modified_at: float
    pages: int
    chunks: int
    characters: int


@dataclass(frozen=True, slots=True)
class Candidate:
    """A chunk with its vector and the score of the search that found it (cosine or BM25)."""

    chunk: Chunk
    vector: NDArray[np.float32]
    score: float


@dataclass(frozen=True, slots=True)
class IndexManifest:
    """What the index was made with; an index never mixes two embedders, backends, precisions or chunk sizes."""

    embedder: str
    fingerprint: str
    dim: int
    chunk_tokens: int
    format: int = FORMAT_VERSION
    counter: str = ""
    """Fingerprint of the token counter that sized the chunks."""


def same_vectors(a: str, b: str) -> bool:
    """Whether two embedder fingerprints give vectors that compare: the same weights, on whatever backend."""
    return a.split("/")[0] == b.split("/")[0]


def recorded_fingerprint(folder: Path) -> str | None:
    """Return the embedder fingerprint of the index in a folder, None where there is none."""
    try:
        found: Any = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))["fingerprint"]
    except (OSError, ValueError, TypeError, KeyError):
        return None
    return found if isinstance(found, str) else None


def _quote(value: str) -> str:
    return "'" + value.replace("'", "''") + "'"


def _in(column: str, values: Iterable[str]) -> str:
    return f"{column} IN ({', '.join(_quote(v) for v in values)})"


def is_index(folder: Path) -> bool:
    """Whether a folder is an index that doyen made, of whatever format."""
    return recorded_fingerprint(folder) is not None


class LanceIndex:
    """The embedded store of one expert: a folder with `manifest.json` and two LanceDB tables."""

    def __init__(self, folder: Path, manifest: IndexManifest) -> None:
        import lancedb

        self.folder = folder
        self.manifest = manifest
        self._database = lancedb.connect(str(folder))
        names = self._database.list_tables().tables
        self._chunks = self._database.open_table("chunks") if "chunks" in names else self._create("chunks")
        self._documents = self._database.open_table("documents") if "documents" in names else self._create("documents")

    @classmethod
    def open(cls, folder: Path) -> LanceIndex:
        """Open an existing index. Raises StoreError if there is none."""
        try:
            data = json.loads((folder / "manifest.json").read_text())
            manifest = IndexManifest(**data)
        except FileNotFoundError:
            raise StoreError(f"there is no index in {folder}", hint="doyen ingest FOLDER") from None
        except (ValueError, TypeError) as error:
            raise StoreError(
                f"{folder / 'manifest.json'} is broken: {error}", hint=f"remove {folder} and run doyen ingest again"
            ) from error
        if manifest.format != FORMAT_VERSION:
            raise StoreError(
                f"the index in {folder} has format {manifest.format}; this doyen reads {FORMAT_VERSION}",
                hint="doyen ingest --rebuild FOLDER",
            )
        return cls(folder, manifest)

    @classmethod
    def open_or_create(cls, folder: Path, manifest: IndexManifest) -> LanceIndex:
        """Open the index, or make it. Raises StoreError if it was made by another embedder or chunk size."""
        if not (folder / "manifest.json").exists():
            folder.mkdir(parents=True, exist_ok=True)
            write_atomic(folder / "manifest.json", json.dumps(asdict(manifest), indent=1))
            return cls(folder, manifest)
        index = cls.open(folder)
        index.require(manifest)
        return index

    def require(self, manifest: IndexManifest) -> None:
        """Refuse to go on with an embedder or chunk size that this index was not made with."""
        old = self.manifest
        if old.fingerprint != manifest.fingerprint or old.dim != manifest.dim:
            raise StoreError(
                f"this index was made with embedder '{old.embedder}' ({old.fingerprint}); "
                f"doyen.toml now says '{manifest.embedder}' ({manifest.fingerprint})",
                hint="doyen ingest --rebuild SOURCE… makes it anew, or set [embedder] name back",
            )
        if old.counter != manifest.counter:
            raise StoreError(
                f"the chunks of this index were sized by {old.counter or 'an older doyen'}, not {manifest.counter}",
                hint="doyen ingest --rebuild SOURCE… makes it anew",
            )
        if old.chunk_tokens != manifest.chunk_tokens:
            raise StoreError(
                f"this index has chunks of {old.chunk_tokens} tokens; doyen.toml now says {manifest.chunk_tokens}",
                hint="doyen ingest --rebuild SOURCE… makes it anew, or set [chunking] max_tokens back",
            )

    def _create(self, name: str) -> Any:
        import pyarrow as pa

        text = pa.string()
        common = [("sha256", text), ("version", pa.int32()), ("language", text), ("labels", pa.list_(text))]
        if name == "chunks":
            fields = [
                ("document", text), ("start", pa.int64()), ("end", pa.int64()), ("text", text), ("context", text),
                ("indexed", text), ("pages", pa.list_(pa.int32())), ("section", text), ("record", text), *common,
                ("vector", pa.list_(pa.float16(), self.manifest.dim)),
            ]  # fmt: skip
        else:
            fields = [
                ("id", text), ("root", text), ("source", text), ("title", text), ("media_type", text), *common,
                ("modified_at", pa.float64()), ("chunks", pa.int32()), ("characters", pa.int64()),
                ("page_starts", pa.list_(pa.int64())), ("page_ends", pa.list_(pa.int64())), ("text", pa.large_string()),
            ]  # fmt: skip
        return self._database.create_table(name, schema=pa.schema(fields), exist_ok=True)

    # ---- reading

    def documents(self) -> list[IndexedDocument]:
        """Return all documents, sorted by id, without their texts."""
        columns = [
            "id",
            "root",
            "source",
            "sha256",
            "version",
            "title",
            "media_type",
            "language",
            "labels",
            "modified_at",
            "page_starts",
            "chunks",
            "characters",
        ]
        rows = self._documents.search().select(columns).limit(None).to_list()
        found = []
        for row in rows:
            starts = row.pop("page_starts")
            found.append(IndexedDocument(**{**row, "labels": tuple(row["labels"] or ()), "pages": len(starts or ())}))
        return sorted(found, key=lambda d: d.id)

    def text(self, document: str) -> tuple[str, tuple[Page, ...]]:
        """Return a document's extracted text and page map. Raises StoreError if it is not indexed."""
        rows = (
            self._documents.search()
            .where(f"id = {_quote(document)}")
            .select(["text", "page_starts", "page_ends"])
            .limit(1)
            .to_list()
        )
        if not rows:
            raise StoreError(f"no document '{document}' is indexed", hint="doyen documents lists them")
        pairs = zip(rows[0]["page_starts"] or (), rows[0]["page_ends"] or (), strict=True)
        return rows[0]["text"], tuple(Page(n, a, b) for n, (a, b) in enumerate(pairs, 1))

    def chunk_count(self) -> int:
        """Return the number of chunks."""
        return int(self._chunks.count_rows())

    def chunks_of(self, documents: Sequence[str]) -> list[Chunk]:
        """Return the chunks of some documents in order of document and position."""
        if not documents:
            return []
        rows = (
            self._chunks.search().where(_in("document", documents)).select(list(_CHUNK_COLUMNS)).limit(None).to_list()
        )
        return sorted((_chunk(row) for row in rows), key=lambda c: (c.document, c.start))

    def vectors_of(self, document: str) -> NDArray[np.float32]:
        """Return the vectors `(n, dim)` of one document's chunks."""
        rows = self._chunks.search().where(f"document = {_quote(document)}").select(["vector"]).limit(None).to_arrow()
        return _matrix(rows["vector"], self.manifest.dim)

    def nearest(self, vector: NDArray[np.float32], limit: int, *, without: str | None = None) -> list[Candidate]:
        """Return the chunks of highest cosine to a unit vector `(dim,)`, exactly (no approximate index)."""
        query = self._chunks.search(vector, vector_column_name="vector").distance_type("cosine").limit(limit)
        if without is not None:
            query = query.where(f"document != {_quote(without)}", prefilter=True)
        table = query.select([*_CHUNK_COLUMNS, "vector", "_distance"]).to_arrow()
        return self._candidates(table, [1.0 - d for d in table["_distance"].to_pylist()])

    def matching(self, words: str, limit: int) -> list[Candidate]:
        """Return the chunks of highest BM25 score for the words of a question (any of them)."""
        from lancedb.query import MatchQuery

        if not self._chunks.list_indices() or not words.strip():
            return []
        query = self._chunks.search(MatchQuery(words, "indexed"), query_type="fts").limit(limit)
        table = query.select([*_CHUNK_COLUMNS, "vector", "_score"]).to_arrow()
        return self._candidates(table, table["_score"].to_pylist())

    def _candidates(self, table: Any, scores: Sequence[float]) -> list[Candidate]:
        vectors = _matrix(table["vector"], self.manifest.dim)
        rows = table.select(list(_CHUNK_COLUMNS)).to_pylist()
        return [
            Candidate(_chunk(row), vector, float(score))
            for row, vector, score in zip(rows, vectors, scores, strict=True)
        ]

    # ---- writing

    @property
    def unfinished(self) -> bool:
        """Whether writes were begun that no `finish` followed: an interruption, or another process at work."""
        return (self.folder / "writing").exists()

    def recover(self) -> int:
        """Take out documents whose row an interrupted batch left without all of its chunks, or the reverse.

        Returns how many they were. `finish` must follow where the index was `unfinished`.
        """
        if not self.unfinished:
            return 0
        rows = self._chunks.search().select(["document", "sha256"]).limit(None).to_arrow()
        stored = Counter(zip(rows["document"].to_pylist(), rows["sha256"].to_pylist(), strict=True))
        stated = {(d.id, d.sha256): d.chunks for d in self.documents()}
        broken = sorted({key[0] for key in {*stored, *stated} if stored[key] != stated.get(key)})
        self.remove(broken)
        return len(broken)

    def write(self, batch: Sequence[tuple[Document, str, Sequence[Chunk]]], vectors: NDArray[np.float32]) -> None:
        """Replace documents: `batch` of (document, root, chunks) and the vectors `(chunks in all, dim)` in the same order."""
        if not batch:
            return
        write_atomic(self.folder / "writing", "")
        ids = [document.id for document, _, _ in batch]
        chunks = [chunk for _, _, chunks in batch for chunk in chunks]
        self._delete(self._chunks, "document", ids)
        if chunks:
            self._chunks.add(_chunk_table(chunks, vectors, self._chunks.schema))
        rows = [_document_row(document, root, len(chunks)) for document, root, chunks in batch]
        merge = self._documents.merge_insert("id").when_matched_update_all().when_not_matched_insert_all()
        merge.execute(_table(rows, self._documents.schema))

    def remove(self, documents: Sequence[str]) -> None:
        """Take documents out of both tables."""
        if not documents:
            return
        write_atomic(self.folder / "writing", "")
        self._delete(self._chunks, "document", documents)
        self._delete(self._documents, "id", documents)

    def _delete(self, table: Any, column: str, values: Sequence[str]) -> None:
        for i in range(0, len(values), 500):
            table.delete(_in(column, values[i : i + 500]))

    def finish(self, *, whole: bool = True) -> None:
        """After a series of writes: (re)build the full-text index, compact, drop old table versions.

        `whole=False`: the last write was interrupted (and may still be under way); the next ingest recovers.
        """
        from datetime import timedelta

        from lancedb.index import FTS

        if self.chunk_count():
            if self._chunks.list_indices():
                self._chunks.optimize(cleanup_older_than=timedelta(minutes=10))
            else:
                config = FTS(
                    base_tokenizer="icu/split",
                    language="English",
                    stem=True,
                    remove_stop_words=False,
                    ascii_folding=True,
                )
                self._chunks.create_index("indexed", config=config)
        self._documents.optimize(cleanup_older_than=timedelta(minutes=10))
        if whole:
            (self.folder / "writing").unlink(missing_ok=True)


def _matrix(column: Any, dim: int) -> NDArray[np.float32]:
    flat = column.combine_chunks().flatten().to_numpy(zero_copy_only=False)
    return np.asarray(flat, dtype=np.float32).reshape(-1, dim)


def _chunk(row: dict[str, Any]) -> Chunk:
    values = {name: row[name] for name in _CHUNK_COLUMNS}
    return Chunk(**{**values, "pages": tuple(row["pages"] or ()), "labels": tuple(row["labels"] or ())})


def _table(rows: Sequence[dict[str, Any]], schema: Any) -> Any:
    import pyarrow as pa

    return pa.Table.from_pylist(list(rows), schema=schema)


def _chunk_table(chunks: Sequence[Chunk], vectors: NDArray[np.float32], schema: Any) -> Any:
    import pyarrow as pa

    columns: dict[str, Any] = {name: [getattr(c, name) for c in chunks] for name in _CHUNK_COLUMNS}
    columns["indexed"] = [f"{c.context}\n{c.text}" if c.context else c.text for c in chunks]
    flat = pa.array(np.ascontiguousarray(vectors, dtype=np.float16).ravel())
    columns["vector"] = pa.FixedSizeListArray.from_arrays(flat, vectors.shape[1])
    columns["pages"] = [list(p) for p in columns["pages"]]
    columns["labels"] = [list(v) for v in columns["labels"]]
    arrays = [c if isinstance(c := columns[f.name], pa.Array) else pa.array(c, type=f.type) for f in schema]
    return pa.Table.from_arrays(arrays, schema=schema)


def _document_row(document: Document, root: str, chunks: int) -> dict[str, Any]:
    names = ("id", "source", "title", "media_type", "sha256", "version", "language", "modified_at", "text")
    row = {name: getattr(document, name) for name in names}
    row |= {"root": root, "labels": list(document.labels), "chunks": chunks, "characters": len(document.text)}
    return row | {"page_starts": [p.start for p in document.pages], "page_ends": [p.end for p in document.pages]}
