"""Follow a folder: each file that comes into it goes through a flow once.

A file is taken when it has stood unchanged between two looks. Its output is known by its name; one of another content under the same name
gets an output of its own.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from doyen.errors import DoyenError, UsageError
from doyen.workflows.inputs import TABLE_SUFFIXES, open_input, require_columns
from doyen.workflows.journal import SUFFIX, journal_path
from doyen.workflows.opening import Setup
from doyen.workflows.outputs import require_output
from doyen.workflows.running import Progress, Run, RunReport

MAIL = ".eml"
_State = tuple[int, int]


@dataclass(frozen=True, slots=True)
class Watched:
    """What became of a file: a report, or an error."""

    file: Path
    report: RunReport | None = None
    error: DoyenError | OSError | None = None


def watch_folder(
    setup: Setup,
    inbox: Path,
    outbox: Path,
    *,
    every_s: float = 2.0,
    stop: threading.Event | None = None,
    progress: Progress | None = None,
    idle: Callable[[], None] = lambda: None,
) -> Iterator[Watched]:
    """Yield what became of each file of a folder as it comes, until `stop` is set; `idle` is called at each look without work.

    A file that fails as a whole is told once, and tried again when it changes.

    Raises:
        UsageError: the folder is not there, or holds the other one.
    """
    if not inbox.is_dir():
        raise UsageError(f"there is no folder {inbox} to watch")
    if outbox.resolve().is_relative_to(inbox.resolve()):
        raise UsageError(f"{outbox} is within {inbox}: outputs would be taken for inputs", hint="-o another folder")
    outbox.mkdir(parents=True, exist_ok=True)
    ended = stop or threading.Event()
    before: dict[Path, _State] = {}
    taken: dict[Path, _State] = {}
    while not ended.is_set():
        now = {path: state for path in sorted(inbox.iterdir()) if (state := _state(path)) is not None}
        ready = [path for path, state in now.items() if before.get(path) == state and taken.get(path) != state]
        before = now
        for path in ready:
            taken[path] = now[path]
            found = _run(setup, path, outbox, progress)
            if found is not None:
                yield found
        if not ready:
            idle()
            ended.wait(every_s)


def _state(path: Path) -> _State | None:
    if (
        path.name.startswith((".", "~$"))
        or path.suffix.lower() not in (*TABLE_SUFFIXES, MAIL)
        or path.name.endswith(SUFFIX)
    ):
        return None
    try:
        found = path.stat()
    except OSError:
        return None
    return (found.st_size, found.st_mtime_ns) if path.is_file() else None


def _run(setup: Setup, path: Path, outbox: Path, progress: Progress | None) -> Watched | None:
    """Run over a file; None where that was done before."""
    try:
        given = open_input(str(path))
        require_columns(setup.flow, given.columns, given.name)
        out = output_of(path, outbox, given.identity)
        require_output(out)
        if out.exists() and _input_of(journal_path(out)) == given.identity:
            return None
        return Watched(path, Run(setup, given, out, progress=progress).go())
    except (DoyenError, OSError) as error:
        return Watched(path, error=error)


def output_of(path: Path, outbox: Path, identity: str) -> Path:
    """Return where a file's output stands: under its name, or that with its identity where the name is another content's."""
    name = f"{path.name}.jsonl" if path.suffix.lower() == MAIL else path.name
    out = outbox / name
    there = _input_of(journal_path(out))
    return out if there in (None, identity) else out.with_name(f"{out.stem}.{identity[:8]}{out.suffix}")


def _input_of(journal: Path) -> str | None:
    """Return the identity of the input that an audit trail is of, None where there is none."""
    try:
        with journal.open(encoding="utf-8") as file:
            return str(json.loads(file.readline())["parts"]["input"])
    except (OSError, ValueError, KeyError, TypeError):
        return None
