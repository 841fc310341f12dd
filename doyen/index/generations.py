"""The generations of one index: whole indexes side by side, of which `manifest.json` names the one that readers take.

A generation is made anew beside the one that is searched, and takes its place in one step: one file is replaced. The first
one of a folder has no name and lies beside `manifest.json`; the others lie in `generations/<id>/`. Knows no tables' content.
"""

from __future__ import annotations

import json
import os
import secrets
import shutil
import time
from collections.abc import Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import asdict, dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import Any, Protocol

from doyen.config import write_atomic
from doyen.errors import StoreError
from doyen.holding import hold
from doyen.index.importing import load_lancedb
from doyen.index.store import FORMAT_VERSION, IndexManifest

MANIFEST = "manifest.json"
FOLDER = "generations"
LOCK = "lock"
_LANCE = ("chunks", "summaries", "documents", "versions")
_OWN = ("vectors", *(f"{name}.lance" for name in _LANCE), "writing", "erasing.json")
_BESIDE = ("generation", "state", "upcoming", "previous", "old", "shown")
_SHOWN_APART = 8
_KEEP_TABLE_STATES = timedelta(minutes=10)


@dataclass(frozen=True, slots=True)
class State:
    """One finished state of a generation: the version of each table, and the snapshot of the vectors that shows it."""

    versions: Mapping[str, int]
    snapshot: str | None


@dataclass(frozen=True, slots=True)
class Generation:
    """A generation that is not the current one: one that is being made, or the one from before the last switch."""

    id: str
    manifest: IndexManifest | None = None
    state: State | None = None
    purpose: str = ""
    since: float = 0.0
    """Seconds since the epoch."""
    successor: State | None = None
    """The state that its successor had when it took its place."""


@dataclass(frozen=True, slots=True)
class Shown:
    """A state that was published, and when (seconds since the epoch)."""

    state: State
    since: float


@dataclass(frozen=True, slots=True)
class Record:
    """What `manifest.json` says: the current generation, and those beside it."""

    manifest: IndexManifest
    generation: str = ""
    state: State | None = None
    upcoming: Generation | None = None
    previous: Generation | None = None
    old: tuple[Generation, ...] = ()
    """Replaced; kept for readers that still answer from them."""
    shown: tuple[Shown, ...] = ()
    """Published states of the current generation, the oldest one that a reader may still answer from first. Not each of them."""

    def text(self) -> str:
        """Return it as JSON; an index of one generation has the keys of its manifest alone."""
        row = asdict(self.manifest)
        rest: dict[str, Any] = {
            "generation": self.generation,
            "state": _row(self.state),
            "upcoming": _row(self.upcoming),
        }
        rest |= {"previous": _row(self.previous), "old": [_row(one) for one in self.old]}
        rest |= {"shown": [_row(one) for one in self.shown]}
        return json.dumps(row | {key: value for key, value in rest.items() if value}, indent=1)

    @classmethod
    def read(cls, text: str | bytes, index: str, broken: str, hint: str) -> Record:
        """Return the record of an index from its JSON. Raises StoreError where it is `broken` or of another format."""
        try:
            row = json.loads(text)
            rest = {key: row.pop(key, None) for key in _BESIDE}
            beside = {key: _generation(rest[key]) for key in ("upcoming", "previous")}
            old = tuple(one for one in map(_generation, rest["old"] or ()) if one is not None)
            state = _state(rest["state"])
            shown = tuple(_shown(one) for one in rest["shown"] or ())
        except (ValueError, TypeError, AttributeError, KeyError) as error:
            raise StoreError(f"{broken}: {error}", hint=hint) from error
        manifest = IndexManifest.read(json.dumps(row), index, broken, hint=hint)
        return cls(manifest, rest["generation"] or "", state, beside["upcoming"], beside["previous"], old, shown)

    def published(self, state: State, keep_s: float) -> Record:
        """Return the record after a newer state of the current generation was published.

        `shown` begins with the state that readers saw `keep_s` ago, or an older one; an eighth of that apart is near enough.
        """
        now = time.time()
        shown = self.shown or (() if self.state is None else (Shown(self.state, 0.0),))
        if not shown or now - shown[-1].since >= keep_s / _SHOWN_APART:
            shown = (*shown, Shown(state, now))
        while len(shown) > 1 and shown[1].since <= now - keep_s:
            shown = shown[1:]
        return replace(self, state=state, shown=shown)

    def switched(self, state: State | None, tables: State) -> Record:
        """Return the record after the upcoming generation, with these `tables`, has become the current one.

        The one before can be gone back to.
        """
        coming = self.upcoming
        assert coming is not None and coming.manifest is not None
        now = time.time()
        before = Generation(self.generation, self.manifest, self.state, coming.purpose, now, tables)
        old = self.old if self.previous is None else (*self.old, replace(self.previous, since=now))
        return Record(coming.manifest, coming.id, state, None, before, old)

    def gone_back(self) -> Record:
        """Return the record after the previous generation has become the current one again."""
        to = self.previous
        assert to is not None and to.manifest is not None
        left = Generation(self.generation, self.manifest, self.state, "left", time.time())
        return Record(to.manifest, to.id, to.state, self.upcoming, None, (*self.old, left))

    def alone(self) -> Record:
        """Return the record of the current generation without those beside it."""
        return Record(self.manifest, self.generation, self.state)

    @property
    def beside(self) -> list[str]:
        """The generations that are not the current one."""
        return [one.id for one in (self.upcoming, self.previous, *self.old) if one is not None]


