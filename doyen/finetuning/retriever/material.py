"""An expert's index and imported questions → what a retriever is trained on and measured with. Knows no torch."""

from __future__ import annotations

import contextlib
import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from doyen.config import Settings
from doyen.errors import ExamplesError, StoreError
from doyen.examples.importing import read_questions
from doyen.finetuning.retriever.measuring import HeldOut, hold_out
from doyen.finetuning.retriever.pairs import LEAST_PAIRS, Pair, is_for_stopping, is_held_out, make_pairs
from doyen.index.store import Index
from doyen.ingesting import open_index
from doyen.records import Chunk, Question

MOST_CHUNKS = 60_000
SEED = 7
_AT_ONCE = 400  # documents of one query
_STOPPING_QUERIES = 150
_STOPPING_PASSAGES = 400


@dataclass(frozen=True, slots=True)
class Material:
    """Chunks with their vectors `(chunks, dim) float32` as the index has them, pairs to train on, and the measure.

    `stopping` is a smaller measure over other documents, which says when to stop; None where they give too few queries.
    """

    index: Index
    chunks: Sequence[Chunk]
    vectors: NDArray[np.float32]
    pairs: Sequence[Pair]
    held_out: HeldOut
    stopping: HeldOut | None = None


def gather(expert: Path, settings: Settings, *, most_pairs: int) -> Material:
    """Read the index and make pairs; documents are held out whole, about one in seven; a third of those only say when to stop.

    Of more than MOST_CHUNKS chunks, those of documents drawn at random are taken.

    Raises:
        StoreError: there is no index, or it is being written.
        ExamplesError: the documents give too few pairs to train on or to measure with.
    """
    index = open_index(expert, settings)
    if index.unfinished:
        raise StoreError(
            "an ingest was interrupted or is under way", hint="run the same doyen ingest again: it goes on"
        )
    chunks, vectors = _chunks(index)
    made = make_pairs(chunks, train_questions(expert), seed=SEED)
    train = [pair for pair in made if not is_held_out(pair.document)]
    if len(train) < LEAST_PAIRS:
        raise ExamplesError(
            f"the documents give {len(train)} pairs to train on, at least {LEAST_PAIRS} are needed",
            hint="a retriever learns from some 100 documents with text; ingest more, or import questions",
        )
    questions = [pair for pair in train if pair.kind == "question"]
    others = [pair for pair in train if pair.kind != "question"]
    random.Random(SEED).shuffle(others)
    stopping = [pair for pair in made if is_for_stopping(pair.document)]
    judging = [pair for pair in made if is_held_out(pair.document) and not is_for_stopping(pair.document)]
    held_out = hold_out(chunks, judging, seed=SEED)
    early = None
    with contextlib.suppress(ExamplesError):
        early = hold_out(chunks, stopping, seed=SEED, most_queries=_STOPPING_QUERIES, most_passages=_STOPPING_PASSAGES)
    return Material(index, chunks, vectors, [*questions, *others][:most_pairs], held_out, early)


def train_questions(expert: Path) -> list[Question]:
    """Return the imported questions that may be trained on: those of the training split, with gold."""
    path = expert / "examples" / "questions.jsonl"
    found = read_questions(path) if path.exists() else []
    return [q for q in found if q.split != "test" and q.gold and q.answerable]


def _chunks(index: Index) -> tuple[list[Chunk], NDArray[np.float32]]:
    documents = [d for d in index.documents() if d.chunks]
    random.Random(SEED).shuffle(documents)
    ids: list[str] = []
    count = 0
    for document in documents:
        if ids and count + document.chunks > MOST_CHUNKS:
            break
        ids.append(document.id)
        count += document.chunks
    found: list[Chunk] = []
    vectors = [np.empty((0, index.manifest.dim), dtype=np.float32)]
    for i in range(0, len(ids), _AT_ONCE):
        own, of_them = index.chunks_with_vectors(ids[i : i + _AT_ONCE])
        found += own
        vectors.append(of_them)
    order = sorted(range(len(found)), key=lambda i: (found[i].document, found[i].start))
    return [found[i] for i in order], np.concatenate(vectors)[order]
