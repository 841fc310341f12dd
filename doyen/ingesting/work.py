"""The work of one ingest: select, parse in workers, embed, write, take out what is gone, note what failed.

Enters: listings of sources, and an index that nobody else writes. Leaves: the index in step, and what was done in the
report. An interruption loses at most the two batches in hand; running again goes on where it stopped.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from doyen.config import Settings
from doyen.embedding import TokenCounter
from doyen.index.store import Index
from doyen.ingesting.faults import WARNINGS_FILE, Fault, FaultBook
from doyen.ingesting.hands import Hands
from doyen.ingesting.opening import writing_store
from doyen.ingesting.report import IngestReport, Progress
from doyen.ingesting.selecting import Listing, Selector, is_local
from doyen.ingesting.vanished import take_out
from doyen.ingesting.writing import BackgroundEmbedder, BatchWriter
from doyen.labelling import Labeller
from doyen.models.catalogue import EndpointSource, find_entry, in_expert
from doyen.originals import collect_originals, keep_original, wanted_original
from doyen.parsing import Limits, Outcome
from doyen.parsing.tasks import Parsed, Parser, ParseTask
from doyen.sources import Source

_LISTED = 100  # failures listed of one item: an archive may hold thousands of broken files


@dataclass(frozen=True, slots=True)
class Job:
    """What is asked of an ingest, but for the sources."""

    expert: Path
    settings: Settings
    passwords: tuple[str, ...] = ()
    retry: bool = False
    prune: bool = False
    progress: Progress | None = None
    say: Callable[[str], None] | None = None


class Work:
    """The state of one ingest while the index is held; `folder` is the index's."""

    def __init__(
        self,
        job: Job,
        folder: Path,
        index: Index,
        embedder: BackgroundEmbedder,
        counter: TokenCounter,
        report: IngestReport,
        label: Labeller,
        found: Hands,
    ) -> None:
        """Take what one ingest has; `found` are the hands that parse."""
        self._hands = found
        self._job, self._index, self._embedder, self._counter, self._report = job, index, embedder, counter, report
        self._faults, self._warnings = FaultBook(folder), FaultBook(folder, WARNINGS_FILE)
        self._limits, self._label = _limits(job.settings), label
        self._done = 0
        self._selector = Selector(
            index,
            report,
            self._faults,
            self._warnings,
            retry=job.retry,
            prune=job.prune,
            most_bytes=self._limits.most_bytes,
            settled=self._settled,
            label=label,
        )

    def do(self, listings: Sequence[Listing]) -> None:
        """Bring the index in step with the sources, and close it."""
        with writing_store():
            unfinished = self._index.unfinished
            self._index.recover()
        self._selector.prepare(listings)
        writer = BatchWriter(self._index, self._embedder, self._report, self._settled, self._estimate)
        tokens = self._job.settings.chunking.max_tokens
        parser = Parser(self._counter, tokens, self._limits, self._job.passwords)
        try:
            with self._hands.pool(parser, self._limits) as pool:
                for outcome in pool.run(self._selector.tasks(listings)):
                    self._embedder.begin()
                    self._take(outcome, writer)
                writer.finish()
            self._follow(listings)
        except KeyboardInterrupt:
            self._report.interrupted = True
        if self._report.written or unfinished or self._selector.relabelled or not self._index.prepared:
            self._finish()
        self._close(listings)

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
            self._report.warnings.append((document, remark))
            self._warnings.note(Fault(document, remark, task.id, task.root, task.sha256))

    def _keep_originals(self, task: ParseTask, parsed: Parsed) -> None:
        wanted = self._job.settings.documents.keep_originals
        if any(wanted_original(wanted, Path(document.id).suffix) for document, *_ in parsed.documents):
            with writing_store():
                keep_original(self._job.expert, task.data, task.sha256, Path(task.name).suffix)

    def _estimate(self, texts: Sequence[str], items: int) -> None:
        """Say what embedding behind an API will cost: the items of the first batch stand for all that are left."""
        job = self._job
        entry = find_entry(in_expert(job.settings.embedder.name, job.expert))
        if job.say is None or not isinstance(entry.source, EndpointSource):
            return
        from doyen.embedding.cost import estimate_cost

        left = max(self._selector.total - self._done, items)
        if estimate := estimate_cost(self._embedder.loaded(), texts, share=items / left):
            job.say(str(estimate))

    def _settled(self, items: int = 1) -> None:
        self._done += items
        if self._job.progress and self._done < self._selector.total:
            self._job.progress("documents", self._done, self._selector.total)

    # ---- the end

    def _follow(self, listings: Sequence[Listing]) -> None:
        """Bring rows in step whose content stayed, and take out what is gone."""
        selector = self._selector
        if self._job.progress:
            self._job.progress("documents", selector.total, selector.total)
        sources = [listing.source for listing in listings]
        with writing_store():
            if selector.relabelled:
                self._index.relabel([replace(item, labels=self._label(item)) for item in selector.relabelled])
            if selector.moved:
                self._index.touch(selector.moved)
            self._report.removed += take_out(self._index, sources, selector, selector.taken_over, prune=self._job.prune)
            if selector.restamped and self._report.written:
                self._index.touch(selector.restamped)

    def _finish(self) -> None:
        """Close what was written, and report the groups of near-duplicates that a document of this run belongs to."""
        with writing_store():
            self._index.finish(
                whole=not self._report.interrupted,
                keep_versions_days=self._job.settings.documents.keep_versions_days,
            )
            collect_originals(self._job.expert, self._index)
        read = {*self._report.new, *self._report.changed}
        self._report.duplicates = [g for g in self._index.near_duplicates() if not read.isdisjoint(g.documents)]

    def _close(self, listings: Sequence[Listing]) -> None:
        """Note what was passed over, what failed, and what was read with a remark."""
        for listing in listings:
            self._report.unsupported += listing.source.skipped
            self._report.warnings += [(listing.source.root, remark) for remark in listing.source.warnings]
            if listing.failed:
                self._report.failed.append((listing.source.root, str(listing.failed)))
        done = [listing.source for listing in listings if listing.source.complete]
        self._faults.save(lambda fault: self._stands(fault, done))
        self._warnings.save(lambda fault: self._stands(fault, done))

    def _stands(self, fault: Fault, done: Sequence[Source]) -> bool:
        """Whether an item that this run did not see may still be there."""
        if self._job.prune or any(source.root == fault.root for source in done):
            return False
        path = Path(fault.file)
        return not is_local(fault.file) or any(place.is_file() for place in (path, *path.parents))


def _place(task: ParseTask, document: str) -> str:
    """Return where a document within an item lies: the item's place, then the path in it."""
    return task.source + document.removeprefix(task.id)


def _limits(settings: Settings) -> Limits:
    given = settings.ingest
    return Limits(given.file_timeout_s, given.file_memory_gib, given.file_max_characters)
