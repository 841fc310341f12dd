"""An index → the same index with the vectors of another embedder, from the stored chunks and summaries; no source is read again.

Enters: an expert's index and an embedder. Leaves: a new index in the old one's place, exchanged in one step, and the old
vectors in a file, so that going back costs no time. Knows nothing of how the embedder was made.
"""

from __future__ import annotations

import contextlib
import ctypes
import dataclasses
import json
import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from doyen.config import Settings, write_atomic
from doyen.embedding import Embedder
from doyen.errors import StoreError
from doyen.index.lance import LanceIndex
from doyen.index.places import LancePlace
from doyen.index.rows import matrix, vector_column
from doyen.index.tables import PARTS, rows_of
from doyen.ingesting.faults import FAILED_FILE, WARNINGS_FILE
from doyen.ingesting.opening import index_place, writing_store
from doyen.records import indexed_text

FOLDER = "embedders"
OLD_VECTORS = "old-vectors"
"""`<expert>/embedders/<name>/old-vectors/`: what the index had before embedder <name>."""
_AT_ONCE = 2048
_KEPT = ("documents.lance", "versions.lance", "sources", FAILED_FILE, WARNINGS_FILE)
Progress = Callable[[int, int], None]


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

    The index that is searched stays as it is until the new one is whole; then the two are exchanged. `load` opens the
    embedder; its fingerprint goes into the index's manifest. `keep` is a folder for the old vectors, `known` has vectors
    of this embedder. Interrupted, it leaves the old index.

    Raises:
        StoreError: there is no index, or it is in PostgreSQL; another process writes to it, or the disk is full.
    """
    place = index_place(expert, settings)
    if not isinstance(place, LancePlace):
        raise StoreError(
            f"the vectors of an index in PostgreSQL ({place.name}) are not exchanged by this version",
            hint="set [embedder] name, then doyen ingest --rebuild SOURCE…",
        )
    folder = place.folder
    old = LanceIndex.open(folder)
    new_folder = folder.with_name(f".{folder.name}.new")
    with place.only_writer(), writing_store():
        if old.unfinished:
            old.recover()
            old.finish(keep_versions_days=settings.documents.keep_versions_days)
        shutil.rmtree(new_folder, ignore_errors=True)
        embedder = load()
        manifest = dataclasses.replace(old.manifest, embedder=name, fingerprint=embedder.fingerprint, dim=embedder.dim)
        try:
            _copy(folder, new_folder)
            write_atomic(new_folder / "manifest.json", json.dumps(dataclasses.asdict(manifest), indent=1))
            new = LanceIndex.open(new_folder)
            computed = _fill(old, new, embedder, keep, known or OldVectors(Path()), progress)
            new.finish(keep_versions_days=settings.documents.keep_versions_days)
            exchange(new_folder, folder)
        finally:
            shutil.rmtree(new_folder, ignore_errors=True)
    return computed


def _copy(old: Path, new: Path) -> None:
    """Copy what does not depend on vectors."""
    new.mkdir(parents=True)
    for name in _KEPT:
        if (old / name).is_dir():
            shutil.copytree(old / name, new / name)
        elif (old / name).exists():
            shutil.copyfile(old / name, new / name)


def _fill(
    old: LanceIndex,
    new: LanceIndex,
    embedder: Embedder,
    keep: Path | None,
    known: OldVectors,
    progress: Progress | None,
) -> int:
    """Write chunks, then summaries with new vectors, and the old vectors into `keep`; memory holds _AT_ONCE of them."""
    total, done, computed = old.chunk_count() + old.summary_count(), 0, 0
    kept = _arrays(keep, total, old.manifest.dim) if keep else None
    for name, rows in ((part, rows) for part in PARTS for rows in _slices(getattr(old.tables, part))):
        texts = _texts(name, rows)
        hashes = rows["hash"].to_numpy()
        if kept:
            kept[0][done : done + len(texts)] = hashes
            kept[1][done : done + len(texts)] = matrix(rows["vector"], old.manifest.dim)
        there, vectors = known.find(hashes, embedder.dim)
        if name == "summaries":  # that of a short document is one of its chunks
            stored, own = new.vectors_for(texts)
            vectors[stored], there = own[stored], there | stored
        missing = np.flatnonzero(~there).tolist()
        vectors[missing] = embedder.embed([texts[i] for i in missing])
        table = getattr(new.tables, name)
        place, field = rows.schema.get_field_index("vector"), table.schema.field("vector")
        table.add(rows.set_column(place, field, vector_column(vectors)))
        done, computed = done + len(texts), computed + len(missing)
        if progress:
            progress(done, total)
    return computed


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


def _slices(table: Any) -> Any:
    """Yield all rows in Arrow tables of about _AT_ONCE rows."""
    import pyarrow as pa

    held: list[Any] = []
    for batch in rows_of(table, table.schema.names):
        held.append(batch)
        if sum(b.num_rows for b in held) >= _AT_ONCE:
            yield pa.Table.from_batches(held)
            held = []
    if held:
        yield pa.Table.from_batches(held)


def exchange(a: Path, b: Path) -> None:
    """Let two folders change places: in one step on Linux, elsewhere in three renames."""
    if sys.platform == "linux" and _renameat2(a, b):
        return
    aside = b.with_name(f".{b.name}.aside")
    b.rename(aside)
    a.rename(b)
    aside.rename(a)


def _renameat2(a: Path, b: Path) -> bool:
    """Exchange by renameat2(2) with RENAME_EXCHANGE; False where the C library or file system lacks it."""
    at_working_folder, exchange_flag = -100, 2
    try:
        call = ctypes.CDLL(None, use_errno=True).renameat2
    except (OSError, AttributeError):
        return False
    return bool(call(at_working_folder, os.fsencode(a), at_working_folder, os.fsencode(b), exchange_flag) == 0)
