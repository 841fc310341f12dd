"""The generations of an index in a bucket: tables, small objects, snapshots of the vectors.

A writer works on the tables in the bucket. A reader copies what is new of them, and of the snapshot that belongs to the state
that it reads, to its machine: a question costs no request then. Knows no rows.
"""

from __future__ import annotations

import json
import os
import shutil
import stat
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import IO, Any

from doyen.config import replaced, write_atomic
from doyen.errors import StoreError
from doyen.index.generations import FOLDER, MANIFEST, Record
from doyen.index.importing import load_lancedb
from doyen.index.s3.connecting import Bucket, bucket_of
from doyen.index.s3.lease import held
from doyen.index.vector_matrix import FOLDER as SNAPSHOTS
from doyen.index.vector_matrix import parts_of_snapshot

TABLES_HERE = "tables"
_AT_ONCE = 8
_FETCHING = threading.Lock()
"""Held by who fetches: threads of a process would write the same files."""
_LEFT_FREE = 2 << 30
_UNFINISHED_S = 86400.0
KEEP = timedelta(hours=1)
"""How long states of the tables and snapshots of the vectors are kept after a newer one was published, at least."""


@dataclass(frozen=True)
class BucketHome:
    """A generation below a prefix of a bucket; `folder` is its local part."""

    bucket: Bucket
    generation: str
    keep: timedelta = KEEP
    publishes: bool = True
    _marks: dict[str, bytes | None] = field(default_factory=dict)
    """What this process knows of small objects in its present hold, and nobody else changes."""
    _hold: list[Any] = field(default_factory=lambda: [None])

    @property
    def name(self) -> str:
        """The URI of the index."""
        return self.bucket.name

    @property
    def folder(self) -> Path:
        """The local folder of the vectors."""
        return self.bucket.cache / self.generation

    @property
    def _below(self) -> str:
        return f"{FOLDER}/{self.generation}"

    def connect(self, session: Any) -> Any:
        """Return the LanceDB database; it looks for newer states at each read."""
        uri = f"s3://{self.bucket.bucket}/{self.bucket.prefix}/{self._below}"
        interval = timedelta(0)
        options = self.bucket.options
        return load_lancedb().connect(uri, read_consistency_interval=interval, session=session, storage_options=options)

    def connect_state(self, session: Any) -> Any:
        """Return the LanceDB database for who reads a finished state: a copy of the tables on this machine, if it fits."""
        folder = self._mirrored()
        return self.connect(session) if folder is None else load_lancedb().connect(str(folder), session=session)

    def _mirrored(self) -> Path | None:
        """Bring the copy of the tables up to date and return its folder; None where they are larger than is copied.

        Files of tables never change: only new ones are fetched. What says that they belong to a state comes last. What the
        bucket has no more goes; what is here is looked at first, so that no file goes that another process just fetched.
        """
        below, target = f"{self._below}/", self.folder / TABLES_HERE
        with _FETCHING:
            here = _files_in(target)
            there = self.bucket.sizes(below).items()
            sizes = {name.removeprefix(below): size for name, size in there if ".lance/" in name}
            missing = [name for name, size in sizes.items() if here.get(name) != size]
            if sum(sizes.values()) > self.bucket.mirror_bytes or not self._fits(sum(sizes[name] for name in missing)):
                shutil.rmtree(target, ignore_errors=True)  # it would keep what was erased since
                self._drop_other_generations()
                return None
            with ThreadPoolExecutor(_AT_ONCE) as pool:
                for states in (False, True):
                    part = [name for name in missing if ("/_versions/" in name) == states]
                    list(pool.map(lambda name: self.bucket.download(below + name, target / name), part))
            for name in here.keys() - sizes.keys():
                (target / name).unlink(missing_ok=True)
            if missing:
                self._drop_other_generations()
        return target

    def _fits(self, size: int) -> bool:
        """Whether so many bytes more leave some of the disk free."""
        place = self.bucket.cache
        while not place.exists():
            place = place.parent
        return not size or shutil.disk_usage(place).free - size > _LEFT_FREE

    def _drop_other_generations(self) -> None:
        """Remove what is here of generations that the bucket has no more."""
        there = self.bucket.folders(FOLDER)
        for folder in self.bucket.cache.iterdir() if self.bucket.cache.exists() else ():
            if folder.name not in there and folder.name != self.generation:
                shutil.rmtree(folder, ignore_errors=True)

    def require_hold(self) -> None:
        """See that this process holds the index. Raises StoreError where it does not."""
        if self.bucket.lease is None:
            raise StoreError(
                f"{self.name} is written without a hold", hint="doyen ingest, doyen remove and doyen reembed take one"
            )
        self.bucket.lease.require()

    def there(self) -> bool:
        """Whether there are tables."""
        return bool(self.bucket.listed(f"{self._below}/chunks.lance"))

    def read(self, name: str) -> bytes | None:
        """Return a small object; while this process holds the index, what it knows of it."""
        if self._hold[0] is not self.bucket.lease:
            self._hold[0] = self.bucket.lease
            self._marks.clear()
        if self.bucket.lease is not None and name in self._marks:
            return self._marks[name]
        found = self.bucket.get(f"{self._below}/{name}")
        data = None if found is None else found[0]
        if self.bucket.lease is not None:
            self._marks[name] = data
        return data

    def write(self, name: str, data: bytes) -> None:
        """Write a small object."""
        self.require_hold()
        self.bucket.put(f"{self._below}/{name}", data)
        self._marks[name] = data

    def remove(self, name: str) -> None:
        """Remove a small object."""
        self.require_hold()
        self.bucket.remove(f"{self._below}/{name}")
        self._marks[name] = None

    def names(self, below: str) -> list[str]:
        """Return the names of the objects in a folder."""
        return [name.rpartition("/")[2] for name, _ in self.bucket.listed(f"{self._below}/{below}")]

    def fetch_snapshot(self, snapshot: str) -> None:
        """Copy a snapshot into the local folder, if it is not there; its list of parts comes last."""
        with _FETCHING:
            if not (self.folder / SNAPSHOTS / f"{snapshot}.json").exists():
                self._fetch(self.folder / SNAPSHOTS, snapshot)

    def _fetch(self, folder: Path, snapshot: str) -> None:
        below = f"{self._below}/{SNAPSHOTS}"
        found = self.bucket.get(f"{below}/{snapshot}.json")
        if found is None:
            return
        state = json.loads(found[0])
        for part in parts_of_snapshot(state):
            if part != "vectors" and not self.bucket.download(
                f"{below}/{snapshot}.{part}", folder / f"{snapshot}.{part}"
            ):
                return
        if self._fetch_vectors(folder, state):
            write_atomic(folder / f"{snapshot}.json", found[0])
            self._drop_old(folder, snapshot)

    def _fetch_vectors(self, folder: Path, state: dict[str, Any]) -> bool:
        """Copy the vectors: what an older snapshot has on this machine, and from the bucket the segments that it lacks."""
        segments, target = state["segments"], folder / f"{state['id']}.vectors"
        here = _longest_here(folder, segments)
        with replaced(target) as partial:
            with partial.open("wb") as file:
                if here:
                    rows = sum(count for _, count in segments[: here[1]])
                    with here[0].open("rb") as old:
                        copy_bytes(old, file, rows * state["dim"] * 2)
                for name, _ in segments[here[1] if here else 0 :]:
                    piece = folder / f".{state['id']}.{os.getpid()}.piece"
                    if not self.bucket.download(f"{self._below}/{SNAPSHOTS}/{name}.vectors", piece):
                        return False
                    with piece.open("rb") as new:
                        shutil.copyfileobj(new, file, 1 << 20)
                    piece.unlink()
        return True

    def _drop_old(self, folder: Path, snapshot: str) -> None:
        """Remove snapshots of before from this machine; who has them mapped goes on with them."""
        least = datetime.now(UTC).timestamp() - self.keep.total_seconds()
        for path in folder.iterdir():
            own = path.name.partition(".")[0]
            if own != snapshot and path.name != MANIFEST and path.stat().st_mtime < least:
                path.unlink(missing_ok=True)

    def keep_snapshot(self) -> str | None:
        """Copy the newest snapshot of the local folder into the bucket; return its id, None where there is none."""
        folder = self.folder / SNAPSHOTS
        try:
            text = (folder / MANIFEST).read_bytes()
        except FileNotFoundError:
            return None
        state = json.loads(text)
        snapshot, below = str(state["id"]), f"{self._below}/{SNAPSHOTS}"
        if self.bucket.written_at(f"{below}/{snapshot}.json") is None:
            for part in parts_of_snapshot(state):
                if part != "vectors":
                    self.bucket.upload(f"{below}/{snapshot}.{part}", folder / f"{snapshot}.{part}")
            self._keep_vectors(folder, state)
            self.bucket.put(f"{below}/{snapshot}.json", text)
        (folder / f"{snapshot}.json").write_bytes(text)
        return snapshot

    def _keep_vectors(self, folder: Path, state: dict[str, Any]) -> None:
        """Copy the segments of the vectors that the bucket lacks."""
        start, width = 0, state["dim"] * 2
        for name, count in state["segments"]:
            key = f"{self._below}/{SNAPSHOTS}/{name}.vectors"
            if self.bucket.written_at(key) is None:
                piece = folder / f".{name}.{os.getpid()}.piece"
                with (folder / f"{state['id']}.vectors").open("rb") as file, piece.open("wb") as part:
                    file.seek(start * width)
                    copy_bytes(file, part, count * width)
                self.bucket.upload(key, piece)
                piece.unlink()
            start += count

    def drop_snapshots(self, current: str | None, oldest: str | None) -> None:
        """Remove snapshots from the bucket that were written before the `oldest` one that is still read.

        Each snapshot goes on where an older one ends, or begins anew: so the parts of vectors that those between need are in
        the oldest one, or were written after it.
        """
        below = f"{self._below}/{SNAPSHOTS}"
        written: dict[str, list[tuple[str, datetime]]] = {}
        for name, when in self.bucket.listed(below):
            written.setdefault(name.rpartition("/")[2].partition(".")[0], []).append((name, when))
        last = {own: max(when for _, when in parts) for own, parts in written.items()}
        least = min((last[own] for own in (current, oldest) if own in last), default=datetime.now(UTC))
        needed: set[str] = set()
        for own in {current, oldest}:
            if own in written and (found := self.bucket.get(f"{below}/{own}.json")) is not None:
                needed.update(f"{below}/{name}.vectors" for name, _ in json.loads(found[0])["segments"])
        for own, parts in written.items():
            if own not in (current, oldest) and last[own] <= least:
                for name in (name for name, _ in parts if name not in needed):
                    self.bucket.remove(name)


