"""Ingest jobs: queued, one at a time, in a process of its own, with their progress and reports in a SQLite file.

A job that a killed server left is done again by the next one: what was ingested is then unchanged, so that costs little.
Knows no HTTP.
"""

from __future__ import annotations

import contextlib
import json
import secrets
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from doyen.errors import StoreError, UsageError
from doyen.sqlite_file import FOLDER, opened

FILE_NAME = "jobs.db"
_KEPT = 500
_LISTED = 200
_END_S = 20.0
_TABLE = """
CREATE TABLE IF NOT EXISTS jobs (
    id TEXT PRIMARY KEY, owner TEXT NOT NULL, kind TEXT NOT NULL, source TEXT NOT NULL, name TEXT NOT NULL,
    files TEXT NOT NULL, state TEXT NOT NULL, created REAL NOT NULL, started REAL, finished REAL,
    stage TEXT NOT NULL DEFAULT '', done INTEGER NOT NULL DEFAULT 0, total INTEGER NOT NULL DEFAULT 0,
    report TEXT NOT NULL DEFAULT '{}', error TEXT NOT NULL DEFAULT '');
"""
_SHOWN = (
    "id",
    "owner",
    "kind",
    "files",
    "state",
    "created",
    "started",
    "finished",
    "stage",
    "done",
    "total",
    "report",
    "error",
)


