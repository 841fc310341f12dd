"""One ingest as a whole: open what the user named, open or remake the index, hold it, work, remember the sources.

Enters: what the user named. Leaves: an up-to-date index and an `IngestReport`. The work itself is in work.py.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Collection, Sequence
from pathlib import Path

from doyen.answer_cache import forget_answers
from doyen.config import load_settings
from doyen.embedding import Embedder, TokenCounter, load_counter
from doyen.errors import UsageError
from doyen.index.store import Index, IndexManifest
from doyen.ingesting.faults import load_faults
from doyen.ingesting.hands import Hands, hands
from doyen.ingesting.known_sources import (
    KnownSource,
    Named,
    changed_options,
    load_sources,
    open_known,
    open_named,
    remember_sources,
)
from doyen.ingesting.opening import index_place, require_own, writing_store
from doyen.ingesting.report import IngestReport, Progress
from doyen.ingesting.selecting import Listing, list_sources, refuse_claims
from doyen.ingesting.timing import record_ingest
from doyen.ingesting.work import Job, Work
from doyen.ingesting.writing import BackgroundEmbedder
from doyen.labelling import Labeller
from doyen.sources import SourceOptions


def ingest(
    expert: Path | str,
    sources: Sequence[Path | str] = (),
    *,
    name: str | None = None,
    prune: bool = False,
    rebuild: bool = False,
    retry_failed: bool = False,
    passwords: Sequence[str] = (),
    options: SourceOptions | None = None,
    embedder: Embedder | None = None,
    on: str = "",
    progress: Progress | None = None,
    say: Callable[[str], None] | None = None,
) -> IngestReport:
    """Bring the index in step with `sources` (folders, files, URLs); without any, with all that are known.

    A document is named by its path below the folder, after `name/` if given. What a source no longer holds is taken
    out; `prune` also takes out every document of other sources; `rebuild` makes the index anew. What failed before and
    has not changed is read again only with `retry_failed`, or with `passwords`, which are tried in turn on encrypted files.
    With `on` ("ray", "ray://HOST:PORT") files are parsed and embedded by the workers of a Ray cluster; this process reads
    them and alone writes. `say` is told what an embedder behind an API will cost, before anything is sent there.

    Raises:
        ClusterError: the cluster does not answer, its machines do not fit, or no worker is left.
        DocumentError: no source can be reached, or a path does not exist (nothing is changed then).
        UsageError: a source gives an id that another source already has; `rebuild` would lose known sources.
        StoreError: the index was made by another embedder, or cannot be written (disk full).
    """
    started = time.perf_counter()
    expert = Path(expert)
    retry = retry_failed or bool(passwords)
    job = Job(expert, load_settings(expert), tuple(passwords), retry=retry, prune=prune, progress=progress, say=say)
    run = Run(job, embedder, rebuild=rebuild, on=on)
    options = dataclasses.replace(options or SourceOptions(), state=run.visits)
    if sources:
        named = _with_former_labels(open_named(sources, name, options), load_sources(expert))
    else:
        if name is not None or changed_options(options):
            raise UsageError("--name and the options of a source need a source", hint="doyen ingest SOURCE --name NAME")
        whole = prune or rebuild
        named, unreachable = open_known(load_sources(expert), options.state, all_of_them=whole)
        if retry_failed and not whole:
            roots = {fault.root for fault in load_faults(run.place.state)}
            named = [(known, source) for known, source in named if source.root in roots]
        run.report.failed += unreachable
    run.bring_in(named)
    return run.closed(started)


def ingest_again(
    expert: Path, specs: Collection[str], *, passwords: Sequence[str] = (), embedder: Embedder | None = None
) -> IngestReport:
    """Bring the index in step with those of the known sources whose `spec` is named, as they were ingested before.

    What failed and has not changed is left alone. Raises as `ingest` does.
    """
    started = time.perf_counter()
    run = Run(Job(expert, load_settings(expert), tuple(passwords)), embedder)
    known = [source for source in load_sources(expert) if source.spec in specs]
    named, unreachable = open_known(known, run.visits, all_of_them=False)
    run.report.failed += unreachable
    run.bring_in(named)
    return run.closed(started)


def _with_former_labels(named: Named, known: Sequence[KnownSource]) -> Named:
    """Return sources that were named without labels with those that they had: leaving out an option opens nothing."""
    former = {source.spec: source.options["labels"] for source in known if source.options.get("labels")}
    found: Named = []
    for one, source in named:
        if "labels" not in one.options and one.spec in former:
            one = dataclasses.replace(one, options=one.options | {"labels": former[one.spec]})
        found.append((one, source))
    return found


def _forgotten(known: Sequence[KnownSource], named: Named) -> list[str]:
    """Return the specs that `prune` lets go of: not those with labels within a named source, whose documents stay."""
    return [one.spec for one in known if not (one.labels and any(source.covers(one.spec) for _, source in named))]


class Run:
    """One ingest: the index that it opens or makes, and its report."""

    def __init__(self, job: Job, embedder: Embedder | None, *, rebuild: bool = False, on: str = "") -> None:
        self.report = IngestReport()
        self._job, self._given, self._rebuild, self._on = job, embedder, rebuild, on
        self.place = index_place(job.expert, job.settings)
        require_own(self.place)
        self._index: Index | None = None

    @property
    def visits(self) -> Path:
        """Where sources keep how far they have come."""
        return self.place.state / "sources"

    def bring_in(self, named: Named) -> None:
        """Do all of it."""
        if not named:
            return
        listings = list_sources([source for _, source in named])
        refuse_claims(item for listing in listings if listing.local for item in listing.items)
        labels = {source.spec: source.labels for source in load_sources(self._job.expert)}
        labels |= {source.spec: source.labels for source, _ in named}
        label = Labeller.of(self._job.expert, self._job.settings, labels)
        if any(source.labels for source, _ in named):  # a crash must not forget who may see what is being written
            remember_sources(self._job.expert, [source for source, _ in named])
        with hands(self._on, self._job.expert, self._job.settings, self._given, self._recorded()) as found:
            self._work(found, listings, [known for known, _ in named], label)
        specs = _forgotten(load_sources(self._job.expert), named) if self._job.prune else []
        remember_sources(self._job.expert, [known for known, _ in named], forget=specs)

    def _work(self, found: Hands, listings: Sequence[Listing], named: Sequence[KnownSource], label: Labeller) -> None:
        """Open or make the index, and have the hands that were found do the work."""
        embedder = BackgroundEmbedder(lambda: self._load(found), found.at_once)
        try:
            if self._rebuild:
                unlisted = next((listing.failed for listing in listings if listing.failed), None)
                if unlisted:
                    raise unlisted
                self._clear(named, embedder)
            with writing_store():
                index = self._index = self._open(embedder)
            with self.place.only_writer():
                with writing_store():
                    index.take_hold()
                counter, state = self._counter(), self.place.state
                Work(self._job, state, index, embedder, counter, self.report, label, found).do(listings)
        finally:
            embedder.stop()

    def closed(self, started: float) -> IngestReport:
        """Erase cached answers where documents changed, record what was done since `started`, and return the report."""
        if self.report.changed or self.report.removed:
            forget_answers(self._job.expert)
        self.report.seconds = time.perf_counter() - started
        record_ingest(self.place.state, self.report)
        return self.report

    def _clear(self, named: Sequence[KnownSource], embedder: BackgroundEmbedder) -> None:
        """Take away the index, unless that would lose sources that are not named, or nothing could make it anew."""
        specs = {source.spec for source in named}
        lost = [source.spec for source in load_sources(self._job.expert) if source.spec not in specs]
        if lost and not self._job.prune:
            raise UsageError(
                f"--rebuild would take out what came from {', '.join(lost)}",
                hint="name these sources too; doyen ingest --rebuild alone takes all; --prune lets go of the others",
            )
        if self.place.exists():
            embedder.loaded()
        self.place.clear()

    def _open(self, embedder: BackgroundEmbedder) -> Index:
        """Open or make the index; the embedder is waited for only where the index does not know it yet."""
        settings = self._job.settings
        if self._given is None and self.place.exists():
            index = self.place.open()
            if index.manifest.embedder == settings.embedder.name:
                tokens, counter = settings.chunking.max_tokens, self._counter().fingerprint
                index.manifest.require(dataclasses.replace(index.manifest, chunk_tokens=tokens, counter=counter))
                return index
        return self.place.open_or_create(self._manifest(embedder.loaded()))

    def _counter(self) -> TokenCounter:
        job = self._job
        return self._given.counter if self._given else load_counter(job.settings.embedder, expert=job.expert)

    def _recorded(self) -> str | None:
        return None if self._rebuild else self.place.recorded_fingerprint()

    def _load(self, found: Hands) -> Embedder:
        """Load the embedder, in the precision that the index has, and hold it against the index."""
        embedder = found.embedder(self._recorded())
        if self._index is not None:
            self._index.manifest.require(self._manifest(embedder))
        return embedder

    def _manifest(self, embedder: Embedder) -> IndexManifest:
        name, tokens = self._job.settings.embedder.name, self._job.settings.chunking.max_tokens
        counter = embedder.counter.fingerprint
        return IndexManifest(name, embedder.fingerprint, embedder.dim, tokens, counter=counter)
