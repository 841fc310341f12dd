"""`doyen models`, `doyen models pull`."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from doyen.cli.output import JsonOption, note, show


def register(app: typer.Typer) -> None:
    """Add the commands."""
    catalogue = typer.Typer(invoke_without_command=True, help="List the model catalogue, or fetch a model.")
    catalogue.callback()(models)
    catalogue.command()(pull)
    app.add_typer(catalogue, name="models")


def models(context: typer.Context, json_: JsonOption = False) -> None:
    """List the catalogue."""
    if context.invoked_subcommand:
        return
    from doyen.models.catalogue import CATALOGUE
    from doyen.models.fetching import is_fetched

    rows: list[dict[str, Any]] = []
    for entry in CATALOGUE.values():
        source = type(entry.source).__name__.removesuffix("Source").lower()
        row = {
            "name": entry.name,
            "role": entry.role,
            "source": source,
            "licence": entry.licence,
            "parameters": entry.parameters,
        }
        row |= {
            "size_mib": entry.size_mib,
            "context_tokens": entry.context_tokens,
            "stop_tokens": list(entry.stop_tokens),
        }
        rows.append(row | {"fetched": is_fetched(entry), "note": entry.note})
    lines = [
        f"{r['name']:<38} {r['role']:<9} {r['source']:<5} {r['licence']:<11} {r['size_mib']:>6} MiB  {'here' if r['fetched'] else '-'}"
        for r in rows
    ]
    show(
        rows, "\n".join([*lines, "any other: org/repository of the Hugging Face Hub, a folder, or a GGUF file"]), json_
    )


def pull(names: Annotated[list[str], typer.Argument(metavar="NAME…")], json_: JsonOption = False) -> None:
    """Fetch models into the cache (DOYEN_CACHE), or read GGUF files into it."""
    from doyen.models.catalogue import find_entry
    from doyen.models.fetching import pull as fetch

    entries = [find_entry(name) for name in names]
    folders = {}
    for entry in entries:
        folders[entry.name] = str(
            fetch(entry, progress=lambda step, share: note(f"{step}" + (f" {share:.0%}" if share is not None else "")))
        )
    show(folders, "\n".join(f"{name}: {folder}" for name, folder in folders.items()), json_)
