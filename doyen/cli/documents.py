"""`doyen documents`, `doyen remove`, `doyen search`."""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from doyen.cli.output import ExpertOption, JsonOption, expert_folder, note, show
from doyen.config import load_settings
from doyen.errors import UsageError


def register(app: typer.Typer) -> None:
    """Add the commands."""
    listing = typer.Typer(invoke_without_command=True, help="List the indexed documents, or show one.")
    listing.callback()(documents)
    listing.command("show")(show_document)
    app.add_typer(listing, name="documents")
    app.command()(remove)
    app.command()(search)


def documents(context: typer.Context, expert: ExpertOption = None, json_: JsonOption = False) -> None:
    """List the indexed documents."""
    if context.invoked_subcommand:
        return
    from doyen.ingesting import open_index

    folder = expert_folder(expert)
    rows = open_index(folder, load_settings(folder)).documents()
    lines = [
        f"{d.id}  v{d.version}  {f'{d.pages} pages' if d.pages else d.media_type}  {d.chunks} chunks  {d.language}"
        for d in rows
    ]
    show([dataclasses.asdict(d) for d in rows], "\n".join([*lines, f"{len(rows)} documents"]), json_)


def show_document(
    document: Annotated[str, typer.Argument(metavar="ID")],
    text: Annotated[bool, typer.Option("--text", help="Print the extracted text.")] = False,
    expert: ExpertOption = None,
    json_: JsonOption = False,
) -> None:
    """Show one document, or its extracted text."""
    from doyen.ingesting import open_index

    folder = expert_folder(expert)
    index = open_index(folder, load_settings(folder))
    body, pages = index.text(document)
    row = next(dataclasses.asdict(d) for d in index.documents() if d.id == document)
    row["page_offsets"] = [dataclasses.asdict(p) for p in pages]
    if json_:
        show(row | ({"text": body} if text else {}), "", True)
    elif text:
        sys.stdout.write(body + "\n")
    else:
        show(row, "\n".join(f"{key:<12} {value}" for key, value in row.items() if key != "page_offsets"), False)


def remove(
    names: Annotated[list[str], typer.Argument(metavar="DOCUMENT…", help="Ids as `doyen documents` lists them.")],
    expert: ExpertOption = None,
    json_: JsonOption = False,
) -> None:
    """Take documents out of the index."""
    import doyen

    removed = doyen.remove_documents(expert_folder(expert), names)
    show({"removed": removed}, f"removed {len(removed)}", json_)


def search(
    query: Annotated[str | None, typer.Argument(metavar="QUERY", show_default=False)] = None,
    k: Annotated[int, typer.Option("-k", min=1, max=1000, help="Number of hits.")] = 10,
    like: Annotated[str | None, typer.Option(help="Find documents similar to this one.", show_default=False)] = None,
    questions: Annotated[
        Path | None, typer.Option(help="Search for every question of a file.", show_default=False)
    ] = None,
    out: Annotated[Path | None, typer.Option(help="The hits file to write.", show_default=False)] = None,
    expert: ExpertOption = None,
    json_: JsonOption = False,
) -> None:
    """Find passages."""
    from doyen.expert import open_retriever

    if sum(x is not None for x in (query, like, questions)) != 1 or (questions is None) != (out is None):
        raise UsageError("search takes a QUERY, or --like DOCUMENT, or --questions FILE with --out FILE")
    folder = expert_folder(expert)
    retriever = open_retriever(folder, load_settings(folder))
    if questions is not None and out is not None:
        _search_file(retriever, questions, out, k, json_)
        return
    hits = retriever.similar(like, k) if like is not None else retriever.search(query or "", k)
    lines = [
        f"{n}. {_place(h.as_dict())}  {h.score:.3f}\n   {' '.join(h.chunk.text.split())[:160]}"
        for n, h in enumerate(hits, 1)
    ]
    show([h.as_dict() for h in hits], "\n".join(lines) or "nothing found", json_)


def _search_file(retriever: Any, questions: Path, out: Path, k: int, as_json: bool) -> None:
    from doyen.examples.importing import read_questions, write_rows

    asked = read_questions(questions)
    hits = retriever.search_many([q.question for q in asked], k)
    write_rows(out, ({"id": q.id, "hits": [h.as_dict() for h in found]} for q, found in zip(asked, hits, strict=True)))
    note(f"wrote {out}")
    show({"questions": len(asked), "out": str(out)}, f"{len(asked)} questions", as_json)


def _place(row: dict[str, Any]) -> str:
    page = f" p. {row['page']}" if row["page"] else ""
    return f"{row['document']}{page}" + (f" › {row['section']}" if row["section"] else "")
