"""`doyen plan`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from doyen.cli.output import ExpertOption, JsonOption, show
from doyen.config import Settings, find_expert, load_settings
from doyen.errors import ExpertError

if TYPE_CHECKING:
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
    expert: ExpertOption = None,
    json_: JsonOption = False,
) -> None:
    """Say what fine-tuning a model takes in memory and time, and which method fits; no weights are needed."""
    import doyen
    from doyen.finetuning.methods import lora_variants

    if expert is not None:
        settings = load_settings(expert)
    else:
        try:
            settings = load_settings(find_expert())
        except ExpertError:
            settings = Settings()
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