def _longest_here(folder: Path, segments: list[list[Any]]) -> tuple[Path, int] | None:
    """Return the vectors of a snapshot on this machine that are the beginning of others', and how many segments they are."""
    best: tuple[Path, int] | None = None
    for mark in folder.glob("*.json"):
        if mark.name.endswith(".names.json"):
            continue
        try:
            state = json.loads(mark.read_text(encoding="utf-8"))
            known, vectors = state["segments"], folder / f"{state['id']}.vectors"
        except (OSError, ValueError, KeyError):
            continue
        if known == segments[: len(known)] and vectors.exists() and (best is None or len(known) > best[1]):
            best = vectors, len(known)
    return best


def _files_in(folder: Path) -> dict[str, int]:
    """Return the files below a folder and their sizes; of unfinished ones, those that an ended process left behind."""
    found: dict[str, int] = {}
    for path in folder.rglob("*"):
        with suppress(FileNotFoundError):
            state = path.stat()
            left = ".partial" not in path.name or state.st_mtime < time.time() - _UNFINISHED_S
            if left and stat.S_ISREG(state.st_mode):
                found[str(path.relative_to(folder))] = state.st_size
    return found


def copy_bytes(source: IO[bytes], target: IO[bytes], count: int) -> None:
    """Copy so many bytes from where a file stands."""
    while count > 0 and (data := source.read(min(count, 1 << 20))):
        target.write(data)
        count -= len(data)


