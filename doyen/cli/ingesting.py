"""`doyen ingest`: once, or again and again with `--watch`. `doyen reembed`: the index with another embedder."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from doyen.cli.output import Bar, ExpertOption, JsonOption, OnOption, duplicate_line, expert_folder, note, show
from doyen.errors import DoyenError, Interrupted, UsageError
from doyen.labelling import read_labels
from doyen.sources.options import SourceOptions

if TYPE_CHECKING:
    from doyen.ingesting import IngestReport

_SHOWN = 20


_DEFAULTS = SourceOptions()
_Sources = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="SOURCE…",
        help="Folders, files, https://… sites, sqlite:///…, postgresql://… and mysql://… databases, s3://… and "
        "other remote folders. Without any: all that were ingested before.",
    ),
]
_Name = Annotated[str | None, typer.Option(help="Put NAME/ before the documents' ids.", show_default=False)]
_Prune = Annotated[bool, typer.Option("--prune", help="Take out every document that is not in these sources.")]
_Rebuild = Annotated[
    bool, typer.Option("--rebuild", help="Make the index anew (after a change of embedder or chunk size).")
]
_RetryFailed = Annotated[
    bool, typer.Option("--retry-failed", help="Read again what failed before, though it has not changed.")
]
_PasswordFile = Annotated[
    Path | None,
    typer.Option(help="A file of passwords for encrypted files, one a line, tried in turn.", show_default=False),
]
_Watch = Annotated[bool, typer.Option("--watch", help="Go on: ingest again whenever a folder changes, until Ctrl-C.")]
_Interval = Annotated[
    float,
    typer.Option(min=1, help="With --watch: seconds after which all is gone through again, sites and databases too."),
]
_Depth = Annotated[int, typer.Option(min=0, help="Site: how many links away from the start page.")]
_MaxPages = Annotated[int, typer.Option(min=1, help="Site: most pages.")]
_Delay = Annotated[float, typer.Option(min=0, help="Site: seconds between two requests.")]
_WholeSite = Annotated[bool, typer.Option("--whole-site", help="Site: also what is not below the start page's folder.")]
_Tables = Annotated[
    list[str] | None, typer.Option(help="Database: a table to read (may be given again).", show_default=False)
]
_Query = Annotated[str, typer.Option(help="Database: a SELECT to read in place of tables.")]
_Key = Annotated[
    list[str] | None,
    typer.Option(help="Database: a column that names a row (may be given again).", show_default=False),
]
_UpdatedAt = Annotated[str, typer.Option(help="Database: a column that changes with its row.")]
_Labels = Annotated[
    str | None,
    typer.Option(
        help="Who may see what has no labels of its own: LABEL,LABEL; remembered, '' takes them away.",
        show_default=False,
    ),
]
_LabelsColumn = Annotated[str, typer.Option(help="Database: a column that says who may see its row.")]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command()(ingest)
    app.command()(reembed)


def ingest(
    sources: _Sources = None,
    name: _Name = None,
    labels: _Labels = None,
    prune: _Prune = False,
    rebuild: _Rebuild = False,
    retry_failed: _RetryFailed = False,
    password_file: _PasswordFile = None,
    watch: _Watch = False,
    interval: _Interval = 300.0,
    depth: _Depth = _DEFAULTS.depth,
    max_pages: _MaxPages = _DEFAULTS.max_pages,
    delay: _Delay = _DEFAULTS.delay_s,
    whole_site: _WholeSite = _DEFAULTS.whole_site,
    table: _Tables = None,
    query: _Query = _DEFAULTS.query,
    key: _Key = None,
    updated_at: _UpdatedAt = _DEFAULTS.updated_at,
    labels_column: _LabelsColumn = _DEFAULTS.labels_column,
    on: OnOption = "",
    expert: ExpertOption = None,
    json_: JsonOption = False,
) -> None:
    """Bring documents into the index: new and changed ones are read, missing ones taken out."""
    folder = expert_folder(expert)
    given: dict[str, Any] = {
        "name": name,
        "prune": prune,
        "rebuild": rebuild,
        "retry_failed": retry_failed,
        "passwords": _passwords(password_file),
        "say": note,
        "options": SourceOptions(
            depth=depth,
            max_pages=max_pages,
            delay_s=delay,
            whole_site=whole_site,
            tables=tuple(table or ()),
            query=query,
            key=tuple(key or ()),
            updated_at=updated_at,
            labels_column=labels_column,
            labels=None if labels is None else read_labels(labels),
        ),
    }
    if watch and on:
        raise UsageError(
            "--watch works on this machine", hint="leave out --on, or run doyen ingest --on ray by a clock"
        )
    if watch:
        _watch(folder, sources or [], interval, given, json_)
        return
    import doyen

    with Bar("documents") as bar:
        report = doyen.ingest(folder, sources or [], progress=bar, on=on, **given)
    _show(report, json_)
    if report.interrupted:
        raise Interrupted("stopped; what was written is whole", hint="run the same doyen ingest again: it goes on")


def _watch(folder: Path, sources: list[str], interval: float, given: dict[str, Any], as_json: bool) -> None:
    from doyen.ingesting.watching import watch

    try:
        before: IngestReport | None = None
        for report in watch(folder, sources, interval_s=interval, failed=_tell, **given):
            if report.interrupted:
                break
            if before is None or report.written or report.failed != before.failed:
                _show(report, as_json)
            if before is None:
                note("watching; Ctrl-C ends")
            before = report
    except KeyboardInterrupt:
        pass
    note("stopped watching")


def _tell(error: DoyenError) -> None:
    note(f"error: {error}" + (f"\nhint: {error.hint}" if error.hint else ""))


def _passwords(path: Path | None) -> tuple[str, ...]:
    if path is None:
        return ()
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{path} cannot be read as a list of passwords ({error})", hint="UTF-8, one a line") from error
    return tuple(line for line in lines if line)


def _show(report: IngestReport, as_json: bool) -> None:
    counts = {key: len(getattr(report, key)) for key in ("new", "changed", "unchanged", "removed", "failed")}
    row: dict[str, Any] = counts | {
        "moved": len(report.moved),
        "relabelled": len(report.relabelled),
        "chunks": report.chunks,
        "reused_chunks": report.reused,
        "seconds": round(report.seconds, 2),
        "failures": [{"file": file, "reason": reason} for file, reason in report.failed],
        "warnings": [{"document": document, "remark": remark} for document, remark in report.warnings],
        "duplicates": [dataclasses.asdict(group) for group in report.duplicates],
        "skipped": report.unsupported,
    }
    moved = f"  moved {len(report.moved)}" if report.moved else ""
    moved += f"  relabelled {len(report.relabelled)}" if report.relabelled else ""
    lines = ["  ".join(f"{key} {n}" for key, n in counts.items()) + moved]
    read = counts["new"] + counts["changed"]
    if read:
        reused = f", {report.reused} of them with vectors at hand" if report.reused else ""
        lines.append(
            f"{report.chunks} chunks in {report.seconds:.1f} s "
            f"({read / report.seconds:.1f} documents/s, {report.chunks / report.seconds:.0f} chunks/s){reused}"
        )
    lines += _some([f"failed: {_line(file)}: {reason}" for file, reason in report.failed])
    lines += _some([f"warning: {_line(document)}: {remark}" for document, remark in report.warnings])
    lines += _some(
        [f"nearly the same: {_line(duplicate_line(g.documents, g.similarity, g.exact))}" for g in report.duplicates]
    )
    if report.unsupported:
        suffixes = sorted({Path(p).suffix.lower() or "(none)" for p in report.unsupported})
        lines.append(f"skipped {len(report.unsupported)} files of other formats: {' '.join(suffixes)}")
    show(row, "\n".join(lines), as_json)


def _line(name: str) -> str:
    """Show a name on one line: a file's name may hold line ends and control characters."""
    return "".join(c if c.isprintable() else "\ufffd" for c in name)


