"""`doyen documents`, `doyen remove`, `doyen search`."""

from __future__ import annotations

import dataclasses
import datetime
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from doyen.cli.output import ExpertOption, FilterOption, JsonOption, duplicate_line, expert_folder, note, show
from doyen.config import load_settings
from doyen.errors import UsageError

if TYPE_CHECKING:
    from doyen.index.filtering import Where
    from doyen.index.rows import StoredVersion
    from doyen.index.store import Index
    from doyen.records import DocumentHit
    from doyen.retrieval.hybrid import Retriever


def register(app: typer.Typer) -> None:
    """Add the commands."""
    listing = typer.Typer(invoke_without_command=True, help="List the indexed documents, or show one.")
    listing.callback()(documents)
    listing.command("show")(show_document)
    listing.command("versions")(versions)
    listing.command("page")(page)
    app.add_typer(listing, name="documents")
    app.command()(remove)
    app.command()(search)


def documents(
    context: typer.Context,
    duplicates: Annotated[
        bool, typer.Option("--duplicates", help="List the groups of documents that are the same or nearly so.")
    ] = False,
    expert: ExpertOption = None,
    json_: JsonOption = False,
) -> None:
    """List the indexed documents."""
    if context.invoked_subcommand:
        return
    index = _index(expert)
    if duplicates:
        groups = index.near_duplicates()
        found = [duplicate_line(g.documents, g.similarity, g.exact, most=None) for g in groups]
        count = sum(len(g.documents) for g in groups)
        found.append(f"{count} documents in {len(groups)} groups")
        show([g.as_dict() for g in groups], "\n".join(found), json_)
        return
    rows = index.documents()
    lines = [
        f"{d.id}  v{d.version}  {f'{d.pages} pages' if d.pages else d.media_type}  {d.chunks} chunks  {d.language}"
        for d in rows
    ]
    show([dataclasses.asdict(d) for d in rows], "\n".join([*lines, f"{len(rows)} documents"]), json_)


VersionOption = Annotated[
    int | None, typer.Option("--version", min=1, help="The version (default: the current one).", show_default=False)
]


def show_document(
    document: Annotated[str, typer.Argument(metavar="ID")],
    text: Annotated[bool, typer.Option("--text", help="Print the extracted text.")] = False,
    version: VersionOption = None,
    expert: ExpertOption = None,
    json_: JsonOption = False,
) -> None:
    """Show one document, or its extracted text."""
    index = _index(expert)
    stored, body, pages = index.document_version(document, version=version)
    row = _version_row(stored)
    if stored.retired_at is None:
        row |= dataclasses.asdict(next(d for d in index.iter_documents() if d.id == document))
        row["summaries"] = [s.as_dict() for s in index.summaries_of([document]).get(document, ())]
    row["page_offsets"] = [dataclasses.asdict(p) for p in pages]
    if json_:
        show(row | ({"text": body} if text else {}), "", True)
    elif text:
        sys.stdout.write(body + "\n")
    else:
        lines = [f"{key:<12} {value}" for key, value in row.items() if key not in ("page_offsets", "summaries")]
        for summary in row.get("summaries", ()):
            head = f"  › {summary['section']}: " if summary["section"] else f"{'summary':<12} "
            lines.append(head + " ".join(summary["text"].split()))
        show(row, "\n".join(lines), False)


def versions(
    document: Annotated[str, typer.Argument(metavar="ID")], expert: ExpertOption = None, json_: JsonOption = False
) -> None:
    """List the versions of a document that are kept, newest first."""
    rows = _index(expert).versions(document)
    lines = [
        f"v{v.version}  {v.sha256[:12]}  {v.characters} characters  "
        + (f"until {_date(v.retired_at)}" if v.retired_at is not None else "current")
        for v in rows
    ]
    show([_version_row(v) for v in rows], "\n".join(lines), json_)


