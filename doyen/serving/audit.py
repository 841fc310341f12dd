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

from doyen.sqlite_file import FOLDER

FILE_NAME = "audit.jsonl"
_OLDER = 4
log = logging.getLogger("doyen.serving")


class AuditLog:
    """Writes one line a request; `mib` in all files together, 0 writes none."""

    def __init__(self, expert: Path, mib: int) -> None:
        """Take the expert's folder; the file is made with the first line."""
        self._handler: RotatingFileHandler | None = None
        if mib:
            path = expert / FOLDER / FILE_NAME
            size = (mib << 20) // (_OLDER + 1)
            self._handler = _Private(path, maxBytes=size, backupCount=_OLDER, encoding="utf-8", delay=True)
            self._handler.handleError = self._failed  # type: ignore[method-assign]

    def write(self, **fields: Any) -> None:
        """Write a line. Where it cannot be written the server's log says so."""
        if self._handler is not None:
            now = datetime.datetime.now(datetime.UTC).isoformat(timespec="milliseconds")
            line = json.dumps({"time": now} | fields, ensure_ascii=True, default=str)
            self._handler.handle(logging.LogRecord("audit", logging.INFO, "", 0, line, None, None))
            self._handler.close()  # the next line opens it again, wherever it was moved to meanwhile

    def _failed(self, record: logging.LogRecord) -> None:
        log.error("the audit log cannot be written")


class _Private(RotatingFileHandler):
    """A file that only its owner may read, before anything is in it."""

    def _open(self) -> Any:
        with contextlib.suppress(OSError):
            Path(self.baseFilename).parent.mkdir(mode=0o700, exist_ok=True)
            os.close(os.open(self.baseFilename, os.O_CREAT | os.O_WRONLY, 0o600))
            Path(self.baseFilename).chmod(0o600)
        return super()._open()
