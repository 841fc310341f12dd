"""`doyen export`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from doyen.cli.output import Bar, ExpertOption, JsonOption, expert_folder, note, show


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(export)


def export(
    out: Annotated[Path, typer.Option(help="The folder to make.")],
    adapter: Annotated[str, typer.Option(help="The adapter's name (default: the newest).", show_default=False)] = "",
    format_: Annotated[
        str,
        typer.Option(
            "--format",
            help="merged: a 16-bit model folder; adapter: PEFT's files; split: these with Phi's fused modules split; "
            "gguf: one file for llama.cpp and Ollama; gguf-lora: the adapter for llama.cpp.",
        ),
    ] = "merged",
    quantise: Annotated[
        str,
        typer.Option(help="Of gguf: f16 (default), bf16, q8_0 or q4_k_m; of merged: f16 or bf16.", show_default=False),
    ] = "",
    check: Annotated[
        bool, typer.Option(help="Load the export back and compare it with the expert; --no-check: do not.")
    ] = True,
    expert: ExpertOption = None,
    json_: JsonOption = False,
) -> None:
    """Hand a trained adapter on to other engines."""
    import doyen

    with Bar("tensors") as bar:
        made = doyen.export_adapter(
            expert_folder(expert),
            out,
            name=adapter,
            form=format_,
            quantise=quantise,
            check=check,
            progress=lambda stage, done, total: bar(stage, done, total),
            say=note,
        )
    row = json.loads((made / "exported.json").read_text(encoding="utf-8"))
    show({"folder": str(made), "format": format_} | row, f"{made}\n{_verdict(row)}", json_)


def _verdict(row: dict[str, object]) -> str:
    score = row["score"]
    if not isinstance(score, dict):
        return "not checked"
    text = f"loaded back with {score['engine']}: mean KL divergence {score['mean_kl']:.2g} nats"
    text += f" over {score['positions']} tokens (the base: {score['base_kl']:.2g})"
    if score["f1_before"] is None:
        return text
    return (
        f"{text}, token F1 {score['f1_before']:.1f} → {score['f1_after']:.1f} on {score['questions']} held-out answers"
    )
