"""`doyen plan`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from doyen.cli.output import ExpertOption, JsonOption, expert_folder, note, show
from doyen.config import Settings, find_expert, load_settings
from doyen.errors import ExpertError, UsageError

if TYPE_CHECKING:
    from doyen.capacity.wanted import Wanted
    from doyen.planning import Plan
    from doyen.planning.fitting import MethodPlan


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(plan)


def plan(
    model: Annotated[
        str | None,
        typer.Option(help="Catalogue name, folder or shape, as llama-70b (default: [model] name).", show_default=False),
    ] = None,
    method: Annotated[str | None, typer.Option(help="full, lora or qlora (default: all).", show_default=False)] = None,
    gpu: Annotated[
        str | None,
        typer.Option(help="A GPU's name or GiB: h100, 24, 2x24 (default: this machine).", show_default=False),
    ] = None,
    gpus: Annotated[int | None, typer.Option(help="How many of them.", show_default=False)] = None,
    max_tokens: Annotated[
        int | None, typer.Option(help="Longest example (default: [finetune] max_tokens).", show_default=False)
    ] = None,
    micro_batch_tokens: Annotated[
        int | None, typer.Option(help="Tokens computed at once (default: [finetune]).", show_default=False)
    ] = None,
    rank: Annotated[int | None, typer.Option(help="LoRA rank (default: [finetune] rank).", show_default=False)] = None,
    supervised: Annotated[float, typer.Option(help="Share of the tokens that are answers.")] = 0.1,
    tokens: Annotated[
        int | None, typer.Option(help="Tokens to train on, epochs included, for the hours.", show_default=False)
    ] = None,
    documents: Annotated[
        str | None,
        typer.Option(help="Plan storage, ingest and serving of so many documents: 2000, 10k, 10M.", show_default=False),
    ] = None,
    pages: Annotated[
        float | None, typer.Option(help="Pages of a document (default: as measured).", show_default=False)
    ] = None,
    page_characters: Annotated[
        float | None, typer.Option(help="Characters of a page (default: as measured).", show_default=False)
    ] = None,
    document_bytes: Annotated[
        float | None, typer.Option(help="Bytes of a document's file (default: as measured).", show_default=False)
    ] = None,
    questions_per_day: Annotated[
        str | None, typer.Option(help="Questions a day: 500, 20k, 1M.", show_default=False)
    ] = None,
    profile: Annotated[str, typer.Option(help="When they come: office, flat, or 24 shares with commas.")] = "office",
    p95: Annotated[float, typer.Option(help="Seconds that 95 of 100 answers may take, waiting included.")] = 5.0,
    hours: Annotated[float, typer.Option(help="Hours that the first ingest may take.")] = 24.0,
    cores: Annotated[
        int | None, typer.Option(help="Cores of a node (default: this machine's).", show_default=False)
    ] = None,
    chunks_per_node: Annotated[str, typer.Option(help="Most passages that a node searches.")] = "1M",
    changed: Annotated[float, typer.Option(help="Share of the documents that a day changes.")] = 0.001,
    usd_core_hour: Annotated[float | None, typer.Option(help="US dollars a core-hour.", show_default=False)] = None,
    usd_gb_month: Annotated[
        float | None, typer.Option(help="US dollars a GB of storage and month.", show_default=False)
    ] = None,
    usd_gpu_hour: Annotated[float | None, typer.Option(help="US dollars a GPU-hour.", show_default=False)] = None,
    gpu_tokens_per_s: Annotated[
        float | None, typer.Option(help="Tokens that a GPU reads and writes a second.", show_default=False)
    ] = None,
    measure: Annotated[
        bool, typer.Option("--measure", help="Measure this machine's rates for such plans, and keep them.")
    ] = False,
    sample: Annotated[
        Path | None, typer.Option(help="Folder with files like yours, to measure on.", show_default=False)
    ] = None,
    expert: ExpertOption = None,
    json_: JsonOption = False,
) -> None:
    """Say what fine-tuning a model takes in memory and time, and which method fits; no weights are needed.

    With --documents or --measure: what a corpus of that size takes in storage, hours and nodes, by this machine's rates.
    """
    if documents is not None or measure or sample is not None:
        if model or method or gpu or gpus or tokens or max_tokens or micro_batch_tokens or rank:
            raise UsageError(
                "fine-tuning and a corpus are planned apart",
                hint="--documents and --measure without options of training",
            )
        prices = (usd_core_hour, usd_gpu_hour, usd_gb_month)
        counts = (documents, questions_per_day, chunks_per_node)
        corpus = _Corpus(counts, pages, page_characters, document_bytes, profile, p95, hours, cores, changed, prices)
        _plan_corpus(corpus, gpu_tokens_per_s, measure, sample, expert, json_)
        return
    if questions_per_day is not None:
        raise UsageError("questions of how many documents?", hint="--documents with --questions-per-day")
    import doyen
    from doyen.finetuning.methods import lora_variants

    folder = expert or _nearest_expert()
    settings = load_settings(folder) if folder else Settings()
    given = settings.finetune
    made = doyen.plan(
        model or settings.model.name,
        method=method,
        gpu=gpu,
        gpus=gpus,
        max_tokens=given.max_tokens if max_tokens is None else max_tokens,
        micro_batch_tokens=given.micro_batch_tokens if micro_batch_tokens is None else micro_batch_tokens,
        rank=given.rank if rank is None else rank,
        dora="dora" in lora_variants(given),
        supervised_share=supervised,
        gradient_checkpointing=given.gradient_checkpointing,
        total_tokens=tokens,
    )
    show(made.as_dict(), "\n".join(_lines(made)), json_)


@dataclass(frozen=True, slots=True)
class _Corpus:
    """The options as they were given; `counts` are documents, questions a day, passages of a node."""

    counts: tuple[str | None, str | None, str]
    pages: float | None
    page_characters: float | None
    document_bytes: float | None
    profile: str
    p95: float
    hours: float
    cores: int | None
    changed: float
    prices: tuple[float | None, float | None, float | None]


def _plan_corpus(
    given: _Corpus, gpu_tokens_per_s: float | None, measure: bool, sample: Path | None, expert: Path | None, json_: bool
) -> None:
    """Measure, or plan, or both."""
    from doyen.capacity.running import measure_capacity, plan_for
    from doyen.cli.capacity import plan_lines, rates_lines

    folder = expert_folder(expert) if expert else _nearest_expert()
    wanted = _wanted(given, gpu_tokens_per_s, folder) if given.counts[0] is not None else None
    rates = measure_capacity(folder, sample=sample, say=note) if measure or sample else None
    if wanted is None:
        assert rates is not None
        show(rates.as_dict(), "\n".join(rates_lines(rates)), json_)
        return
    made = plan_for(wanted, folder, rates=rates, say=note)
    show(made.as_dict(), "\n".join(plan_lines(made)), json_)


def _wanted(given: _Corpus, gpu_tokens_per_s: float | None, folder: Path | None) -> Wanted:
    from doyen.capacity.wanted import Prices, Wanted, read_count, read_profile

    documents, questions, chunks_per_node = given.counts
    model = (load_settings(folder) if folder else Settings()).model
    tokens = [price if price >= 0 else None for price in (model.input_price, model.output_price)]
    return Wanted(
        documents=read_count(documents or "", "documents"),
        pages=given.pages,
        page_characters=given.page_characters,
        document_bytes=given.document_bytes,
        questions_per_day=read_count(questions, "questions") if questions else 0,
        cores=given.cores,
        hours=given.hours,
        whole_s=given.p95,
        profile=read_profile(given.profile),
        chunks_per_node=read_count(chunks_per_node, "passages"),
        changed=given.changed,
        gpu_tokens_per_s=gpu_tokens_per_s,
        prices=Prices(*given.prices, *tokens),
    )


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
