"""An index → the same index with the vectors of another embedder, from the stored chunks and summaries; no source is read again.

Enters: an expert's index and an embedder. Leaves: a new generation in the old one's place, exchanged in one step; the old one
stays, so that readers lose nothing and going back costs no time. Knows nothing of how the embedder was made.
"""

from __future__ import annotations

import contextlib
import dataclasses
import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from doyen.config import Settings
from doyen.embedding import Embedder
from doyen.errors import StoreError
from doyen.index.generations import Generation, Record, Root, new_generation
from doyen.index.lance import LanceIndex
from doyen.index.places import BucketPlace, LancePlace
from doyen.index.rows import matrix, vector_column
from doyen.index.store import IndexManifest
from doyen.index.tables import PARTS, delete_rows, rows_of
from doyen.ingesting.opening import index_place, require_own, writing_store
from doyen.records import indexed_text

FOLDER = "embedders"
OLD_VECTORS = "old-vectors"
"""`<expert>/embedders/<name>/old-vectors/`: what the index had before embedder <name>."""
_AT_ONCE = 2048
PURPOSE = "reembed"
Progress = Callable[[int, int], None]
Known = Callable[[Sequence[str], NDArray[np.int64]], tuple[NDArray[np.bool_], NDArray[np.float32]]]
"""Texts and their hashes → which have a vector already `(n,) bool`, and the vectors `(n, dim)`."""


class OldVectors:
    """The vectors of an index before it was given others, by the hash of the text; a folder with two arrays."""

    def __init__(self, folder: Path) -> None:
        """Open what `revector` kept; it has no vector of anything where there is nothing."""
        self._hashes: NDArray[np.int64] = np.empty(0, dtype=np.int64)
        with contextlib.suppress(FileNotFoundError):
            self._vectors = np.load(folder / "vectors.npy", mmap_mode="r")
            self._hashes = np.load(folder / "hashes.npy")
        self._order = np.argsort(self._hashes)

    def find(self, hashes: NDArray[np.int64], dim: int) -> tuple[NDArray[np.bool_], NDArray[np.float32]]:
        """Return which texts have a vector `(n,) bool`, and the vectors `(n, dim) float32`, 0 where there is none."""
        vectors = np.zeros((len(hashes), dim), dtype=np.float32)
        if not len(self._hashes):
            return np.zeros(len(hashes), dtype=np.bool_), vectors
        ordered = self._hashes[self._order]
        at = np.searchsorted(ordered, hashes).clip(max=len(ordered) - 1)
        found = ordered[at] == hashes
        vectors[found] = self._vectors[self._order[at[found]]]
        return found, vectors


def forget_old_vectors(expert: Path) -> None:
    """Remove all vectors kept for going back, where documents are to vanish. Going back then embeds anew."""
    for kept in (expert / FOLDER).glob(f"*/{OLD_VECTORS}"):
        shutil.rmtree(kept)


def generations_of(expert: Path, settings: Settings) -> LancePlace | BucketPlace:
    """Return the place of an index that has generations. Raises StoreError for one in PostgreSQL, and for joined ones."""
    place = index_place(expert, settings)
    require_own(place)
    if not isinstance(place, LancePlace | BucketPlace):
        raise StoreError(
            f"the vectors of an index in PostgreSQL ({place.name}) are not exchanged by this version",
            hint="set [embedder] name, then doyen ingest --rebuild SOURCE…",
        )
    return place


