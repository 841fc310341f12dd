"""Pages of documents as pictures, drawn in a process of its own: a file that breaks the drawing breaks nothing else."""

from __future__ import annotations

import threading
from concurrent.futures import CancelledError
from dataclasses import dataclass
from pathlib import Path

from doyen.documents.pdf_view import PageView
from doyen.errors import DocumentError, DoyenError
from doyen.parsing import Limits, WorkerPool

_SECONDS, _MEMORY_GIB = 20.0, 2.0


@dataclass(frozen=True, slots=True)
class PageTask:
    """A page to draw, and the texts to highlight on it."""

    expert: str
    document: str
    page: int
    version: int | None = None
    quotes: tuple[str, ...] = ()
    scale: float = 2.0
    size: int = 0


@dataclass(frozen=True, slots=True)
class Drawn:
    """A page, or the fault that was found: its kind, what it says, what mends it."""

    view: PageView | None
    fault: DoyenError | None = None
    hint: str | None = None


def draw(task: PageTask) -> Drawn:
    """Draw a page; runs in the worker."""
    from doyen.page_images import page_image

    try:
        view = page_image(
            Path(task.expert), task.document, task.page, version=task.version, quotes=task.quotes, scale=task.scale
        )
        return Drawn(view)
    except DoyenError as error:
        return Drawn(None, type(error)(str(error)), error.hint)


class PageDrawer:
    """Draws one page at a time; the worker starts with the first."""

    def __init__(self, expert: Path) -> None:
        self._expert = str(expert.resolve())
        self._lock = threading.Lock()
        self._pool: WorkerPool[PageTask, Drawn] | None = None
        self._closed = False

    def draw(
        self, document: str, page: int, *, version: int | None = None, quotes: tuple[str, ...] = (), scale: float = 2.0
    ) -> PageView:
        """Return the page.

        Raises as `page_image` does, DocumentError where drawing takes too long or breaks, CancelledError once it is closed.
        """
        task = PageTask(self._expert, document, page, version, quotes, scale)
        with self._lock:
            if self._closed:
                raise CancelledError
            if self._pool is None:
                self._pool = WorkerPool(draw, workers=1, limits=Limits(_SECONDS, _MEMORY_GIB, 50_000_000))
            outcome = next(iter(self._pool.run([task])))
        if outcome.result is None:
            raise DocumentError(f"page {page} of {document} cannot be drawn: {outcome.reason}")
        if outcome.result.fault is not None:
            outcome.result.fault.hint = outcome.result.hint
            raise outcome.result.fault
        assert outcome.result.view is not None
        return outcome.result.view

    def close(self) -> None:
        """End the worker, after the page at work; who waits gets a CancelledError."""
        self._closed = True
        with self._lock:
            if self._pool is not None:
                self._pool.close()
