"""Parsed items → vectors → index, in batches: one batch is embedded in a thread while the next is collected.

Enters: items with their chunks. Leaves: written batches, and what they were in the report. Vectors of texts that the
index holds already are taken from there. At most two batches are held.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from doyen.embedding import Embedder
from doyen.index.rows import IndexedItem, IndexEntry
from doyen.index.store import Index
from doyen.ingesting.opening import writing_store
from doyen.ingesting.report import IngestReport
from doyen.parsing.tasks import Parsed, ParseTask

BATCH_CHUNKS = 1024
_BATCH_CHARACTERS = 8_000_000

Vectors = NDArray[np.float32]


class StoppedError(Exception):
    """Raised inside the embedder's thread when the run has ended."""


class BackgroundEmbedder:
    """An embedder that is loaded in a thread, once it is wanted, and embeds there, batch after batch.

    Where several batches may be embedded `at_once`, they are so in as many threads.
    """

    def __init__(self, load: Callable[[], Embedder], at_once: int = 1) -> None:
        self._load = load
        self._thread = ThreadPoolExecutor(at_once, thread_name_prefix="embedding")
        self._loading: Future[Embedder] | None = None
        self._stopped = threading.Event()

    def begin(self) -> None:
        """Start loading."""
        if self._loading is None:
            self._loading = self._thread.submit(self._load)

    def loaded(self) -> Embedder:
        """Return the embedder, loading it if need be."""
        self.begin()
        assert self._loading is not None
        return self._loading.result()

    def embed(self, texts: Sequence[str]) -> Future[Vectors]:
        """Embed texts in the thread: vectors `(n, dim) float32` to come."""
        self.begin()
        return self._thread.submit(self._embed, texts)

    def _embed(self, texts: Sequence[str]) -> Vectors:
        return self.loaded().embed(texts, progress=self._go_on)

    def _go_on(self, done: int) -> None:
        if self._stopped.is_set():
            raise StoppedError

    def stop(self) -> None:
        """Give up what is under way; the thread ends with its current piece."""
        self._stopped.set()
        self._thread.shutdown(wait=False, cancel_futures=True)


@dataclass(slots=True)
class _Batch:
    entries: list[IndexEntry] = field(default_factory=list)
    keep: list[str] = field(default_factory=list)
    before: dict[str, IndexedItem] = field(default_factory=dict)
    chunks: int = 0
    characters: int = 0

    @property
    def full(self) -> bool:
        return self.chunks >= BATCH_CHUNKS or self.characters >= _BATCH_CHARACTERS


@dataclass(slots=True)
class _UnderWay:
    batch: _Batch
    place: list[int]
    found: NDArray[np.bool_]
    vectors: Vectors
    missing: Future[Vectors] | None


class BatchWriter:
    """Collects items and writes them; `settled` is called with the number of items of each written batch."""

    def __init__(
        self,
        index: Index,
        embedder: BackgroundEmbedder,
        report: IngestReport,
        settled: Callable[[int], None],
        first: Callable[[Sequence[str], int], None] | None = None,
    ) -> None:
        """Take `first`, which is called once, before anything is embedded: with the texts to embed and their items."""
        self._index, self._embedder, self._report, self._settled = index, embedder, report, settled
        self._first = first
        self._batch = _Batch()
        self._under_way: _UnderWay | None = None

    def add(self, task: ParseTask, parsed: Parsed, before: IndexedItem | None) -> None:
        """Take an item with all of its documents."""
        batch = self._batch
        for document, chunks, sketch, summaries in parsed.documents:
            entry = IndexEntry(document, task.root, chunks, task.id, task.sha256, task.stamp, sketch, summaries)
            batch.entries.append(entry)
            batch.chunks += len(chunks)
            batch.characters += len(document.text)
        batch.keep += [name for name, _ in parsed.failures]
        if before is not None:
            batch.before[task.id] = before
        if batch.full:
            self._push()

    def finish(self) -> None:
        """Write what is left."""
        if self._batch.entries:
            self._push()
        self._settle()

    def _push(self) -> None:
        """Start embedding the batch in hand, and meanwhile write the one before it."""
        batch, self._batch = self._batch, _Batch()
        texts = [chunk.indexed for entry in batch.entries for chunk in entry.chunks]
        texts += [summary.indexed for entry in batch.entries for summary in entry.summaries]
        rows = {text: row for row, text in enumerate(dict.fromkeys(texts))}
        unique = list(rows)
        found, vectors = self._index.vectors_for(unique)
        missing = [text for text, known in zip(unique, found, strict=True) if not known]
        if missing and self._first is not None:
            self._first(missing, len({entry.item for entry in batch.entries}))
            self._first = None
        job = self._embedder.embed(missing) if missing else None
        before, self._under_way = self._under_way, _UnderWay(batch, [rows[text] for text in texts], found, vectors, job)
        self._write(before)

    def _settle(self) -> None:
        under_way, self._under_way = self._under_way, None
        self._write(under_way)

    def _write(self, done: _UnderWay | None) -> None:
        if done is None:
            return
        if done.missing is not None:
            done.vectors[~done.found] = done.missing.result()
        with writing_store():
            vectors = done.vectors[done.place]
            own, summaries = vectors[: done.batch.chunks], vectors[done.batch.chunks :]
            self._index.write(done.batch.entries, own, keep=done.batch.keep, summary_vectors=summaries)
        self._count(done)

    def _count(self, done: _UnderWay) -> None:
        self._report.chunks += done.batch.chunks
        self._report.reused += int(done.found[done.place[: done.batch.chunks]].sum())
        present: dict[str, set[str]] = {}
        for entry in done.batch.entries:
            present.setdefault(entry.item, set()).add(entry.document.id)
            before = done.batch.before.get(entry.item)
            known = before is not None and entry.document.id in before.documents
            (self._report.changed if known else self._report.new).append(entry.document.id)
        kept = set(done.batch.keep)
        for item, before in done.batch.before.items():
            self._report.removed += [d for d in before.documents if d not in present[item] and d not in kept]
        self._settled(len(present))
