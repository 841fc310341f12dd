"""Base model + examples → adapter folder: gates, dry run, training with checkpoints, export, check, calibration.

Enters: tokenised examples. Leaves: `adapters/<name>/` with a manifest. Knows no index; retrieved passages are already
in the examples.
"""

from __future__ import annotations

import dataclasses
import datetime
import math
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

from doyen.adapter_labels import noted_labels
from doyen.adapters import AdapterManifest, read_adapter
from doyen.config import Settings
from doyen.errors import GateError, Interrupted, UsageError
from doyen.finetuning.calibration import most_of_each
from doyen.finetuning.checking import check_as_served
from doyen.finetuning.checkpoint import RunState, discard_checkpoint
from doyen.finetuning.compiling import as_written, compile_layers, compiles
from doyen.finetuning.documents_stage import FOLDER, DocumentsRun, learn_documents
from doyen.finetuning.domain_text import Domain, lineage_of
from doyen.finetuning.generations import generations
from doyen.finetuning.loss import mean_loss
from doyen.finetuning.methods import resolved, save_trained, trained_model
from doyen.finetuning.parallel import Group
from doyen.finetuning.parity import spread
from doyen.finetuning.preparing import (
    Prepared,
    Say,
    prepare,
    require_extra,
    run_fingerprint,
)
from doyen.finetuning.repeating import machine, versions
from doyen.finetuning.replay import REPLAY_FILE, add_replay, without_replay
from doyen.finetuning.sharding import require_shardable, whole_weights
from doyen.finetuning.smoke import require_exportable
from doyen.finetuning.space import needed_space, require_space
from doyen.finetuning.steps import (
    CHECKPOINT_EVERY_S,
    Report,
    peak_memory_gib,
    train_steps,
    try_gradients,
)
from doyen.finetuning.tracking import trackers_of
from doyen.finetuning.training_page import write_page
from doyen.finetuning.watching import Watch
from doyen.lineage import write_lineage
from doyen.models.catalogue import find_entry
from doyen.models.fetching import require_model
from doyen.models.fitting import fingerprint_of_config, weights_fingerprint
from doyen.records import Example, Question

_VALIDATION_LOSS_EXAMPLES = 64


