"""Parsing and embedding on a cluster: what `doyen.ingesting` does in processes of this machine, done by workers.

Enters: tasks with their bytes, and texts. Leaves: the same outcomes and vectors. Selecting, writing and the index stay with
the process that asked, so that there is one writer, and a lost worker leaves nothing half written.
"""

from __future__ import annotations

import functools
import os
import queue
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from doyen.cluster.crew import Crew, Places
from doyen.cluster.machines import place_name
from doyen.config import EmbedderSettings
from doyen.embedding import Embedder, Kind, TokenCounter, load_counter, load_embedder
from doyen.embedding.runtime import CORES_VARIABLE
from doyen.errors import ClusterError
from doyen.parsing import Limits, Outcome, WorkerPool
from doyen.parsing.tasks import Parsed, Parser, ParseTask

PARSE, EMBED = "parse", "embed"
_LOT_TASKS = 8
_LOT_BYTES = 1 << 20
_LOTS_AHEAD = 3
"""Lots for a worker that are under way: one in hand, the others on the way to it or back."""
_BYTES_UNDER_WAY = 256 << 20
_PIECES = 4
"""Pieces for a worker that a batch of texts is cut into, so that all workers end at about the same time."""
_LEAST_PIECE = 16


@dataclass(frozen=True, slots=True)
class Ready:
    """What a worker has loaded; all have to be alike."""

    where: str
    fingerprint: str
    dim: int
    max_tokens: int
    languages: frozenset[str]
    counter: str


class IngestWorker:
    """An actor that parses lots of files in a process of its own, within limits, and embeds texts beside that."""

    def __init__(
        self, cores: int, embedder: EmbedderSettings, expert: Path, precision: str | None, embeds: bool
    ) -> None:
        """Take what to load; without `embeds` the texts are embedded elsewhere."""
        os.environ[CORES_VARIABLE] = str(cores)
        self._cores, self._settings, self._expert, self._precision = cores, embedder, expert, precision
        self._embeds = embeds
        self._embedder: Embedder | None = None
        self._counter: TokenCounter | None = None
        self._pool: WorkerPool[ParseTask, Parsed] | None = None

    def where(self) -> str:
        """Return the machine's name."""
        return place_name()

    def ready(self) -> Ready:
        """Load the embedder. Raises ModelError where it is not on this machine."""
        self._counter = load_counter(self._settings, expert=self._expert)
        if not self._embeds:
            return Ready(self.where(), "", 0, 0, frozenset(), self._counter.fingerprint)
        found = self._embedder = load_embedder(self._settings, expert=self._expert, precision=self._precision)
        counter = found.counter.fingerprint
        return Ready(self.where(), found.fingerprint, found.dim, found.max_tokens, found.languages, counter)

    def parse(self, parser: Parser, lot: Sequence[ParseTask]) -> list[tuple[Parsed | None, str | None, bool]]:
        """Parse files; return (result, reason, own) for each (see `Outcome`), in their order. One lot at a time."""
        if self._pool is None:
            assert self._counter is not None
            own = replace(parser, counter=self._counter)
            self._pool = WorkerPool(own, workers=self._cores, limits=parser.limits)
        done = {outcome.task.id: outcome for outcome in self._pool.run(lot)}
        return [(done[task.id].result, done[task.id].reason, done[task.id].own) for task in lot]

    def embed(self, texts: Sequence[str], kind: Kind) -> NDArray[np.float32]:
        """Return a vector a text `(n, dim) float32`."""
        assert self._embedder is not None
        return self._embedder.embed(texts, kind=kind)


@dataclass(slots=True)
class _Lot:
    tasks: list[ParseTask] = field(default_factory=list)
    size: int = 0

    def add(self, task: ParseTask) -> None:
        self.tasks.append(task)
        self.size += task.size

    @property
    def full(self) -> bool:
        return len(self.tasks) >= _LOT_TASKS or self.size >= _LOT_BYTES


