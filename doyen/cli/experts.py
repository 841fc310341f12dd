"""`doyen init`, `doyen status`, `doyen doctor`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from doyen.cli.output import Bar, ExpertOption, JsonOption, duplicate_line, expert_folder, show

_SHOWN = 20


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
        str | None,
        typer.Option(
            help="Embedder: catalogue name, org/repository, folder, openai:MODEL or jina:MODEL.", show_default=False
        ),
    ] = None,
    store: Annotated[
        str | None,
        typer.Option(
            help="Where the index lives: a folder, s3://bucket/prefix, postgresql://user@host/database, or "
            "experts:FOLDER,FOLDER for the indexes of other experts.",
            show_default=False,
        ),
    ] = None,
    json_: JsonOption = False,
) -> None:
    """Make an expert: a folder with a doyen.toml."""
    import doyen
    from doyen.config import JOINED

    path = doyen.init(folder, model=model, embedder=embedder, store=store)
    then = 'ask "…"' if store and store.startswith(JOINED) else "ingest FOLDER"
    show({"expert": str(path)}, f"made {path / 'doyen.toml'}\nnext: cd {folder} && doyen {then}", json_)


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
    lines.append(
        f"documents  {row['documents']} ({row['pages']} pages with numbers, {row['chunks']} chunks, {row['summaries']} summaries)"
    )
    if recall := row["recall"]:
        lines.append(f"  search   finds {recall['value']:.1%} of the 10 nearest ({recall['queries']} sampled vectors)")
    lines += [f"  failed   {f['file']}: {f['reason']}" for f in row["failed"]]
    lines += [f"  warning  {w['document']}: {w['remark']}" for w in row["warnings"][:_SHOWN]]
    if len(row["warnings"]) > _SHOWN:
        lines.append(f"  … and {len(row['warnings']) - _SHOWN} more warnings (--json lists them)")
    lines += _duplicate_lines(row["duplicates"])
    if row["examples"]:
        lines.append(
            f"examples   {row['examples']['train']} for training, {row['examples']['validation']} for validation"
        )
        lines += _stale_lines(row["examples"], row["examples"]["train"])
    for adapter in row["adapters"]:
        if "fault" in adapter:
            lines.append(f"adapter    {adapter['name']}: {adapter['fault']}")
            continue
        lines.append(
            f"adapter    {adapter['name']} ({adapter['method']}, {adapter['steps']} steps, loss {adapter['train_loss']})"
        )
        if adapter["labels"]:
            needed = " and ".join("(" + " or ".join(labels) + ")" for labels in adapter["labels"])
            lines.append(f"  labels   only for who has {needed}")
        if tainted := adapter["tainted"]:
            named = ", ".join(tainted[:5]) + (" …" if len(tainted) > 5 else "")
            lines.append(f"  tainted  trained on {len(tainted)} documents that were removed: {named}")
        lines += _stale_lines(adapter, adapter["examples"])
    lines += [
        f"stopped    training '{name}': doyen finetune --resume --name {name}" for name in row["interrupted_runs"]
    ]
    if row["comparison"]:
        lines.append(f"comparison {row['comparison']['folder']}: {row['comparison']['advice']['arm']}")
    return lines


def _duplicate_lines(groups: list[dict[str, Any]]) -> list[str]:
    if not groups:
        return []
    count = sum(len(g["documents"]) for g in groups)
    lines = [f"duplicates {count} documents in {len(groups)} groups (doyen documents --duplicates lists them)"]
    return lines + [f"  {duplicate_line(g['documents'], g['similarity'], g['exact'])}" for g in groups[:3]]


def _stale_lines(row: dict[str, Any], examples: int | None) -> list[str]:
    """Say how much of a training set stands on text that is not in the documents any more."""
    documents = row["stale_documents"]
    if not documents:
        return []
    named = ", ".join(documents[:5]) + (" …" if len(documents) > 5 else "")
    if examples is None:  # an adapter of before lineage was kept
        return [f"  stale    {len(documents)} of its {row['documents']} documents changed since: {named}"]
    read = row.get("documents_read", 0)
    of = f"{examples} examples" + (f" and {read} documents read" if read else "")
    return [f"  stale    {len(row['stale_examples'])} of {of} ({row['stale_share']:.1%}): {named}"]


def doctor(
    expert: ExpertOption = None,
    bench: Annotated[
        bool, typer.Option("--bench", help="Measure how fast each engine answers here; `auto` then takes the fastest.")
    ] = False,
    security: Annotated[
        bool, typer.Option("--security", help="Look at keys, labels, files, weights and what is sent elsewhere.")
    ] = False,
    json_: JsonOption = False,
) -> None:
    """Say what is wrong here, and how to mend it."""
    from doyen.doctor import examine
    from doyen.errors import ExpertError
    from doyen.hardening import harden

    try:
        folder = expert_folder(expert)
    except ExpertError:
        if expert is not None:
            raise
        folder = None
    if bench:
        _show_speeds(folder, json_)
        return
    checks = harden(expert_folder(expert)) if security else examine(folder)
    lines = [
        f"{'ok  ' if c.ok else 'MEND'} {c.name}: {c.detail}" + (f"\n     hint: {c.hint}" if c.hint and not c.ok else "")
        for c in checks
    ]
    show([c.as_dict() for c in checks], "\n".join(lines), json_)
    if not all(c.ok for c in checks):
        raise typer.Exit(1)


def _show_speeds(folder: Path | None, json_: bool) -> None:
    from doyen.doctor import bench

    with Bar("rounds") as bar:
        speeds = bench(folder, bar)
    lines = [
        f"{s.engine:<13} {s.answer_s:6.2f} s an answer (1,200 tokens read, 60 written): first token {s.first_token_s:.2f} s, "
        f"{s.read_tokens_per_s:,.0f} tokens/s read, {s.write_tokens_per_s:,.0f} written"
        for s in speeds
    ]
    lines.append(f'[model] engine = "auto" takes {speeds[0].engine} with this model here')
    show([s.as_dict() for s in speeds], "\n".join(lines), json_)
