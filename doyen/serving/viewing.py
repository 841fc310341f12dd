"""An index as one who asks may see it: what is hidden from them is not there, and an error does not tell the difference.

Enters: who asks, ids of documents. Leaves: documents, versions, the condition that searches are held to. Labels are tested
in the store's query; knows no HTTP.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import cached_property

from doyen.errors import StoreError
from doyen.index.filtering import Visible, Where
from doyen.index.rows import IndexedDocument, StoredVersion
from doyen.index.store import Index
from doyen.labelling import Labeller
from doyen.records import Page


class Viewer:
    """The documents of one index (None: nothing is indexed yet) as one principal sees them; `visible` None: all."""

    def __init__(self, index: Index | None, visible: Visible | None, labeller: Labeller) -> None:
        self._index, self.visible, self._labeller = index, visible, labeller

    @property
    def index(self) -> Index:
        """The index. Raises StoreError where nothing is indexed."""
        if self._index is None:
            raise StoreError("nothing is indexed yet", hint="POST /api/upload, or doyen ingest FOLDER")
        return self._index

    @cached_property
    def _label_sets(self) -> set[tuple[str, ...]]:
        return self._index.label_sets() if self._index is not None else set()

    @property
    def labels_used(self) -> bool:
        """Whether a document has labels, or will get some."""
        return self._labeller.is_used or any(self._label_sets)

    @property
    def sees_all(self) -> bool:
        """Whether there is no document, retired versions included, that they may not see.

        Without an index nothing tells; then only where nothing will get labels either.
        """
        if self.visible is None or self._index is None:
            return self.sees_others_work
        return all(map(self.visible.shows, self._label_sets))

    @property
    def sees_others_work(self) -> bool:
        """Whether they may see what names files of others, some of them not indexed: failures, jobs."""
        return self.visible is None or not self.labels_used

    # ---- searches

    def where(self, filters: Sequence[str] = ()) -> Where | None:
        """Return what a search is held to. Raises UsageError for a filter on a field that they do not know."""
        documents = self.index.filter_condition(filters, among=self.visible) if filters else None
        return documents if self.visible is None else Visible(self.visible.labels, documents)

    # ---- documents

    def documents(self) -> list[IndexedDocument]:
        """Return the documents, by id."""
        return self._index.documents(among=self.visible) if self._index is not None else []

    def hidden(self, documents: Iterable[str]) -> set[str]:
        """Return those of some documents that they may not see; where labels are used, what is unknown is hidden."""
        wanted = list(dict.fromkeys(documents))
        if self.visible is None or not wanted:
            return set()
        known = self._index.labels_of(wanted) if self._index is not None else {}
        found = {d for d, sets in known.items() if not all(map(self.visible.shows, sets))}
        unknown = [d for d in wanted if d not in known]
        return found | (set(unknown) if unknown and self.labels_used else set())

    def require(self, document: str) -> None:
        """Raise StoreError where a document is not indexed, or hidden."""
        if document in self.hidden([document]):
            raise missing(document)

    def version(self, document: str, version: int | None = None) -> tuple[StoredVersion, str, tuple[Page, ...]]:
        """Return a version of a document, its text and pages. Raises StoreError where it is not there, or hidden."""
        if document in self.hidden([document]):
            raise missing(document, version)
        try:
            stored, text, pages = self.index.document_version(document, version=version)
        except StoreError:
            raise missing(document, version) from None
        if self.visible is not None and not self.visible.shows(stored.labels):
            raise missing(document, version)
        return stored, text, pages

    def versions(self, document: str) -> list[StoredVersion]:
        """Return the versions of a document that they may see, newest first."""
        self.require(document)
        kept = self.index.versions(document)
        return kept if self.visible is None else [v for v in kept if self.visible.shows(v.labels)]

    def labels(self, labels: Sequence[str]) -> list[str]:
        """Return those of a document's labels that they may know: their own."""
        return [label for label in labels if self.visible is None or label in self.visible.labels]


def missing(document: str, version: int | None = None) -> StoreError:
    """Return the error for what is not there, or not for all eyes."""
    if version is None:
        return StoreError(f"no document '{document}' is indexed")
    return StoreError(f"'{document}' in version {version} is not kept")