class Jobs:
    """The jobs of one expert; `start` begins to work on them."""

    def __init__(self, expert: Path) -> None:
        self._expert = expert.resolve()
        self._path = self._expert / FOLDER / FILE_NAME
        self._changed = threading.Condition()
        self._stopping = False
        self._process: subprocess.Popen[str] | None = None
        self._running = ""
        self._thread: threading.Thread | None = None

    def _open(self) -> AbstractContextManager[sqlite3.Connection]:
        return opened(self._path, f"the jobs in {self._path.name}", _TABLE)

    # ---- from outside

    def add(
        self, owner: str, kind: str, *, source: str = "", name: str = "", files: tuple[str, ...] = ()
    ) -> dict[str, Any]:
        """Queue an ingest of a source ("": all known ones); return the job."""
        job = secrets.token_urlsafe(9)
        with self._open() as connection:
            connection.execute(
                "INSERT INTO jobs (id, owner, kind, source, name, files, state, created) VALUES (?, ?, ?, ?, ?, ?, 'queued', ?)",
                (job, owner, kind, source, name, json.dumps(files), time.time()),
            )
            connection.execute(
                "DELETE FROM jobs WHERE state NOT IN ('queued', 'running') AND id NOT IN"
                " (SELECT id FROM jobs ORDER BY created DESC LIMIT ?)",
                (_KEPT,),
            )
        with self._changed:
            self._changed.notify_all()
        return self.show(job)

    def show(self, job: str) -> dict[str, Any]:
        """Return a job: its state (queued, running, done, failed, cancelled), progress, report. Raises UsageError."""
        with self._open() as connection:
            row = connection.execute(f"SELECT {', '.join(_SHOWN)} FROM jobs WHERE id = ?", (job,)).fetchone()
        if row is None:
            raise UsageError(f"there is no job '{job[:40]}'", hint="GET /api/jobs lists them")
        return _as_dict(row)

    def newest(self, most: int = 50, *, owner: str = "") -> list[dict[str, Any]]:
        """Return the newest jobs, of one owner or ("") of all, newest first."""
        with self._open() as connection:
            rows = connection.execute(
                f"SELECT {', '.join(_SHOWN)} FROM jobs WHERE ? IN ('', owner) ORDER BY created DESC, rowid DESC LIMIT ?",
                (owner, most),
            ).fetchall()
        return [_as_dict(row) for row in rows]

    def cancel(self, job: str) -> dict[str, Any]:
        """Stop a job that waits or runs; what it ingested stays. Raises UsageError for an unknown one."""
        self.show(job)
        with self._open() as connection:
            connection.execute(
                "UPDATE jobs SET state = 'cancelled', finished = ? WHERE id = ? AND state IN ('queued', 'running')",
                (time.time(), job),
            )
        with self._changed:
            if self._running == job and self._process is not None:
                self._process.send_signal(signal.SIGINT)
        return self.show(job)

    # ---- the work

    def start(self) -> None:
        """Begin to work, first on what an earlier server left."""
        if self._path.exists():
            with self._open() as connection:
                connection.execute("UPDATE jobs SET state = 'queued', started = NULL WHERE state = 'running'")
        self._thread = threading.Thread(target=self._serve, daemon=True, name="doyen-jobs")
        self._thread.start()

    def stop(self) -> None:
        """Interrupt the job at work, which is queued again, and end."""
        with self._changed:
            self._stopping = True
            if self._process is not None:
                self._process.send_signal(signal.SIGINT)
            self._changed.notify_all()
        if self._thread is not None:
            self._thread.join(timeout=_END_S)

    def _serve(self) -> None:
        while True:
            with self._changed:
                while not self._stopping and (row := self._next()) is None:
                    self._changed.wait(5.0)
                if self._stopping:
                    return
            assert row is not None
            try:
                self._run(row)
            except Exception as error:  # the edge of a worker: the job says what went wrong, the next one goes on
                with contextlib.suppress(StoreError):
                    self._set(row["id"], state="failed", error=str(error), finished=time.time())

    def _next(self) -> sqlite3.Row | None:
        if not self._path.exists():
            return None
        with contextlib.suppress(StoreError), self._open() as connection:
            found: sqlite3.Row | None = connection.execute(
                "SELECT * FROM jobs WHERE state = 'queued' ORDER BY created, rowid LIMIT 1"
            ).fetchone()
            return found
        return None

    def _run(self, row: sqlite3.Row) -> None:
        job = row["id"]
        self._set(job, state="running", started=time.time())
        command = [sys.executable, "-m", "doyen.serving.ingest_process", str(self._expert), row["source"], row["name"]]
        pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "stdin": subprocess.DEVNULL}
        with subprocess.Popen(command, text=True, encoding="utf-8", **pipes) as process:
            with self._changed:
                self._process, self._running = process, job
                if self._stopping or self.show(job)["state"] == "cancelled":  # before there was a process to tell
                    process.send_signal(signal.SIGINT)
            errors: list[str] = []
            listening = threading.Thread(target=lambda: errors.append(_tail(process)), daemon=True)
            listening.start()
            last = self._follow(job, process)
            code = process.wait()
            listening.join()
        with self._changed:
            self._process, self._running = None, ""
        self._finish(job, last, code, errors)

    def _follow(self, job: str, process: subprocess.Popen[str]) -> dict[str, Any]:
        """Note a job's progress until it ends; return what it said last."""
        last: dict[str, Any] = {}
        assert process.stdout is not None
        for line in process.stdout:
            with contextlib.suppress(ValueError):
                last = json.loads(line)
                if "stage" in last:
                    self._set(job, stage=last["stage"], done=last["done"], total=last["total"])
        return last

    def _finish(self, job: str, last: Mapping[str, Any], code: int, errors: list[str]) -> None:
        cancelled = self.show(job)["state"] == "cancelled"
        report = last.get("report")
        if report is not None:
            interrupted = report.get("interrupted", False)
            self._set(job, report=json.dumps(_short(report), ensure_ascii=False))
            if self._stopping and interrupted and not cancelled:
                self._set(job, state="queued")
            elif not cancelled:
                self._set(job, state="done", finished=time.time())
            return
        if self._stopping and not cancelled:
            self._set(job, state="queued")
            return
        said = last.get("error") or f"the ingest ended with code {code}: {''.join(errors).strip()[-500:]}"
        hint = f" ({last['hint']})" if last.get("hint") else ""
        self._set(job, error=f"{said}{hint}", finished=time.time(), **({} if cancelled else {"state": "failed"}))

    def _set(self, job: str, **values: Any) -> None:
        names = ", ".join(f"{name} = ?" for name in values)
        also = " AND state != 'cancelled'" if "state" in values else ""
        with self._open() as connection:
            connection.execute(f"UPDATE jobs SET {names} WHERE id = ?{also}", (*values.values(), job))


def _tail(process: subprocess.Popen[str]) -> str:
    assert process.stderr is not None
    return process.stderr.read()[-4000:]


def _short(report: Mapping[str, Any]) -> dict[str, Any]:
    """Return a report whose lists are counted and cut: a job over 100,000 files is read by people."""
    row = dict(report)
    counts = {key: len(value) for key, value in report.items() if isinstance(value, list)}
    for key in counts:
        row[key] = row[key][:_LISTED]
    row.pop("unchanged", None)
    row["failed"] = [{"file": file, "reason": reason} for file, reason in row["failed"]]
    row["warnings"] = [{"document": document, "remark": remark} for document, remark in row["warnings"]]
    return row | {"counts": counts}


def _as_dict(row: sqlite3.Row) -> dict[str, Any]:
    found = dict(row)
    return found | {"files": json.loads(found["files"]), "report": json.loads(found["report"])}
