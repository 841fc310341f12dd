"""Items → tasks: what is new or changed is read and handed on, the rest is noted as unchanged, moved or failed.

Enters: sources and an index. Leaves: a `ParseTask` for each item to parse. An id that two files claim is refused before
anything of a folder is handed on. Reads bytes, parses none.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

from doyen.errors import DocumentError, UsageError
from doyen.index.rows import IndexedDocument, IndexedItem
from doyen.index.store import Index
from doyen.ingesting.faults import Fault, FaultBook, reader_version
from doyen.ingesting.report import IngestReport
from doyen.labelling import Labeller
from doyen.parsing.tasks import ParseTask
from doyen.sources import Item, Source

ITEMS_AT_ONCE = 500
BYTES_AT_ONCE = 64 << 20


@dataclasses.dataclass(slots=True)
class Listing:
    """A source, and its items: a folder's are listed before anything is written, others come as a stream."""

    source: Source
    items: Iterable[Item]
    failed: DocumentError | None = None

    @property
    def local(self) -> bool:
        """Whether it is a folder or a file of this machine."""
        return isinstance(self.items, list)


def is_local(place: str) -> bool:
    """Whether a source or root is a path, not a URI."""
    return "://" not in place


def list_sources(sources: Sequence[Source]) -> list[Listing]:
    """List the local sources; one that cannot be listed is marked as failed, unless none is left.

    Raises:
        DocumentError: no source can be listed.
    """
    listings = []
    for source in sources:
        try:
            listings.append(Listing(source, list(source.items()) if is_local(source.root) else source.items()))
        except DocumentError as error:
            listings.append(Listing(source, [], error))
    if listings and all(listing.failed for listing in listings):
        raise next(listing.failed for listing in listings if listing.failed)
    return listings


def refuse_claims(items: Iterable[Item]) -> None:
    """Refuse two files of one run that would have the same id. Raises UsageError."""
    claims: dict[str, str] = {}
    for item in items:
        other = claims.setdefault(item.id, item.source)
        if other != item.source:
            raise UsageError(
                f"{other} and {item.source} would both be '{item.id}'", hint="ingest one of the two with --name NAME"
            )


