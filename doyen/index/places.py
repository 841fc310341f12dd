"""A store's URI → where an index is: LanceDB tables in a folder or a bucket, a schema of a PostgreSQL database, or other experts' indexes."""

from __future__ import annotations

import json
import secrets
import shutil
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import NoReturn

from doyen.config import JOINED, load_settings
from doyen.errors import DoyenError, StoreError
from doyen.index.generations import FOLDER, MANIFEST, FolderRoot, Root
from doyen.index.joined import JoinedIndex, only_read
from doyen.index.lance import LanceIndex, recorded_fingerprint
from doyen.index.postgresql.connecting import parse
from doyen.index.postgresql.place import PostgresPlace
from doyen.index.s3.connecting import parse as parse_bucket
from doyen.index.s3.generations import BucketRoot
from doyen.index.store import IndexManifest, Place

BUCKET_STATE = "s3"
"""The expert's folder of what is kept beside an index in a bucket: failed files, and how far a crawl has come."""


@dataclass(frozen=True)
class LancePlace:
    """A folder, whether it is an index yet or not; beside the tables it holds what an ingest remembers of its sources."""

    folder: Path

    @property
    def root(self) -> Root:
        """Its generations."""
        return FolderRoot(self.folder)

    @property
    def name(self) -> str:
        """The folder."""
        return str(self.folder)

    @property
    def state(self) -> Path:
        """The folder itself."""
        return self.folder

    def exists(self) -> bool:
        """Whether the folder is an index that doyen made, of whatever format."""
        return self.recorded_fingerprint() is not None

    def stamp(self) -> float | None:
        """Return when the index was made; None where there is none."""
        try:
            return (self.folder / MANIFEST).stat().st_mtime
        except FileNotFoundError:
            return None

    def recorded_fingerprint(self) -> str | None:
        """Return the embedder fingerprint of the index there, None where there is none."""
        return recorded_fingerprint(self.folder)

    def open(self) -> LanceIndex:
        """Open the index. Raises StoreError if there is none."""
        return LanceIndex.open(self.root)

    def open_or_create(self, manifest: IndexManifest) -> LanceIndex:
        """Open the index, or make it. Raises StoreError if it was made by another embedder or chunk size."""
        return LanceIndex.open_or_create(self.root, manifest)

    def clear(self) -> None:
        """Remove the folder. Raises StoreError if it is no index of doyen, or another process writes it."""
        if not self.folder.exists():
            return
        if not self.exists():
            raise StoreError(f"{self.folder} is not an index of doyen: not removed")
        with self.only_writer():
            shutil.rmtree(self.folder)

    def only_writer(self) -> AbstractContextManager[None]:
        """Hold the index against a second ingest. Raises StoreError where another process is at work on it."""
        return self.root.hold()


@dataclass(frozen=True)
class BucketPlace:
    """A prefix of a bucket; beside it, in the expert's folder `s3/`, what an ingest remembers of its sources."""

    uri: str
    expert: Path

    @property
    def root(self) -> BucketRoot:
        """Its generations."""
        return BucketRoot(self.uri)

    @property
    def name(self) -> str:
        """The URI without parameters."""
        bucket, prefix, _ = parse_bucket(self.uri)
        return f"s3://{bucket}/{prefix}"

    @property
    def state(self) -> Path:
        """The local folder of what an ingest remembers of its sources."""
        return self.expert / BUCKET_STATE

    def checked(self) -> str:
        """Return what there is. Raises StoreError where the bucket is not reached, or ignores conditional writes.

        Keys that may only read are enough for an index that is there.
        """
        bucket = self.root.bucket
        where = f"{self.name} at {bucket.endpoint or f'AWS, {bucket.region}'}"
        probe = f"probe-{secrets.token_hex(8)}"
        try:
            first = bucket.create(probe, b"")
        except StoreError as error:
            if not self.exists():
                raise
            return f"{where}: reached for reading alone; nothing can be written ({error})"
        try:
            safe = first is not None and bucket.create(probe, b"") is None
        finally:
            bucket.remove(probe)
        if not safe:
            raise StoreError(
                f"{self.name}: this service ignores conditional writes", hint="use a service that has them"
            )
        return f"{where}: reached, with conditional writes"

    def exists(self) -> bool:
        """Whether doyen made an index there. Raises StoreError if the bucket cannot be reached."""
        return self.root.bucket.get(MANIFEST) is not None

    def stamp(self) -> float | None:
        """Return a number of the current generation; None where there is none. Raises StoreError."""
        found = self.root.bucket.recent(MANIFEST)  # every question asks
        return None if found is None else float(int(json.loads(found).get("generation") or "0", 16))

    def recorded_fingerprint(self) -> str | None:
        """Return the embedder fingerprint of the index there, None where there is none. Raises StoreError."""
        found = self.root.read()
        return None if found is None else found[0].manifest.fingerprint

    def open(self) -> LanceIndex:
        """Open the index as it was last finished. Raises StoreError if there is none."""
        return LanceIndex.open(self.root)

    def open_or_create(self, manifest: IndexManifest) -> LanceIndex:
        """Open the index, or make it. Raises StoreError if it was made by another embedder or chunk size."""
        index = LanceIndex.open_or_create(self.root, manifest)
        self.state.mkdir(parents=True, exist_ok=True)
        return index

    def clear(self) -> None:
        """Remove the index and what was remembered of its sources. Raises StoreError if another process writes it."""
        bucket = self.root.bucket
        if self.exists() or bucket.folders(FOLDER):  # or of a removal that was interrupted
            with self.only_writer():
                bucket.remove(MANIFEST)
                bucket.drop(FOLDER)
        shutil.rmtree(bucket.cache, ignore_errors=True)
        shutil.rmtree(self.state, ignore_errors=True)

    def only_writer(self) -> AbstractContextManager[None]:
        """Hold the index against a second ingest, on whatever machine. Raises StoreError."""
        return self.root.hold()


