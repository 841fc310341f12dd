"""A trained adapter, as it is served: its effect, what it forgot, and the rule of when to refuse. Knows no training."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from doyen.adapters import AdapterManifest, adapter_folder, read_adapter
from doyen.config import Settings
from doyen.errors import UsageError
from doyen.finetuning.calibration import MOST_OF_EACH, calibrate_refusal
from doyen.finetuning.forgetting import measure_forgetting
from doyen.finetuning.gates import require_effect
from doyen.finetuning.preparing import Say, examples_hash
from doyen.models.catalogue import find_entry
from doyen.models.engine import Engine
from doyen.models.serving import local_engine
from doyen.records import Example


def check_as_served(
    made: Path,
    settings: Settings,
    train: Sequence[Example],
    validation: Sequence[Example],
    most: int,
    say: Say,
) -> dict[str, Any]:
    """Check and calibrate a saved adapter on the engine that serves it; return the manifest's entries about it.

    Raises:
        GateError: it changes no logits there.
    """
    engine = local_engine(settings.model)
    say("gate: the saved adapter changes the serving engine's logits")
    probe = list(train[0].messages[:-1])
    effect = require_effect(engine.next_token_logits(probe), engine.next_token_logits(probe, adapter=made))
    forgetting = _forgotten(engine, made, say)
    return {
        "effect": effect,
        "forgetting": forgetting,
        **calibrated(engine, made, settings, validation, say, most=most),
    }


def _forgotten(engine: Engine, made: Path, say: Say) -> dict[str, Any]:
    """Measure what the training cost on general texts, say it, and return it for the manifest."""
    found = measure_forgetting(engine, made)
    for line in found.remarks():
        say(line)
    return dataclasses.asdict(found)


def calibrated(
    engine: Engine,
    adapter: Path,
    settings: Settings,
    validation: Sequence[Example],
    say: Say,
    *,
    most: int = MOST_OF_EACH,
) -> dict[str, Any]:
    """Return the manifest's entries about refusing, fitted on the validation examples, at most `most` of each kind."""
    context = find_entry(settings.model.name).context_tokens or settings.finetune.max_tokens
    room = min(settings.finetune.max_tokens, context - settings.model.max_answer_tokens)
    shown = [e for e in validation if e.variant != "closed-book" and engine.count_tokens(e.messages[:-1]) <= room]
    say(f"calibrating when to refuse, on up to {min(len(shown), 2 * most)} validation examples")
    calibration = calibrate_refusal(
        engine,
        adapter,
        shown,
        false_refusals=settings.finetune.false_refusals,
        most=most,
    )
    return {"refusal_threshold": calibration.threshold, "calibration": dataclasses.asdict(calibration)}


def recalibrate(
    expert: Path, name: str, settings: Settings, train: Sequence[Example], validation: Sequence[Example], *, say: Say
) -> AdapterManifest:
    """Fit an adapter's refusal rule again, on the validation examples that were held out from its training.

    Raises:
        UsageError: there is no such adapter, or it was trained on other examples.
    """
    folder = adapter_folder(expert, name)
    manifest = read_adapter(folder)
    if manifest.examples.get("sha256") != examples_hash(train):
        raise UsageError(
            f"adapter {folder.name} was trained on other examples than those of now",
            hint=f"doyen finetune --replace --name {folder.name}",
        )
    engine = local_engine(settings.model)
    used = manifest.settings | {"false_refusals": settings.finetune.false_refusals}
    manifest = dataclasses.replace(manifest, settings=used, **calibrated(engine, folder, settings, validation, say))
    manifest.write(folder)
    return manifest
