"""The audit trail of a run, which is its journal too: a first line that says what runs over what, then a line a row.

A row is done when its line is on disk. A last line that a crash cut off is dropped; so each row stands in it once, however often the
run was killed. A failed row that was done again has a second line, which counts.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from doyen.errors import UsageError
from doyen.holding import hold
from doyen.workflows.rows import FAILED

FORMAT = 1
SUFFIX = ".audit.jsonl"


def journal_path(out: Path) -> Path:
    """Return where the audit trail of an output stands."""
    return out.with_name(out.name + SUFFIX)


class Journal:
    """The lines of one run; `done` are its rows' numbers with their places in the file and status."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.header: dict[str, Any] = {}
        self.done: dict[int, tuple[int, str]] = {}

    @contextmanager
    def held(self, header: Mapping[str, Any], *, again: bool = False) -> Iterator[None]:
        """Hold the file against a second run while it is open, and take up what is in it.

        `header["identity"]` must be that of the run that began it; with `again` what is there is thrown away.

        Raises:
            UsageError: it belongs to another run.
            StoreError: another process is at work on it.
        """
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("a+b") as file:
            hold(file, str(self.path), "wait until it is done, or take another -o")
            if again:
                file.truncate(0)
            self._take_up(file, header)
            yield

    def read(self) -> None:
        """Take up what is in the file, which another call wrote."""
        with self.path.open("rb") as file:
            self._index(file)

    def add(self, records: Iterable[Mapping[str, Any]]) -> None:
        """Write rows; they are on disk when this returns."""
        rows = [(record, _line(record)) for record in records]
        at = self._append([line for _, line in rows])
        for record, line in rows:
            self.done[record["row"]] = at, record["status"]
            at += len(line)

    def records(self) -> Iterator[dict[str, Any]]:
        """Yield the rows in the order of their numbers."""
        with self.path.open("rb") as file:
            for number in sorted(self.done):
                file.seek(self.done[number][0])
                yield json.loads(file.readline())

    def drop_failed(self) -> int:
        """Take the failed rows out of the index, so that they are done again; their new lines then count. Return how many.

        The old lines stay: an audit trail forgets nothing.
        """
        failed = [n for n, (_, status) in self.done.items() if status == FAILED]
        for number in failed:
            del self.done[number]
        return len(failed)

    def _take_up(self, file: Any, header: Mapping[str, Any]) -> None:
        self.done = {}
        end = self._index(file)
        file.truncate(end)
        if not self.header:
            self.header = dict(header)
            self._append([_line(self.header)])
        elif self.header.get("identity") != header["identity"]:
            raise UsageError(
                f"{self.path} is the trail of another run: {_differences(self.header, header)}",
                hint="--again begins anew, another -o keeps both",
            )

    def _index(self, file: Any) -> int:
        """Read header and rows; return where the last whole line ends."""
        file.seek(0)
        self.header, end = {}, 0
        for line in file:
            try:
                row = json.loads(line) if line.endswith(b"\n") else None
            except ValueError:
                row = None
            if not isinstance(row, dict):
                break
            if not self.header:
                if row.get("doyen_workflow") != FORMAT:
                    raise UsageError(f"{self.path} is no audit trail of doyen run", hint="take another -o")
                self.header = row
            else:
                self.done[int(row["row"])] = end, str(row["status"])
            end += len(line)
        return end

    def _append(self, lines: list[bytes]) -> int:
        """Write lines; return where the first one begins."""
        with self.path.open("ab") as file:
            at = file.tell()
            file.write(b"".join(lines))
            file.flush()
            os.fsync(file.fileno())
        return at


def _line(record: Mapping[str, Any]) -> bytes:
    return json.dumps(record, ensure_ascii=False, default=str).encode() + b"\n"


def _differences(there: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    parts = [name for name in now.get("parts", {}) if there.get("parts", {}).get(name) != now["parts"][name]]
    return f"other {', '.join(parts)}" if parts else "another doyen"
