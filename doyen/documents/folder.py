"""A folder → the files in it that can be read, and those that cannot. Opens no file."""

from __future__ import annotations

import os
import unicodedata
from pathlib import Path

from doyen.documents.reading import SUFFIXES
from doyen.errors import DocumentError


def list_files(folder: Path) -> tuple[list[Path], list[Path]]:
    """Return the supported and the unsupported files below a folder, sorted by their NFC POSIX path.

    Hidden files and folders and Office lock files (`~$…`) are skipped. A link to a file inside the folder counts;
    links that lead outside are skipped, and so are links to folders: what lies inside is found on its own path.
    """
    if not folder.is_dir():
        raise DocumentError(f"{folder} is not a folder")
    root = folder.resolve()
    found: list[Path] = []
    for parent, folders, names in os.walk(folder, followlinks=False):
        folders[:] = [name for name in folders if not _is_hidden(name)]
        paths = (Path(parent, name) for name in names if not _is_hidden(name))
        found += [path for path in paths if _is_file_inside(path, root)]
    found.sort(key=lambda path: unicodedata.normalize("NFC", path.relative_to(folder).as_posix()))
    supported = [path for path in found if path.suffix.lower() in SUFFIXES]
    return supported, [path for path in found if path.suffix.lower() not in SUFFIXES]


def _is_hidden(name: str) -> bool:
    return name.startswith((".", "~$"))


def _is_file_inside(path: Path, root: Path) -> bool:
    if not path.is_symlink():
        return path.is_file()
    try:
        return path.resolve(strict=True).is_relative_to(root) and path.is_file()
    except (OSError, RuntimeError):  # a dangling link, or one that leads back to itself
        return False
