"""A SQLite file of an expert: opened for one transaction at a time, from any thread and process. Knows no table.

What is deleted is overwritten, and a row is on disk when the transaction ends.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from doyen.errors import StoreError

FOLDER = "serving"
_WAIT_S = 10.0
_PRAGMAS = "PRAGMA foreign_keys=ON; PRAGMA secure_delete=ON; PRAGMA synchronous=EXTRA;"


@contextmanager
def opened(path: Path, tables: str, what: str) -> Iterator[sqlite3.Connection]:
    """Open a file within a transaction; it and its `tables` (CREATE … IF NOT EXISTS) are made where they are not there.

    Raises:
        StoreError: `what` cannot be kept.
    """
    try:
        path.parent.mkdir(mode=0o700, exist_ok=True)
        with closing(sqlite3.connect(path, timeout=_WAIT_S)) as connection:
            connection.row_factory = sqlite3.Row
            connection.executescript(_PRAGMAS + tables)
            with connection:
                yield connection
    except sqlite3.Error as error:
        raise StoreError(f"{what} cannot be kept ({error})", hint="free disk space on the server") from error