class Selector:
    """What one run makes of each item. `seen` holds the ids that the sources listed."""

    def __init__(
        self,
        index: Index,
        report: IngestReport,
        faults: FaultBook,
        warnings: FaultBook,
        *,
        retry: bool,
        prune: bool,
        most_bytes: int,
        settled: Callable[[], None],
        label: Labeller,
    ) -> None:
        self._index, self._report, self._faults, self._warnings = index, report, faults, warnings
        self._retry, self._prune, self._settled, self._label = retry, prune, settled, label
        self._most_bytes = most_bytes
        self._version = reader_version()
        self._claims: dict[str, str] = {}
        self._known: dict[str, IndexedItem] = {}
        self.parsing: dict[str, IndexedItem | None] = {}
        self.moved: list[Item] = []
        self.restamped: list[Item] = []
        self.relabelled: list[Item] = []
        self.taken_over: Counter[str] = Counter()
        self.total = 0

    def __contains__(self, item: object) -> bool:
        """Whether a source of this run listed the item."""
        return item in self._claims

    def prepare(self, listings: Sequence[Listing]) -> None:
        """Give local items the ids that they have in the index already, and refuse those that collide."""
        for listing in listings:
            if listing.local:
                items = list(listing.items)
                self._look_up(items)
                listing.items = self._with_known_roots(items)
                self.total += len(items)
        local = [item for listing in listings if listing.local for item in listing.items]
        refuse_claims(local)
        for item in local:
            self._refuse_replacing(item)

    def tasks(self, listings: Sequence[Listing]) -> Iterator[ParseTask]:
        """Yield what is to be parsed, source by source; a source that breaks off is marked as failed."""
        for listing in listings:
            if listing.failed:
                continue
            try:
                if listing.local:
                    yield from self._select_all(listing.items)
                else:
                    yield from self._select_stream(iter(listing.items))
            except DocumentError as error:
                listing.failed = error

    def _select_stream(self, items: Iterator[Item]) -> Iterator[ParseTask]:
        while batch := take_batch(items):
            self.total += len(batch)
            self._look_up(batch)
            for item in batch:
                self._refuse_replacing(item)
            yield from self._select_all(batch)
            for item in batch:
                self._known.pop(item.id, None)

    def _look_up(self, items: Sequence[Item]) -> None:
        for start in range(0, len(items), ITEMS_AT_ONCE):
            self._known |= self._index.items([item.id for item in items[start : start + ITEMS_AT_ONCE]])

    # ---- ids

    def _with_known_roots(self, items: Sequence[Item]) -> list[Item]:
        """Files of a folder that is already indexed, seen from a folder above or below, keep the ids they have there."""
        strange = {i.source for i in items if i.id not in self._known or self._known[i.id].source != i.source}
        if not strange:
            return [self._in_place(item) for item in items]
        there: dict[str, list[IndexedDocument]] = {}
        for document in self._index.iter_documents():
            if document.source in strange and document.id == document.item:
                there.setdefault(document.source, []).append(document)
        found = []
        for item in items:
            match = next((d for d in there.get(item.source, ()) if _same_place(d, item)), None)
            found.append(dataclasses.replace(item, id=match.id, root=match.root) if match else self._in_place(item))
        self._look_up([item for item, before in zip(found, items, strict=True) if item.id != before.id])
        return found

    def _in_place(self, item: Item) -> Item:
        known = self._known.get(item.id)
        same = known is not None and known.source == item.source
        return dataclasses.replace(item, root=known.root) if known and same else item

    def _refuse_replacing(self, item: Item) -> None:
        before = self._known.get(item.id)
        if before is None or before.root == item.root or before.source == item.source or self._prune:
            return
        if not is_local(before.source) or Path(before.source).exists():
            raise UsageError(
                f"'{item.id}' is already indexed from {before.source}; {item.source} would take its place",
                hint="ingest this source with --name NAME",
            )

    # ---- what is to be done

    def _select_all(self, items: Iterable[Item]) -> Iterator[ParseTask]:
        for item in items:
            other = self._claims.setdefault(item.id, item.source)
            if other != item.source:
                self.fail(item.id, item.source, item.root, f"has the same id '{item.id}' as {other}")
                continue
            task = self._select(item, self._known.get(item.id))
            if task is not None:
                yield task

    def _select(self, item: Item, before: IndexedItem | None) -> ParseTask | None:
        if before and self._label(item) != before.labels:  # also where it cannot be read any more
            self.relabelled.append(item)
        again = self._retry and bool(self._faults.before(item.id))
        if before and item.stamp and (item.stamp, item.root) == (before.stamp, before.root) and not again:
            self._leave(item, before)
            return None
        if item.size > self._most_bytes:
            reason = f"has {item.size:,} bytes, more than the {self._most_bytes:,} that [ingest] file_memory_gib allows"
            self.fail(item.id, item.source, item.root, reason)
            return None
        try:
            data = item.read()
        except (DocumentError, OSError) as error:
            reason = error.strerror or str(error) if isinstance(error, OSError) else str(error)
            self.fail(item.id, item.source, item.root, reason)
            return None
        sha256 = hashlib.sha256(data).hexdigest()
        if before and before.sha256 == sha256 and not again:
            self._leave(item, before)
            return None
        failed = [f for f in self._faults.before(item.id) if (f.sha256, f.doyen) == (sha256, self._version)]
        if failed and not again:
            self._note_kept(item.id)
            return None
        self.parsing[item.id] = before
        self._faults.clear(item.id)
        self._warnings.clear(item.id)
        labels = self._label(item)  # after it was read: an upload's labels are there before it is
        return ParseTask(item.id, item.name, item.source, item.root, data, sha256, item.stamp, item.modified_at, labels)

    def _leave(self, item: Item, before: IndexedItem) -> None:
        """Note an item whose content is that of the index."""
        if item in self.relabelled[-1:]:
            self._report.relabelled += before.documents
        if (item.root, item.source) != (before.root, before.source):
            self.moved.append(item)
            self.taken_over[before.root] += len(before.documents)
            self._report.moved += before.documents
        else:
            if item.stamp != before.stamp and item.stamp:
                self.restamped.append(item)
            self._report.unchanged += before.documents
        if any(fault.sha256 == before.sha256 for fault in self._faults.before(item.id)):
            self._note_kept(item.id)
        else:
            self._faults.clear(item.id)
        self._warnings.keep(item.id)
        self._settled()

    def _note_kept(self, item: str) -> None:
        self._report.failed += [(fault.file, fault.reason) for fault in self._faults.keep(item)]
        self._settled()

    def fail(self, item: str, file: str, root: str, reason: str, sha256: str = "") -> None:
        """Note an item, or a document in it, that cannot be read."""
        self._faults.note(Fault(file, reason, item, root, sha256, self._version if sha256 else ""))
        self._report.failed.append((file, reason))


def take_batch(items: Iterator[Item]) -> list[Item]:
    """Take the next items of a stream, few where they are large: those of a site hold their bytes already."""
    batch: list[Item] = []
    held = 0
    for item in items:
        batch.append(item)
        held += item.size
        if len(batch) == ITEMS_AT_ONCE or held > BYTES_AT_ONCE:
            break
    return batch


def _same_place(document: IndexedDocument, item: Item) -> bool:
    """Whether a document has this item's id seen from a folder above or below."""
    if document.id.endswith(item.id):
        return True
    below = document.root != item.root and Path(document.root).is_relative_to(item.root)
    return below and item.id.endswith(document.id)
