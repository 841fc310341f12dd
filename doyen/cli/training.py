"""`doyen finetune`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from doyen.cli.output import Bar, ExpertOption, JsonOption, OnOption, expert_folder, note, show
from doyen.errors import UsageError


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command()(finetune)


def finetune(
    target: Annotated[
        str,
        typer.Option(help="What to train: model (an adapter), embedder or reranker (both on the documents)."),
    ] = "model",
    name: Annotated[
        str | None,
        typer.Option(
            help="The adapter's name (default: METHOD-NUMBER; of a retriever, tuned-NUMBER).", show_default=False
        ),
    ] = None,
    method: Annotated[str | None, typer.Option(help="lora, qlora or full.", show_default=False)] = None,
    lora_variants: Annotated[
        str | None, typer.Option(help="rslora, dora, loftq, separated by commas.", show_default=False)
    ] = None,
    examples: Annotated[
        Path | None,
        typer.Option(
            help="An examples file (messages, ShareGPT, Alpaca, prompt and completion) instead of the built mix.",
            show_default=False,
        ),
    ] = None,
    epochs: Annotated[float | None, typer.Option(help="Passes over the examples.", show_default=False)] = None,
    documents_epochs: Annotated[
        float | None,
        typer.Option(help="Passes over the documents' text before the examples (default: none).", show_default=False),
    ] = None,
    learning_rate: Annotated[float | None, typer.Option(help="Peak learning rate.", show_default=False)] = None,
    rank: Annotated[int | None, typer.Option(help="LoRA rank.", show_default=False)] = None,
    target_modules: Annotated[
        str | None, typer.Option(help="all-linear, or names separated by commas.", show_default=False)
    ] = None,
    false_refusals: Annotated[
        float | None,
        typer.Option(help="Share of answerable questions that may be refused.", show_default=False),
    ] = None,
    replay: Annotated[
        float | None,
        typer.Option(help="General questions among the examples, as a share of these.", show_default=False),
    ] = None,
    early_stop: Annotated[
        int | None,
        typer.Option(help="Measurements of a risen held-out loss after which it stops; 0: never.", show_default=False),
    ] = None,
    report_to: Annotated[
        str | None, typer.Option(help="tensorboard, mlflow, wandb, separated by commas.", show_default=False)
    ] = None,
    seed: Annotated[
        int | None,
        typer.Option(
            help="Seed of initialisation and order; several trainings: doyen compare --adapter A,B.", show_default=False
        ),
    ] = None,
    recalibrate: Annotated[
        bool, typer.Option("--recalibrate", help="Only fit an adapter's refusal rule again; train nothing.")
    ] = False,
    undo: Annotated[
        bool, typer.Option("--undo", help="Go back to the embedder or reranker from before the training.")
    ] = False,
    processes: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Processes on this machine that train together, one a GPU (torchrun -m doyen finetune: on several).",
            show_default=False,
        ),
    ] = None,
    shard: Annotated[
        bool | None,
        typer.Option("--shard/--no-shard", help="Divide the weights among the processes (FSDP).", show_default=False),
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with an interrupted run.")] = False,
    replace: Annotated[bool, typer.Option("--replace", help="Take the place of an adapter of the same name.")] = False,
    on: OnOption = "",
    expert: ExpertOption = None,
    json_: JsonOption = False,
) -> None:
    """Train an adapter on the examples; or the embedder or a reranker on the documents."""
    from doyen.finetuning.parallel import processes as processes_here

    folder = expert_folder(expert)
    if processes_here() > 1 and (target != "model" or recalibrate):
        raise UsageError("torchrun is for training adapters", hint="the same command without torchrun")
    settings: dict[str, Any] = {"method": method, "lora_variants": lora_variants, "epochs": epochs, "rank": rank}
    settings |= {"target_modules": target_modules, "shard": shard, "documents_epochs": documents_epochs}
    settings |= {"replay": replay, "early_stop": early_stop, "report_to": report_to, "seed": seed}
    settings = {key: value for key, value in settings.items() if value is not None}
    if target != "model":
        own: dict[str, Any] = {"examples": examples, "false_refusals": false_refusals}
        own |= {
            "recalibrate": recalibrate or None,
            "replace": replace or None,
            "processes": processes,
            "on": on or None,
        }
        _refuse(target, [*settings, *(option for option, value in own.items() if value is not None)])
        _retriever(target, folder, name, learning_rate, undo=undo, resume=resume, json_=json_)
    elif undo:
        raise UsageError("--undo is for a retriever; an adapter changes nothing", hint="--adapter NAME chooses another")
    elif recalibrate:
        if on:
            raise UsageError("--recalibrate works on this machine", hint="leave out --on")
        _recalibrate(folder, name, false_refusals, json_)
    else:
        settings |= {"learning_rate": learning_rate, "false_refusals": false_refusals}
        settings |= {"name": name, "examples": examples, "resume": resume, "replace": replace}
        _adapter(folder, json_, processes=processes, on=on, **settings)


def _recalibrate(expert: Path, name: str | None, false_refusals: float | None, json_: bool) -> None:
    import doyen

    again = doyen.recalibrate(expert, name=name or "", false_refusals=false_refusals, say=note)
    show(_row(again), _refusing(again), json_)


def _adapter(expert: Path, json_: bool, **given: Any) -> None:
    """Train an adapter; `given` is for `doyen.finetune`. Of several processes, the main one alone prints."""
    import doyen
    from doyen.finetuning.parallel import is_main

    if not is_main():
        doyen.finetune(expert, **given)
        return
    with Bar("steps") as bar:
        curve = Curve(drawn=bar.live and not json_)
        made = doyen.finetune(
            expert,
            report=lambda p: bar(p.stage or "training", p.step, p.steps, curve.remark(p)),
            say=note,
            **given,
        )
    lines = [
        f"adapter {made.name}: {made.steps} steps, {made.tokens:,} tokens in {made.seconds:.0f} s",
        *map(_stage, made.stages),
        f"loss {made.train_loss} at the last step, {made.validation_loss} on validation examples",
        *_stopping(made),
        f"general texts: {made.forgetting['rise']:+.1%} bits a byte against the base model",
        f"peak memory {made.peak_memory_gib} GiB",
        _refusing(made),
        "next: doyen ask --arm rag+finetuned QUESTION, or doyen compare",
    ]
    show(_row(made), "\n".join(lines), json_)


class Curve:
    """What stands beside the bar: the losses, the pace, and on a terminal the loss so far as a line of blocks."""

    def __init__(self, *, drawn: bool) -> None:
        self._drawn = drawn
        self._losses: list[float] = []
        self._held_out = ""

    def remark(self, p: Any) -> str:
        """Return the remark for one `TrainingProgress`."""
        from doyen.finetuning.drawing import sparkline

        self._losses.append(p.loss)
        if p.held_out_loss is not None:
            self._held_out = f" held-out {p.held_out_loss:.3f}"
        line = f"{sparkline(self._losses)} " if self._drawn else ""
        return f"{line}loss {p.loss:.3f}{self._held_out} {p.tokens_per_s:.0f} tokens/s {p.seconds_left:.0f} s left"


def _stopping(made: Any) -> list[str]:
    """Say which step's weights were kept, where it is not the last."""
    found = made.held_out
    if not found or found["kept_step"] == made.steps:
        return []
    return [f"the held-out loss rose after step {found['kept_step']}: its weights are the adapter's"]


