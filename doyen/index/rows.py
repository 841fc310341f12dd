"""What stands in the store's four tables, and the records ↔ rows.

Enters: documents, chunks, vectors. Leaves: Arrow tables for writing, records from rows. Knows no table handle.
`revision` is a random number of one write: a chunk or summary counts only where its document's row has the same one.
"""

from __future__ import annotations

import hashlib
import itertools
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from doyen.documents.tables import TABLE
from doyen.errors import StoreError
from doyen.index.duplicates import SKETCH_BYTES, sketch
from doyen.records import Chunk, Document, Page, Summary
from doyen.words import name_words

CHUNK_COLUMNS = (
    *("document", "start", "end", "text", "context", "pages", "section", "record"),
    *("sha256", "version", "language", "labels"),
)
"""In the order of a chunk's fields."""
SUMMARY_COLUMNS = ("document", "section", "start", "end", "text", "span_starts", "span_ends", "indexed")
DOCUMENT_COLUMNS = (
    *("id", "root", "source", "item", "item_sha256", "stamp", "sha256", "version", "title", "media_type"),
    *("language", "labels", "modified_at", "metadata", "page_starts", "chunks", "characters"),
)
DATABASE_SCHEMES = ("sqlite:", "postgresql:", "postgres:", "mysql:", "mariadb:")
"""How the sources of a database's rows and of its pages on tables begin."""
TABLE_MARK = f'["{TABLE}", '
"""What stands in the metadata of a document with a table."""
VERSION_COLUMNS = (
    *("id", "sha256", "version", "title", "source", "media_type", "item", "item_sha256", "page_starts"),
    *("page_ends", "characters", "labels"),
)


@dataclass(frozen=True, slots=True)
class IndexEntry:
    """One document to be written with its chunks; `root` is the source that it belongs to.

    `item` is the file, page or row that holds it ("": it is one itself), with the hash and stamp of that. `sketch` is
    `doyen.index.duplicates.sketch` of the text, None where it is still to be computed.
    """

    document: Document
    root: str
    chunks: Sequence[Chunk]
    item: str = ""
    item_sha256: str = ""
    stamp: str = ""
    sketch: bytes | None = None
    summaries: Sequence[Summary] = ()


@dataclass(frozen=True, slots=True)
class IndexedDocument:
    """One row of the documents table, without its text. `root` is the folder or URI that was ingested."""

    id: str
    root: str
    source: str
    item: str
    item_sha256: str
    stamp: str
    sha256: str
    version: int
    title: str
    media_type: str
    language: str
    labels: tuple[str, ...]
    modified_at: float
    metadata: tuple[tuple[str, str], ...]
    pages: int
    chunks: int
    characters: int


@dataclass(frozen=True, slots=True)
class IndexedItem:
    """What the store holds of one item; `sha256` and `stamp` are "" where its documents do not agree."""

    id: str
    source: str
    root: str
    sha256: str
    stamp: str
    documents: tuple[str, ...]
    labels: tuple[str, ...] | None = ()
    """Who may see them; None where they do not agree."""


@dataclass(frozen=True, slots=True)
class StoredVersion:
    """One version of a document, without its text; `retired_at` is None for the one that is searched now."""

    document: str
    version: int
    sha256: str
    title: str
    source: str
    media_type: str
    item: str
    item_sha256: str
    pages: int
    characters: int
    retired_at: float | None = None
    labels: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class FoundRow:
    """A row of the chunks table with the score of the search that found it (cosine or BM25) and its vector `(dim,)`.

    `row` is its address (in LanceDB good until the table is compacted): `chunks_at` fetches the chunk.
    """

    row: int
    document: str
    start: int
    score: float
    vector: NDArray[np.float32]


def schema_of(table: str, dim: int) -> Any:
    """Return the Arrow schema of `chunks`, `summaries`, `documents` or `versions`; `dim` is the length of a vector."""
    import pyarrow as pa

    text = pa.string()
    common = [("sha256", text), ("version", pa.int32()), ("language", text), ("labels", pa.list_(text))]
    if table == "chunks":
        fields = [
            ("document", text), ("start", pa.int64()), ("end", pa.int64()), ("text", text), ("context", text),
            ("searched", text), ("pages", pa.list_(pa.int32())), ("section", text), ("record", text), *common,
            ("revision", pa.int64()), ("hash", pa.int64()), ("vector", pa.list_(pa.float16(), dim)),
        ]  # fmt: skip
        return pa.schema(fields)
    if table == "summaries":
        places = [(name, pa.list_(pa.int64())) for name in ("span_starts", "span_ends")]
        fields = [
            ("document", text), ("section", text), ("start", pa.int64()), ("end", pa.int64()), ("text", text), *places,
            ("indexed", text), *common, ("revision", pa.int64()), ("hash", pa.int64()),
            ("vector", pa.list_(pa.float16(), dim)),
        ]  # fmt: skip
        return pa.schema(fields)
    fields = [
        ("id", text), ("root", text), ("source", text), ("item", text), ("item_sha256", text), ("stamp", text),
        ("title", text), ("media_type", text), *common, ("modified_at", pa.float64()), ("metadata", text),
        ("chunks", pa.int32()), ("characters", pa.int64()), ("page_starts", pa.list_(pa.int64())),
        ("page_ends", pa.list_(pa.int64())), ("text", pa.large_string()), ("revision", pa.int64()),
    ]  # fmt: skip
    own = [("sketch", pa.binary(SKETCH_BYTES))] if table == "documents" else [("retired_at", pa.float64())]
    return pa.schema([*fields, *own])