@dataclass(frozen=True)
class BucketRoot:
    """The generations below a prefix."""

    uri: str

    @property
    def bucket(self) -> Bucket:
        """The bucket. Raises StoreError where the URI is wrong or there are no credentials."""
        return bucket_of(self.uri)

    @property
    def name(self) -> str:
        """The URI without parameters."""
        return self.bucket.name

    def read(self) -> tuple[Record, str] | None:
        """Return the record and its tag; None where there is none. Raises StoreError."""
        found = self.bucket.get(MANIFEST)
        if found is None:
            return None
        hint = f"remove {self.name} and run doyen ingest again"
        return Record.read(found[0], self.name, f"{self.name}/{MANIFEST} is broken", hint), found[1]

    def write(self, record: Record, mark: str | None) -> None:
        """Replace the record of that tag, or make it. Raises StoreError where another process was faster."""
        data = record.text().encode()
        done = self.bucket.create(MANIFEST, data) if mark is None else self.bucket.exchange(MANIFEST, data, mark)
        if done is None:
            what = f"another doyen has changed the index {self.name} meanwhile"
            raise StoreError(what, hint="run the same command again: it goes on")

    def home(self, generation: str) -> BucketHome:
        """Return where a generation lies."""
        return BucketHome(self.bucket, generation)

    def drop(self, generation: str) -> None:
        """Remove a generation, and what is here of it."""
        self.bucket.drop(f"{FOLDER}/{generation}")
        shutil.rmtree(self.bucket.cache / generation, ignore_errors=True)

    def hold(self) -> AbstractContextManager[Any]:
        """Hold the index against a second writer, on whatever machine. Raises StoreError."""
        return held(self.bucket)
