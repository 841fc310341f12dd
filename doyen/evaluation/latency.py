"""How long one person waits for an answer, by arm: a few questions asked one at a time.

The answers of a comparison are written together, so their seconds are shares of a batch: what an answer costs, not how long
anyone waits for it.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from doyen.answering import Progress
from doyen.evaluation.arm_notes import add_note, read_notes
from doyen.expert import Expert
from doyen.records import Hit, Question

LATENCY_FILE = "latency.json"
LATENCY_QUESTIONS = 12
FEWEST = 24  # questions: of fewer, asking so many apart would take as long as the comparison


def latency_by_arm(folder: Path) -> dict[str, list[float]]:
    """Return arm → seconds of each answer as noted in a comparison's folder; empty where nothing was, or it cannot be read."""
    return read_notes(folder / LATENCY_FILE)


def note_latency(
    folder: Path,
    arm: str,
    expert: Expert,
    questions: Sequence[Question],
    hits: Sequence[Sequence[Hit]] | None,
    progress: Progress | None,
) -> None:
    """Ask LATENCY_QUESTIONS of the questions one after the other and note their seconds, unless the arm's are noted.

    Searching is part of it, unless `hits` are given, one list a question. One more question before only warms the engine up.
    """
    if arm in latency_by_arm(folder) or len(questions) < FEWEST:
        return
    chosen = [int(i) for i in np.linspace(0, len(questions) - 1, LATENCY_QUESTIONS + 1)]
    seconds = []
    for done, i in enumerate(chosen, 1):
        begun = time.perf_counter()
        expert.ask_many([questions[i].question], hits=None if hits is None else [hits[i]])
        seconds.append(round(time.perf_counter() - begun, 4))
        if progress:
            progress(f"{arm}, one at a time", done, len(chosen))
    add_note(folder / LATENCY_FILE, arm, seconds[1:])


def latency_figures(seconds: Sequence[float] | None) -> dict[str, Any]:
    """Return `latency_p50`, `latency_p95` (seconds) and `latency_n`; nothing where nothing was noted."""
    if not seconds:
        return {}
    found: dict[str, Any] = {f"latency_p{p}": round(float(np.quantile(seconds, p / 100)), 3) for p in (50, 95)}
    return found | {"latency_n": len(seconds)}
