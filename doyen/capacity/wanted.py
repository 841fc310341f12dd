"""What a capacity plan is asked for, the assumptions that it stands on where nothing was measured, and the reading of both."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

from doyen.capacity.figures import ASSUMED, Figure
from doyen.errors import UsageError

PROFILES = {
    "flat": (1.0,) * 24,
    "office": (0, 0, 0, 0, 0, 0, 1, 3, 8, 12, 12, 11, 8, 9, 12, 11, 8, 3, 1, 1, 0, 0, 0, 0),
}
"""Shares of a day's questions by hour. Assumed: an office of one time zone asks from seven to six."""
PAGE_CHARACTERS = 3000
"""A page of text without pages; for counting only."""
SECOND_NODE = Figure(0.91, 0.1, ASSUMED, "1.82 times one worker on two of one machine, scale_ray.json")
CHUNKS_PER_NODE = 1_000_000
SEARCH_CURVE = ((200, 0.0158), (600, 0.0172), (2_000, 0.0190), (20_000, 0.0211), (2_000_000, 0.0773))
"""Chunks → processor seconds of a search on one machine (results/scale_store_local*.json).

How they grow is what counts. Beyond, a straight line.
"""
MEMORY_OF_CHUNK = Figure(
    1_780, 0.3, ASSUMED, "resident memory between 100,000 and 1,000,000 chunks, retrieval_scale.json"
)
MORE_CORES = 0.85
"""Of twice the cores, an engine or an ingest gets so much on each: assumed."""
_UNITS = {"": 1, "k": 10**3, "m": 10**6, "b": 10**9, "g": 10**9}


@dataclass(frozen=True, slots=True)
class Prices:
    """US dollars of what a plan counts; None: not known, and not said."""

    core_hour: float | None = None
    gpu_hour: float | None = None
    gb_month: float | None = None
    million_read: float | None = None
    million_written: float | None = None


@dataclass(frozen=True, slots=True)
class Wanted:
    """A corpus and its questions. `pages` of a document, and characters of a page, are the sample's where they are None.

    `hours` is the time that the first ingest may take, `whole_s` the 95th percentile of an answer's whole time.
    `changed` is the share of the documents that a day changes. `gpu_tokens_per_s` is a GPU's rate, read and written together.
    """

    documents: int
    pages: float | None = None
    page_characters: float | None = None
    document_bytes: float | None = None
    questions_per_day: int = 0
    cores: int | None = None
    hours: float = 24.0
    whole_s: float = 5.0
    profile: tuple[float, ...] = PROFILES["office"]
    chunks_per_node: int = CHUNKS_PER_NODE
    changed: float = 0.001
    gpu_tokens_per_s: float | None = None
    prices: Prices = Prices()

    def __post_init__(self) -> None:
        """Refuse what makes no sense."""
        numbers = {"documents": self.documents, "pages": self.pages, "page characters": self.page_characters}
        numbers |= {
            "document bytes": self.document_bytes,
            "cores": self.cores,
            "hours": self.hours,
            "p95": self.whole_s,
        }
        numbers |= {"chunks per node": self.chunks_per_node, "GPU tokens a second": self.gpu_tokens_per_s}
        wrong = [
            f"{name} is {value:g}" for name, value in numbers.items() if value is not None and not 0 < value < math.inf
        ]
        wrong += [f"{self.questions_per_day} questions a day"] if self.questions_per_day < 0 else []
        wrong += [f"a changed share of {self.changed:g}"] if not 0 <= self.changed <= 1 else []
        if wrong:
            raise UsageError("; ".join(wrong), hint="numbers above 0; the changed share from 0 to 1")


def pages_of(pages: int, characters: int) -> float:
    """Return a document's pages; of a text without any, by its length."""
    return float(max(pages, characters / PAGE_CHARACTERS if pages <= 1 else 0, 0.1))


def read_count(text: str, what: str) -> int:
    """Read a number such as `10M`, `2.5k` or `1_000_000`. Raises UsageError."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)([kmbg]?)", text.strip().lower().replace("_", "").replace(",", ""))
    if match is None or not (count := round(float(match[1]) * _UNITS[match[2]])):
        raise UsageError(f"'{text}' is no number of {what}", hint="such as 2000, 10k, 2.5M")
    return count


def read_profile(text: str) -> tuple[float, ...]:
    """Read the name of a day's profile, or 24 shares with commas. Raises UsageError."""
    if text in PROFILES:
        return tuple(float(share) for share in PROFILES[text])
    try:
        shares = tuple(float(part) for part in text.split(","))
    except ValueError:
        shares = ()
    if len(shares) != 24 or min(shares) < 0 or not 0 < sum(shares) < math.inf:
        raise UsageError(f"'{text}' is no day", hint=f"--profile {' | '.join(PROFILES)}, or 24 shares with commas")
    return shares