def revector(
    expert: Path,
    settings: Settings,
    load: Callable[[], Embedder],
    name: str,
    *,
    keep: Path | None = None,
    known: OldVectors | None = None,
    progress: Progress | None = None,
) -> int:
    """Give every chunk and summary of the expert's index the vector of embedder `name`; return how many had to be computed.

    The index that is searched stays as it is until the new one is whole; then that takes its place in one step. `load`
    opens the embedder; its fingerprint goes into the index's manifest. `keep` is a folder for the old vectors, `known` has
    vectors of this embedder. Interrupted, it leaves the old index, and goes on when it is called again.

    Raises:
        StoreError: there is no index, or it is in PostgreSQL; another process writes to it, or the disk is full.
    """
    place = generations_of(expert, settings)
    place.open()  # whoever has no index is told before a model is loaded
    with place.only_writer(), writing_store():
        embedder = load()
        known_vectors = None if known is None else lambda _, hashes: known.find(hashes, embedder.dim)
        return remake(place.root, settings, embedder, name, keep=keep, known=known_vectors, progress=progress)


def remake(
    root: Root,
    settings: Settings,
    embedder: Embedder,
    name: str,
    *,
    keep: Path | None = None,
    known: Known | None = None,
    progress: Progress | None = None,
) -> int:
    """Make a generation with the vectors of an embedder and switch to it, for whoever holds the index; see `revector`."""
    days = settings.documents.keep_versions_days
    record = _recovered(root, days)
    manifest = dataclasses.replace(
        record.manifest,
        embedder=name,
        fingerprint=embedder.fingerprint,
        dim=embedder.dim,
        counter=embedder.counter.fingerprint,
        before=record.manifest.embedder,
    )
    coming = _upcoming(root, manifest)
    record = _record(root)
    old, new = LanceIndex(root, record, newest=True), LanceIndex(root, record, coming)
    total = old.chunk_count() + old.summary_count()
    kept = _arrays(keep, total, old.manifest.dim) if keep else None
    computed = _Filling(old, new, embedder, known, kept, progress, total).fill()
    for table in ("documents", "versions"):
        _copy(getattr(old.tables, table), getattr(new.tables, table))
    new.finish(keep_versions_days=days)
    return computed


def _record(root: Root) -> Record:
    found = root.read()
    if found is None:
        raise StoreError(f"there is no index in {root.name}", hint="doyen ingest FOLDER")
    return found[0]


def _recovered(root: Root, days: float) -> Record:
    """Return the record of an index without an unfinished write."""
    old = LanceIndex(root, _record(root), newest=True)
    if old.unfinished:
        old.recover()
        old.finish(keep_versions_days=days)
    return _record(root)


def _upcoming(root: Root, manifest: IndexManifest) -> Generation:
    """Return the generation that was begun with this manifest, or begin one."""
    found = root.read()
    assert found is not None
    record, mark = found
    begun = record.upcoming
    if begun is not None and begun.purpose == PURPOSE and begun.manifest == manifest:
        return begun
    if begun is not None:
        root.drop(begun.id)
    coming = new_generation(manifest, PURPOSE)
    root.write(dataclasses.replace(record, upcoming=coming), mark)
    return coming


def _copy(old: Any, new: Any) -> None:
    """Make a table of what does not depend on vectors the same as another one."""
    import pyarrow as pa

    if new.count_rows():
        new.delete("true")
    if old.count_rows():
        new.add(
            pa.RecordBatchReader.from_batches(old.schema, (b.cast(old.schema) for b in rows_of(old, old.schema.names)))
        )


