"""`doyen finetune`: an expert's folder and its examples → a named adapter."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

from doyen.adapters import AdapterManifest
from doyen.config import load_settings
from doyen.errors import UsageError
from doyen.examples.building import load_examples
from doyen.examples.importing import read_examples
from doyen.finetuning.training import Report, Say
from doyen.finetuning.training import finetune as train_adapter


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
        ExamplesError, GateError, ModelError, UsageError, Interrupted: see `doyen.finetuning.training.finetune`.
    """
    folder = Path(expert)
    settings = load_settings(folder)
    known = {f.name for f in dataclasses.fields(settings.finetune)}
    unknown = sorted(set(overrides) - known)
    if unknown:
        raise UsageError(
            f"unknown settings of [finetune]: {', '.join(unknown)}", hint=f"known: {', '.join(sorted(known))}"
        )
    given = {key: value for key, value in overrides.items() if value is not None}
    settings = dataclasses.replace(settings, finetune=dataclasses.replace(settings.finetune, **given))
    train, validation = load_examples(folder) if examples is None else (read_examples(examples), [])
    name = name or next_name(folder, settings.finetune.method, resume=resume)
    return train_adapter(
        folder, settings, train, validation, name=name, resume=resume, replace=replace, report=report, say=say
    )


def next_name(expert: Path, method: str, *, resume: bool) -> str:
    """Return the interrupted run to resume, or the first free name `<method>-<number>`."""
    if resume:
        runs = sorted((expert / "adapters").glob(".*.training/checkpoint.pt"), key=lambda p: p.stat().st_mtime_ns)
        if not runs:
            raise UsageError("there is no interrupted run to resume", hint="doyen finetune")
        return runs[-1].parent.name[1:].removesuffix(".training")
    number = 1
    while (expert / "adapters" / f"{method}-{number}").exists():
        number += 1
    return f"{method}-{number}"
