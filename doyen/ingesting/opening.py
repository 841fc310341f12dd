"""An expert's settings → its index: where it lies, opening it to read, and holding it to write.

Knows no sources. What LanceDB raises where it cannot write leaves here as a StoreError.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from doyen.config import Settings
from doyen.errors import StoreError
from doyen.index.lance import LanceIndex


def index_folder(expert: Path, settings: Settings) -> Path:
    """Return the folder of the expert's index.

    Raises:
        StoreError: for a URI that this version cannot use.
    """
    uri = settings.store.uri
    if "://" in uri:
        raise StoreError(
            f"[store] uri = '{uri}': this version keeps the index in a local folder", hint='set [store] uri = "index"'
        )
    folder = expert / uri
    if expert.resolve().is_relative_to(folder.resolve()):
        raise StoreError(f"[store] uri = '{uri}' is the expert's own folder or one around it", hint='uri = "index"')
    return folder


def open_index(expert: Path, settings: Settings) -> LanceIndex:
    """Open the expert's index; a missing one is a StoreError that names the command."""
    return LanceIndex.open(index_folder(expert, settings))


@contextmanager
def writing_store() -> Iterator[None]:
    """Turn what LanceDB raises where it cannot write (OSError, RuntimeError) into a StoreError."""
    try:
        yield
    except (OSError, RuntimeError) as error:
        hint = "free disk space, then run the same command again: it goes on"
        raise StoreError(f"cannot write the index: {error}", hint=hint) from error


@contextmanager
def only_writer(folder: Path) -> Iterator[None]:
    """Hold the index of `folder` against a second ingest; the hold ends with the process, however it ends.

    Raises:
        StoreError: another process is at work on it.
    """
    try:
        import fcntl
    except ImportError:  # Windows: no hold
        yield
        return
    with (folder / "manifest.json").open("rb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise StoreError(f"another doyen is writing the index {folder}", hint="wait until it is done") from None
        yield