def finetune(
    expert: Path,
    settings: Settings,
    train: Sequence[Example],
    validation: Sequence[Example],
    *,
    name: str,
    test: Sequence[Question] = (),
    resume: bool = False,
    replace: bool = False,
    report: Report | None = None,
    say: Say | None = None,
    begun: Callable[[], None] | None = None,
    checkpoint_every_s: float = CHECKPOINT_EVERY_S,
    group: Group | None = None,
    domain: Domain | None = None,
) -> AdapterManifest:
    """Train an adapter and put it into `adapters/<name>/`.

    Interrupted (Ctrl-C), it writes a checkpoint and raises Interrupted; `resume` goes on from the last checkpoint and
    ends with the same weights as an undisturbed run. A run that is killed has its checkpoint of at most
    `checkpoint_every_s` and one step before. Nothing nearly equal to a validation example or a `test` question is trained
    on. `begun` is called when the gates before training are passed.

    With a `domain`, the model reads its texts first, `[finetune] documents_epochs` times (more than 0).

    Of a `group` of several processes all call it with the same arguments; the main one reports, writes, and checks and
    calibrates the result while the others wait.

    Raises:
        GateError: the run would learn nothing, or what was learned is not there where it is served.
        UsageError: the name is taken, or there is nothing to resume.
        ModelError: the model is not here, or the extra is not installed.
        ProcessError: another process of the group is gone.
    """
    group = group or Group()
    say, report = (say or _silent, report) if group.main else (_silent, None)
    final, work = expert / "adapters" / name, expert / "adapters" / f".{name}.training"
    _check_name(name, final, work, resume=resume, replace=replace)
    settings = dataclasses.replace(settings, finetune=resolved(settings.finetune))
    require_extra(settings.finetune.method)
    require_shardable(settings.finetune.method, settings.finetune.shard, group.size)
    trackers = trackers_of(settings.finetune.report_to)
    folder = require_model(settings.model.name)
    prepared = prepare(folder, settings, train, validation, say, test)
    model = trained_model(folder, settings.finetune, prepared, say)
    prepared.gates["space"] = require_space(work, needed_space(model, generations), say)
    prepared.gates["export"] = require_exportable(model, folder, settings.finetune, work.parent, say)
    if not resume and group.main:
        discard_checkpoint(work)
        if begun:
            begun()
    fingerprint = _get_ready(model, folder, prepared, settings, work, len(train), group, say)
    watch = Watch(trackers, expert, name, work, settings, prepared, report, say) if group.main else None
    run = DocumentsRun(work, fingerprint, report, say, checkpoint_every_s, group)
    used = [train[e.number] for e in without_replay(prepared.train, len(train))]
    result: dict[str, Any] = {"stages": []}
    with _stop_said(name, group), group.deferring_signals(), watch or nullcontext():
        if domain:
            stage = learn_documents(model, folder, domain, settings.finetune, prepared.train[len(used) :], run)
            used += lineage_of(stage.read)
            result["stages"] = [stage.as_dict()]
        state = train_steps(
            model, prepared, settings.finetune, work, fingerprint, watch, say, checkpoint_every_s, group
        )
    result["training_memory_gib"] = round(peak_memory_gib(), 2)
    try:
        with _stop_said(name, group):
            made = _export(model, work, folder, prepared, group)
            result |= _measured(model, prepared, settings) | {"held_out": _held_out(state)}
            del model
            if not group.main:
                group.wait()
                return read_adapter(final)
            most = most_of_each(_seen(prepared, settings, len(train)), settings.finetune.false_refusals)
            result |= check_as_served(made, settings, train, validation, most, say)
    except GateError:
        if group.main:
            discard_checkpoint(work)  # there is nothing in it to go on with
        raise
    sources = _sources(used)
    labels = noted_labels(expert, settings, sources)
    manifest = _manifest(name, settings, folder, prepared, state, sources, labels, result)
    write_lineage(made, used)
    _keep(made, final, manifest)
    if watch:
        watch.end(manifest)
    discard_checkpoint(work)
    group.wait()
    return manifest


def _get_ready(
    model: Any,
    folder: Path,
    prepared: Prepared,
    settings: Settings,
    work: Path,
    own: int,
    group: Group,
    say: Say,
) -> str:
    """Add replay to the `own` examples, hand the model to all processes, compile it; return the run's fingerprint."""
    with group.main_first():
        add_replay(model, folder, settings.finetune, prepared, work, own, say)
    fingerprint = run_fingerprint(settings.finetune, prepared, folder)
    spread(model, prepared, settings.finetune, fingerprint, group, say)
    if not group.sharded:
        _compile(model, prepared, settings, say)
    return fingerprint


def _keep(made: Path, final: Path, manifest: AdapterManifest) -> None:
    """Write what is told of an adapter into its folder, and put that into its place."""
    manifest.write(made)
    write_page(made, dataclasses.asdict(manifest))
    shutil.rmtree(final, ignore_errors=True)
    made.replace(final)


@contextmanager
def _stop_said(name: str, group: Group) -> Iterator[None]:
    """Turn Ctrl-C beside the steps into an error that says what is kept."""
    try:
        yield
    except KeyboardInterrupt:
        raise Interrupted(
            "stopped while the trained adapter was being checked; its weights are kept",
            hint=f"doyen finetune --resume --name {name}{group.option}",
        ) from None


def _silent(_: str) -> None:
    """Say nothing."""


def _compile(model: Any, prepared: Prepared, settings: Settings, say: Say) -> None:
    """Compile the layers where that pays for a run of this length, trying them on the shortest example."""
    tokens = round(settings.finetune.epochs * sum(len(e.ids) for e in prepared.train))
    if compiles(settings.finetune, tokens, next(model.parameters()).device.type):
        model.train()
        compile_layers(model, lambda: try_gradients(model, min(prepared.train, key=lambda e: len(e.ids))), say)


