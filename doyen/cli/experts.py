"""`doyen init`, `doyen status`, `doyen doctor`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from doyen.cli.output import ExpertOption, JsonOption, expert_folder, show


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command()(init)
    app.command()(status)
    app.command()(doctor)


def init(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="The folder to make.")],
    model: Annotated[
        str | None, typer.Option(help="Language model: catalogue name, org/repository or folder.", show_default=False)
    ] = None,
    embedder: Annotated[
        str | None, typer.Option(help="Embedder: catalogue name or folder.", show_default=False)
    ] = None,
    store: Annotated[str | None, typer.Option(help="Where the index lives: a folder.", show_default=False)] = None,
    json_: JsonOption = False,
) -> None:
    """Make an expert: a folder with a doyen.toml."""
    import doyen

    path = doyen.init(folder, model=model, embedder=embedder, store=store)
    show({"expert": str(path)}, f"made {path / 'doyen.toml'}\nnext: cd {folder} && doyen ingest FOLDER", json_)


def status(expert: ExpertOption = None, json_: JsonOption = False) -> None:
    """Show what an expert holds, and what is stale."""
    import doyen

    row = doyen.status(expert_folder(expert))
    show(row, "\n".join(_status_lines(row)), json_)


def _status_lines(row: dict[str, Any]) -> list[str]:
    lines = [f"expert     {row['expert']}"]
    for role, model in row["models"].items():
        missing = "" if model["fetched"] else f"  (not fetched: doyen models pull {model['name']})"
        lines.append(f"{role:<10} {model['name']}{missing}")
    lines.append(f"documents  {row['documents']} ({row['pages']} pages with numbers, {row['chunks']} chunks)")
    lines += [f"  failed   {f['file']}: {f['reason']}" for f in row["failed"]]
    if row["examples"]:
        lines.append(
            f"examples   {row['examples']['train']} for training, {row['examples']['validation']} for validation"
        )
    for adapter in row["adapters"]:
        if "fault" in adapter:
            lines.append(f"adapter    {adapter['name']}: {adapter['fault']}")
            continue
        stale = adapter["stale_documents"]
        lines.append(
            f"adapter    {adapter['name']} ({adapter['method']}, {adapter['steps']} steps, loss {adapter['train_loss']})"
        )
        if stale:
            lines.append(
                f"  stale    {len(stale)} of its {adapter['documents']} documents changed since: {', '.join(stale[:5])}"
            )
    lines += [
        f"stopped    training '{name}': doyen finetune --resume --name {name}" for name in row["interrupted_runs"]
    ]
    if row["comparison"]:
        lines.append(f"comparison {row['comparison']['folder']}: {row['comparison']['advice']['arm']}")
    return lines


def doctor(expert: ExpertOption = None, json_: JsonOption = False) -> None:
    """Say what is wrong here, and how to mend it."""
    from doyen.doctor import examine
    from doyen.errors import ExpertError

    try:
        folder = expert_folder(expert)
    except ExpertError:
        if expert is not None:
            raise
        folder = None
    checks = examine(folder)
    lines = [
        f"{'ok  ' if c.ok else 'MEND'} {c.name}: {c.detail}" + (f"\n     hint: {c.hint}" if c.hint and not c.ok else "")
        for c in checks
    ]
    show([c.as_dict() for c in checks], "\n".join(lines), json_)
    if not all(c.ok for c in checks):
        raise typer.Exit(1)
