"""What a retriever's training was and gave: the `training.json` of a tuned embedder or reranker. Knows no torch."""

from __future__ import annotations

import contextlib
import datetime
import importlib.metadata
import json
import re
import shutil
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from doyen.config import write_atomic
from doyen.errors import ExpertError, Interrupted, UsageError
from doyen.evaluation.statistics import paired_difference
from doyen.finetuning.retriever.material import SEED, Material
from doyen.finetuning.retriever.pairs import Pair
from doyen.records import Chunk

FILE = "training.json"


@dataclass(frozen=True, slots=True)
class RetrieverTraining:
    """How a tuned embedder or reranker came about, and what it gains on held-out documents.

    `gain` is the difference in nDCG@10 of held-out queries with its 95% interval, `by_kind` the mean before and after of
    each kind of query. `used` says whether the expert searches with it; `previous` is the name that it takes the place of.
    `share` is how far the weights went from the old ones to the trained ones.
    """

    name: str
    target: str
    base: str
    created: str
    pairs: dict[str, int]
    held_out: dict[str, int]
    steps: int
    seconds: float
    before: float
    after: float
    gain: dict[str, Any]
    by_kind: dict[str, list[float]]
    settings: dict[str, Any]
    share: float = 1.0
    used: bool = False
    previous: str = ""
    reembedded: int = 0
    documents: list[dict[str, str]] = field(default_factory=list)
    versions: dict[str, str] = field(default_factory=dict)

    def write(self, folder: Path) -> None:
        """Write it into the model's folder."""
        write_atomic(folder / FILE, json.dumps(asdict(self), indent=1, ensure_ascii=False))

    @classmethod
    def read(cls, folder: Path) -> RetrieverTraining:
        """Read a tuned model's record. Raises ExpertError if it is missing or broken."""
        try:
            return cls(**json.loads((folder / FILE).read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError) as error:
            raise ExpertError(
                f"{folder / FILE} cannot be read: {error}", hint="doyen finetune --target embedder makes a new one"
            ) from error


def free_folder(folder: Path, name: str | None) -> Path:
    """Return where a tuned model will be: `folder/<name>`, or the first `tuned-<number>` that is free.

    Raises: UsageError where the name is none, or is taken.
    """
    number = 1
    while name is None:
        name = None if (folder / f"tuned-{number}").exists() else f"tuned-{number}"
        number += 1
    if not re.fullmatch(r"[\w-][\w.-]*", name):
        raise UsageError(f"'{name}' is not a name for a model", hint="use letters, digits, '-' and '_'")
    if (folder / name).exists():
        raise UsageError(f"there is a model '{name}' in {folder.name} already", hint="--name another one")
    return folder / name


@contextlib.contextmanager
def training_folder(final: Path, target: str) -> Iterator[Path]:
    """Give a folder beside `final` to train into; what is left in it goes. Raises Interrupted for Ctrl-C."""
    work = final.with_name(f".{final.name}.training")
    try:
        yield work
    except KeyboardInterrupt:
        raise Interrupted(
            "stopped in training; the expert is as it was", hint=f"doyen finetune --target {target} starts anew"
        ) from None
    finally:
        shutil.rmtree(work, ignore_errors=True)


def measured_training(
    material: Material,
    before: NDArray[np.float64],
    after: NDArray[np.float64],
    *,
    begun: float,
    **given: Any,
) -> RetrieverTraining:
    """Return the record of a training that began at `begun` (of `time.perf_counter`); `given` are its other fields.

    `before` and `after` are the scores of the held-out queries `(queries,)`.
    """
    return RetrieverTraining(
        created=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        pairs=dict(Counter(pair.kind for pair in material.pairs)),
        held_out=material.held_out.counts(),
        seconds=round(time.perf_counter() - begun, 1),
        before=round(float(before.mean()), 4),
        after=round(float(after.mean()), 4),
        gain=paired_difference(before.tolist(), after.tolist(), seed=SEED).as_dict(),
        by_kind=by_kind(material.held_out.kinds, before, after),
        documents=trained_documents(material.chunks, material.pairs),
        versions=versions(),
        **given,
    )


def verdict(record: RetrieverTraining) -> str:
    """Say what was measured."""
    gain = record.gain
    found = f"nDCG@10 of {gain['n']} held-out queries {record.before:.3f} → {record.after:.3f}"
    return f"{found} ({gain['value']:+.3f}, 95% interval {gain['low']:+.3f} to {gain['high']:+.3f})"


def by_kind(kinds: Sequence[str], before: NDArray[np.float64], after: NDArray[np.float64]) -> dict[str, list[float]]:
    """Return the mean score before and after of each kind of query."""
    names = np.asarray(kinds)
    return {
        str(kind): [round(float(scores[names == kind].mean()), 4) for scores in (before, after)]
        for kind in np.unique(names)
    }


def trained_documents(chunks: Sequence[Chunk], pairs: Sequence[Pair]) -> list[dict[str, str]]:
    """Return the document versions that pairs stand on."""
    hashes = {chunk.document: chunk.sha256 for chunk in chunks}
    return [{"document": d, "sha256": hashes[d]} for d in sorted({pair.document for pair in pairs})]


def versions() -> dict[str, str]:
    """Return the versions of the packages that trained."""
    found = {}
    for package in ("doyen", "torch", "transformers"):
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found[package] = importlib.metadata.version(package)
    return found