def _held_out(state: RunState) -> dict[str, Any]:
    """Return the manifest's entries about the held-out loss while training; empty if it was not measured."""
    found = state.held_out
    if not found.evaluations:
        return {}
    return {
        "examples": len(found.lowest),
        "before": round(found.before, 4),
        "after": round(found.kept, 4),
        "measurements": found.evaluations,
        "lowest_at_step": found.lowest_step,
        "kept_step": found.kept_step,
        "stopped_early": found.stopped,
    }


def _measured(model: Any, prepared: Prepared, settings: Settings) -> dict[str, Any]:
    """Return the manifest's entries about the trained model itself."""
    shown = prepared.validation[:_VALIDATION_LOSS_EXAMPLES]
    with as_written(model):
        loss = mean_loss(model, shown, settings.finetune.micro_batch_tokens)
    trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
    return {"trained_parameters": trained, "validation_loss": None if loss is None else round(loss, 4)}


def _seen(prepared: Prepared, settings: Settings, own: int) -> int:
    """Return how many of the `own` examples the training goes through: less than one pass leaves some out."""
    return math.ceil(len(without_replay(prepared.train, own)) * min(1.0, settings.finetune.epochs))


def _export(model: Any, work: Path, base: Path, prepared: Prepared, group: Group) -> Path:
    """Save the adapter (or whole model) and its training curve into a folder of the run."""
    made = work / "adapter"
    weights = whole_weights(model) if group.sharded else None
    if not group.main:
        return made
    shutil.rmtree(made, ignore_errors=True)
    save_trained(model, made, base, prepared, weights)
    for name in ("history.jsonl", REPLAY_FILE, f"{FOLDER}/history.jsonl"):
        if (work / name).exists():
            shutil.copyfile(work / name, made / name.replace("/", "_"))
    return made


def _manifest(
    name: str,
    settings: Settings,
    folder: Path,
    prepared: Prepared,
    state: RunState,
    sources: list[dict[str, str]],
    labels: list[list[str]] | None,
    result: dict[str, Any],
) -> AdapterManifest:
    effect = result.pop("effect")
    return AdapterManifest(
        name=name,
        model=find_entry(settings.model.name).name,
        model_fingerprint=fingerprint_of_config(folder),
        method=settings.finetune.method,
        template_hash=prepared.template_hash,
        created=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        settings=dataclasses.asdict(settings.finetune),
        examples=prepared.summary,
        sources=sources,
        labels=labels,
        target_modules=prepared.targets,
        steps=state.step,
        tokens=state.tokens,
        seconds=round(state.seconds, 1),
        peak_memory_gib=round(peak_memory_gib(), 2),
        train_loss=round(state.last_loss, 4),
        gates={**prepared.gates, "effect": effect},
        weights_fingerprint=weights_fingerprint(folder),
        golden_tokens=prepared.golden_tokens,
        machine=machine(),
        versions=versions(),
        processes=state.processes,
        **result,
    )


def _check_name(name: str, final: Path, work: Path, *, resume: bool, replace: bool) -> None:
    if not name or "/" in name or name.startswith("."):
        raise UsageError(f"'{name}' is not a name for an adapter", hint="use letters, digits, '-' and '_'")
    if final.exists() and not replace:
        raise UsageError(f"there is an adapter '{name}' already", hint="--name another one, or --replace")
    if resume and not any((work / where / "checkpoint.pt").exists() for where in ("", FOLDER)):
        raise UsageError(f"there is no interrupted run '{name}' to resume", hint=f"doyen finetune --name {name}")


def _sources(examples: Sequence[Example]) -> list[dict[str, str]]:
    pairs = sorted({(s.document, s.sha256) for e in examples for s in e.source})
    return [{"document": document, "sha256": sha256} for document, sha256 in pairs]
