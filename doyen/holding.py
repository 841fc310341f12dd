"""A file held against a second process: the hold ends with the process, however it ends."""

from __future__ import annotations

from typing import IO

from doyen.errors import StoreError


def hold(file: IO[bytes], what: str, hint: str) -> None:
    """Hold an open file until it is closed.

    Raises:
        StoreError: another doyen holds it, and is writing `what`.
    """
    try:
        import fcntl
    except ImportError:  # Windows: no hold
        return
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise StoreError(f"another doyen is writing {what}", hint=hint) from None
