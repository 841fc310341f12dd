"""The lists of what failed and of what was read with a remark, kept beside the index in two JSON files.

An item that failed and has not changed since is not read again, unless that is asked for: a file that hangs for half a
minute would cost that at every ingest. Knows no sources and no store.
"""

from __future__ import annotations

import importlib.metadata
import json
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

from doyen.config import write_atomic

FAILED_FILE = "failed.json"
WARNINGS_FILE = "warnings.json"


@dataclass(frozen=True, slots=True)
class Fault:
    """A file, or a document in it, that could not be read (or only in part). `sha256` is the item's, "" if unread."""

    file: str
    reason: str
    item: str
    root: str
    sha256: str = ""
    doyen: str = ""


def reader_version() -> str:
    """Return the version that reads: a newer one tries failed files again."""
    try:
        return importlib.metadata.version("doyen")
    except importlib.metadata.PackageNotFoundError:
        return ""


def load_faults(folder: Path, name: str = FAILED_FILE) -> list[Fault]:
    """Return the list kept in an index's folder; rows of an older form, or a broken file, are left out.

    What is left out costs no more than that its items are read again.
    """
    path = folder / name
    try:
        rows = json.loads(path.read_text(encoding="utf-8")) if path.exists() else []
    except ValueError:
        rows = []
    whole = (row for row in rows if isinstance(row, dict) and set(Fault.__dataclass_fields__) == set(row))
    return [Fault(**row) for row in whole]


def save_faults(folder: Path, faults: Iterable[Fault], name: str = FAILED_FILE) -> None:
    """Keep a list; nothing is written where it stays the same."""
    path = folder / name
    rows = [asdict(fault) for fault in sorted(faults, key=lambda f: (f.item, f.file, f.reason))]
    text = json.dumps(rows, indent=1, ensure_ascii=False)
    if rows if not path.exists() else path.read_text(encoding="utf-8") != text:
        write_atomic(path, text)


class FaultBook:
    """One of the two lists during a run: what was known before, and what this run adds."""

    def __init__(self, folder: Path, name: str = FAILED_FILE) -> None:
        self._folder, self._name = folder, name
        self._before: dict[str, list[Fault]] = {}
        for fault in load_faults(folder, name):
            self._before.setdefault(fault.item, []).append(fault)
        self._now: list[Fault] = []
        self._seen: set[str] = set()

    def before(self, item: str) -> list[Fault]:
        """Return what an earlier run noted of an item."""
        return self._before.get(item, [])

    def note(self, fault: Fault) -> None:
        """Add a fault of this run."""
        self._seen.add(fault.item)
        self._now.append(fault)

    def keep(self, item: str) -> list[Fault]:
        """Take over what an earlier run noted of an unchanged item; return it."""
        kept = self.before(item)
        if kept:
            self._seen.add(item)
            self._now += kept
        return kept

    def clear(self, item: str) -> None:
        """Drop what earlier runs noted of an item that was read now."""
        if item in self._before:
            self._seen.add(item)

    def save(self, stands: Callable[[Fault], bool]) -> None:
        """Write the list: this run's, and of the items that it did not see those that still stand."""
        others = [f for faults in self._before.values() for f in faults if f.item not in self._seen and stands(f)]
        save_faults(self._folder, [*others, *self._now], self._name)
