"""`doyen finetune`: an expert's folder and its examples → a named adapter."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

from doyen.adapters import AdapterManifest
from doyen.config import load_settings, override, write_atomic
from doyen.errors import UsageError
from doyen.examples.building import known_test_questions, load_examples
from doyen.examples.importing import read_examples
from doyen.finetuning.preparing import Say
from doyen.finetuning.space import disk_full_said
from doyen.finetuning.steps import Report
from doyen.finetuning.training import finetune as train_adapter
from doyen.finetuning.training import recalibrate as calibrate_again

OPTIONS_FILE = "options.json"


def finetune(
    expert: Path | str,
    *,
    name: str | None = None,
    examples: Path | None = None,
    resume: bool = False,
    replace: bool = False,
    report: Report | None = None,
    say: Say | None = None,
    **overrides: Any,
) -> AdapterManifest:
    """Fine-tune the expert's model on its examples, or on those in a file.

    `overrides` replace keys of [finetune]: method, epochs, learning_rate, rank …

    Raises:
        ConfigError: an override is unknown or wrong.
        ExamplesError, GateError, ModelError, UsageError, Interrupted: see `doyen.finetuning.training.finetune`.
        DoyenError: the disk is full; the last checkpoint is kept.
    """
    folder = Path(expert)
    settings = load_settings(folder)
    given = {key: value for key, value in overrides.items() if value is not None}
    if resume:
        name = name or _last_interrupted(folder)
        kept = _kept_options(folder, name)
        given = kept["overrides"] | given
        examples = examples or (Path(kept["examples"]) if kept["examples"] else None)
        replace = replace or kept["replace"]
    settings = dataclasses.replace(settings, finetune=override(settings.finetune, given, table="finetune"))
    train, validation = load_examples(folder) if examples is None else (read_examples(examples), [])
    name = name or next_name(folder, settings.finetune.method)
    run = folder / "adapters" / f".{name}.training"
    with disk_full_said(run, f"doyen finetune --name {name}"):
        return train_adapter(
            folder,
            settings,
            train,
            validation,
            name=name,
            test=known_test_questions(folder),
            resume=resume,
            replace=replace,
            report=report,
            say=say,
            begun=lambda: write_atomic(
                run / OPTIONS_FILE,
                json.dumps(
                    {
                        "overrides": given,
                        "examples": str(examples.resolve()) if examples else None,
                        "replace": replace,
                    }
                ),
            ),
        )


def recalibrate(
    expert: Path | str, *, name: str = "", false_refusals: float | None = None, say: Say | None = None
) -> AdapterManifest:
    """Fit the refusal rule of adapter `name` ('': the newest) again, without training; its weights stay.

    Raises:
        ConfigError: `false_refusals` is out of range.
        UsageError: there is no such adapter, or the examples have changed since.
    """
    folder = Path(expert)
    settings = load_settings(folder)
    changed = override(settings.finetune, {"false_refusals": false_refusals}, table="finetune")
    train, validation = load_examples(folder)
    settings = dataclasses.replace(settings, finetune=changed)
    return calibrate_again(folder, name, settings, train, validation, say=say or (lambda _: None))


def _last_interrupted(expert: Path) -> str:
    runs = sorted((expert / "adapters").glob(".*.training/checkpoint.pt"), key=lambda p: p.stat().st_mtime_ns)
    if not runs:
        raise UsageError("there is no interrupted run to resume", hint="doyen finetune")
    return runs[-1].parent.name[1:].removesuffix(".training")


def _kept_options(expert: Path, name: str) -> dict[str, Any]:
    """Return what an interrupted run was given on its command line."""
    path = expert / "adapters" / f".{name}.training" / OPTIONS_FILE
    kept: dict[str, Any] = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    return {"overrides": {}, "examples": None, "replace": False} | kept


def next_name(expert: Path, method: str) -> str:
    """Return the first name `<method>-<number>` that no adapter and no interrupted run has."""
    number = 1
    adapters = expert / "adapters"
    while any((adapters / taken).exists() for taken in (f"{method}-{number}", f".{method}-{number}.training")):
        number += 1
    return f"{method}-{number}"
