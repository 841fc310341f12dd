"""Follow sources: ingest them, then again whenever a local folder changes or the interval is over, until stopped.

Leaves: an `IngestReport` for each ingest. A burst of changes gives one ingest.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from doyen.config import load_settings
from doyen.embedding import Embedder, load_embedder
from doyen.errors import DoyenError
from doyen.index.lance import recorded_fingerprint
from doyen.ingesting.known_sources import load_sources
from doyen.ingesting.opening import index_folder
from doyen.ingesting.report import IngestReport
from doyen.ingesting.running import ingest

QUIET_MS = 400
_LONGEST_BURST_MS = 5000


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

    `options` are those of `ingest`. A later ingest that fails as a whole (a server is down, a folder was emptied) is told
    to `failed` and tried again at the next change. Ends when `stop` is set.

    Raises:
        DoyenError: the first ingest fails.
    """
    import watchfiles

    expert = Path(expert).resolve()
    settings = load_settings(expert)
    kept: list[Embedder] = [embedder] if embedder else []
    report = ingest(expert, sources, embedder=embedder, **options)
    yield report
    options.pop("rebuild", None)
    places = [str(s) for s in sources] or [known.spec for known in load_sources(expert)]
    folders = [Path(p).expanduser().resolve() for p in places if "://" not in p]
    changes = watchfiles.watch(
        *folders or [expert / "doyen.toml"],
        watch_filter=_Outside(expert) if folders else _nothing,
        debounce=_LONGEST_BURST_MS,
        step=QUIET_MS,
        rust_timeout=int(interval_s * 1000),
        yield_on_timeout=True,
        stop_event=stop,
        raise_interrupt=True,
    )
    for changed in changes:
        if stop is not None and stop.is_set():
            return
        if not changed and not any("://" in p for p in places):
            continue
        try:
            recorded = recorded_fingerprint(index_folder(expert, settings))
            kept = kept or [load_embedder(settings.embedder, expert=expert, recorded=recorded)]
            yield ingest(expert, sources, embedder=kept[0], **options)
        except DoyenError as error:
            if failed is None:
                raise
            failed(error)


class _Outside:
    """Passes on changes that are not in the expert's own folder and not in hidden files."""

    def __init__(self, expert: Path) -> None:
        self._expert = expert

    def __call__(self, change: object, path: str) -> bool:
        return not Path(path).is_relative_to(self._expert) and not Path(path).name.startswith((".", "~$"))


def _nothing(change: object, path: str) -> bool:
    return False