@dataclasses.dataclass(slots=True)
class _Filling:
    """Brings chunks and summaries of a generation in step with another one; memory holds _AT_ONCE of them, and 8 bytes a row."""

    old: LanceIndex
    new: LanceIndex
    embedder: Embedder
    known: Known | None
    kept: tuple[Any, Any] | None
    progress: Progress | None
    total: int
    done: int = 0
    computed: int = 0

    def fill(self) -> int:
        """Add what is missing, take away what is too much; return how many vectors were computed."""
        for name in PARTS:
            there = _keys_of(getattr(self.new.tables, name))
            known = set(there[0].tolist())
            wanted = [np.empty(0, np.int64)]
            for rows in _slices(getattr(self.old.tables, name)):
                keys = _keys(rows)
                wanted.append(keys)
                self._keep(rows)
                if (missing := np.array([i for i, key in enumerate(keys.tolist()) if key not in known])).size:
                    self._add(name, rows.take(missing))
                self.done += rows.num_rows
                if self.progress:
                    self.progress(self.done, self.total)
            delete_rows(getattr(self.new.tables, name), there[1][~np.isin(there[0], np.concatenate(wanted))])
        return self.computed

    def _keep(self, rows: Any) -> None:
        """Put the old vectors of rows aside."""
        if self.kept is not None:
            place = slice(self.done, self.done + rows.num_rows)
            self.kept[0][place] = rows["hash"].to_numpy()
            self.kept[1][place] = matrix(rows["vector"], self.old.manifest.dim)

    def _add(self, name: str, rows: Any) -> None:
        """Write rows with new vectors."""
        texts, hashes = _texts(name, rows), rows["hash"].to_numpy()
        there, vectors = np.zeros(len(texts), np.bool_), np.zeros((len(texts), self.embedder.dim), np.float32)
        if self.known is not None:
            there, vectors = self.known(texts, hashes)
        # the summary of a short document is one of its chunks; labels may have changed since an interruption
        stored, own = self.new.vectors_for(texts)
        vectors[stored], there = own[stored], there | stored
        missing = np.flatnonzero(~there).tolist()
        if missing:
            vectors[missing] = self.embedder.embed([texts[i] for i in missing])
        table = getattr(self.new.tables, name)
        place, field = rows.schema.get_field_index("vector"), table.schema.field("vector")
        self.new.home.require_hold()
        table.add(rows.set_column(place, field, vector_column(vectors)))
        self.new.added(texts)
        self.computed += len(missing)


def _keys(rows: Any) -> NDArray[np.int64]:
    """Return a 64-bit key of each row: what makes it the same row in another generation."""
    columns = [rows[name].to_pylist() for name in ("document", "revision", "start", "hash", "labels")]
    keys = (hash((d, r, s, h, tuple(labels or ()))) for d, r, s, h, labels in zip(*columns, strict=True))
    return np.fromiter(keys, dtype=np.int64, count=rows.num_rows)


def _keys_of(table: Any) -> tuple[NDArray[np.int64], NDArray[np.uint64]]:
    """Return the keys of all rows of a table, and their row ids."""
    keys, ids = [np.empty(0, np.int64)], [np.empty(0, np.uint64)]
    query = table.search().select(["document", "revision", "start", "hash", "labels"]).with_row_id(True).limit(None)
    for batch in query.to_batches():
        keys.append(_keys(batch))
        ids.append(batch["_rowid"].to_numpy())
    return np.concatenate(keys), np.concatenate(ids)


def _texts(name: str, rows: Any) -> list[str]:
    """Return what is embedded of rows of a table."""
    if name == "summaries":
        found: list[str] = rows["indexed"].to_pylist()
        return found
    return list(map(indexed_text, rows["context"].to_pylist(), rows["text"].to_pylist()))


def _arrays(folder: Path, rows: int, dim: int) -> tuple[Any, Any]:
    """Make the two files of OldVectors."""
    folder.mkdir(parents=True, exist_ok=True)
    create = np.lib.format.open_memmap
    hashes = create(folder / "hashes.npy", mode="w+", dtype=np.int64, shape=(rows,))
    return hashes, create(folder / "vectors.npy", mode="w+", dtype=np.float16, shape=(rows, dim))


def _slices(table: Any) -> Iterator[Any]:
    """Yield all rows in Arrow tables of at most _AT_ONCE rows, most of them of so many."""
    import pyarrow as pa

    held: list[Any] = []
    for batch in rows_of(table, table.schema.names):
        held.append(batch)
        if sum(b.num_rows for b in held) >= _AT_ONCE:
            rows, held = pa.Table.from_batches(held), []
            yield from (rows.slice(start, _AT_ONCE) for start in range(0, rows.num_rows, _AT_ONCE))
    if held:
        yield pa.Table.from_batches(held)
