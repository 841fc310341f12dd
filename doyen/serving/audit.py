"""The audit log: who asked what, when, and which documents were shown. JSON lines in a file of the expert, rotated by size.

serving/audit.jsonl, then audit.jsonl.1 (newer) to audit.jsonl.4; only its owner may read it. Holds questions and document
ids, no answer and no text of a document.
"""

from __future__ import annotations

import contextlib
import datetime
import json
import logging
import os
from logging.handlers import RotatingFileHandler
from pathlib import Path
from typing import Any

FOLDER, FILE_NAME = "serving", "audit.jsonl"
_OLDER = 4
log = logging.getLogger("doyen.serving")


class AuditLog:
    """Writes one line a request; `mib` in all files together, 0 writes none."""

    def __init__(self, expert: Path, mib: int) -> None:
        """Open the log, making it where it is missing."""
        self._handler: RotatingFileHandler | None = None
        if mib:
            path = expert / FOLDER / FILE_NAME
            path.parent.mkdir(mode=0o700, exist_ok=True)
            self._handler = _Private(path, maxBytes=(mib << 20) // (_OLDER + 1), backupCount=_OLDER, encoding="utf-8")
            self._handler.handleError = self._failed  # type: ignore[method-assign]

    def write(self, **fields: Any) -> None:
        """Write a line. Where it cannot be written the server's log says so."""
        if self._handler is not None:
            now = datetime.datetime.now(datetime.UTC).isoformat(timespec="milliseconds")
            line = json.dumps({"time": now} | fields, ensure_ascii=True, default=str)
            self._handler.handle(logging.LogRecord("audit", logging.INFO, "", 0, line, None, None))

    def close(self) -> None:
        """Close the file."""
        if self._handler is not None:
            self._handler.close()

    def _failed(self, record: logging.LogRecord) -> None:
        log.error("the audit log cannot be written")


class _Private(RotatingFileHandler):
    """A file that only its owner may read, before anything is in it."""

    def _open(self) -> Any:
        with contextlib.suppress(OSError):
            os.close(os.open(self.baseFilename, os.O_CREAT | os.O_WRONLY, 0o600))
            Path(self.baseFilename).chmod(0o600)
        return super()._open()