def searched_text(chunk: Chunk) -> str:
    """Return what the full-text index has of a chunk: the words of its document's name, its context twice, its text.

    The name is not embedded, so that a renamed document keeps its vectors.
    """
    return "\n".join(filter(None, (" ".join(name_words(chunk.document)), chunk.context, chunk.indexed)))


def chunk_hash(text: str) -> int:
    """Return a signed 64-bit hash of an indexed text, the same in every process."""
    digest = hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest()
    return int.from_bytes(digest, "little", signed=True)


def chunk_table(chunks: Sequence[Chunk], revision: int, vectors: NDArray[np.float32], schema: Any) -> Any:
    """Return rows of the chunks table; `vectors` `(n, dim)` in the order of the chunks."""
    import pyarrow as pa

    columns: dict[str, Any] = {name: [getattr(c, name) for c in chunks] for name in CHUNK_COLUMNS}
    columns["searched"] = [searched_text(c) for c in chunks]
    columns["hash"] = [chunk_hash(c.indexed) for c in chunks]
    columns["revision"] = [revision] * len(chunks)
    columns["vector"] = vector_column(vectors)
    columns["pages"] = [list(p) for p in columns["pages"]]
    columns["labels"] = [list(v) for v in columns["labels"]]
    arrays = [c if isinstance(c := columns[f.name], pa.Array) else pa.array(c, type=f.type) for f in schema]
    return pa.Table.from_arrays(arrays, schema=schema)


def vector_column(vectors: NDArray[np.float32]) -> Any:
    """Return vectors `(n, dim)` as a column of float16."""
    import pyarrow as pa

    flat = pa.array(np.ascontiguousarray(vectors, dtype=np.float16).ravel())
    return pa.FixedSizeListArray.from_arrays(flat, vectors.shape[1])


def summary_table(
    entries: Sequence[IndexEntry], versions: Mapping[str, int], revision: int, vectors: NDArray[np.float32], schema: Any
) -> Any:
    """Return rows of the summaries table; `vectors` `(n, dim)` in the order of the entries and their summaries."""
    import pyarrow as pa

    rows = [
        summary_row(entry.document, summary, versions[entry.document.id])
        | {"revision": revision, "hash": chunk_hash(summary.indexed)}
        for entry in entries
        for summary in entry.summaries
    ]
    table = pa.Table.from_pylist(rows, schema=schema.remove(schema.get_field_index("vector")))
    return table.append_column(schema.field("vector"), vector_column(vectors))


def summary_row(document: Document, summary: Summary, version: int) -> dict[str, Any]:
    """Return what every store's row of a summary has: SUMMARY_COLUMNS, and what is its document's."""
    row = {name: getattr(summary, name) for name in SUMMARY_COLUMNS if not name.startswith("span_")}
    row |= {"span_starts": [a for a, _ in summary.spans], "span_ends": [b for _, b in summary.spans]}
    row |= {"sha256": document.sha256, "version": version, "language": document.language}
    return row | {"labels": list(document.labels)}


def summary_from(row: Mapping[str, Any]) -> Summary:
    """Return the summary of a row of SUMMARY_COLUMNS."""
    values = {name: row[name] for name in SUMMARY_COLUMNS if not name.startswith("span_")}
    return Summary(**values, spans=tuple(zip(row["span_starts"], row["span_ends"], strict=True)))


def document_row(entry: IndexEntry, version: int, revision: int) -> dict[str, Any]:
    """Return the row of one document."""
    document = entry.document
    names = ("id", "source", "title", "media_type", "sha256", "language", "modified_at", "text")
    row = {name: getattr(document, name) for name in names}
    row |= {"item": entry.item or document.id, "item_sha256": entry.item_sha256 or document.sha256}
    row |= {"root": entry.root, "stamp": entry.stamp, "version": version, "revision": revision}
    row |= {"labels": list(document.labels), "metadata": json.dumps(list(document.metadata), ensure_ascii=False)}
    row |= {"chunks": len(entry.chunks), "characters": len(document.text)}
    row |= {"page_starts": [p.start for p in document.pages], "page_ends": [p.end for p in document.pages]}
    return row | {"sketch": sketch(document.text) if entry.sketch is None else entry.sketch}


