"""An expert's records and the arms' answers → what each arm costs to build, to ask, to serve and to keep current.

Every figure is a measurement that was kept when the thing was made, or computed from those and the rates of `[cost]`; what was
not recorded is None. Runs nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from doyen.adapters import AdapterManifest, adapter_folder, read_adapter
from doyen.config import CostSettings, Settings
from doyen.errors import DoyenError
from doyen.evaluation.latency import latency_figures
from doyen.ingesting import index_places
from doyen.ingesting.timing import recorded_ingests
from doyen.models.catalogue import in_expert
from doyen.models.fetching import require_model
from doyen.records import HOSTED, READING, TUNED, Answer

SMALL_INGEST = 5  # documents: an ingest of so few is taken for one that keeps the index current
ANSWERS = 1000


def cost_figures(
    expert: Path,
    settings: Settings,
    answers: Mapping[str, Sequence[Answer]],
    *,
    adapter: str = "",
    memory_gib: Mapping[str, float] | None = None,
    latency: Mapping[str, Sequence[float]] | None = None,
    paid_usd: Mapping[str, float] | None = None,
) -> dict[str, Any]:
    """Return `build`, `keeping_current`, `arms`, `disk_mib` and `rates` (docs/reference/report.md).

    `answers` are by arm, `adapter` that of the fine-tuned arms ('': the newest), `memory_gib` by arm the resident memory of
    the process after its answers, `latency` the seconds of answers that were asked for one at a time, `paid_usd` what a
    server's answers cost.
    """
    made = _adapter(expert, adapter) if any(TUNED in arm for arm in answers) else None
    ingests = [row for place in index_places(expert, settings).values() for row in recorded_ingests(place.state)]
    disk = _disk(expert, settings, made)
    arms = {
        arm: _arm(own, settings.cost if _is_here(arm) else CostSettings(), (paid_usd or {}).get(arm))
        | latency_figures((latency or {}).get(arm))
        | {"memory_gib": (memory_gib or {}).get(arm), "disk_mib": _disk_of(arm, disk) if _is_here(arm) else None}
        for arm, own in answers.items()
    }
    return {
        "build": {"index": _index(ingests), "training": _training(made)},
        "keeping_current": {"rag": _current(ingests), "finetuned": _retraining(made)},
        "arms": arms,
        "disk_mib": disk,
        "rates": {name: getattr(settings.cost, name) for name in ("usd_per_hour", "watts", "usd_per_kwh")},
    }


def _is_here(arm: str) -> bool:
    """Tell whether an arm's model runs here: that of the reference arms does not."""
    return HOSTED not in arm


def _adapter(expert: Path, name: str) -> AdapterManifest | None:
    try:
        return read_adapter(adapter_folder(expert, name))
    except DoyenError:
        return None


# ------------------------------------------------------------------ building, keeping current
def _index(ingests: Sequence[Mapping[str, Any]]) -> dict[str, Any] | None:
    """All recorded ingests together; None where none was recorded."""
    documents = sum(row["new"] + row["changed"] for row in ingests)
    if not documents:
        return None
    seconds = sum(row["seconds"] for row in ingests)
    found = {"seconds": round(seconds, 1), "ingests": len(ingests), "documents": documents}
    return found | {"seconds_a_document": round(seconds / documents, 3)}


def _training(made: AdapterManifest | None) -> dict[str, Any] | None:
    if made is None:
        return None
    examples = made.examples.get("train", made.examples.get("examples"))
    return {
        "adapter": made.name,
        "method": made.method,
        "seconds": made.seconds,
        "examples": examples,
        "tokens": made.tokens,
    }


def _current(ingests: Sequence[Mapping[str, Any]]) -> dict[str, Any] | None:
    """Seconds until one changed document counts: as small ingests took, else by the mean of a document of all."""
    small = [row["seconds"] for row in ingests if 0 < row["new"] + row["changed"] <= SMALL_INGEST]
    if small:
        return {"seconds": round(median(small), 2), "how": "measured", "ingests": len(small)}
    whole = _index(ingests)
    return {"seconds": whole["seconds_a_document"], "how": "estimated", "ingests": whole["ingests"]} if whole else None


def _retraining(made: AdapterManifest | None) -> dict[str, Any] | None:
    return {"seconds": made.seconds, "how": "measured"} if made else None


# ------------------------------------------------------------------ asking
def _arm(answers: Sequence[Answer], rates: CostSettings, paid: float | None) -> dict[str, Any]:
    if not answers:
        return {}
    seconds = [a.seconds for a in answers]
    tokens = [a.prompt_tokens + a.completion_tokens for a in answers]
    found: dict[str, Any] = {
        f"{name}_p{share}": round(float(np.quantile(values, share / 100)), digits)
        for name, values, digits in (("seconds", seconds, 3), ("tokens", tokens, 0))
        for share in (50, 95)
    }
    mean = sum(seconds) / len(seconds)
    hourly = rates.usd_per_hour + rates.watts / 1000 * rates.usd_per_kwh
    found["wh_per_1000"] = round(rates.watts * mean / 3600 * ANSWERS, 2) if rates.watts else None
    found["usd_per_1000"] = None
    if paid is not None:
        found["usd_per_1000"] = round(paid / len(answers) * ANSWERS, 4)
    elif hourly:
        found["usd_per_1000"] = round(hourly * mean / 3600 * ANSWERS, 4)
    return found


# ------------------------------------------------------------------ disk
def _disk(expert: Path, settings: Settings, made: AdapterManifest | None) -> dict[str, float]:
    """Return the MiB of what is there of model, embedder, index and adapter."""
    indexes = [size for place in index_places(expert, settings).values() if (size := _mib(place.state)) is not None]
    found = {"index": round(sum(indexes), 1)} if indexes else {}
    folders: dict[str, Path] = {}
    for role in ("model", "embedder"):
        try:
            folders[role] = require_model(in_expert(getattr(settings, role).name, expert))
        except DoyenError:  # behind an API, or not fetched
            continue
    if made:
        folders["adapter"] = expert / "adapters" / made.name
    return found | {name: size for name, folder in folders.items() if (size := _mib(folder)) is not None}


def _mib(folder: Path) -> float | None:
    if not folder.is_dir():
        return None
    return round(sum(p.stat().st_size for p in folder.rglob("*") if p.is_file()) / 2**20, 1)


def _disk_of(arm: str, disk: Mapping[str, float]) -> float:
    parts = ["model", *(("embedder", "index") if READING in arm else ()), *(("adapter",) if TUNED in arm else ())]
    return round(sum(disk.get(part, 0.0) for part in parts), 1)
