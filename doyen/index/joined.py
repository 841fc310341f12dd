"""The indexes of several experts, read as one: each search goes to all of them, and the best of all is returned.

For what is kept apart on purpose (a department's documents in its own folder, bucket or database, under its own writer) and
yet asked together. Nothing is written here. Vectors compare, as all are of one embedder; BM25 counts words within each
index, so that its scores differ a little from those of one index with the same documents.
"""

from __future__ import annotations

import heapq
from collections.abc import Collection, Iterator, Sequence
from dataclasses import replace
from typing import Any, NoReturn

import numpy as np
from numpy.typing import NDArray

from doyen.errors import StoreError, UsageError
from doyen.index.duplicates import DuplicateGroup
from doyen.index.filtering import DocumentSet, Filters, Visible, Where
from doyen.index.rows import FoundRow, IndexedDocument, IndexedItem, StoredVersion, missing_document
from doyen.index.store import Index, IndexManifest, VectorQuery, same_vectors
from doyen.index.vector_matrix import Recall
from doyen.records import Chunk, Page, Summary


def only_read(what: str) -> StoreError:
    """Return the refusal of what would write through joined indexes."""
    hint = "doyen ingest … --expert MEMBER: each expert's documents are written by itself"
    return StoreError(f"{what} is only read", hint=hint)


