"""An expert's index → an embedder trained on its documents, and the index made anew with it if it finds them better.

Leaves `embedders/<name>/` in sentence-transformers' format. The way back is `undo`.
"""

from __future__ import annotations

import shutil
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from doyen.adapters import list_adapters, read_adapter
from doyen.config import Settings, load_settings, write_name, written_name
from doyen.embedding import Kind, load_embedder
from doyen.embedding.languages import trained_languages
from doyen.embedding.prefixes import read_prefixes
from doyen.errors import GateError, Interrupted, UsageError
from doyen.finetuning.preparing import Say, require_extra
from doyen.finetuning.retriever.encoder import Encoder
from doyen.finetuning.retriever.material import SEED, Material, gather
from doyen.finetuning.retriever.measuring import Embed, HeldOut
from doyen.finetuning.retriever.record import (
    RetrieverTraining,
    free_folder,
    measured_training,
    training_folder,
    verdict,
)
from doyen.finetuning.retriever.training import RetrieverOptions, make_batches, train
from doyen.ingesting.revectoring import FOLDER, OLD_VECTORS, OldVectors, generations_of, revector
from doyen.models.catalogue import find_entry
from doyen.models.fetching import require_model

OPTIONS = RetrieverOptions(learning_rate=5e-5, batch_size=64)
SHARE = 0.5
"""How far the weights go from the old ones to the trained ones: half of the way keeps what the embedder could do before
(Wortsman et al. 2021, arXiv 2109.01903), and measured better than all of it on both sets tried (LOG.md)."""
MEASURED_TOKENS = 128
_LEAST_CHANGE = 1e-4

Progress = Callable[[str, int, int, str], None]


