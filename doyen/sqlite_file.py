"""An expert's SQLite files (feedback, conversations, jobs): opened for one piece of work at a time, by any thread or process.

Enters: a path, the tables that it should have. Leaves: a connection within a transaction. Knows no table.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from doyen.errors import StoreError

FOLDER = "serving"
"""Where they are in the expert's folder, with keys and audit log: for its owner's eyes alone."""
_WAIT_S = 10.0
KEPT_CLEAN = "PRAGMA foreign_keys=ON; PRAGMA secure_delete=ON;"
"""Rows go with those that they belong to, and nothing of them stays in the file."""
FREE_SPACE = "free disk space on the server"


@contextmanager
def opened(path: Path, what: str, script: str, *, hint: str = FREE_SPACE) -> Iterator[sqlite3.Connection]:
    """Open a file, run a script (pragmas, tables that may be there already), and keep what the block does, or none of it.

    Its folder is made, for its owner alone. Rows come as `sqlite3.Row`.

    Raises:
        StoreError: `what` cannot be kept, with the hint.
    """
    try:
        path.parent.mkdir(mode=0o700, exist_ok=True)
    except OSError as error:
        raise StoreError(f"{what} cannot be kept ({error})", hint=hint) from error
    try:
        with closing(sqlite3.connect(path, timeout=_WAIT_S)) as connection:
            connection.row_factory = sqlite3.Row
            connection.executescript(script)
            with connection:
                yield connection
    except sqlite3.Error as error:
        raise StoreError(f"{what} cannot be kept ({error})", hint=hint) from error