def chunk_from(row: Mapping[str, Any]) -> Chunk:
    """Return the chunk of a row."""
    values = {name: row[name] for name in CHUNK_COLUMNS}
    return Chunk(**{**values, "pages": tuple(row["pages"] or ()), "labels": tuple(row["labels"] or ())})


def chunks_of(table: Any) -> Iterator[Chunk]:
    """Yield the chunks of an Arrow table with CHUNK_COLUMNS, row by row: a column at a time, which is three times as fast as by rows."""
    columns = [table[name].to_pylist() for name in CHUNK_COLUMNS]
    for name in ("pages", "labels"):
        place = CHUNK_COLUMNS.index(name)
        columns[place] = [tuple(values or ()) for values in columns[place]]
    return itertools.starmap(Chunk, zip(*columns, strict=True))


def document_from(row: Mapping[str, Any]) -> IndexedDocument:
    """Return the document of a row of DOCUMENT_COLUMNS."""
    values = {name: row[name] for name in DOCUMENT_COLUMNS if name != "page_starts"}
    values |= {"labels": tuple(row["labels"] or ()), "pages": len(row["page_starts"] or ())}
    return IndexedDocument(**values | {"metadata": tuple((k, v) for k, v in json.loads(row["metadata"] or "[]"))})


def items_from(rows: Iterable[Mapping[str, Any]]) -> dict[str, IndexedItem]:
    """Return the items of rows of their documents, with id, item, item_sha256, stamp, source, root and labels."""
    by_item: dict[str, list[Mapping[str, Any]]] = {}
    for row in rows:
        by_item.setdefault(row["item"], []).append(row)
    found = {}
    for item, own in by_item.items():
        hashes, stamps = ({row[name] for row in own} for name in ("item_sha256", "stamp"))
        sha256 = hashes.pop() if len(hashes) == 1 else ""
        stamp = stamps.pop() if len(stamps) == 1 and sha256 else ""
        documents = tuple(sorted(row["id"] for row in own))
        marks = {tuple(sorted(row["labels"] or ())) for row in own}
        labels = marks.pop() if len(marks) == 1 else None
        found[item] = IndexedItem(item, own[0]["source"], own[0]["root"], sha256, stamp, documents, labels)
    return found


def missing_document(document: str, *, version: int | None = None, sha256: str | None = None) -> StoreError:
    """Return the error for a document, or a version of it, that is not there."""
    if version is None and sha256 is None:
        return StoreError(f"no document '{document}' is indexed", hint="doyen documents lists them")
    what = f" in version {version}" if version is not None else f" with hash {(sha256 or '')[:12]}…"
    return StoreError(
        f"'{document}'{what} is not kept",
        hint=f"doyen documents versions {document} lists what is; [documents] keep_versions_days says how long",
    )


def version_from(row: Mapping[str, Any]) -> StoredVersion:
    """Return the version of a row of VERSION_COLUMNS, `retired_at` being there for an old one."""
    names = ("version", "sha256", "title", "source", "media_type", "item", "item_sha256", "characters")
    values = {name: row[name] for name in names}
    values |= {"retired_at": row.get("retired_at"), "labels": tuple(row["labels"] or ())}
    return StoredVersion(document=row["id"], pages=len(row["page_starts"] or ()), **values)


def pages_from(row: Mapping[str, Any]) -> tuple[Page, ...]:
    """Return the page map of a row."""
    pairs = zip(row["page_starts"] or (), row["page_ends"] or (), strict=True)
    return tuple(Page(n, a, b) for n, (a, b) in enumerate(pairs, 1))


def matrix(column: Any, dim: int) -> NDArray[np.float32]:
    """Return a column of vectors as `(n, dim) float32`."""
    column = column.combine_chunks() if hasattr(column, "combine_chunks") else column
    flat = column.flatten().to_numpy(zero_copy_only=False)
    return np.asarray(flat, dtype=np.float32).reshape(-1, dim)


def may_hold_table(document: IndexedDocument) -> bool:
    """Whether a document has the rows of a table, or is a database's page on one."""
    noted = any(name == TABLE for name, _ in document.metadata)
    return noted or (document.media_type == "text/markdown" and document.source.startswith(DATABASE_SCHEMES))


def quote(value: str) -> str:
    """Return a text as a literal of a condition."""
    return "'" + value.replace("'", "''") + "'"


def one_of(column: str, values: Iterable[str]) -> str:
    """Return the condition that a text column has one of some values."""
    return f"{column} IN ({', '.join(quote(v) for v in values)})"
