"""Follow sources: ingest them, then what changed whenever a local folder or file does, and all when the interval is over.

Leaves: an `IngestReport` for each ingest. A burst of changes gives one ingest, of the changed sources alone: sites and
databases are asked again at the interval only.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from doyen.config import load_settings
from doyen.embedding import Embedder, load_embedder
from doyen.errors import DoyenError
from doyen.ingesting.known_sources import load_sources
from doyen.ingesting.opening import index_place
from doyen.ingesting.report import IngestReport
from doyen.ingesting.running import ingest, ingest_again
from doyen.ingesting.selecting import is_local

QUIET_MS = 400
_LONGEST_BURST_MS = 5000
_TICK_MS = 1000


def watch(
    expert: Path | str,
    sources: Sequence[Path | str] = (),
    *,
    interval_s: float = 300.0,
    stop: threading.Event | None = None,
    embedder: Embedder | None = None,
    failed: Callable[[DoyenError], None] | None = None,
    **options: Any,
) -> Iterator[IngestReport]:
    """Yield the report of a first ingest, then of each that a change or `interval_s` brought about.

    `options` are those of `ingest`; `rebuild`, `prune` and `retry_failed` are for the first one. A later ingest that fails
    as a whole (a server is down, a folder was emptied) is told to `failed` and tried again at the next change. Ends when
    `stop` is set.

    Raises:
        DoyenError: the first ingest fails.
    """
    expert = Path(expert).resolve()
    settings = load_settings(expert)
    yield ingest(expert, sources, embedder=embedder, **options)
    options = {k: v for k, v in options.items() if k not in ("rebuild", "prune", "retry_failed")}
    due = time.monotonic() + interval_s
    unwritten = False  # what changed during the first ingest is caught up with, without a report where nothing did
    for changed in _changes(expert, _local_places(expert, sources), stop):
        everything = time.monotonic() >= due
        if not changed and not everything:
            unwritten = True
            continue
        try:
            recorded = index_place(expert, settings).recorded_fingerprint()
            embedder = embedder or load_embedder(settings.embedder, expert=expert, recorded=recorded)
            if everything:
                due = time.monotonic() + interval_s
                report = ingest(expert, sources, embedder=embedder, **options)
            else:
                report = ingest_again(expert, changed, passwords=options.get("passwords", ()), embedder=embedder)
            if unwritten or report.written:
                yield report
            unwritten = True
        except DoyenError as error:
            if failed is None:
                raise
            failed(error)


def _local_places(expert: Path, sources: Sequence[Path | str]) -> list[Path]:
    """Return the folders and files of this machine among the sources, as `sources.json` has them."""
    named = {str(Path(s).expanduser().resolve()) for s in map(str, sources) if is_local(s)}
    known = [source.spec for source in load_sources(expert) if is_local(source.spec)]
    return [Path(spec) for spec in known if not sources or spec in named]


def _changes(expert: Path, places: Sequence[Path], stop: threading.Event | None) -> Iterator[set[str]]:
    """Yield the places that changed, or none, at least once a second; all of them at first.

    Folders tell by themselves. Files are looked at: one that an editor puts in the place of the old one is not told of.
    """
    import watchfiles

    folders = [place for place in places if place.is_dir()]
    files = {place: _state(place) for place in places if not place.is_dir()}
    events = watchfiles.watch(
        *folders or [expert / "doyen.toml"],
        watch_filter=_Outside(expert) if folders else _nothing,
        debounce=_LONGEST_BURST_MS,
        step=QUIET_MS,
        rust_timeout=_TICK_MS,
        yield_on_timeout=True,
        stop_event=stop,
        raise_interrupt=True,
    )
    first = True
    for event in events:
        if stop is not None and stop.is_set():
            return
        changed = {str(f) for f in folders if first or _is_touched(f, (path for _, path in event))}
        now = {file: _state(file) for file in files}
        changed |= {str(file) for file in files if first or now[file] != files[file]}
        files, first = now, False
        yield changed


def _is_touched(folder: Path, paths: Iterable[str]) -> bool:
    return any(Path(path).is_relative_to(folder) for path in paths)


def _state(file: Path) -> tuple[int, ...]:
    try:
        found = file.stat()
    except OSError:
        return ()
    return found.st_size, found.st_mtime_ns, found.st_ino


class _Outside:
    """Passes on changes that are not in the expert's own folder and not in hidden files."""

    def __init__(self, expert: Path) -> None:
        self._expert = expert

    def __call__(self, change: object, path: str) -> bool:
        return not Path(path).is_relative_to(self._expert) and not Path(path).name.startswith((".", "~$"))


def _nothing(change: object, path: str) -> bool:
    return False
