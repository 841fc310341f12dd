"""One ingest from end to end: list, select, parse in workers, embed, write, take out what is gone, note what failed.

Enters: what the user named. Leaves: an up-to-date index and an `IngestReport`. An interruption loses at most the two
batches in hand; running again goes on where it stopped.
"""

from __future__ import annotations

import dataclasses
import shutil
import time
from collections.abc import Sequence
from pathlib import Path

from doyen.config import Settings, load_settings
from doyen.embedding import Embedder, TokenCounter, load_counter, load_embedder
from doyen.errors import StoreError, UsageError
from doyen.index.lance import IndexManifest, LanceIndex, is_index, recorded_fingerprint
from doyen.ingesting.faults import WARNINGS_FILE, Fault, FaultBook, load_faults
from doyen.ingesting.known_sources import (
    KnownSource,
    Named,
    changed_options,
    load_sources,
    open_known,
    open_named,
    remember_sources,
)
from doyen.ingesting.opening import index_folder, only_writer, writing_store
from doyen.ingesting.report import IngestReport, Progress
from doyen.ingesting.selecting import Listing, Selector, is_local, list_sources, refuse_claims
from doyen.ingesting.vanished import take_out
from doyen.ingesting.writing import BackgroundEmbedder, BatchWriter
from doyen.originals import collect_originals, keep_original, wanted_original
from doyen.parsing import Limits, Outcome, WorkerPool
from doyen.parsing.tasks import Parsed, Parser, ParseTask
from doyen.sources import Source, SourceOptions


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
    progress: Progress | None = None,
) -> IngestReport:
    """Bring the index in step with `sources` (folders, files, URLs); without any, with all that are known.

    A document is named by its path below the folder, after `name/` if given. What a source no longer holds is taken
    out; `prune` also takes out every document of other sources; `rebuild` makes the index anew. What failed before and
    has not changed is read again only with `retry_failed`, or with `passwords`, which are tried in turn on encrypted files.

    Raises:
        DocumentError: no source can be reached, or a path does not exist (nothing is changed then).
        UsageError: a source gives an id that another source already has; `rebuild` would lose known sources.
        StoreError: the index was made by another embedder, or cannot be written (disk full).
    """
    started = time.perf_counter()
    expert = Path(expert)
    settings = load_settings(expert)
    folder = index_folder(expert, settings)
    options = dataclasses.replace(options or SourceOptions(), state=folder / "sources")
    run = Run(expert, settings, embedder, progress, retry=retry_failed or bool(passwords), prune=prune)
    if sources:
        named = open_named(sources, name, options)
    else:
        if name is not None or changed_options(options):
            raise UsageError("--name and the options of a source need a source", hint="doyen ingest SOURCE --name NAME")
        whole = prune or rebuild
        roots = {fault.root for fault in load_faults(folder)} if retry_failed and not whole else None
        named, unreachable = open_known(expert, options.state, roots=roots, all_of_them=whole)
        run.report.failed += unreachable
    run.bring_in(named, passwords, rebuild=rebuild)
    run.report.seconds = time.perf_counter() - started
    return run.report


_LISTED = 100  # failures listed of one item: an archive may hold thousands of broken files


