"""Who does the work of an ingest, parsing and embedding: processes of this machine, or the workers of a cluster.

Enters: an expert's settings, and `--on`. Leaves: a pool and an embedder. Selecting and writing are not done by hands.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from doyen.cluster.connecting import connected
from doyen.cluster.crew import places
from doyen.cluster.ingesting import ClusterHands, ingest_crew
from doyen.config import Settings
from doyen.embedding import Embedder, computed_by_torch, load_counter, load_embedder, recorded_precision
from doyen.errors import UsageError
from doyen.models.catalogue import EndpointSource, find_entry, in_expert
from doyen.parsing import Limits, Outcome, WorkerPool
from doyen.parsing.tasks import Parsed, Parser, ParseTask


class Pool(Protocol):
    """What parses: tasks → outcomes, each once."""

    def run(self, tasks: Iterable[ParseTask]) -> Iterator[Outcome[ParseTask, Parsed]]:
        """Yield the outcome of each task as it is done."""
        ...


class Hands(Protocol):
    """What an ingest has done for it."""

    @property
    def at_once(self) -> int:
        """Batches of texts that are embedded beside each other."""
        ...

    def pool(self, parser: Parser, limits: Limits) -> AbstractContextManager[Pool]:
        """Return what parses."""
        ...

    def embedder(self, recorded: str | None) -> Embedder:
        """Load what embeds; `recorded` is the fingerprint of the index, None for a new one."""
        ...


@dataclass(frozen=True, slots=True)
class OwnHands:
    """Processes of this machine; `given` is an embedder that is loaded already."""

    expert: Path
    settings: Settings
    given: Embedder | None = None
    at_once: int = 1

    def pool(self, parser: Parser, limits: Limits) -> WorkerPool[ParseTask, Parsed]:
        """Return worker processes."""
        return WorkerPool(parser, workers=self.settings.ingest.workers or None, limits=limits)

    def embedder(self, recorded: str | None) -> Embedder:
        """Load the embedder of the settings."""
        return self.given or load_embedder(self.settings.embedder, expert=self.expert, recorded=recorded)


@contextmanager
def hands(on: str, expert: Path, settings: Settings, given: Embedder | None, recorded: str | None) -> Iterator[Hands]:
    """Give the hands that `on` names: "" those of this machine, else a cluster, which is let go of at the end.

    Raises:
        UsageError: an embedder is given, and a cluster is to embed; `on` names no cluster.
        ClusterError: the cluster does not answer, or its machines do not fit.
        ModelError: the embedder's tokenizer is not on this machine.
    """
    own = OwnHands(expert, settings, given)
    if not on:
        yield own
        return
    if given is not None:
        raise UsageError("the workers of a cluster load their embedder themselves", hint="leave embedder= out, or on=")
    counter = load_counter(settings.embedder, expert=expert)
    hosted = isinstance(find_entry(in_expert(settings.embedder.name, expert)).source, EndpointSource)
    on_torch = computed_by_torch(settings.embedder, expert=expert)
    precision = None if hosted else recorded_precision(recorded) or ("f32" if on_torch else _native())
    with connected(on) as machines:
        where = places(machines, settings.cluster.workers, settings.cluster.worker_cores, gpus=on_torch)
        with ingest_crew(where, settings.embedder, expert, precision=precision, embeds=not hosted) as crew:
            yield ClusterHands(crew, settings.embedder, counter, local=own.embedder if hosted else None)


def _native() -> str:
    """Return the precision in which a new index is made: that of this machine, as without a cluster."""
    from doyen.embedding.runtime import native_precision

    return native_precision()