class JoinedIndex:
    """Several open indexes, in the order in which an id that two of them have is looked for; reads alone.

    A row's address is `row of its index × number of indexes + place of the index`.
    """

    def __init__(self, members: Sequence[Index], names: Sequence[str]) -> None:
        """Take open indexes. Raises StoreError where their vectors do not compare."""
        self._members, self._names = list(members), list(names)
        first = members[0].manifest
        for name, index in zip(names[1:], members[1:], strict=True):
            other = index.manifest
            if not same_vectors(first.fingerprint, other.fingerprint) or first.dim != other.dim:
                raise StoreError(
                    f"{names[0]} was made with embedder '{first.embedder}', {name} with '{other.embedder}'",
                    hint=f"doyen reembed --model {first.embedder} --expert {name}",
                )
        self.manifest: IndexManifest = replace(first, chunk_tokens=max(m.manifest.chunk_tokens for m in members))

    def view(self) -> JoinedIndex:
        """Return the indexes as each was last finished."""
        views = [index.view() for index in self._members]
        same = all(a is b for a, b in zip(views, self._members, strict=True))
        return self if same else JoinedIndex(views, self._names)

    def take_hold(self) -> None:
        """Nothing is written here. Raises StoreError."""
        self._refuse()

    def _refuse(self) -> NoReturn:
        raise only_read(f"what joins the indexes of {', '.join(self._names)}")

    # ---- documents and versions

    def iter_documents(self, *, among: Visible | None = None) -> Iterator[IndexedDocument]:
        """Yield the documents of all."""
        for index in self._members:
            yield from index.iter_documents(among=among)

    def documents(self, *, among: Visible | None = None) -> list[IndexedDocument]:
        """Return the documents of all, sorted by id."""
        return sorted(self.iter_documents(among=among), key=lambda d: d.id)

    def with_tables(self, *, among: Visible | None = None) -> list[IndexedDocument]:
        """Return those with rows of a table."""
        return sorted((d for i in self._members for d in i.with_tables(among=among)), key=lambda d: d.id)

    def texts_below(
        self, prefix: str, *, among: Visible | None = None, most: int | None = None
    ) -> Iterator[tuple[IndexedDocument, str]]:
        """Yield documents whose ids begin with a text, with their texts; at most `most`."""
        left = most
        for index in self._members:
            for pair in index.texts_below(prefix, among=among, most=left):
                yield pair
                left = None if left is None else left - 1
            if left == 0:
                return

    def labels_of(self, documents: Sequence[str]) -> dict[str, set[tuple[str, ...]]]:
        """Return the sets of labels of documents; of an id that two indexes have, those of both: who may see both."""
        found: dict[str, set[tuple[str, ...]]] = {}
        for index in self._members:
            for document, sets in index.labels_of(documents).items():
                found.setdefault(document, set()).update(sets)
        return found

    def label_sets(self) -> set[tuple[str, ...]]:
        """Return the different sets of labels."""
        return {labels for index in self._members for labels in index.label_sets()}

    def items(self, ids: Sequence[str]) -> dict[str, IndexedItem]:
        """Return what the indexes hold of items."""
        return _first_wins(index.items(ids) for index in self._members)

    def text(self, document: str, sha256: str | None = None) -> tuple[str, tuple[Page, ...]]:
        """Return a document's text and page map. Raises StoreError where no index has it."""
        for index in self._members:
            try:
                return index.text(document, sha256)
            except StoreError as error:
                last = error
        raise last

    def document_version(
        self, document: str, *, version: int | None = None, sha256: str | None = None
    ) -> tuple[StoredVersion, str, tuple[Page, ...]]:
        """Return a version, its text and page map. Raises StoreError where no index has it."""
        for index in self._members:
            try:
                return index.document_version(document, version=version, sha256=sha256)
            except StoreError as error:
                last = error
        raise last

    def versions(self, document: str) -> list[StoredVersion]:
        """Return the kept versions, of the first index that has the document. Raises StoreError."""
        for index in self._members:
            try:
                return index.versions(document)
            except StoreError:
                continue
        raise missing_document(document)

    def members(self, ids: Sequence[str]) -> list[StoredVersion]:
        """Return all kept versions of documents and of their items' documents."""
        return [version for index in self._members for version in index.members(ids)]

    def named(self, hashes: Collection[str], *, items: bool = True, without: Collection[str] = ()) -> set[str]:
        """Return those hashes that a document or its item has."""
        return {h for index in self._members for h in index.named(hashes, items=items, without=without)}

    def near_duplicates(self) -> list[DuplicateGroup]:
        """Return the groups within each index, largest first; copies in two indexes are not looked for."""
        found = [group for index in self._members for group in index.near_duplicates()]
        return sorted(found, key=lambda group: -len(group.documents))

    def titles_of(self, documents: Sequence[str]) -> dict[str, str]:
        """Return document → title."""
        return _first_wins(index.titles_of(documents) for index in self._members)

    # ---- chunks and search

    def chunk_count(self) -> int:
        """Return the number of chunks of all."""
        return sum(index.chunk_count() for index in self._members)

    def chunks_of(self, documents: Sequence[str]) -> list[Chunk]:
        """Return the chunks of documents in order of document and position."""
        found = (chunk for index in self._members for chunk in index.chunks_of(documents))
        return sorted(found, key=lambda c: (c.document, c.start))

    def chunks_with_vectors(self, documents: Sequence[str]) -> tuple[list[Chunk], NDArray[np.float32]]:
        """Return the chunks of documents and their vectors `(n, dim)`."""
        chunks: list[Chunk] = []
        vectors = []
        for index in self._members:
            own, of_them = index.chunks_with_vectors(documents)
            chunks += own
            vectors.append(of_them)
        return chunks, np.concatenate(vectors)

    def vectors_of(self, document: str) -> NDArray[np.float32]:
        """Return the vectors `(n, dim)` of a document's chunks, of the first index that has some."""
        found = [index.vectors_of(document) for index in self._members]
        return next((vectors for vectors in found if len(vectors)), found[0])

    def nearest_rows(
        self, vector: NDArray[np.float32], limit: int, *, where: Where | None = None, without: str | None = None
    ) -> list[FoundRow]:
        """Return the rows of highest cosine of all."""
        found = [index.nearest_rows(vector, limit, where=where, without=without) for index in self._members]
        return self._best(found, limit)

    def nearest_rows_of_many(self, queries: Sequence[VectorQuery]) -> list[list[FoundRow]]:
        """Return what `nearest_rows` does of several queries."""
        found = [index.nearest_rows_of_many(queries) for index in self._members]
        return [self._best(own, q.limit) for q, *own in zip(queries, *found, strict=True)]

    def matching_rows(self, words: str, limit: int, *, where: Where | None = None) -> list[FoundRow]:
        """Return the rows of highest BM25 score of all; each index counts its own words."""
        return self._best([index.matching_rows(words, limit, where=where) for index in self._members], limit)

    def _best(self, found: Sequence[Sequence[FoundRow]], limit: int) -> list[FoundRow]:
        own = ([replace(row, row=self._joined(row.row, place)) for row in rows] for place, rows in enumerate(found))
        return heapq.nlargest(limit, (row for rows in own for row in rows), key=lambda row: row.score)

    def _joined(self, row: int, place: int) -> int:
        return row * len(self._members) + place

    def chunks_at(self, rows: Sequence[int]) -> dict[int, Chunk]:
        """Return row → chunk for rows that a search found."""
        found: dict[int, Chunk] = {}
        count = len(self._members)
        for place, index in enumerate(self._members):
            own = [row // count for row in rows if row % count == place]
            found |= {self._joined(row, place): chunk for row, chunk in index.chunks_at(own).items()} if own else {}
        return found

    def filter_condition(self, filters: Filters, *, among: Visible | None = None) -> DocumentSet:
        """Return the documents of all that meet all filters. Raises UsageError for a field that none of them knows."""
        found: set[str] = set()
        faults: list[UsageError] = []
        for index in self._members:
            try:
                found |= index.filter_condition(filters, among=among).ids
            except UsageError as error:
                faults.append(error)
        if len(faults) == len(self._members):
            raise faults[0]
        return DocumentSet(frozenset(found))

    @property
    def prepared(self) -> bool:
        """Whether each is."""
        return all(index.prepared for index in self._members)

    def recall(self) -> Recall | None:
        """Return the lowest of the measured ones; None where all are exact."""
        found = [recall for index in self._members if (recall := index.recall()) is not None]
        return min(found, key=lambda recall: recall.value, default=None)

    # ---- summaries

    def summary_count(self) -> int:
        """Return the number of summaries of all."""
        return sum(index.summary_count() for index in self._members)

    def summaries_of(self, documents: Sequence[str]) -> dict[str, list[Summary]]:
        """Return the summaries of documents."""
        return _first_wins(index.summaries_of(documents) for index in self._members)

    def summary_nearness(self, vector: NDArray[np.float32], documents: Collection[str]) -> dict[str, float]:
        """Return document → cosine of its summary."""
        return _first_wins(index.summary_nearness(vector, documents) for index in self._members)

    def nearest_summaries(
        self, vector: NDArray[np.float32], limit: int, *, where: Where | None = None
    ) -> dict[str, float]:
        """Return the documents of nearest summary, best first."""
        found = _first_wins(index.nearest_summaries(vector, limit, where=where) for index in self._members)
        return dict(sorted(found.items(), key=lambda pair: -pair[1])[:limit])

    # ---- writing: none

    @property
    def unfinished(self) -> bool:
        """Whether an index was not finished."""
        return any(index.unfinished for index in self._members)

    @property
    def erasing(self) -> list[str]:
        """Documents whose erasure is not finished."""
        return [document for index in self._members for document in index.erasing]

    def recover(self) -> int:
        """Raise StoreError."""
        self._refuse()

    def vectors_for(self, texts: Sequence[str]) -> tuple[NDArray[np.bool_], NDArray[np.float32]]:
        """Raise StoreError."""
        self._refuse()

    def write(self, *_: Any, **__: Any) -> None:
        """Raise StoreError."""
        self._refuse()

    touch = relabel = retire = remove = finish = write


def _first_wins(found: Iterator[dict[str, Any]]) -> dict[str, Any]:
    """Join mappings; of a key that two have, the first one's value counts."""
    joined: dict[str, Any] = {}
    for one in found:
        joined = one | joined
    return joined
