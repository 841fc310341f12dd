"""A store's URI → where an index is: a folder with LanceDB tables, or a schema of a PostgreSQL database. Opens no index itself."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from doyen.errors import StoreError
from doyen.holding import hold
from doyen.index.lance import LanceIndex, is_index, recorded_fingerprint
from doyen.index.postgresql.connecting import parse
from doyen.index.postgresql.place import PostgresPlace
from doyen.index.store import IndexManifest, Place


@dataclass(frozen=True)
class LancePlace:
    """A folder, whether it is an index yet or not; beside the tables it holds what an ingest remembers of its sources."""

    folder: Path

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
        return is_index(self.folder)

    def stamp(self) -> float | None:
        """Return when the index was made; None where there is none."""
        try:
            return (self.folder / "manifest.json").stat().st_mtime
        except FileNotFoundError:
            return None

    def recorded_fingerprint(self) -> str | None:
        """Return the embedder fingerprint of the index there, None where there is none."""
        return recorded_fingerprint(self.folder)

    def open(self) -> LanceIndex:
        """Open the index. Raises StoreError if there is none."""
        return LanceIndex.open(self.folder)

    def open_or_create(self, manifest: IndexManifest) -> LanceIndex:
        """Open the index, or make it. Raises StoreError if it was made by another embedder or chunk size."""
        return LanceIndex.open_or_create(self.folder, manifest)

    def clear(self) -> None:
        """Remove the folder. Raises StoreError if it is no index of doyen, or another process writes it."""
        if not self.folder.exists():
            return
        if not is_index(self.folder):
            raise StoreError(f"{self.folder} is not an index of doyen: not removed")
        with self.only_writer():
            shutil.rmtree(self.folder)

    @contextmanager
    def only_writer(self) -> Iterator[None]:
        """Hold the folder against a second ingest; the hold ends with the process, however it ends.

        Raises:
            StoreError: another process is at work on it.
        """
        with (self.folder / "manifest.json").open("rb") as file:
            hold(file, f"the index {self.folder}", "wait until it is done")
            yield


def place_of(uri: str, expert: Path) -> Place:
    """Return where `[store] uri` puts the index of an expert.

    Raises:
        StoreError: for a URI that this version cannot use.
    """
    scheme, divider, _ = uri.partition("://")
    if divider:
        if scheme not in DATABASES:
            raise StoreError(
                f"[store] uri = '{uri}': an index is kept in a local folder or in PostgreSQL",
                hint='set [store] uri = "index", or "postgresql://user@host/database?schema=NAME"',
            )
        return DATABASES[scheme](uri, expert)
    folder = expert / uri
    if expert.resolve().is_relative_to(folder.resolve()):
        raise StoreError(f"[store] uri = '{uri}' is the expert's own folder or one around it", hint='uri = "index"')
    return LancePlace(folder)


def _postgresql(uri: str, expert: Path) -> Place:
    parse(uri)
    return PostgresPlace(uri, expert)


DATABASES: dict[str, Callable[[str, Path], Place]] = {"postgresql": _postgresql, "postgres": _postgresql}