def joined_names(uri: str) -> list[str]:
    """Return the folders that a URI joins, as they stand in it."""
    return [name.strip() for name in uri.removeprefix(JOINED).split(",") if name.strip()]


@dataclass(frozen=True)
class JoinedPlace:
    """The indexes of other experts, asked as one; each is written by its own expert. `uri` names their folders."""

    uri: str
    expert: Path

    @property
    def experts(self) -> list[Path]:
        """The folders of the experts."""
        return [self.expert / name for name in joined_names(self.uri)]

    @cached_property
    def places(self) -> dict[str, Place]:
        """The places by the names of the experts' folders. Raises StoreError where one cannot be joined."""
        found: dict[str, Place] = {}
        for folder in self.experts:
            name = folder.resolve().name
            try:
                uri = load_settings(folder).store.uri
            except DoyenError as error:
                raise StoreError(f"{name}, which this expert joins: {error}", hint=error.hint) from error
            if uri.startswith(JOINED):
                raise StoreError(f"{name} joins other experts itself", hint=f"name those in [store] uri: {uri}")
            if name in found:
                raise StoreError(
                    f"two experts are called {name}", hint="rename one's folder: documents are named after it"
                )
            found[name] = place_of(uri, folder)
        if not found:
            raise StoreError(f"[store] uri = '{self.uri}' names no expert", hint=f'uri = "{JOINED}../claims, ../legal"')
        return found

    @property
    def name(self) -> str:
        """The URI."""
        return self.uri

    @property
    def state(self) -> Path:
        """A folder that is not there: nothing is ingested here."""
        return self.expert / "index"

    def exists(self) -> bool:
        """Whether one of them has an index."""
        return any(place.exists() for place in self.places.values())

    def stamp(self) -> float | None:
        """Return a number that is another one once one of the indexes was made anew; None where there is none."""
        stamps = [place.stamp() for place in self.places.values()]
        return float(hash(tuple(stamps))) if any(stamp is not None for stamp in stamps) else None

    def recorded_fingerprint(self) -> str | None:
        """Return the embedder fingerprint of the first index."""
        return next((found for place in self.places.values() if (found := place.recorded_fingerprint())), None)

    def open(self) -> JoinedIndex:
        """Open all that are there; what a member has not ingested yet is passed over. Raises StoreError if none is."""
        there = {name: place for name, place in self.places.items() if place.exists()}
        if not there:
            raise StoreError(
                f"none of {', '.join(self.places)} has an index yet", hint="doyen ingest … --expert MEMBER"
            )
        return JoinedIndex({name: place.open() for name, place in there.items()})

    def open_or_create(self, manifest: IndexManifest) -> NoReturn:
        """Raise StoreError: nothing is written here."""
        raise only_read(f"the index {self.uri}")

    def clear(self) -> None:
        """Raise StoreError: the indexes are their experts'."""
        raise only_read(f"the index {self.uri}")

    def only_writer(self) -> NoReturn:
        """Raise StoreError: nothing is written here."""
        raise only_read(f"the index {self.uri}")


def place_of(uri: str, expert: Path) -> Place:
    """Return where `[store] uri` puts the index of an expert.

    Raises:
        StoreError: for a URI that this version cannot use.
    """
    if uri.startswith(JOINED):
        return JoinedPlace(uri, expert)
    scheme, divider, _ = uri.partition("://")
    if divider:
        if scheme not in REMOTE:
            raise StoreError(
                f"[store] uri = '{scheme}://…': an index is kept in a local folder or in PostgreSQL, or in a bucket of S3",
                hint='set [store] uri = "index", "s3://bucket/prefix", "postgresql://user@host/database?schema=NAME", or "experts:FOLDER,FOLDER"',
            )
        return REMOTE[scheme](uri, expert)
    folder = expert / uri
    if expert.resolve().is_relative_to(folder.resolve()):
        raise StoreError(f"[store] uri = '{uri}' is the expert's own folder or one around it", hint='uri = "index"')
    return LancePlace(folder)


def _postgresql(uri: str, expert: Path) -> Place:
    parse(uri)
    return PostgresPlace(uri, expert)


DATABASES: dict[str, Callable[[str, Path], Place]] = {"postgresql": _postgresql, "postgres": _postgresql}


def _bucket(uri: str, expert: Path) -> Place:
    parse_bucket(uri)
    return BucketPlace(uri, expert)


REMOTE = DATABASES | {"s3": _bucket}
