"""`doyen finetune`: an expert's folder and its examples → a named adapter."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

from doyen.adapters import AdapterManifest, interrupted_runs
from doyen.config import load_settings, override, write_atomic
from doyen.errors import UsageError
from doyen.examples.building import known_test_questions, load_examples
from doyen.examples.importing import read_examples
from doyen.finetuning.checking import recalibrate as calibrate_again
from doyen.finetuning.domain_text import read_domain
from doyen.finetuning.launching import launch
from doyen.finetuning.on_cluster import launch_on
from doyen.finetuning.parallel import Group, joined
from doyen.finetuning.parallel import processes as processes_here
from doyen.finetuning.preparing import Say
from doyen.finetuning.space import disk_full_said
from doyen.finetuning.steps import Report
from doyen.finetuning.training import finetune as train_adapter

OPTIONS_FILE = "options.json"


def finetune(
    expert: Path | str,
    *,
    name: str | None = None,
    examples: Path | None = None,
    resume: bool = False,
    replace: bool = False,
    processes: int | None = None,
    on: str = "",
    report: Report | None = None,
    say: Say | None = None,
    **overrides: Any,
) -> AdapterManifest:
    """Fine-tune the expert's model on its examples, or on those in a file.

    `overrides` replace keys of [finetune]: method, epochs, learning_rate, rank … `processes` starts so many on this
    machine, one a GPU, that train together. Where `torchrun` has started them, each calls this without it. With `on` ("ray",
    "ray://HOST:PORT") they are started on the machines of a Ray cluster, and again where one is lost.

    Raises:
        ConfigError: an override is unknown or wrong.
        ProcessError: one of several processes is gone.
        ClusterError: the cluster does not answer, or has no room; a machine does not see the expert's folder or lacks the model.
        ExamplesError, GateError, ModelError, UsageError, Interrupted: see `doyen.finetuning.training.finetune`.
        DoyenError: the disk is full; the last checkpoint is kept.
    """
    given = {"name": name, "examples": examples, "resume": resume, "replace": replace} | overrides
    if on:
        return _finetune_on(on, processes or 0, Path(expert), given, report, say)
    if (processes or 1) > 1:
        return launch(processes or 1, Path(expert), given, report, say)
    with joined() as group:
        return _finetune(Path(expert), group, report, say, **given)


def _finetune_on(
    on: str, processes: int, folder: Path, given: dict[str, Any], report: Report | None, say: Say | None
) -> AdapterManifest:
    """Fine-tune on a cluster; the name is settled here, so that a run that is started again is the same."""
    settings = load_settings(folder)
    if processes_here() > 1:
        raise UsageError("--on inside of processes that torchrun started", hint="leave --on out")
    method = given.get("method") or settings.finetune.method
    name = given["name"] or (_last_interrupted(folder) if given["resume"] else next_name(folder, method))
    examples = given["examples"] and Path(given["examples"]).resolve()
    given = given | {"name": name, "examples": examples}
    return launch_on(on, processes, folder, settings, given, report, say)


def _finetune(
    folder: Path,
    group: Group,
    report: Report | None,
    say: Say | None,
    *,
    name: str | None,
    examples: Path | None,
    resume: bool,
    replace: bool,
    **overrides: Any,
) -> AdapterManifest:
    """Fine-tune as one process of a group."""
    settings = load_settings(folder)
    given = {key: value for key, value in overrides.items() if value is not None}
    if resume:
        name = group.same(name or _last_interrupted(folder))
        kept = _kept_options(folder, name)
        given = kept["overrides"] | given
        examples = examples or (Path(kept["examples"]) if kept["examples"] else None)
        replace = replace or kept["replace"]
    settings = dataclasses.replace(settings, finetune=override(settings.finetune, given, table="finetune"))
    train, validation = load_examples(folder) if examples is None else (read_examples(examples), [])
    name = group.same(name or next_name(folder, settings.finetune.method))
    run = folder / "adapters" / f".{name}.training"
    with disk_full_said(run, f"doyen finetune --name {name}{group.option}"):
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
            group=group,
            domain=read_domain(folder, settings) if settings.finetune.documents_epochs else None,
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
    runs = interrupted_runs(expert)
    if not runs:
        raise UsageError("there is no interrupted run to resume", hint="doyen finetune")
    return runs[-1]


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
