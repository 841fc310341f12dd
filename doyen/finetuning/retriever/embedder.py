"""An expert's index → an embedder trained on its documents, and the index made anew with it if it finds them better.

Leaves `embedders/<name>/` in sentence-transformers' format. The way back is `undo`.
"""

from __future__ import annotations

import datetime
import shutil
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from doyen.config import Settings, load_settings, write_name, written_name
from doyen.embedding import load_embedder
from doyen.embedding.prefixes import Prefixes, read_prefixes
from doyen.errors import GateError, Interrupted, UsageError
from doyen.evaluation.statistics import paired_difference
from doyen.finetuning.preparing import Say, require_extra
from doyen.finetuning.retriever.encoder import Encoder
from doyen.finetuning.retriever.material import SEED, Material, gather
from doyen.finetuning.retriever.record import (
    RetrieverTraining,
    by_kind,
    free_folder,
    trained_documents,
    verdict,
    versions,
)
from doyen.finetuning.retriever.training import make_batches, train
from doyen.ingesting.revectoring import FOLDER, OLD_VECTORS, OldVectors, revector
from doyen.models.catalogue import find_entry
from doyen.models.fetching import require_model

SHARE = 0.5
"""How far the weights go from the old ones to the trained ones: half of the way keeps what the embedder could do before
(Wortsman et al. 2021, arXiv 2109.01903), and measured better than all of it on both sets tried (LOG.md)."""
MEASURED_TOKENS = 128
_LEAST_CHANGE = 1e-4

Progress = Callable[[str, int, int, str], None]


@dataclass(frozen=True, slots=True)
class EmbedderOptions:
    """How an embedder is trained: on at most `most_pairs` pairs, `batch_size` a step; fewer are passed up to `passes` times."""

    learning_rate: float = 5e-5
    batch_size: int = 64
    most_pairs: int = 3200
    topical: float = 0.5
    passes: int = 3


def finetune_embedder(
    expert: Path | str,
    *,
    name: str | None = None,
    options: EmbedderOptions | None = None,
    resume: bool = False,
    progress: Progress | None = None,
    say: Say | None = None,
) -> RetrieverTraining:
    """Train the expert's embedder on its own documents; search with it if held-out documents are found better.

    Better: the 95% interval of the gain in nDCG@10 lies above zero. Then the chunks get new vectors, the index is
    exchanged in one step, and `[embedder] name` names the new embedder. Else everything stays as it is and no embedder
    is kept. `resume` goes on after an interruption that came after the training.

    Raises:
        ExamplesError: the documents are too few.
        GateError: the training went wrong, or changed nothing.
        ModelError: the extra is not installed, or the embedder is none that can be trained.
        Interrupted: the expert is as it was.
    """
    folder, say, options = Path(expert), say or (lambda _: None), options or EmbedderOptions()
    progress = progress or (lambda *_: None)
    require_extra("lora")
    settings = load_settings(folder)
    if resume:
        final = _unused(folder, name)
        record = RetrieverTraining.read(final)
    else:
        final = free_folder(folder / FOLDER, name)
        made = _train_or_stop(folder, settings, final, options, progress, say)
        if made.gain["low"] <= 0:
            return made
        record = made
    try:
        return _switch(folder, settings, record, final, progress, say)
    except KeyboardInterrupt:
        raise Interrupted(
            "stopped before the index was made anew; the expert searches as before, the trained embedder is kept",
            hint=f"doyen finetune --target embedder --resume --name {final.name}",
        ) from None


def undo_embedder(expert: Path | str, *, progress: Progress | None = None, say: Say | None = None) -> RetrieverTraining:
    """Give the index the vectors of the embedder that the tuned one took the place of, and name that one again.

    Vectors that were kept are not computed again; documents that came since are embedded. The tuned embedder is removed.

    Raises: UsageError where the expert searches with no tuned embedder.
    """
    folder, say = Path(expert), say or (lambda _: None)
    progress = progress or (lambda *_: None)
    settings = load_settings(folder)
    tuned = _in_use(folder, settings)
    record = RetrieverTraining.read(tuned)
    settings = replace(settings, embedder=replace(settings.embedder, name=record.previous))
    previous = _resolved(folder, record.previous)
    say(f"going back to {record.previous}")
    count = revector(
        folder,
        settings,
        lambda: load_embedder(replace(settings.embedder, name=previous), expert=folder),
        previous,
        known=OldVectors(tuned / OLD_VECTORS),
        progress=lambda done, total: progress("embedding", done, total, ""),
    )
    write_name(folder, "embedder", record.previous)
    shutil.rmtree(tuned)
    return replace(record, used=False, reembedded=count)


# ---- training


def _train_or_stop(
    expert: Path, settings: Settings, final: Path, options: EmbedderOptions, progress: Progress, say: Say
) -> RetrieverTraining:
    """Train into `final`; the folder is there only if the embedder is whole and better."""
    work = final.with_name(f".{final.name}.training")
    try:
        record = _trained(expert, settings, final.name, work, options, progress, say)
        if record.gain["low"] > 0:
            work.replace(final)
    except KeyboardInterrupt:
        raise Interrupted(
            "stopped in training; the expert is as it was", hint="doyen finetune --target embedder starts anew"
        ) from None
    finally:
        shutil.rmtree(work, ignore_errors=True)
    return record


