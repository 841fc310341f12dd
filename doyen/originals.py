"""Copies of source files, kept by their hash, so that a page can be shown as it was when it was cited.

Enters: bytes. Leaves: `<expert>/originals/ab/abcd….pdf`. Knows no format but by suffix, and of the store only the hashes.
"""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Iterator
from pathlib import Path

from doyen.config import write_atomic
from doyen.index.store import Index

FOLDER = "originals"
_HASH = 64  # hexadecimal digits of a SHA-256
PAGED_SUFFIXES = frozenset(".pdf .pptx .png .jpg .jpeg .tif .tiff .bmp .gif .webp".split())


def wanted_original(keep: str, suffix: str) -> bool:
    """Whether a copy of files with this suffix is kept under `[documents] keep_originals`."""
    return keep == "all" or (keep == "paged" and suffix.lower() in PAGED_SUFFIXES)


def keep_original(expert: Path, data: bytes | Path, sha256: str, suffix: str) -> Path:
    """Keep a file's bytes under their hash, and return the copy's path; does nothing if it is there.

    It is a copy and no hard link: a file that is overwritten in place would change with it. Safe from several processes.
    """
    path = expert / FOLDER / sha256[:2] / f"{sha256}{suffix.lower()}"
    if not path.exists():
        write_atomic(path, data.read_bytes() if isinstance(data, Path) else data)
    return path


def original_path(expert: Path, sha256: str) -> Path | None:
    """Return the copy of the file with this hash, or None."""
    if not sha256:
        return None
    return next((p for p in (expert / FOLDER / sha256[:2]).glob(f"{sha256}*") if p.is_file()), None)


def collect_originals(expert: Path, index: Index) -> int:
    """Delete the copies that no document and no kept version names any more; return how many they were.

    What an interrupted run left half written goes too.
    """
    copies = list(_copies(expert))
    needed = index.named({p.name[:_HASH] for p in copies})
    dropped = [p for p in copies if p.name[:_HASH] not in needed]
    _delete(dropped)
    return len(dropped)


def erase_originals(expert: Path, hashes: Collection[str]) -> None:
    """Delete the copies with these hashes."""
    _delete([p for p in _copies(expert) if p.name[:_HASH] in hashes])


def _copies(expert: Path) -> Iterator[Path]:
    return (p for p in (expert / FOLDER).glob("*/*") if p.is_file())


def _delete(paths: Collection[Path]) -> None:
    for path in paths:
        path.unlink(missing_ok=True)
        with contextlib.suppress(OSError):  # the folder still holds others
            path.parent.rmdir()
