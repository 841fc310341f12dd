"""Local folders and files → items. Holds paths, never contents; knows no format beyond the suffixes it is given."""

from __future__ import annotations

import contextlib
import os
import time
import unicodedata
from collections.abc import Callable, Iterator
from pathlib import Path

from doyen.errors import DocumentError
from doyen.sources.item import Item, printable

_SETTLED_AFTER_S = 2.0


class FolderSource:
    """The files below a folder; an item's id is its path below the folder, after `prefix`."""

    def __init__(self, folder: Path, *, suffixes: frozenset[str], prefix: str = "") -> None:
        self.folder = folder
        self.root = self.spec = str(folder)
        self.complete = False
        self.skipped: list[str] = []
        self.warnings: list[str] = []
        self._suffixes = suffixes
        self._prefix = prefix

    def items(self) -> Iterator[Item]:
        """Yield an item a file, sorted by NFC POSIX path; see `list_files` for what is passed over.

        Raises:
            DocumentError: the folder is none, or holds no file that can be read.
        """
        self.complete = False
        supported, unsupported, unreadable = list_files(self.folder, self._suffixes)
        self.skipped = [str(path) for path in unsupported]
        self.warnings = [f"{folder} cannot be listed: its documents stay as they are" for folder in unreadable]
        if not supported:
            raise DocumentError(
                f"{self.folder} holds no document that can be read ({len(unsupported)} other files)",
                hint=f"supported: {' '.join(sorted(self._suffixes))}; nothing was changed",
            )
        for path in supported:
            with contextlib.suppress(FileNotFoundError):  # it may have gone since it was listed
                yield file_item(path, self._prefix + path.relative_to(self.folder).as_posix(), self.root)
        self.complete = not unreadable

    def takes(self, path: Path) -> bool:
        """Return whether a path is a folder, or a file that a reader takes."""
        return path.is_dir() or path.suffix.lower() in self._suffixes

    def covers(self, source: str) -> bool:
        """Return whether a path lies in the folder."""
        return source.startswith(self.root.rstrip(os.sep) + os.sep)


class FileSource:
    """A single file; its id is its name, after `prefix`. Never `complete`: it says nothing about its neighbours."""

    def __init__(self, path: Path, *, prefix: str = "") -> None:
        self.path = path
        self.root = str(path.parent)
        self.spec = str(path)
        self.complete = False
        self.skipped: list[str] = []
        self.warnings: list[str] = []
        self._prefix = prefix

    def items(self) -> Iterator[Item]:
        """Yield the file, whatever its suffix: that no reader takes it is the file's own fault to report."""
        if not self.path.is_file():
            raise DocumentError(f"there is no file or folder {self.path}", hint="check the path")
        yield file_item(self.path, self._prefix + self.path.name, self.root)

    def covers(self, source: str) -> bool:
        """Return whether `source` is this file."""
        return source == str(self.path)


def list_files(folder: Path, suffixes: frozenset[str]) -> tuple[list[Path], list[Path], list[Path]]:
    """Return the supported and the unsupported files below a folder, sorted, and the folders that cannot be listed.

    Hidden files and folders and Office lock files (`~$…`) are skipped. A link to a file inside the folder counts;
    links that lead outside are skipped, and so are links to folders: what lies inside is found on its own path.
    """
    if not folder.is_dir():
        raise DocumentError(f"{folder} is not a folder", hint="check the path")
    root = folder.resolve()
    unreadable: list[Path] = []
    found: list[Path] = []
    walk = os.walk(folder, followlinks=False, onerror=lambda error: unreadable.append(Path(error.filename)))
    for parent, folders, names in walk:
        folders[:] = [name for name in folders if not is_hidden(name)]
        paths = (Path(parent, name) for name in names if not is_hidden(name))
        try:
            found += [path for path in paths if _is_file_inside(path, root)]
        except PermissionError:  # its names may be listed, and nothing else of it be known
            unreadable.append(Path(parent))
    found.sort(key=lambda path: unicodedata.normalize("NFC", path.relative_to(folder).as_posix()))
    supported = [path for path in found if path.suffix.lower() in suffixes]
    return supported, [path for path in found if path.suffix.lower() not in suffixes], unreadable


def file_item(path: Path, document_id: str, root: str, *, now: Callable[[], float] = time.time) -> Item:
    """Return the item of a file."""
    state = path.stat()
    return Item(
        id=printable(document_id),
        source=str(path) if _is_text(str(path)) else printable(str(path)),
        root=root,
        name=printable(path.name),
        read=path.read_bytes,
        stamp=_stamp(state, now()),
        modified_at=state.st_mtime,
        size=state.st_size,
    )


def is_hidden(name: str) -> bool:
    """Return whether a file or folder of this name is passed over."""
    return name.startswith((".", "~$"))


def _stamp(state: os.stat_result, now: float) -> str:
    """Return size, times and inode; "" for a file just written, which may change again within the clock's grain.

    The change time is in it because no program can set it back, as archivers do with the modification time.
    """
    if now - max(state.st_mtime, state.st_ctime) < _SETTLED_AFTER_S:
        return ""
    return f"{state.st_size}-{state.st_mtime_ns}-{state.st_ctime_ns}-{state.st_ino}"


def _is_text(name: str) -> bool:
    try:
        name.encode("utf-8")
    except UnicodeEncodeError:  # bytes of another encoding: no store takes them as text
        return False
    return True


def _is_file_inside(path: Path, root: Path) -> bool:
    if not path.is_symlink():
        return path.is_file()
    try:
        return path.resolve(strict=True).is_relative_to(root) and path.is_file()
    except (OSError, RuntimeError):  # a dangling link, or one that leads back to itself
        return False
