"""The indexes of several experts, read as one: each search goes to all of them, and the best of all is returned.

For what is kept apart on purpose (a department's documents in its own folder, bucket or database, under its own writer) and
yet asked together. Documents are named after their expert, `claims/handbook.pdf`, so that two of one name stay two. Nothing is
written here. Vectors compare, as all are of one embedder; BM25 counts words within each index, so that its scores differ a
little from those of one index with the same documents.
"""

from __future__ import annotations

import heapq
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
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
    """Several open indexes by the names of their experts; reads alone.

    A row's address is `row of its index × number of indexes + place of the index`.
    """

    def __init__(self, members: Mapping[str, Index]) -> None:
        """Take open indexes. Raises StoreError where their vectors do not compare."""
        self._members = dict(members)
        self._last = self
        (name, first), *others = ((name, index.manifest) for name, index in self._members.items())
        for other_name, other in others:
            if not same_vectors(first.fingerprint, other.fingerprint) or first.dim != other.dim:
                raise StoreError(
                    f"{name} was made with embedder '{first.embedder}', {other_name} with '{other.embedder}'",
                    hint=f"doyen reembed --model {first.embedder} in {other_name}",
                )
        most = max(index.manifest.chunk_tokens for index in self._members.values())
        self.manifest: IndexManifest = replace(first, chunk_tokens=most)

    def view(self) -> JoinedIndex:
        """Return the indexes as each was last finished."""
        views = {name: index.view() for name, index in self._members.items()}
        if any(self._last._members[name] is not index for name, index in views.items()):
            self._last = JoinedIndex(views)
        return self._last

    def take_hold(self) -> None:
        """Nothing is written here. Raises StoreError."""
        self._refuse()

    def _refuse(self) -> NoReturn:
        raise only_read(f"what joins the indexes of {', '.join(self._members)}")

    # ---- names

    def _parted(self, ids: Iterable[str]) -> Iterator[tuple[str, Index, list[str]]]:
        """Yield each index that has some of these ids, with its name and what it calls them itself."""
        wanted = list(ids)
        for name, index in self._members.items():
            if own := [one.removeprefix(f"{name}/") for one in wanted if one.startswith(f"{name}/")]:
                yield name, index, own

    def _member(self, document: str) -> tuple[str, Index, str]:
        """Return the index of a document, with its name and what it calls the document. Raises StoreError."""
        name, _, own = document.partition("/")
        if name not in self._members:
            raise missing_document(document)
        return name, self._members[name], own

    # ---- documents and versions

    def iter_documents(self, *, among: Visible | None = None) -> Iterator[IndexedDocument]:
        """Yield the documents of all."""
        for name, index in self._members.items():
            seen = _visible(among, name)
            yield from (_named(document, name) for document in index.iter_documents(among=seen))

    def documents(self, *, among: Visible | None = None) -> list[IndexedDocument]:
        """Return the documents of all, sorted by id."""
        return sorted(self.iter_documents(among=among), key=lambda d: d.id)

    def with_tables(self, *, among: Visible | None = None) -> list[IndexedDocument]:
        """Return those with rows of a table."""
        members = self._members.items()
        found = (_named(d, name) for name, index in members for d in index.with_tables(among=_visible(among, name)))
        return sorted(found, key=lambda d: d.id)

    def texts_below(
        self, prefix: str, *, among: Visible | None = None, most: int | None = None
    ) -> Iterator[tuple[IndexedDocument, str]]:
        """Yield documents whose ids begin with a text, with their texts; at most `most`."""
        left = most
        for name, index in self._members.items():
            if left == 0 or not (f"{name}/".startswith(prefix) or prefix.startswith(f"{name}/")):
                continue
            own = prefix.removeprefix(f"{name}/") if prefix.startswith(f"{name}/") else ""
            for document, text in index.texts_below(own, among=_visible(among, name), most=left):
                yield _named(document, name), text
                left = None if left is None else left - 1

    def labels_of(self, documents: Sequence[str]) -> dict[str, set[tuple[str, ...]]]:
        """Return the sets of labels of documents."""
        parted = self._parted(documents)
        return {f"{name}/{d}": sets for name, index, own in parted for d, sets in index.labels_of(own).items()}

    def label_sets(self) -> set[tuple[str, ...]]:
        """Return the different sets of labels."""
        return {labels for index in self._members.values() for labels in index.label_sets()}

    def items(self, ids: Sequence[str]) -> dict[str, IndexedItem]:
        """Return what the indexes hold of items."""
        found = (
            replace(item, id=f"{name}/{item.id}", documents=tuple(f"{name}/{d}" for d in item.documents))
            for name, index, own in self._parted(ids)
            for item in index.items(own).values()
        )
        return {item.id: item for item in found}

    def text(self, document: str, sha256: str | None = None) -> tuple[str, tuple[Page, ...]]:
        """Return a document's text and page map. Raises StoreError."""
        _, index, own = self._member(document)
        return index.text(own, sha256)

    def document_version(
        self, document: str, *, version: int | None = None, sha256: str | None = None
    ) -> tuple[StoredVersion, str, tuple[Page, ...]]:
        """Return a version, its text and page map. Raises StoreError."""
        name, index, own = self._member(document)
        stored, text, pages = index.document_version(own, version=version, sha256=sha256)
        return _version(stored, name), text, pages

    def versions(self, document: str) -> list[StoredVersion]:
        """Return the kept versions. Raises StoreError."""
        name, index, own = self._member(document)
        return [_version(stored, name) for stored in index.versions(own)]

    def members(self, ids: Sequence[str]) -> list[StoredVersion]:
        """Return all kept versions of documents and of their items' documents."""
        return [_version(stored, name) for name, index, own in self._parted(ids) for stored in index.members(own)]

    def named(self, hashes: Collection[str], *, items: bool = True, without: Collection[str] = ()) -> set[str]:
        """Return those hashes that a document or its item has."""
        apart = {name: own for name, _, own in self._parted(without)}
        members = self._members.items()
        return {h for name, i in members for h in i.named(hashes, items=items, without=apart.get(name, ()))}

    def near_duplicates(self) -> list[DuplicateGroup]:
        """Return the groups within each index, largest first; copies in two indexes are not looked for."""
        found = [
            replace(group, documents=tuple(f"{name}/{d}" for d in group.documents))
            for name, index in self._members.items()
            for group in index.near_duplicates()
        ]
        return sorted(found, key=lambda group: -len(group.documents))

    def titles_of(self, documents: Sequence[str]) -> dict[str, str]:
        """Return document → title."""
        parted = self._parted(documents)
        return {f"{name}/{d}": title for name, index, own in parted for d, title in index.titles_of(own).items()}

    # ---- chunks and search

    def chunk_count(self) -> int:
        """Return the number of chunks of all."""
        return sum(index.chunk_count() for index in self._members.values())

    def chunks_of(self, documents: Sequence[str]) -> list[Chunk]:
        """Return the chunks of documents in order of document and position."""
        found = (_of(chunk, name) for name, index, own in self._parted(documents) for chunk in index.chunks_of(own))
        return sorted(found, key=lambda c: (c.document, c.start))

    def chunks_with_vectors(self, documents: Sequence[str]) -> tuple[list[Chunk], NDArray[np.float32]]:
        """Return the chunks of documents and their vectors `(n, dim)`."""
        chunks: list[Chunk] = []
        vectors = [np.empty((0, self.manifest.dim), dtype=np.float32)]
        for name, index, own in self._parted(documents):
            found, of_them = index.chunks_with_vectors(own)
            chunks += [_of(chunk, name) for chunk in found]
            vectors.append(of_them)
        return chunks, np.concatenate(vectors)

    def vectors_of(self, document: str) -> NDArray[np.float32]:
        """Return the vectors `(n, dim)` of a document's chunks. Raises StoreError where no expert of its name is joined."""
        _, index, own = self._member(document)
        return index.vectors_of(own)

    def nearest_rows(
        self, vector: NDArray[np.float32], limit: int, *, where: Where | None = None, without: str | None = None
    ) -> list[FoundRow]:
        """Return the rows of highest cosine of all."""
        apart = {name: own for name, _, (own, *_) in self._parted([without] if without else [])}
        members = self._members.items()
        return self._best(
            [i.nearest_rows(vector, limit, where=_where(where, name), without=apart.get(name)) for name, i in members],
            limit,
        )

    def nearest_rows_of_many(self, queries: Sequence[VectorQuery]) -> list[list[FoundRow]]:
        """Return what `nearest_rows` does of several queries."""
        found = [
            index.nearest_rows_of_many([replace(query, where=_where(query.where, name)) for query in queries])
            for name, index in self._members.items()
        ]
        return [self._best(own, query.limit) for query, *own in zip(queries, *found, strict=True)]

    def matching_rows(self, words: str, limit: int, *, where: Where | None = None) -> list[FoundRow]:
        """Return the rows of highest BM25 score of all; each index counts its own words."""
        members = self._members.items()
        return self._best([i.matching_rows(words, limit, where=_where(where, name)) for name, i in members], limit)

    def _best(self, found: Sequence[Sequence[FoundRow]], limit: int) -> list[FoundRow]:
        placed = (
            (row, place, name)
            for place, (name, rows) in enumerate(zip(self._members, found, strict=True))
            for row in rows
        )
        best = heapq.nlargest(limit, placed, key=lambda one: one[0].score)
        count = len(self._members)
        return [
            replace(row, row=row.row * count + place, document=f"{name}/{row.document}") for row, place, name in best
        ]

    def chunks_at(self, rows: Sequence[int]) -> dict[int, Chunk]:
        """Return row → chunk for rows that a search found."""
        found: dict[int, Chunk] = {}
        count = len(self._members)
        for place, (name, index) in enumerate(self._members.items()):
            if own := [row // count for row in rows if row % count == place]:
                found |= {row * count + place: _of(chunk, name) for row, chunk in index.chunks_at(own).items()}
        return found

    def filter_condition(self, filters: Filters, *, among: Visible | None = None) -> DocumentSet:
        """Return the documents of all that meet all filters; folders are those within each expert.

        Raises:
            UsageError: none of them knows a field.
        """
        found: set[str] = set()
        faults: list[UsageError] = []
        for name, index in self._members.items():
            try:
                found |= {f"{name}/{d}" for d in index.filter_condition(filters, among=_visible(among, name)).ids}
            except UsageError as error:
                faults.append(error)
        if len(faults) == len(self._members):
            raise faults[0]
        return DocumentSet(frozenset(found))

    @property
    def prepared(self) -> bool:
        """Whether each is."""
        return all(index.prepared for index in self._members.values())

    def recall(self) -> Recall | None:
        """Return the lowest of the measured ones; None where all are exact."""
        found = [recall for index in self._members.values() if (recall := index.recall()) is not None]
        return min(found, key=lambda recall: recall.value, default=None)

    # ---- summaries

    def summary_count(self) -> int:
        """Return the number of summaries of all."""
        return sum(index.summary_count() for index in self._members.values())

    def summaries_of(self, documents: Sequence[str]) -> dict[str, list[Summary]]:
        """Return the summaries of documents."""
        return {
            f"{name}/{d}": [_of(summary, name) for summary in summaries]
            for name, index, own in self._parted(documents)
            for d, summaries in index.summaries_of(own).items()
        }

    def summary_nearness(self, vector: NDArray[np.float32], documents: Collection[str]) -> dict[str, float]:
        """Return document → cosine of its summary."""
        parted = self._parted(documents)
        return {f"{name}/{d}": c for name, index, own in parted for d, c in index.summary_nearness(vector, own).items()}

    def nearest_summaries(
        self, vector: NDArray[np.float32], limit: int, *, where: Where | None = None
    ) -> dict[str, float]:
        """Return the documents of nearest summary, best first."""
        found = {
            f"{name}/{document}": cosine
            for name, index in self._members.items()
            for document, cosine in index.nearest_summaries(vector, limit, where=_where(where, name)).items()
        }
        return dict(heapq.nlargest(limit, found.items(), key=lambda pair: pair[1]))

    # ---- writing: none

    @property
    def unfinished(self) -> bool:
        """Whether an index was not finished."""
        return any(index.unfinished for index in self._members.values())

    @property
    def erasing(self) -> list[str]:
        """Documents whose erasure is not finished."""
        return [f"{name}/{document}" for name, index in self._members.items() for document in index.erasing]

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


# ---- records under their expert's name


def _of(record: Any, name: str) -> Any:
    """Return a chunk or a summary."""
    return replace(record, document=f"{name}/{record.document}")


def _named(document: IndexedDocument, name: str) -> IndexedDocument:
    return replace(document, id=f"{name}/{document.id}", item=f"{name}/{document.item}" if document.item else "")


def _version(stored: StoredVersion, name: str) -> StoredVersion:
    item = f"{name}/{stored.item}" if stored.item else ""
    return replace(stored, document=f"{name}/{stored.document}", item=item)


def _where(where: Where | None, name: str) -> Where | None:
    """Return what a search of one index is held to: its own documents of a set."""
    if isinstance(where, Visible):
        return _visible(where, name)
    return _documents(where, name) if isinstance(where, DocumentSet) else where


def _visible(visible: Visible | None, name: str) -> Visible | None:
    if visible is None or visible.documents is None:
        return visible
    return replace(visible, documents=_documents(visible.documents, name))


def _documents(found: DocumentSet, name: str) -> DocumentSet:
    return DocumentSet(frozenset(d.removeprefix(f"{name}/") for d in found.ids if d.startswith(f"{name}/")))
