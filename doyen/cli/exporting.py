"""`doyen export`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from doyen.cli.output import ExpertOption, JsonOption, expert_folder, show


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
            help="merged: a 16-bit model folder; adapter: PEFT's files; split: these with Phi's fused modules split.",
        ),
    ] = "merged",
    expert: ExpertOption = None,
    json_: JsonOption = False,
) -> None:
    """Hand a trained adapter on to other engines."""
    import doyen

    made = doyen.export_adapter(expert_folder(expert), out, name=adapter, form=format_)
    show({"folder": str(made), "format": format_}, str(made), json_)
