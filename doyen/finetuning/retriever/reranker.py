"""An expert's index → a cross-encoder trained on its documents, used if it orders held-out passages better than search.

Leaves `rerankers/<name>/`, and `[rerank] name` in the settings. It is measured against the order that search itself gives.
"""

from __future__ import annotations

import math
import random
import shutil
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from doyen.config import Settings, load_settings, write_name, written_name
from doyen.embedding import Embedder, load_embedder
from doyen.errors import GateError, UsageError
from doyen.finetuning.preparing import Say, require_extra
from doyen.finetuning.retriever.cross_encoder import CrossEncoder
from doyen.finetuning.retriever.embedder import Progress
from doyen.finetuning.retriever.material import SEED, Material, gather
from doyen.finetuning.retriever.measuring import CUTOFF, HeldOut, ndcg_of
from doyen.finetuning.retriever.record import (
    RetrieverTraining,
    free_folder,
    measured_training,
    training_folder,
    verdict,
)
from doyen.finetuning.retriever.searching import search_orders
from doyen.finetuning.retriever.training import FALSE_NEGATIVE_SHARE, RetrieverOptions, chance, rate_share
from doyen.models.fetching import require_model

OPTIONS = RetrieverOptions(learning_rate=1e-4, batch_size=16)
FOLDER = "rerankers"
PAIR_TOKENS = 144
NEGATIVES = 3
_NEAREST = 30


def finetune_reranker(
    expert: Path | str,
    *,
    name: str | None = None,
    options: RetrieverOptions = OPTIONS,
    progress: Progress | None = None,
    say: Say | None = None,
) -> RetrieverTraining:
    """Train a cross-encoder on the expert's documents; search with it if held-out documents are found better.

    Better: the 95% interval of the gain in nDCG@10 over the retriever's own order lies above zero. Else no reranker is
    kept and the settings stay. It starts from `[rerank] name`'s weights where there is one, else from the embedder's.

    Raises:
        ExamplesError: the documents are too few.
        GateError: the training went wrong.
        ModelError: the extra is not installed, or the model is none that can be trained.
        Interrupted: the expert is as it was.
    """
    folder, say = Path(expert), say or (lambda _: None)
    require_extra("lora")
    settings = load_settings(folder)
    final = free_folder(folder / FOLDER, name)
    with training_folder(final, "reranker") as work:
        record = _trained(folder, settings, final.name, work, options, progress or (lambda *_: None), say)
        return adopt(folder, record, work, final) if record.gain["low"] > 0 else record


def adopt(expert: Path, record: RetrieverTraining, work: Path, final: Path) -> RetrieverTraining:
    """Let the expert use the reranker in `work`: move it to `final`, then name it in the settings."""
    record = replace(record, used=True)
    record.write(work)
    work.replace(final)
    write_name(expert, "rerank", f"./{FOLDER}/{final.name}")
    return record


def undo_reranker(expert: Path | str) -> RetrieverTraining:
    """Remove the trained reranker that the expert uses, and name what it took the place of.

    Raises: UsageError where the expert uses no trained reranker.
    """
    folder = Path(expert)
    used = load_settings(folder).rerank.name
    tuned = Path(used)
    if not tuned.is_absolute() or tuned.parent != (folder / FOLDER).resolve():
        raise UsageError(f"the expert reranks with {used or 'nothing'}: there is nothing to undo", hint="doyen status")
    record = RetrieverTraining.read(tuned)
    write_name(folder, "rerank", record.previous)
    shutil.rmtree(tuned)
    return replace(record, used=False)


def _trained(
    expert: Path, settings: Settings, name: str, work: Path, options: RetrieverOptions, progress: Progress, say: Say
) -> RetrieverTraining:
    """Train and measure; leave the reranker with its record in `work`."""
    begun = time.perf_counter()
    base = require_model(settings.rerank.name or settings.embedder.name)
    embedder = load_embedder(settings.embedder, expert=expert)
    material = gather(expert, settings, most_pairs=options.most_pairs)
    model = CrossEncoder(base, seed=SEED)
    say(f"{len(material.pairs)} queries, each with {NEGATIVES} wrong passages from the index")
    lists = _lists(material, embedder)
    losses = _train(model, lists, options, progress)
    say("measuring on held-out documents")
    before, after = _measure(model, embedder, material.held_out, settings)
    model.save(work)
    record = measured_training(
        material,
        before,
        after,
        begun=begun,
        name=name,
        target="reranker",
        base=base.name,
        steps=len(losses),
        settings=asdict(options) | {"negatives": NEGATIVES},
        previous=written_name(expert, "rerank"),
    )
    say(verdict(record))
    return record