class ClusterPool:
    """A `WorkerPool` for parsing (see `doyen.parsing.pool`) whose workers are those of a crew."""

    def __init__(self, crew: Crew, parser: Parser) -> None:
        self._crew, self._parser = crew, replace(parser, counter=None)  # type: ignore[arg-type] # each worker has its own
        self._done: queue.SimpleQueue[tuple[_Lot, Future[Any]]] = queue.SimpleQueue()
        self._lots = self._size = 0

    def __enter__(self) -> ClusterPool:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Leave the workers to the crew: they embed what was parsed."""

    def run(self, tasks: Iterable[ParseTask]) -> Iterator[Outcome[ParseTask, Parsed]]:
        """Yield the outcome of each task, in the order in which lots of them are done; memory stays bounded.

        Raises:
            DoyenError: workers cannot be started, or none is left.
        """
        lot = _Lot()
        for task in tasks:
            lot.add(task)
            if lot.full:
                yield from self._handed_on(lot)
                lot = _Lot()
        if lot.tasks:
            yield from self._handed_on(lot)
        while self._lots:
            yield from self._taken()

    def _handed_on(self, lot: _Lot) -> Iterator[Outcome[ParseTask, Parsed]]:
        """Submit a lot as soon as there is room; yield what is done meanwhile."""
        while self._lots and (self._lots >= self._crew.size * _LOTS_AHEAD or self._size + lot.size > _BYTES_UNDER_WAY):
            yield from self._taken()
        self._lots, self._size = self._lots + 1, self._size + lot.size
        future = self._crew.submit(PARSE, "parse", self._parser, lot.tasks)
        future.add_done_callback(functools.partial(self._put, lot))
        while not self._done.empty():
            yield from self._taken()

    def _put(self, lot: _Lot, future: Future[Any]) -> None:
        self._done.put((lot, future))

    def _taken(self) -> Iterator[Outcome[ParseTask, Parsed]]:
        lot, future = self._done.get()
        self._lots, self._size = self._lots - 1, self._size - lot.size
        for task, (result, reason, own) in zip(lot.tasks, future.result(), strict=True):
            yield Outcome(task, result, reason, own)


class ClusterEmbedder:
    """An `Embedder` (see `doyen.embedding`) whose texts are shared out among the workers of a crew."""

    def __init__(self, crew: Crew, settings: EmbedderSettings, counter: TokenCounter) -> None:
        """Start the workers. Raises ClusterError where they have not all loaded the same embedder."""
        found: list[Ready] = crew.start(lambda said: require_alike(said, counter.fingerprint, settings.name))
        self._crew, self.counter = crew, counter
        self.name, self.fingerprint = settings.name, found[0].fingerprint
        self.dim, self.max_tokens, self.languages = found[0].dim, found[0].max_tokens, found[0].languages

    def embed(
        self, texts: Sequence[str], *, kind: Kind = "passage", progress: Callable[[int], None] | None = None
    ) -> NDArray[np.float32]:
        """Return one unit vector a text, `(n, dim) float32`, in their order; `progress` is called piece by piece."""
        out = np.empty((len(texts), self.dim), dtype=np.float32)
        order = sorted(range(len(texts)), key=lambda i: -len(texts[i]))  # like lengths together: little padding
        size = max(_LEAST_PIECE, -(-len(texts) // (self._crew.size * _PIECES)))
        pieces = [order[start : start + size] for start in range(0, len(order), size)]
        asked = [self._crew.submit(EMBED, "embed", [texts[i] for i in piece], kind) for piece in pieces]
        for piece, future in zip(pieces, asked, strict=True):
            out[piece] = future.result()
            if progress:
                progress(len(piece))
        return out


def require_alike(found: Sequence[Ready], counter: str, name: str) -> None:
    """Refuse workers that have another tokenizer than this machine, or another embedder than the first of them."""
    for ready in found:
        for what, there, wanted, whose in (
            ("tokenizer", ready.counter, counter, "here"),
            ("weights or precision", ready.fingerprint, found[0].fingerprint, f"on {found[0].where}"),
        ):
            if there != wanted:
                raise ClusterError(
                    f"the worker on {ready.where} has {what} of {name} ({there}) that differ from those {whose} ({wanted})",
                    hint=f"put the same model onto all machines (doyen models pull {name})",
                )


@dataclass(frozen=True, slots=True)
class ClusterHands:
    """What an ingest has its work done by (see `doyen.ingesting.hands`): the workers of a crew."""

    crew: Crew
    settings: EmbedderSettings
    counter: TokenCounter
    local: Callable[[str | None], Embedder] | None = None
    """Loads the embedder here, where it is behind an API; None where the workers embed."""
    at_once: int = 2
    """Batches that are embedded beside each other: while the last pieces of one are done, others begin the next."""

    def pool(self, parser: Parser, limits: Limits) -> ClusterPool:
        """Return what parses."""
        return ClusterPool(self.crew, parser)

    def embedder(self, recorded: str | None) -> Embedder:
        """Return what embeds."""
        if self.local is not None:
            return self.local(recorded)
        return ClusterEmbedder(self.crew, self.settings, self.counter)


def ingest_crew(
    where: Places, settings: EmbedderSettings, expert: Path, *, precision: str | None, embeds: bool
) -> Crew:
    """Return a crew whose workers parse, and embed in `precision`; none starts before the first job."""
    return Crew(IngestWorker, (settings, expert, precision, embeds), where, (PARSE, EMBED))