def new_generation(manifest: IndexManifest, purpose: str) -> Generation:
    """Return a generation to be made."""
    return Generation(secrets.token_hex(6), manifest, None, purpose, time.time())


def _row(value: Any) -> dict[str, Any] | None:
    return None if value is None else asdict(value)


def _state(row: Any) -> State | None:
    return None if not row else State({name: int(row["versions"][name]) for name in _LANCE}, row["snapshot"])


def _shown(row: Any) -> Shown:
    state = _state(row["state"])
    if state is None:
        raise ValueError("a published state without tables")
    return Shown(state, float(row["since"]))


def _generation(row: Any) -> Generation | None:
    if not row:
        return None
    manifest = None if row["manifest"] is None else IndexManifest(**row["manifest"])
    if manifest is not None and manifest.format != FORMAT_VERSION:
        raise ValueError(f"a generation of format {manifest.format}")
    since, successor = float(row["since"]), _state(row["successor"])
    return Generation(row["id"], manifest, _state(row["state"]), row["purpose"], since, successor)


class Home(Protocol):
    """Where the tables of one generation lie, with the small files beside them."""

    @property
    def keep(self) -> timedelta:
        """How long old states of the tables are kept for those who still read them."""

    @property
    def publishes(self) -> bool:
        """Whether readers see finished states alone (`Record.state`), not the newest one."""

    @property
    def name(self) -> str:
        """The place as users are told it."""

    @property
    def folder(self) -> Path:
        """The local folder in which the snapshot of the vectors is mapped."""

    def connect(self, session: Any) -> Any:
        """Return the LanceDB database."""

    def connect_state(self, session: Any) -> Any:
        """Return the LanceDB database for who reads a finished state."""

    def require_hold(self) -> None:
        """See that nobody else writes. Raises StoreError where the hold was lost."""

    def there(self) -> bool:
        """Whether the tables are there. Raises StoreError where that cannot be told."""

    def read(self, name: str) -> bytes | None:
        """Return a small file, None where there is none."""

    def write(self, name: str, data: bytes) -> None:
        """Write a small file, in one step."""

    def remove(self, name: str) -> None:
        """Remove a small file, if it is there."""

    def names(self, below: str) -> list[str]:
        """Return the names of the files in a folder."""

    def fetch_snapshot(self, snapshot: str) -> None:
        """See that a snapshot of the vectors is in `folder`."""

    def keep_snapshot(self) -> str | None:
        """Put the snapshot in `folder` where readers find it; return its id, None where there is none."""

    def drop_snapshots(self, current: str | None, oldest: str | None) -> None:
        """Remove snapshots from before the `oldest` one that is still read."""


