"""The training runs of an expert, finished and not, as far as their folders tell. Loads no model."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from doyen.adapters import list_adapters, read_adapter
from doyen.errors import ExpertError
from doyen.finetuning.training_page import PAGE_FILE

_WORK = (".", ".training")
_QUIET_S = 900.0
"""A run that wrote nothing for so long is taken to have stopped."""
_MOST_POINTS = 600


@dataclass(frozen=True, slots=True)
class TrainingRun:
    """A run: `state` is done, running, or stopped; losses are nats a supervised token; times are ISO 8601 or epoch seconds.

    `folder` holds history.jsonl and training.html. Of a run that is not done, only what its history says is known.
    """

    name: str
    state: str
    folder: Path
    step: int = 0
    steps: int = 0
    changed: float = 0.0
    facts: Mapping[str, Any] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        """Return the run without its path, and with whether it has a page."""
        row = asdict(self)
        del row["folder"]
        return row | {"facts": dict(self.facts), "has_page": (self.folder / PAGE_FILE).exists()}


_FACTS = (
    "model",
    "method",
    "created",
    "seconds",
    "tokens",
    "train_loss",
    "validation_loss",
    "trained_parameters",
    "peak_memory_gib",
    "held_out",
)


def training_runs(expert: Path, *, now: float | None = None) -> list[TrainingRun]:
    """Return the runs of an expert, the newest first. One whose manifest is broken is left out: `doyen status` names it."""
    moment = time.time() if now is None else now
    found = [_unfinished(folder, moment) for folder in (expert / "adapters").glob(f"{_WORK[0]}*{_WORK[1]}")]
    for folder in list_adapters(expert):
        with contextlib.suppress(ExpertError):
            found.append(_finished(folder))
    return sorted(found, key=lambda run: (run.state == "running", run.changed), reverse=True)


def _finished(folder: Path) -> TrainingRun:
    manifest = read_adapter(folder)
    changed = (folder / "manifest.json").stat().st_mtime
    facts = {name: getattr(manifest, name) for name in _FACTS}
    return TrainingRun(folder.name, "done", folder, manifest.steps, manifest.steps, changed, facts)


def _unfinished(work: Path, now: float) -> TrainingRun:
    name = work.name.removeprefix(_WORK[0]).removesuffix(_WORK[1])
    history = work / "history.jsonl"
    changed = history.stat().st_mtime if history.exists() else work.stat().st_mtime
    state = "running" if now - changed < _QUIET_S else "stopped"
    last = next(iter(run_history(work)[-1:]), {})
    facts: dict[str, Any] = {key: last[key] for key in ("seconds_left", "tokens_per_s") if key in last}
    return TrainingRun(name, state, work, int(last.get("step", 0)), int(last.get("steps", 0)), changed, facts)


def run_history(folder: Path) -> list[dict[str, Any]]:
    """Return a run's history, without a last line that is still being written."""
    try:
        lines = (folder / "history.jsonl").read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        return []
    rows = []
    for line in lines:
        with contextlib.suppress(ValueError):
            rows.append(json.loads(line))
    return rows


def thinned(rows: Sequence[dict[str, Any]], most: int = _MOST_POINTS) -> list[dict[str, Any]]:
    """Return about `most` rows: every so-manieth, all with a held-out loss, and the last."""
    every = -(-len(rows) // most) or 1
    return [r for i, r in enumerate(rows) if i % every == 0 or "held_out_loss" in r or i == len(rows) - 1]