def _lists(material: Material, embedder: Embedder) -> list[list[tuple[str, str]]]:
    """Return, for each pair, its query with the right passage first and then wrong ones that are near to it."""
    rng = random.Random(SEED)
    queries = embedder.embed([pair.query for pair in material.pairs], kind="query")
    base = chance(queries, material.vectors)
    found = []
    for pair, query in zip(material.pairs, queries, strict=True):
        scores = material.vectors @ query
        most = base + FALSE_NEGATIVE_SHARE * (scores[pair.chunk] - base)
        near = np.argpartition(-scores, min(_NEAREST, len(scores) - 1))[:_NEAREST].tolist()
        wrong = [i for i in near if material.chunks[i].document != pair.document and scores[i] < most]
        if len(wrong) < NEGATIVES:  # the query alone finds too little: any other document's passages
            others = rng.choices(range(len(material.chunks)), k=4 * NEGATIVES)
            wrong += [i for i in others if material.chunks[i].document != pair.document]
        chosen = rng.sample(wrong, min(NEGATIVES, len(wrong)))
        found.append([(pair.query, pair.text), *((pair.query, material.chunks[i].indexed) for i in chosen)])
    return [row for row in found if len(row) == NEGATIVES + 1]


def _train(
    model: CrossEncoder, lists: Sequence[list[tuple[str, str]]], options: RetrieverOptions, progress: Progress
) -> list[float]:
    """Take one step of AdamW for each batch of lists: softmax cross-entropy of the right passage among its list."""
    import torch

    model.model.eval()  # without dropout, as the embedder
    parameters = list(model.model.parameters())
    optimiser = torch.optim.AdamW(parameters, lr=options.learning_rate, weight_decay=0.01)
    steps = [batch for n in range(options.times(len(lists))) for batch in _batches(lists, options.batch_size, SEED + n)]
    losses: list[float] = []
    for step, batch in enumerate(steps):
        for group in optimiser.param_groups:
            group["lr"] = options.learning_rate * rate_share(step, len(steps))
        rows = model.tokenise([pair for row in batch for pair in row], PAIR_TOKENS)
        scores = model.scores(rows).reshape(len(batch), NEGATIVES + 1)
        loss = torch.nn.functional.cross_entropy(scores, torch.zeros(len(batch), dtype=torch.long, device=model.device))
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimiser.step()
        optimiser.zero_grad(set_to_none=True)
        losses.append(float(loss.detach()))
        if not math.isfinite(losses[-1]):
            raise GateError("the loss is not a number any more", hint="lower --learning-rate")
        progress("training", step + 1, len(steps), f"loss {np.mean(losses[-10:]):.3f}")
    return losses


def _batches(lists: Sequence[list[tuple[str, str]]], size: int, seed: int) -> Iterator[list[list[tuple[str, str]]]]:
    order = random.Random(seed).sample(range(len(lists)), len(lists))
    for i in range(0, len(order), size):
        yield [lists[j] for j in order[i : i + size]]


def _measure(
    model: CrossEncoder, embedder: Embedder, held_out: HeldOut, settings: Settings
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return nDCG@10 of each held-out query by search's order, and with its first passages put in the model's order."""
    candidates = settings.rerank.candidates
    orders = search_orders(held_out, embedder, settings.retrieval, max(candidates, 3 * CUTOFF))
    read = [(q, i) for q, order in enumerate(orders) for i in order[:candidates]]
    scores = model.score([(held_out.queries[q], held_out.passages[i]) for q, i in read], PAIR_TOKENS)
    found: list[dict[int, float]] = [{} for _ in orders]
    for (q, i), score in zip(read, scores, strict=True):
        found[q][i] = float(score)
    again = [
        sorted(order[:candidates], key=lambda i: -own[i]) + order[candidates:]
        for order, own in zip(orders, found, strict=True)
    ]
    return ndcg_of(held_out, orders), ndcg_of(held_out, again)