def _refuse(target: str, options: list[str]) -> None:
    """Raise UsageError for an unknown target, or options (as Python names) that do not go with it."""
    if target not in ("embedder", "reranker"):
        raise UsageError(f"unknown target '{target}'", hint="--target model, embedder or reranker")
    if options:
        given = ", ".join(f"--{option.replace('_', '-')}" for option in options)
        raise UsageError(f"{given}: only for --target model", hint=f"doyen finetune --target {target}")


def _retriever(
    target: str,
    expert: Path,
    name: str | None,
    learning_rate: float | None,
    *,
    undo: bool,
    resume: bool,
    json_: bool,
) -> None:
    """Train the expert's embedder or a reranker, or go back to what was before."""
    import doyen

    with Bar("chunks") as bar:
        if undo:
            made = doyen.undo_retriever(expert, target, progress=bar, say=note)
            show(_row(made), f"the {target} is {made.previous or 'none'} again; {made.name} is removed", json_)
            return
        made = doyen.finetune_retriever(
            expert, target, name=name, learning_rate=learning_rate, resume=resume, progress=bar, say=note
        )
    show(_row(made), "\n".join(_outcome(made)), json_)


def _outcome(made: Any) -> list[str]:
    """Say what was measured and what follows from it."""
    gain = made.gain
    lines = [
        f"{made.target} {made.name}: {made.steps} steps on {sum(made.pairs.values())} pairs in {made.seconds:.0f} s",
        f"nDCG@10 of {gain['n']} held-out queries: {made.before:.3f} before, {made.after:.3f} after "
        f"({gain['value']:+.3f}, 95% interval {gain['low']:+.3f} to {gain['high']:+.3f})",
    ]
    if not made.used:
        return [*lines, f"no sure gain: the expert searches as before, and {made.name} is not kept"]
    done = f"{made.reembedded} passages embedded anew" if made.target == "embedder" else "it orders what search finds"
    return [*lines, f"in use now; {done}", f"back: doyen finetune --target {made.target} --undo"]


def _stage(stage: dict[str, Any]) -> str:
    """Say what a stage before the examples brought."""
    before, after = stage["bits_per_byte_before"], stage["bits_per_byte_after"]
    measured = f"; {before} bits a byte of documents kept back before, {after} after" if before is not None else ""
    return f"before: {stage['documents']} documents, {stage['steps']} steps, {stage['tokens']:,} tokens{measured}"


def _refusing(made: Any) -> str:
    """Say what the refusal rule does on validation examples."""
    found = made.calibration
    if made.refusal_threshold is None:
        return (
            f"refusing is left to the model: {found['answerable']} answerable and {found['unanswerable']} "
            "unanswerable validation examples are too few for a rule"
        )
    return (
        f"refuses {found['right_refusals']:.0%} of {found['unanswerable']} unanswerable and "
        f"{found['false_refusals']:.0%} of {found['answerable']} answerable validation examples"
    )


def _row(made: Any) -> dict[str, Any]:
    import dataclasses

    return dataclasses.asdict(made)