def page(
    document: Annotated[str, typer.Argument(metavar="ID")],
    number: Annotated[int, typer.Argument(metavar="PAGE", min=1)],
    out: Annotated[Path, typer.Option(help="The PNG file to write.", show_default=False)],
    quote: Annotated[list[str] | None, typer.Option(help="Highlight this text.", show_default=False)] = None,
    version: VersionOption = None,
    password: Annotated[
        list[str] | None, typer.Option(help="What opens the file, if it is encrypted.", show_default=False)
    ] = None,
    expert: ExpertOption = None,
    json_: JsonOption = False,
) -> None:
    """Draw a page of a PDF, of an older version too."""
    from doyen.page_images import page_image

    view = page_image(
        expert_folder(expert), document, number, version=version, quotes=quote or (), passwords=password or ()
    )
    out.write_bytes(view.png)
    missing = [text for text, boxes in zip(quote or (), view.boxes, strict=True) if not boxes]
    for text in missing:
        note(f"not on this page: {text}")
    row = {"out": str(out), "width": view.width, "height": view.height}
    boxes = [[dataclasses.asdict(box) for box in found] for found in view.boxes]
    show(row | {"boxes": boxes}, f"wrote {out}: {view.width} × {view.height} pixels", json_)


def _index(expert: Path | None) -> Index:
    from doyen.ingesting import open_index

    folder = expert_folder(expert)
    return open_index(folder, load_settings(folder))


def _version_row(stored: StoredVersion) -> dict[str, Any]:
    row = dataclasses.asdict(stored)
    return {"id": row.pop("document")} | row


def _date(moment: float) -> str:
    return datetime.datetime.fromtimestamp(moment, datetime.UTC).isoformat(sep=" ", timespec="minutes")


def remove(
    names: Annotated[list[str], typer.Argument(metavar="DOCUMENT…", help="Ids as `doyen documents` lists them.")],
    expert: ExpertOption = None,
    json_: JsonOption = False,
) -> None:
    """Erase documents: from the index, from its files, their older versions and originals."""
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
    whole: Annotated[
        bool, typer.Option("--documents", help="Find documents, for a broad question; each with its summary.")
    ] = False,
    filter_: FilterOption = None,
    expert: ExpertOption = None,
    json_: JsonOption = False,
) -> None:
    """Find passages, or documents."""
    from doyen.expert import open_retriever

    if sum(x is not None for x in (query, like, questions)) != 1 or (questions is None) != (out is None):
        raise UsageError("search takes a QUERY, or --like DOCUMENT, or --questions FILE with --out FILE")
    if whole and query is None:
        raise UsageError("--documents takes a QUERY", hint="doyen search QUERY --documents")
    folder = expert_folder(expert)
    retriever = open_retriever(folder, load_settings(folder))
    where = retriever.index.filter_condition(filter_) if filter_ else None
    if questions is not None and out is not None:
        _search_file(retriever, questions, out, k, where, json_)
        return
    if whole:
        found = retriever.documents(query or "", k, where=where)
        show(
            [d.as_dict() for d in found],
            "\n".join(map(_document_lines, range(1, k + 1), found)) or "nothing found",
            json_,
        )
        return
    if like is not None:
        hits = retriever.similar(like, k, where=where)
    else:
        hits = retriever.search(query or "", k, where=where)
    lines = [
        f"{n}. {_place(h.as_dict())}  {h.score:.3f}{_also(h.also)}\n   {' '.join(h.chunk.text.split())[:160]}"
        for n, h in enumerate(hits, 1)
    ]
    show([h.as_dict() for h in hits], "\n".join(lines) or "nothing found", json_)


def _document_lines(number: int, found: DocumentHit) -> str:
    head = f"{number}. {found.document}  {found.title}  {found.score:.3f}"
    places = ", ".join(dict.fromkeys(_place(h.as_dict()).removeprefix(found.document).strip() for h in found.hits))
    lines = [
        head,
        f"   {' '.join(found.summary.split())}" if found.summary else "",
        f"   in: {places}" if places else "",
    ]
    return "\n".join(filter(None, lines))


def _also(documents: Sequence[str]) -> str:
    return f"  (also in {', '.join(documents)})" if documents else ""


def _search_file(retriever: Retriever, questions: Path, out: Path, k: int, where: Where | None, as_json: bool) -> None:
    from doyen.examples.importing import read_questions, write_rows

    asked = read_questions(questions)
    hits = retriever.search_many([q.question for q in asked], k, where=where)
    write_rows(out, ({"id": q.id, "hits": [h.as_dict() for h in found]} for q, found in zip(asked, hits, strict=True)))
    note(f"wrote {out}")
    show({"questions": len(asked), "out": str(out)}, f"{len(asked)} questions", as_json)


def _place(row: dict[str, Any]) -> str:
    page = f" p. {row['page']}" if row["page"] else ""
    return f"{row['document']}{page}" + (f" › {row['section']}" if row["section"] else "")
