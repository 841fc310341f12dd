"""`doyen reembed`: another embedding model for an index, made beside the one that is searched; and the way back.

Enters: an expert and a model's name. Leaves: an index with that model's vectors in the old one's place, and `[embedder] name`.
Readers answer from the old generation until the switch, and go over to the new one by themselves. Reads no source.
"""

from __future__ import annotations

import dataclasses
import time
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from doyen.answer_cache import forget_answers
from doyen.config import Settings, load_settings, write_name
from doyen.embedding import Embedder, load_embedder
from doyen.errors import Interrupted, UsageError
from doyen.index.generations import Record, Root
from doyen.index.lance import LanceIndex
from doyen.index.places import BucketPlace, LancePlace
from doyen.ingesting.opening import writing_store
from doyen.ingesting.revectoring import Known, Progress, generations_of, remake


@dataclasses.dataclass(frozen=True, slots=True)
class Reembedded:
    """What was done: from which embedder to which; how many texts it computed vectors of, of how many."""

    before: str
    embedder: str
    computed: int
    texts: int
    too_long: int
    """Chunks with more tokens than the embedder reads."""
    seconds: float
    instant: bool = False
    """Whether a kept index was taken as it was."""

    def as_dict(self) -> dict[str, Any]:
        """Return it for `--json`."""
        return dataclasses.asdict(self)


def reembed(
    expert: Path | str,
    model: str = "",
    *,
    undo: bool = False,
    embedder: Embedder | None = None,
    progress: Progress | None = None,
) -> Reembedded:
    """Give the index the vectors of embedder `model` and search with it from then on; `undo` goes back to the one before.

    Searches go on with the old vectors until the new ones are whole. Interrupted, it goes on when it is called again. An
    `embedder` that is given is taken for `model`. `undo` takes the kept index of before as it was where nothing was written
    since; else it makes one anew, of its vectors and new ones for what came since.

    Raises:
        UsageError: neither a model nor `undo`; there is nothing to undo.
        ModelError: the model is unknown, or not fetched.
        StoreError: there is no index, it is in PostgreSQL, or another process writes to it.
        Interrupted: stopped; the expert searches as before.
    """
    folder = Path(expert)
    settings = load_settings(folder)
    if bool(model) == undo:
        raise UsageError("reembed needs a model or --undo", hint="doyen reembed --model MODEL; doyen models lists them")
    place = generations_of(folder, settings)
    place.open()  # a missing index is told with what makes one
    job = _Job(folder, settings, place, embedder, progress)
    try:
        with place.only_writer(), writing_store():
            done = job.undo() if undo else job.to(model)
            write_name(folder, "embedder", done.embedder)
    except KeyboardInterrupt:
        again = "--undo" if undo else f"--model {model}"
        hint = f"doyen reembed {again} goes on where it stopped"
        raise Interrupted("stopped; the expert searches with the old vectors", hint=hint) from None
    forget_answers(folder)
    return done if done.instant else dataclasses.replace(done, too_long=job.too_long())


@dataclasses.dataclass(slots=True)
class _Job:
    expert: Path
    settings: Settings
    place: LancePlace | BucketPlace
    given: Embedder | None
    progress: Progress | None

    @property
    def _root(self) -> Root:
        return self.place.root

    def _record(self) -> Record:
        found = self._root.read()
        assert found is not None
        return found[0]

    def to(self, name: str, known: Known | None = None) -> Reembedded:
        """Give the index the vectors of a model."""
        started = time.perf_counter()
        before = self._record().manifest.embedder
        embedder = self.given = self.given or self._load(name)
        if self._record().manifest.fingerprint == embedder.fingerprint and before == name:
            return Reembedded(before, name, 0, 0, 0, 0.0, instant=True)  # only doyen.toml was not written
        computed = remake(self._root, self.settings, embedder, name, known=known, progress=self.progress)
        index = LanceIndex.open(self._root)
        texts = index.chunk_count() + index.summary_count()
        return Reembedded(before, name, computed, texts, 0, time.perf_counter() - started)

    def too_long(self) -> int:
        """Count the chunks of which the new embedder reads only the beginning."""
        assert self.given is not None
        counter = self.given.counter
        most = counter.limit - counter.special
        batches = LanceIndex.open(self._root).tables.chunks.search().select(["searched"]).limit(None).to_batches()
        texts = (text for batch in batches for text in batch["searched"].to_pylist())
        return sum(counter.count(text) > most for text in texts if len(text) > most)

    def undo(self) -> Reembedded:
        """Go back to the generation before the last switch."""
        started = time.perf_counter()
        record = self._record()
        previous = record.previous
        if previous is None or previous.manifest is None:
            raise UsageError(
                "there is no index from before to go back to", hint="doyen reembed --model MODEL makes one anew"
            )
        name = previous.manifest.embedder
        now = LanceIndex(self._root, record, newest=True)
        shown, taken_over = record.state or now.tables.shown(None), previous.successor
        if now.unfinished or taken_over is None or dict(shown.versions) != dict(taken_over.versions):
            return self.to(name, _vectors_of(LanceIndex(self._root, record, previous)))
        found = self._root.read()
        assert found is not None
        back = found[0].gone_back()
        manifest = dataclasses.replace(back.manifest, before=record.manifest.embedder)
        self._root.write(dataclasses.replace(back, manifest=manifest), found[1])
        texts = now.chunk_count() + now.summary_count()
        took = time.perf_counter() - started
        return Reembedded(record.manifest.embedder, name, 0, texts, 0, took, instant=True)

    def _load(self, name: str) -> Embedder:
        settings = dataclasses.replace(self.settings.embedder, name=name)
        return load_embedder(settings, expert=self.expert)


def _vectors_of(index: LanceIndex) -> Known:
    """Return what finds the vectors of texts in a generation."""

    def find(texts: Any, _: NDArray[np.int64]) -> tuple[NDArray[np.bool_], NDArray[np.float32]]:
        return index.vectors_for(texts)

    return find
