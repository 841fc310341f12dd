"""What this machine was measured to do, as it is kept: JSON ↔ Rates. Knows not how it was measured.

Seconds of stages are processor seconds (of all threads together): on a machine with other work they say more than the clock.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from doyen.capacity.figures import LEAST_SPREAD
from doyen.config import write_atomic
from doyen.errors import UsageError

FILE_NAME = "capacity.json"
FORMAT = 5
STAGES = {
    "parse": ("documents", "characters"),
    "chunk": ("documents", "characters"),
    "embed": ("chunks", "tokens"),
    "index": ("chunks", "characters"),
    "handing over": ("chunks", "characters"),
}
"""Each stage's cost is so much for each of the first, and so much for each of the second."""
STORED = {
    "page texts": ("documents", "characters"),
    "chunk texts": ("chunks", "characters"),
    "full-text index": ("chunks", "characters"),
}
"""So are the bytes of what is stored; vectors have a size of their own."""


@dataclass(frozen=True, slots=True)
class Line:
    """A cost: `base × first count + more × second count`, wrong by `spread` of it."""

    base: float
    more: float
    spread: float

    def __call__(self, first: float, second: float) -> float:
        """Return the cost of so many."""
        return self.base * first + self.more * second


def vector_bytes(dim: int) -> int:
    """Return the bytes of a stored vector: float16."""
    return 2 * dim


def fit_line(first: Sequence[float], second: Sequence[float], cost: Sequence[float]) -> Line:
    """Fit a cost to single items, neither part below 0; the spread is how far two halves of the items differ."""
    whole = _fitted(first, second, cost)
    spread = LEAST_SPREAD
    if len(cost) >= 4:
        halves = [_fitted(first[i::2], second[i::2], cost[i::2]) for i in (0, 1)]
        totals = [base * sum(first) + more * sum(second) for base, more in halves]
        if sum(totals) > 0:
            spread = max(spread, abs(totals[0] - totals[1]) / sum(totals))
    return Line(*whole, spread)


def _fitted(first: Sequence[float], second: Sequence[float], cost: Sequence[float]) -> tuple[float, float]:
    """Return the best of: both parts, the first alone, the second alone. Each keeps the items' total cost."""
    a, b, y = (np.asarray(values, dtype=np.float64) for values in (first, second, cost))
    ways = []
    if len(y) > 2:
        both, *_ = np.linalg.lstsq(np.stack([a, b], axis=1), y, rcond=None)
        if (both >= 0).all():
            ways.append(both)
    ways += [np.array([a @ y / (a @ a), 0.0]) if a.any() else np.zeros(2)]
    ways += [np.array([0.0, b @ y / (b @ b)]) if b.any() else np.zeros(2)]
    best = min(ways, key=lambda w: float(((w[0] * a + w[1] * b - y) ** 2).sum()))
    made = float(best[0] * a.sum() + best[1] * b.sum())
    best = best * (y.sum() / made if made > 0 else 1.0)
    return float(best[0]), float(best[1])


@dataclass(frozen=True, slots=True)
class Shape:
    """What documents are like: means of one of them. `chunks` counts vectors, those of summaries included.

    `paged` is the share of the bytes in files of which an original is kept. `tokens` are the embedder's, of all that it
    reads of a document, equal texts once; 0: not known.
    """

    documents: int
    bytes: float
    characters: float
    chunks: float
    pages: float
    paged: float = 0.0
    tokens: float = 0.0


@dataclass(frozen=True, slots=True)
class EngineRates:
    """The engine that writes the answers: seconds of a prompt's token, of a step, of each text in it; tokens at work at most."""

    name: str
    read_token_s: float
    step_s: float
    text_step_s: float
    spread: float
    batch_tokens: int
    prompt_tokens: list[int]
    answer_tokens: list[int]


@dataclass(frozen=True, slots=True)
class Rates:
    """A calibration. `busy` is the share of the cores that an ingest keeps at work, `start_s` what each ingest takes besides.

    `stored` is part of the store → bytes, `store_start` what a store has of it beside its content. `search_s` is of one
    question at `search_chunks` chunks, by the clock, `search_cpu_s` in processor seconds, `search_together_cpu_s` in those of
    a question where several go together.
    """

    measured: str
    sample: str
    cores: int
    processor: str
    embedder: str
    dim: int
    shape: Shape
    stages: dict[str, Line]
    start_s: float
    start_cpu_s: float
    busy: float
    stored: dict[str, Line]
    store_start: dict[str, float]
    search_chunks: int
    search_s: float
    search_cpu_s: float
    search_together_cpu_s: float
    memory_gib: float
    engine: EngineRates | None = None
    notes: list[str] = field(default_factory=list)

    def as_dict(self) -> dict[str, Any]:
        """Return the rates as JSON."""
        return {"format": FORMAT} | asdict(self)

    def save(self, path: Path) -> None:
        """Keep them in a file."""
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(path, json.dumps(self.as_dict(), indent=1))


def load_rates(path: Path) -> Rates | None:
    """Read kept rates, None where there are none. Raises UsageError for a file that is broken or of another format."""
    try:
        row = json.loads(path.read_text(encoding="utf-8"))
        if row.pop("format") != FORMAT:
            raise ValueError("another format")
        row["shape"] = Shape(**row["shape"])
        row["stages"] = {name: Line(**row["stages"][name]) for name in STAGES}
        row["stored"] = {name: Line(**row["stored"][name]) for name in STORED}
        row["engine"] = EngineRates(**row["engine"]) if row["engine"] else None
        return Rates(**row)
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise UsageError(f"{path} holds no rates ({error})", hint="doyen plan --measure makes it anew") from error