class Root(Protocol):
    """Where the generations of one index lie, with the record of them."""

    @property
    def name(self) -> str:
        """The place as users are told it."""

    def read(self) -> tuple[Record, str] | None:
        """Return the record and a mark of its version; None where there is no index. Raises StoreError."""

    def write(self, record: Record, mark: str | None) -> None:
        """Replace the record of that version, or make it (None). Raises StoreError where another process was faster."""

    def home(self, generation: str) -> Home:
        """Return where a generation lies."""

    def drop(self, generation: str) -> None:
        """Remove a generation."""

    def hold(self) -> AbstractContextManager[None]:
        """Hold the index against a second writer. Raises StoreError."""


@dataclass(frozen=True)
class FolderHome:
    """A folder of tables."""

    folder: Path
    keep: timedelta = _KEEP_TABLE_STATES
    publishes: bool = False

    @property
    def name(self) -> str:
        """The folder."""
        return str(self.folder)

    def connect(self, session: Any) -> Any:
        """Return the LanceDB database; reads always see the newest state, also of other processes."""
        return load_lancedb().connect(str(self.folder), read_consistency_interval=timedelta(0), session=session)

    def connect_state(self, session: Any) -> Any:
        """Return the LanceDB database."""
        return self.connect(session)

    def require_hold(self) -> None:
        """Nothing: the hold ends with the process."""

    def there(self) -> bool:
        """Whether the chunks table is there."""
        return (self.folder / "chunks.lance").is_dir()

    def read(self, name: str) -> bytes | None:
        """Return a small file, None where there is none."""
        try:
            return (self.folder / name).read_bytes()
        except FileNotFoundError:
            return None

    def write(self, name: str, data: bytes) -> None:
        """Write a small file, in one step."""
        write_atomic(self.folder / name, data)

    def remove(self, name: str) -> None:
        """Remove a small file, if it is there."""
        (self.folder / name).unlink(missing_ok=True)

    def names(self, below: str) -> list[str]:
        """Return the names of the files in a folder."""
        return [file.name for file in (self.folder / below).glob("*")]

    def fetch_snapshot(self, snapshot: str) -> None:
        """Nothing: it is here."""

    def keep_snapshot(self) -> str | None:
        """Return None: readers look into the folder."""
        return None

    def drop_snapshots(self, current: str | None, oldest: str | None) -> None:
        """Nothing: writing a new one drops the others."""


@dataclass(frozen=True)
class FolderRoot:
    """A folder of generations on a local disk."""

    folder: Path

    @property
    def name(self) -> str:
        """The folder."""
        return str(self.folder)

    def read(self) -> tuple[Record, str] | None:
        """Return the record and when it was written; None where there is none. Raises StoreError."""
        path = self.folder / MANIFEST
        try:
            text = path.read_bytes()
        except FileNotFoundError:
            return None
        hint = f"remove {self.folder} and run doyen ingest again"
        return Record.read(text, str(self.folder), f"{path} is broken", hint), ""

    def write(self, record: Record, mark: str | None) -> None:
        """Replace the record in one step."""
        write_atomic(self.folder / MANIFEST, record.text())

    def home(self, generation: str) -> FolderHome:
        """Return the folder of a generation."""
        return FolderHome(self.folder / FOLDER / generation if generation else self.folder)

    def drop(self, generation: str) -> None:
        """Remove the files of a generation."""
        if generation:
            shutil.rmtree(self.folder / FOLDER / generation, ignore_errors=True)
            return
        for path in (self.folder / name for name in _OWN):
            if path.is_dir():
                shutil.rmtree(path, ignore_errors=True)
            else:
                path.unlink(missing_ok=True)

    @contextmanager
    def hold(self) -> Any:
        """Hold the folder against a second writer; the hold ends with the process, however it ends.

        Raises:
            StoreError: another process is at work on it.
        """
        with open(os.open(self.folder / LOCK, os.O_RDWR | os.O_CREAT, 0o666), "rb") as file:
            hold(file, f"the index {self.folder}", "wait until it is done")
            yield