def finetune_embedder(
    expert: Path | str,
    *,
    name: str | None = None,
    options: RetrieverOptions = OPTIONS,
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
        StoreError: the vectors of the index are not exchanged here: it is in PostgreSQL, or of other experts.
        Interrupted: the expert is as it was.
    """
    folder, say = Path(expert), say or (lambda _: None)
    progress = progress or (lambda *_: None)
    require_extra("lora")
    settings = load_settings(folder)
    generations_of(folder, settings)  # before hours of training for an index whose vectors cannot be exchanged
    if resume:
        final = _unused(folder, name)
        record = RetrieverTraining.read(final)
    else:
        final = free_folder(folder / FOLDER, name)
        with training_folder(final, "embedder") as work:
            record = _trained(folder, settings, final.name, work, options, progress, say)
            if record.gain["low"] <= 0:
                return record
            work.replace(final)
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
    _warn_of_adapters(folder, say)
    return replace(record, used=False, reembedded=count)


# ---- training


def _trained(
    expert: Path,
    settings: Settings,
    name: str,
    work: Path,
    options: RetrieverOptions,
    progress: Progress,
    say: Say,
) -> RetrieverTraining:
    """Train and measure; leave the embedder with its record in `work`."""
    begun = time.perf_counter()
    encoder = _open(settings)
    material = gather(expert, settings, most_pairs=options.most_pairs)
    held_out = material.held_out
    kinds = Counter(pair.kind for pair in material.pairs)
    say(
        f"{len(material.pairs)} pairs ({', '.join(f'{n} {kind}' for kind, n in kinds.items())}), "
        f"{len(held_out.queries)} queries to {len(set(held_out.gold))} held-out documents"
    )

    say("measuring the embedder as it is")
    before = held_out.scores(_embedding(encoder))
    losses = _train(encoder, _open(settings), material, options, progress)
    say("measuring the trained embedder")
    after = held_out.scores(_embedding(encoder))
    encoder.save(work)
    base = find_entry(settings.embedder.name).name
    write_card(work, base, trained_languages(encoder.folder, base))
    record = measured_training(
        material,
        before,
        after,
        begun=begun,
        name=name,
        target="embedder",
        base=base,
        steps=len(losses),
        settings=asdict(options),
        share=SHARE,
        previous=written_name(expert, "embedder"),
    )
    record.write(work)
    say(verdict(record))
    return record


def _open(settings: Settings) -> Encoder:
    """Open the expert's embedder for training, with the prefixes and the cut that it is served with."""
    own = settings.embedder
    base = require_model(own.name)
    prefixes = read_prefixes(base, find_entry(own.name).name, query=own.query_prefix, passage=own.passage_prefix)
    return Encoder(base, prefixes, own.dimensions)


def write_card(folder: Path, base: str, languages: frozenset[str]) -> None:
    """Write a model card: search asks it for the languages, which the new name does not tell."""
    listed = "".join(f"- {language}\n" for language in sorted(languages))
    language = f"language:\n{listed}" if listed else ""
    (folder / "README.md").write_text(f"---\n{language}base_model: {base}\n---\n\n{base}, trained by doyen.\n", "utf-8")


def _embedding(encoder: Encoder) -> Embed:
    def embed(texts: Sequence[str], *, kind: Kind) -> NDArray[np.float32]:
        return encoder.embed(texts, MEASURED_TOKENS, kind)

    return embed


def _train(
    encoder: Encoder, old: Encoder, material: Material, options: RetrieverOptions, progress: Progress
) -> list[float]:
    """Train the encoder and leave it with the best weights; return the loss of each step.

    Raises: GateError where the training changed no vector.
    """
    queries = encoder.embed([pair.query for pair in material.pairs], MEASURED_TOKENS, "query")
    passages = material.vectors[[pair.chunk for pair in material.pairs]]
    times = options.times(len(material.pairs))
    made = make_batches(material.pairs, queries, passages, size=options.batch_size, passes=times, seed=SEED)
    losses: list[float] = []
    best = BestWeights(encoder, old.weights(), material.stopping)

    def report(step: int, loss: float) -> None:
        losses.append(loss)
        progress("training", step, len(made.batches), f"loss {np.mean(losses[-10:]):.3f}")

    train(encoder, made, learning_rate=options.learning_rate, report=report, stop=best.look)
    best.take()
    probe = material.held_out.queries[:8]
    if np.abs(encoder.embed(probe, MEASURED_TOKENS) - old.embed(probe, MEASURED_TOKENS)).max() < _LEAST_CHANGE:
        raise GateError("the training changed no vector", hint="raise --learning-rate")
    return losses


class BestWeights:
    """The weights SHARE of the way from the old ones to the trained ones, where they find the `stopping` queries best."""

    def __init__(self, encoder: Encoder, old: dict[str, Any], stopping: HeldOut | None) -> None:
        self._encoder, self._old, self._stopping = encoder, old, stopping
        self._best = -1.0
        self._weights: dict[str, Any] = {}

    def look(self) -> bool:
        """Measure the encoder as it is now; return whether it has become worse."""
        if self._stopping is None:
            return False
        trained = self._encoder.weights()
        self._encoder.blend(self._old, trained, SHARE)
        score = float(self._stopping.scores(_embedding(self._encoder)).mean())
        worse = score < self._best
        if not worse:
            self._best, self._weights = score, self._encoder.weights()
        self._encoder.blend(self._old, trained, 1.0)
        return worse

    def take(self) -> None:
        """Give the encoder the best weights seen; those of now where nothing was measured."""
        if self._weights:
            self._encoder.blend(self._old, self._weights, 1.0)
        else:
            self._encoder.blend(self._old, self._encoder.weights(), SHARE)


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
    _warn_of_adapters(expert, say)
    record = replace(record, used=True, reembedded=count)
    record.write(final)
    return record


def _warn_of_adapters(expert: Path, say: Say) -> None:
    """Name the adapters whose refusal rule was fitted on the cosines of another embedder."""
    names = [folder.name for folder in list_adapters(expert) if read_adapter(folder).refusal_rule]
    if names:
        say(
            f"warning: {', '.join(names)} refuse by the cosines of the embedder from before; for the ones of now: "
            "doyen examples build, then doyen finetune --replace --name NAME"
        )


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
