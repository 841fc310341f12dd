"""`doyen plan`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from doyen.capacity.wanted import Prices, Wanted, read_count, read_profile
from doyen.cli import planning_options as options
from doyen.cli.output import ExpertOption, JsonOption, expert_folder, note, show
from doyen.config import Settings, find_expert, load_settings
from doyen.errors import ExpertError, UsageError

if TYPE_CHECKING:
    from doyen.planning import Plan
    from doyen.planning.fitting import MethodPlan


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(plan)


# Half of its lines are the options.
def plan(
    model: options.Model = None,
    method: options.Method = None,
    gpu: options.Gpu = None,
    gpus: options.Gpus = None,
    max_tokens: options.MaxTokens = None,
    micro_batch_tokens: options.MicroBatchTokens = None,
    rank: options.Rank = None,
    supervised: options.Supervised = 0.1,
    tokens: options.Tokens = None,
    documents: options.Documents = None,
    pages: options.Pages = None,
    page_characters: options.PageCharacters = None,
    document_bytes: options.DocumentBytes = None,
    questions_per_day: options.QuestionsPerDay = None,
    profile: options.Profile = "office",
    p95: options.P95 = 5.0,
    hours: options.Hours = 24.0,
    cores: options.Cores = None,
    chunks_per_node: options.ChunksPerNode = "1M",
    changed: options.Changed = 0.001,
    usd_core_hour: options.UsdCoreHour = None,
    usd_gb_month: options.UsdGbMonth = None,
    usd_gpu_hour: options.UsdGpuHour = None,
    gpu_tokens_per_s: options.GpuTokensPerS = None,
    measure: options.Measure = False,
    sample: options.Sample = None,
    expert: ExpertOption = None,
    json_: JsonOption = False,
) -> None:
    """Say what fine-tuning a model takes in memory and time, and which method fits; no weights are needed.

    With --documents or --measure: what a corpus of that size takes in storage, hours and nodes, by this machine's rates.
    """
    training = {"model": model, "method": method, "gpu": gpu, "gpus": gpus, "max_tokens": max_tokens}
    training |= {"micro_batch_tokens": micro_batch_tokens, "rank": rank, "total_tokens": tokens}
    if documents is None and not measure and sample is None:
        if questions_per_day is not None:
            raise UsageError("questions of how many documents?", hint="--documents with --questions-per-day")
        _plan_training(training, supervised, expert, json_)
        return
    if any(value is not None for value in training.values()):
        raise UsageError(
            "fine-tuning and a corpus are planned apart", hint="--documents and --measure without options of training"
        )
    wanted = (
        None
        if documents is None
        else Wanted(
            documents=read_count(documents, "documents"),
            pages=pages,
            page_characters=page_characters,
            document_bytes=document_bytes,
            questions_per_day=read_count(questions_per_day, "questions") if questions_per_day else 0,
            cores=cores,
            hours=hours,
            whole_s=p95,
            profile=read_profile(profile),
            chunks_per_node=read_count(chunks_per_node, "passages"),
            changed=changed,
            gpu_tokens_per_s=gpu_tokens_per_s,
            prices=Prices(usd_core_hour, usd_gpu_hour, usd_gb_month),
        )
    )
    _plan_corpus(wanted, measure, sample, expert, json_)


def _plan_training(given: dict[str, Any], supervised: float, expert: Path | None, json_: bool) -> None:
    """Plan for fine-tuning; what is not given is as in the expert's settings."""
    import doyen
    from doyen.finetuning.methods import lora_variants

    folder = expert or _nearest_expert()
    settings = load_settings(folder) if folder else Settings()
    own = settings.finetune
    kept: dict[str, Any] = {"model": settings.model.name, "max_tokens": own.max_tokens}
    kept |= {"micro_batch_tokens": own.micro_batch_tokens, "rank": own.rank}
    made = doyen.plan(
        **kept | {name: value for name, value in given.items() if value is not None},
        dora="dora" in lora_variants(own),
        supervised_share=supervised,
        gradient_checkpointing=own.gradient_checkpointing,
    )
    show(made.as_dict(), "\n".join(_lines(made)), json_)


def _plan_corpus(wanted: Wanted | None, measure: bool, sample: Path | None, expert: Path | None, json_: bool) -> None:
    """Measure, or plan, or both."""
    from doyen.capacity.running import measure_capacity, plan_for
    from doyen.cli.capacity import plan_lines, rates_lines

    folder = expert_folder(expert) if expert else _nearest_expert()
    rates = measure_capacity(folder, sample=sample, say=note) if measure or sample else None
    if wanted is None:
        assert rates is not None
        show(rates.as_dict(), "\n".join(rates_lines(rates)), json_)
        return
    made = plan_for(wanted, folder, rates=rates, say=note)
    show(made.as_dict(), "\n".join(plan_lines(made)), json_)


def _nearest_expert() -> Path | None:
    try:
        return find_expert()
    except ExpertError:
        return None


def _lines(made: Plan) -> list[str]:
    billions = made.model.parameters / 1e9
    lines = [f"{made.model.name}: {billions:.2f} billion parameters; {made.machine.label}"]
    how = made.training
    lines += [
        f"micro-batches of {how.tokens} tokens, rows of at most {how.length}, {how.supervised_share:.0%} of them answers"
    ]
    for found in made.methods:
        lines += ["", *_method(found)]
    return [*lines, "", *made.advice]


def _method(found: MethodPlan) -> list[str]:
    fits = "fits" if found.way.fits else "does not fit"
    lines = [f"{found.way.label}: {found.way.total_gib:.1f} GiB on each device, {fits}"]
    lines += [f"  {value:8.2f}  {name}" for name, value in found.way.parts_gib.items() if value >= 0.005]
    if found.tokens_per_s:
        hours = f", {found.hours:.1f} hours" if found.hours is not None else ""
        lines.append(f"  about {found.tokens_per_s:,.0f} tokens/s{hours}")
    lines.append(
        f"  {found.trained_parameters:,} parameters trained; check after training {found.check_gib:.1f} GiB"
        f"{'' if found.check_fits else ' (does not fit)'}; disk {found.disk_gib:.1f} GiB"
    )
    others = [w for w in found.tried if w is not found.way]
    if others:
        each = (f"{w.label.partition(', ')[2] or 'plain'} {w.total_gib:.1f}" for w in others)
        lines.append(f"  other ways: {'; '.join(each)} GiB")
    return lines
