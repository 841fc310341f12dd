"""Uploaded files: into a folder of the expert under names that doyen makes of theirs, where ingest finds them.

What a client calls a file is never a path: only letters, digits and a few signs of its last part are kept.
"""

from __future__ import annotations

import os
import re
import secrets
import shutil
import threading
import unicodedata
from collections.abc import Collection, Iterable
from pathlib import Path

from doyen.documents import SUFFIXES
from doyen.errors import UsageError
from doyen.labelling import UPLOADS, Labels, load_upload_labels, save_upload_labels

FOLDER = UPLOADS
SOURCE_NAME = "uploads"
"""Documents' ids begin with it."""
_INCOMING = ".incoming"
_STRANGE = re.compile(r"[^\w .,()+@&=-]+")
_LONGEST = 150
_LABELLING = threading.Lock()


def safe_name(name: str) -> str:
    """Return the name under which a file is kept: the last part of the client's name, without strange signs.

    Raises:
        UsageError: no reader takes such a file, or nothing is left of the name.
    """
    last = unicodedata.normalize("NFC", name).replace("\\", "/").rsplit("/", 1)[-1]
    clean = " ".join(_STRANGE.sub("_", last).split()).strip(". ")
    stem, dot, suffix = clean.rpartition(".")
    if not dot or f".{suffix.lower()}" not in SUFFIXES:
        raise UsageError(
            f"'{last[:80]}' is of no kind that can be read", hint=f"supported: {' '.join(sorted(SUFFIXES))}"
        )
    while len(stem.encode()) > _LONGEST:
        stem = stem[:-1]
    stem = stem.strip(". ")
    if not stem:
        raise UsageError(f"'{last[:80]}' has no name before its ending", hint="name the file")
    return f"{stem}.{suffix.lower()}"


class Incoming:
    """Files that are on their way in: none is seen by an ingest before all of them are there."""

    def __init__(self, expert: Path) -> None:
        self._folder = expert / FOLDER
        self._staged = self._folder / _INCOMING / secrets.token_hex(8)
        self._names: list[str] = []

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the files that were added."""
        return tuple(self._names)

    def add(self, name: str, pieces: Iterable[bytes]) -> str:
        """Keep a file; return its name. Raises UsageError for a name that is none, or twice, and an empty file."""
        kept = safe_name(name)
        if kept in self._names:
            raise UsageError(f"two of the files would both be '{kept}'", hint="upload them one after the other")
        self._staged.mkdir(parents=True, exist_ok=True)
        size = 0
        with (self._staged / kept).open("wb") as out:
            for piece in pieces:
                size += out.write(piece)
            out.flush()
            os.fsync(out.fileno())
        if not size:
            raise UsageError(f"the file '{kept}' is empty (0 bytes)")
        self._names.append(kept)
        return kept

    def take_in(self, labels: Labels | None = None) -> tuple[str, ...]:
        """Put the files where ingest finds them, in place of older ones of their names; return the names.

        They get `labels`; with None, those that replace others keep theirs. A file's labels are there before it is.
        """
        with _LABELLING:
            kept = load_upload_labels(self._folder)
            fresh = {name: labels or () for name in self._names if labels is not None or not self._is_there(name)}
            if labels or fresh.keys() & kept.keys():
                save_upload_labels(self._folder, fresh)
        for name in self._names:
            (self._staged / name).replace(self._folder / name)
        return tuple(self._names)

    def _is_there(self, name: str) -> bool:
        return (self._folder / name).exists()

    def clear(self) -> None:
        """Delete what was not taken in."""
        shutil.rmtree(self._staged, ignore_errors=True)


def remove_uploads(expert: Path, sources: Collection[str]) -> int:
    """Delete those of `sources` (paths that the index names) that are uploads; return how many."""
    folder = (expert / FOLDER).resolve()
    count = 0
    for source in sources:
        path = Path(source)
        if path.parent == folder and path.is_file():
            path.unlink()
            with _LABELLING:
                if path.name in load_upload_labels(folder):
                    save_upload_labels(folder, {path.name: ()})
            count += 1
    return count