def _trained(
    expert: Path,
    settings: Settings,
    name: str,
    work: Path,
    options: EmbedderOptions,
    progress: Progress,
    say: Say,
) -> RetrieverTraining:
    """Train and measure; leave the embedder with its record in `work`."""
    begun = time.perf_counter()
    base = require_model(settings.embedder.name)
    if read_prefixes(base, settings.embedder.name) != Prefixes() or settings.embedder.dimensions:
        raise UsageError(
            f"{settings.embedder.name} takes prefixes or is cut to fewer dimensions: it cannot be trained yet",
            hint="train an embedder without them, such as all-minilm-l6-v2",
        )
    encoder = Encoder(base)
    material = gather(expert, settings, most_pairs=options.most_pairs)
    held_out = material.held_out
    kinds = Counter(pair.kind for pair in material.pairs)
    say(
        f"{len(material.pairs)} pairs ({', '.join(f'{n} {kind}' for kind, n in kinds.items())}), "
        f"{len(held_out.queries)} queries to {len(set(held_out.gold))} held-out documents"
    )
    say("measuring the embedder as it is")
    before = held_out.scores(lambda texts: encoder.embed(texts, MEASURED_TOKENS))
    losses = _train(encoder, material, options, progress)
    _soften(encoder, base, held_out.queries[:8])
    say("measuring the trained embedder")
    after = held_out.scores(lambda texts: encoder.embed(texts, MEASURED_TOKENS))
    gain = paired_difference(before.tolist(), after.tolist(), seed=SEED)
    encoder.save(work)
    record = RetrieverTraining(
        name=name,
        target="embedder",
        base=find_entry(settings.embedder.name).name,
        created=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        pairs=dict(kinds),
        held_out=held_out.counts(),
        steps=len(losses),
        seconds=round(time.perf_counter() - begun, 1),
        before=round(float(before.mean()), 4),
        after=round(float(after.mean()), 4),
        gain=gain.as_dict(),
        by_kind=by_kind(held_out.kinds, before, after),
        settings={"learning_rate": options.learning_rate, "batch_size": options.batch_size, "topical": options.topical},
        share=SHARE,
        previous=written_name(expert, "embedder"),
        documents=trained_documents(material.chunks, material.pairs),
        versions=versions(),
    )
    record.write(work)
    say(verdict(record))
    return record


def _train(encoder: Encoder, material: Material, options: EmbedderOptions, progress: Progress) -> list[float]:
    queries = encoder.embed([pair.query for pair in material.pairs], MEASURED_TOKENS)
    passages = material.vectors[[pair.chunk for pair in material.pairs]]
    made = make_batches(material.pairs, queries, passages, size=options.batch_size, topical=options.topical, seed=SEED)
    losses: list[float] = []

    def report(step: int, loss: float) -> None:
        losses.append(loss)
        progress("training", step, len(made.batches), f"loss {np.mean(losses[-10:]):.3f}")

    train(encoder, made, learning_rate=options.learning_rate, report=report)
    return losses


def _soften(encoder: Encoder, base: Path, probe: Sequence[str]) -> None:
    """Set the weights SHARE of the way from the old ones to the trained ones.

    Raises: GateError where the training changed no vector.
    """
    old = Encoder(base)
    was = old.embed(probe, MEASURED_TOKENS)
    if np.abs(encoder.embed(probe, MEASURED_TOKENS) - was).max() < _LEAST_CHANGE:
        raise GateError("the training changed no vector", hint="raise --learning-rate")
    encoder.blend(old.weights(), encoder.weights(), SHARE)


# ---- the switch


def _switch(
    expert: Path, settings: Settings, record: RetrieverTraining, final: Path, progress: Progress, say: Say
) -> RetrieverTraining:
    """Make the index anew with the embedder in `final`, then name that in the settings."""
    written = f"./{FOLDER}/{final.name}"
    resolved = str(final.resolve())
    say("embedding the documents anew")
    count = revector(
        expert,
        settings,
        lambda: load_embedder(replace(settings.embedder, name=resolved), expert=expert),
        resolved,
        keep=final / OLD_VECTORS,
        progress=lambda done, total: progress("embedding", done, total, ""),
    )
    write_name(expert, "embedder", written)
    record = replace(record, used=True, reembedded=count)
    record.write(final)
    return record


def _in_use(expert: Path, settings: Settings) -> Path:
    """Return the folder of the tuned embedder that the expert searches with."""
    folder = Path(settings.embedder.name)
    if not folder.is_absolute() or folder.parent != (expert / FOLDER).resolve():
        raise UsageError(f"the expert searches with {folder}: there is nothing to undo", hint="doyen status")
    return folder


def _unused(expert: Path, name: str | None) -> Path:
    """Return the folder of a trained embedder whose index was not made: of that name, or the newest."""
    found = [p.parent for p in (expert / FOLDER).glob("*/training.json") if not RetrieverTraining.read(p.parent).used]
    found = [p for p in found if name in (None, p.name)]
    if not found:
        raise UsageError("there is no interrupted run to resume", hint="doyen finetune --target embedder")
    return max(found, key=lambda p: RetrieverTraining.read(p).created)


def _resolved(expert: Path, name: str) -> str:
    return str((expert / name).resolve()) if name.startswith("./") else name