class Run:
    """The state of one ingest."""

    def __init__(
        self,
        expert: Path,
        settings: Settings,
        embedder: Embedder | None,
        progress: Progress | None,
        *,
        retry: bool,
        prune: bool,
    ) -> None:
        self.report = IngestReport()
        self._expert, self._settings, self._given, self._progress = expert, settings, embedder, progress
        self._retry, self._prune = retry, prune
        self._folder = index_folder(expert, settings)
        self._done = 0
        self._index: LanceIndex | None = None

    def bring_in(self, named: Named, passwords: Sequence[str], *, rebuild: bool) -> None:
        """Do all of it."""
        if not named:
            return
        sources = [source for _, source in named]
        listings = list_sources(sources)
        refuse_claims(item for listing in listings if listing.local for item in listing.items)
        if rebuild:
            unlisted = next((listing.failed for listing in listings if listing.failed), None)
            if unlisted:
                raise unlisted
            self._clear([known for known, _ in named])
        self._embedder = BackgroundEmbedder(self._load)
        try:
            with writing_store():
                index = self._index = self._open()
            with only_writer(self._folder):
                self._faults = FaultBook(self._folder)
                self._warnings = FaultBook(self._folder, WARNINGS_FILE)
                self._work(index, listings, passwords)
                self._close(index, listings)
        finally:
            self._embedder.stop()
        specs = [known.spec for known in load_sources(self._expert)] if self._prune else []
        remember_sources(self._expert, [known for known, _ in named], forget=specs)

    # ---- the index

    def _clear(self, named: Sequence[KnownSource]) -> None:
        """Take away the index, unless that would lose sources that are not named."""
        specs = {source.spec for source in named}
        lost = [source.spec for source in load_sources(self._expert) if source.spec not in specs]
        if lost and not self._prune:
            raise UsageError(
                f"--rebuild would take out what came from {', '.join(lost)}",
                hint="name these sources too; doyen ingest --rebuild alone takes all; --prune lets go of the others",
            )
        if self._folder.exists():
            if not is_index(self._folder):
                raise StoreError(f"{self._folder} is not an index of doyen: not removed")
            shutil.rmtree(self._folder)

    def _open(self) -> LanceIndex:
        """Open or make the index; the embedder is waited for only where the index does not know it yet."""
        settings = self._settings
        if self._given is None and (self._folder / "manifest.json").exists():
            index = LanceIndex.open(self._folder)
            if index.manifest.embedder == settings.embedder.name:
                tokens, counter = settings.chunking.max_tokens, self._counter().fingerprint
                index.require(dataclasses.replace(index.manifest, chunk_tokens=tokens, counter=counter))
                return index
        return LanceIndex.open_or_create(self._folder, self._manifest(self._embedder.loaded()))

    def _counter(self) -> TokenCounter:
        return self._given.counter if self._given else load_counter(self._settings.embedder.name)

    def _load(self) -> Embedder:
        """Load the embedder, in the precision that the index has, and hold it against the index."""
        name = self._settings.embedder.name
        embedder = self._given or load_embedder(name, recorded=recorded_fingerprint(self._folder))
        if self._index is not None:
            self._index.require(self._manifest(embedder))
        return embedder

    def _manifest(self, embedder: Embedder) -> IndexManifest:
        name, tokens = self._settings.embedder.name, self._settings.chunking.max_tokens
        counter = embedder.counter.fingerprint
        return IndexManifest(name, embedder.fingerprint, embedder.dim, tokens, counter=counter)

    # ---- the work

    def _work(self, index: LanceIndex, listings: Sequence[Listing], passwords: Sequence[str]) -> None:
        with writing_store():
            self._unfinished = index.unfinished
            index.recover()
        selector = self._selector = Selector(
            index,
            self.report,
            self._faults,
            self._warnings,
            retry=self._retry,
            prune=self._prune,
            settled=self._settled,
        )
        selector.prepare(listings)
        writer = BatchWriter(index, self._embedder, self.report, self._settled)
        limits = self._limits()
        parser = Parser(self._counter(), self._settings.chunking.max_tokens, limits, tuple(passwords))
        try:
            with WorkerPool(parser, workers=self._settings.ingest.workers or None, limits=limits) as pool:
                for outcome in pool.run(selector.tasks(listings)):
                    self._embedder.begin()
                    self._take(outcome, writer)
                writer.finish()
            self._follow(index, listings)
        except KeyboardInterrupt:
            self.report.interrupted = True

    def _limits(self) -> Limits:
        given = self._settings.ingest
        return Limits(given.file_timeout_s, given.file_memory_gib, given.file_max_characters)

    def _take(self, outcome: Outcome[ParseTask, Parsed], writer: BatchWriter) -> None:
        """Hand a parsed item to the writer; note what of it failed."""
        task, parsed = outcome.task, outcome.result
        before = self._selector.parsing.pop(task.id)
        if parsed is None or not parsed.documents:
            faults = parsed.failures if parsed else []
            reasons = [outcome.reason or "holds nothing that can be read"] if not faults else []
            for reason in reasons:
                self._selector.fail(task.id, task.source, task.root, reason, task.sha256 if outcome.own else "")
            self._settled()
        else:
            faults = parsed.failures
            self._keep_originals(task, parsed)
            writer.add(task, parsed, before)
        for document, reason in faults[:_LISTED]:
            self._selector.fail(task.id, _place(task, document), task.root, reason, task.sha256)
        if len(faults) > _LISTED:
            reason = f"{len(faults) - _LISTED:,} more files in it cannot be read"
            self._selector.fail(task.id, task.source, task.root, reason, task.sha256)
        for document, remark in parsed.warnings if parsed else []:
            self.report.warnings.append((document, remark))
            self._warnings.note(Fault(document, remark, task.id, task.root, task.sha256))

    def _keep_originals(self, task: ParseTask, parsed: Parsed) -> None:
        wanted = self._settings.documents.keep_originals
        if any(wanted_original(wanted, Path(document.id).suffix) for document, _, _ in parsed.documents):
            with writing_store():
                keep_original(self._expert, task.data, task.sha256, Path(task.name).suffix)

    def _settled(self, items: int = 1) -> None:
        self._done += items
        if self._progress and self._done < self._selector.total:
            self._progress("documents", self._done, self._selector.total)

    # ---- the end

    def _follow(self, index: LanceIndex, listings: Sequence[Listing]) -> None:
        """Bring rows in step whose content stayed, and take out what is gone."""
        selector = self._selector
        if self._progress:
            self._progress("documents", selector.total, selector.total)
        sources = [listing.source for listing in listings]
        with writing_store():
            if selector.moved:
                index.touch(selector.moved)
            self.report.removed += take_out(index, sources, selector, selector.taken_over, prune=self._prune)
            if selector.restamped and self.report.written:
                index.touch(selector.restamped)

    def _close(self, index: LanceIndex, listings: Sequence[Listing]) -> None:
        if self.report.written or self._unfinished or not index.prepared:
            with writing_store():
                index.finish(
                    whole=not self.report.interrupted,
                    keep_versions_days=self._settings.documents.keep_versions_days,
                )
                collect_originals(self._expert, index)
            self._note_duplicates(index)
        for listing in listings:
            self.report.unsupported += listing.source.skipped
            self.report.warnings += [(listing.source.root, remark) for remark in listing.source.warnings]
            if listing.failed:
                self.report.failed.append((listing.source.root, str(listing.failed)))
        done = [listing.source for listing in listings if listing.source.complete]
        self._faults.save(lambda fault: self._stands(fault, done))
        self._warnings.save(lambda fault: self._stands(fault, done))

    def _note_duplicates(self, index: LanceIndex) -> None:
        """Report the groups of near-duplicates that a document of this run belongs to."""
        read = {*self.report.new, *self.report.changed}
        self.report.duplicates = [g for g in index.near_duplicates() if not read.isdisjoint(g.documents)]

    def _stands(self, fault: Fault, done: Sequence[Source]) -> bool:
        """Whether an item that this run did not see may still be there."""
        if self._prune or any(source.root == fault.root for source in done):
            return False
        path = Path(fault.file)
        return not is_local(fault.file) or any(place.is_file() for place in (path, *path.parents))


def _place(task: ParseTask, document: str) -> str:
    """Return where a document within an item lies: the item's place, then the path in it."""
    return task.source + document.removeprefix(task.id)