def _some(lines: list[str]) -> list[str]:
    more = len(lines) - _SHOWN
    return lines if more <= 0 else [*lines[:_SHOWN], f"… and {more} more (doyen status --json lists them)"]


def reembed(
    model: Annotated[
        str, typer.Option(help="The embedder: catalogue name, org/repository, folder, openai:MODEL or jina:MODEL.")
    ] = "",
    undo: Annotated[bool, typer.Option("--undo", help="Go back to the embedder from before the last switch.")] = False,
    expert: ExpertOption = None,
    json_: JsonOption = False,
) -> None:
    """Give the index another embedding model, beside the one that is searched; then switch over."""
    import doyen

    with Bar("passages") as bar:
        done = doyen.reembed(
            expert_folder(expert), model, undo=undo, progress=lambda n, total: bar("embedding", n, total)
        )
    lines = [f"{done.before} → {done.embedder}: {done.texts} texts, {done.computed} embedded, {done.seconds:.1f} s"]
    if done.too_long:
        lines.append(
            f"warning: {done.too_long} chunks are longer than {done.embedder} reads; doyen ingest --rebuild SOURCE… cuts them anew"
        )
    if not undo:
        lines.append("doyen reembed --undo goes back")
    show(done.as_dict(), "\n".join(lines), json_)
