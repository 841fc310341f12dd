"""What a store of documents, passages and vectors offers to the rest of doyen, and the record of what it was made with.

Two keep it: LanceDB in a folder or a bucket (lance.py), a PostgreSQL database (postgresql/); joined.py reads several as one.
Knows no files, no tables, no models.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from doyen.errors import StoreError
from doyen.index.duplicates import DuplicateGroup
from doyen.index.filtering import DocumentSet, Filters, Visible, Where
from doyen.index.rows import FoundRow, IndexedDocument, IndexedItem, IndexEntry, StoredVersion
from doyen.index.vector_matrix import Recall
from doyen.records import Chunk, Page, Summary
from doyen.sources.item import Item

FORMAT_VERSION = 3
_ANEW = "doyen ingest --rebuild SOURCE… makes it anew"


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
    before: str = ""
    """The embedder whose place this one took; readers whose settings still name that one take this one."""

    @classmethod
    def read(cls, text: str | bytes, index: str, broken: str, hint: str = _ANEW) -> IndexManifest:
        """Return the manifest of an `index` from its JSON. Raises StoreError where it is `broken` or of another format."""
        try:
            manifest = cls(**json.loads(text))
        except (ValueError, TypeError) as error:
            raise StoreError(f"{broken}: {error}", hint=hint) from error
        if manifest.format != FORMAT_VERSION:
            what = f"the index in {index} has format {manifest.format}; this doyen reads {FORMAT_VERSION}"
            raise StoreError(what, hint=_ANEW)
        return manifest

    def require(self, asked: IndexManifest) -> None:
        """Refuse to go on with an embedder or chunk size that the index was not made with. Raises StoreError."""
        if self.fingerprint != asked.fingerprint or self.dim != asked.dim:
            raise StoreError(
                f"this index was made with embedder '{self.embedder}' ({self.fingerprint}); "
                f"doyen.toml now says '{asked.embedder}' ({asked.fingerprint})",
                hint="doyen ingest --rebuild SOURCE… makes it anew, or set [embedder] name back",
            )
        if self.counter != asked.counter:
            raise StoreError(
                f"the chunks of this index were sized by {self.counter or 'an older doyen'}, not {asked.counter}",
                hint=_ANEW,
            )
        if self.chunk_tokens != asked.chunk_tokens:
            raise StoreError(
                f"this index has chunks of {self.chunk_tokens} tokens; doyen.toml now says {asked.chunk_tokens}",
                hint="doyen ingest --rebuild SOURCE… makes it anew, or set [chunking] max_tokens back",
            )


def same_vectors(a: str, b: str) -> bool:
    """Whether two embedder fingerprints give vectors that compare: the same weights, on whatever backend."""
    return a.split("/")[0] == b.split("/")[0]


@dataclass(frozen=True, eq=False, slots=True)
class VectorQuery:
    """A unit vector `(dim,)`, how many rows nearest to it are sought, and what they must meet."""

    vector: NDArray[np.float32]
    limit: int
    where: Where | None = None


class Index(Protocol):
    """An open store. Each method says in lance.py what it returns and raises; both stores are held to the same tests."""

    manifest: IndexManifest

    def view(self) -> Index:
        """Return the index in one finished state, where the store has such: one question is answered from one view."""

    def take_hold(self) -> None:
        """Go over to the newest state, to write: called first by whoever holds the index. Raises StoreError."""

    # ---- documents and versions
    def iter_documents(self, *, among: Visible | None = None) -> Iterator[IndexedDocument]:
        """Yield all documents, or those that someone may see, without their texts, in no order."""

    def documents(self, *, among: Visible | None = None) -> list[IndexedDocument]:
        """Return all documents, or those that someone may see, sorted by id, without their texts."""

    def with_tables(self, *, among: Visible | None = None) -> list[IndexedDocument]:
        """Return the documents that have the rows of a table, or are a database's page on one, sorted by id."""

    def texts_below(
        self, prefix: str, *, among: Visible | None = None, most: int | None = None
    ) -> Iterator[tuple[IndexedDocument, str]]:
        """Yield the documents whose ids begin with a text, with their texts, in no order; at most `most`."""

    def labels_of(self, documents: Sequence[str]) -> dict[str, set[tuple[str, ...]]]:
        """Return document → the sets of labels that say who may see it: who may see all of them."""

    def label_sets(self) -> set[tuple[str, ...]]:
        """Return the different sets of labels that documents have, retired versions included."""

    def items(self, ids: Sequence[str]) -> dict[str, IndexedItem]:
        """Return what the store holds of some items."""

    def text(self, document: str, sha256: str | None = None) -> tuple[str, tuple[Page, ...]]:
        """Return a document's text and page map, of the version with that content. Raises StoreError."""

    def document_version(
        self, document: str, *, version: int | None = None, sha256: str | None = None
    ) -> tuple[StoredVersion, str, tuple[Page, ...]]:
        """Return one version of a document, its text and its page map. Raises StoreError."""

    def versions(self, document: str) -> list[StoredVersion]:
        """Return the versions of a document that are kept, newest first. Raises StoreError if there is none."""

    def members(self, ids: Sequence[str]) -> list[StoredVersion]:
        """Return all kept versions of some documents, and of the documents that the items of these ids hold."""

    def named(self, hashes: Collection[str], *, items: bool = True, without: Collection[str] = ()) -> set[str]:
        """Return those hashes that a document or (`items`) its item has, retired versions included."""

    def near_duplicates(self) -> list[DuplicateGroup]:
        """Return the groups of documents whose content is the same or nearly so, largest first."""

    def titles_of(self, documents: Sequence[str]) -> dict[str, str]:
        """Return document → title, of those that are indexed."""

    # ---- chunks and search
    def chunk_count(self) -> int:
        """Return the number of chunks."""

    def chunks_of(self, documents: Sequence[str]) -> list[Chunk]:
        """Return the chunks of some documents in order of document and position."""

    def chunks_with_vectors(self, documents: Sequence[str]) -> tuple[list[Chunk], NDArray[np.float32]]:
        """Return the chunks of some documents and their vectors `(n, dim)`, in no order."""

    def vectors_of(self, document: str) -> NDArray[np.float32]:
        """Return the vectors `(n, dim)` of one document's chunks."""

    def nearest_rows(
        self, vector: NDArray[np.float32], limit: int, *, where: Where | None = None, without: str | None = None
    ) -> list[FoundRow]:
        """Return the rows of highest cosine to a unit vector `(dim,)`."""

    def nearest_rows_of_many(self, queries: Sequence[VectorQuery]) -> list[list[FoundRow]]:
        """Return what `nearest_rows` does of several queries."""

    def matching_rows(self, words: str, limit: int, *, where: Where | None = None) -> list[FoundRow]:
        """Return the rows of highest BM25 score for the words of a question (any of them)."""

    def chunks_at(self, rows: Sequence[int]) -> dict[int, Chunk]:
        """Return row → chunk for rows that a search found; those that are gone are absent."""

    def filter_condition(self, filters: Filters, *, among: Visible | None = None) -> DocumentSet:
        """Return the documents that meet all filters, or of those that someone may see, for `where`. Raises UsageError."""

    @property
    def prepared(self) -> bool:
        """Whether what speeds up a search is there, or nothing to make it of."""

    def recall(self) -> Recall | None:
        """Return the measured recall of an approximate search; None where it is exact."""

    # ---- summaries
    def summary_count(self) -> int:
        """Return the number of summaries, of documents and sections."""

    def summaries_of(self, documents: Sequence[str]) -> dict[str, list[Summary]]:
        """Return the summaries of documents that have some: the whole document's first."""

    def summary_nearness(self, vector: NDArray[np.float32], documents: Collection[str]) -> dict[str, float]:
        """Return document → cosine of its summary to a unit vector `(dim,)`."""

    def nearest_summaries(
        self, vector: NDArray[np.float32], limit: int, *, where: Where | None = None
    ) -> dict[str, float]:
        """Return the documents of nearest summary with their cosines, best first."""

    # ---- writing
    @property
    def unfinished(self) -> bool:
        """Whether writes were begun that no `finish` followed."""

    @property
    def erasing(self) -> list[str]:
        """Documents whose erasure was begun and is not finished."""

    def recover(self) -> int:
        """Undo what an interrupted write left over; return how many documents it touched."""

    def vectors_for(self, texts: Sequence[str]) -> tuple[NDArray[np.bool_], NDArray[np.float32]]:
        """Return which indexed texts the store has a vector of `(n,) bool`, and the vectors `(n, dim)`."""

    def write(
        self,
        batch: Sequence[IndexEntry],
        vectors: NDArray[np.float32],
        *,
        keep: Sequence[str] = (),
        summary_vectors: NDArray[np.float32] | None = None,
    ) -> None:
        """Replace the documents of some items by a batch that has all documents of these items, in one step."""

    def touch(self, items: Sequence[Item]) -> None:
        """Take over root, source, stamp and time of items whose content is the same as before."""

    def relabel(self, items: Sequence[Item]) -> None:
        """Give the documents of unchanged items, with their chunks and summaries, the labels that the items have now."""

    def retire(self, documents: Sequence[str]) -> None:
        """Take out documents that their source has no more; their versions stay resolvable for a while."""

    def remove(self, documents: Sequence[str]) -> None:
        """Erase documents and all their versions."""

    def finish(self, *, whole: bool = True, keep_versions_days: float = 30, now: float | None = None) -> None:
        """After a series of writes: bring what speeds up searches up to date, drop old versions and erased rows."""


class Place(Protocol):
    """Where an expert's index is, whether it is there yet or not; `name` is shown to users and holds no password."""

    @property
    def name(self) -> str:
        """The place as users are told it."""

    @property
    def state(self) -> Path:
        """The local folder of what an ingest remembers of its sources, beside the index."""

    def exists(self) -> bool:
        """Whether doyen made an index there, of whatever format. Raises StoreError if the place cannot be reached."""

    def stamp(self) -> float | None:
        """Return a number that is another one once the index was made anew; None where there is none. Raises StoreError."""

    def recorded_fingerprint(self) -> str | None:
        """Return the embedder fingerprint of the index there, None where there is none."""

    def open(self) -> Index:
        """Open the index. Raises StoreError if there is none."""

    def open_or_create(self, manifest: IndexManifest) -> Index:
        """Open the index, or make it. Raises StoreError if it was made by another embedder or chunk size."""

    def clear(self) -> None:
        """Take away an index that is there, and what was remembered of its sources."""

    def only_writer(self) -> AbstractContextManager[None]:
        """Hold the index against a second ingest. Raises StoreError where another process is at work on it."""
