"""`doyen run`, `doyen evaluate-workflow` and `doyen review`: business flows from the command line."""

from __future__ import annotations

import csv
import dataclasses
import json
from collections.abc import Iterable, Sequence
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from doyen.cli.output import Bar, ExpertOption, JsonOption, OnOption, expert_folder, note, show
from doyen.errors import Interrupted, UsageError

if TYPE_CHECKING:
    from doyen.workflows.running import RunReport
    from doyen.workflows.watching import Watched

_Flow = Annotated[
    str, typer.Argument(metavar="WORKFLOW", help="A workflow file, or the name of one in the expert's workflows/.")
]
_Arm = Annotated[str, typer.Option(help="Arm of all model steps, in place of the file's.", show_default=False)]
_Adapter = Annotated[
    str, typer.Option(help="Adapter of the fine-tuned arms, in place of the file's.", show_default=False)
]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command()(run)
    app.command("evaluate-workflow")(evaluate)
    group = typer.Typer(no_args_is_help=True, help="Rows of workflows that wait for a person: look, decide, hand on.")
    group.command("list")(list_)
    group.command("show")(show_row)
    group.command()(accept)
    group.command()(correct)
    group.command()(reject)
    group.command()(export)
    app.add_typer(group, name="review")


def run(
    workflow: _Flow,
    source: Annotated[
        str | None,
        typer.Argument(metavar="INPUT", help="A table, a folder of mails, or a database URL.", show_default=False),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option("-o", "--out", help="The table to write (.csv, .tsv, .parquet, .jsonl).", show_default=False),
    ] = None,
    arm: _Arm = "",
    adapter: _Adapter = "",
    limit: Annotated[int | None, typer.Option(min=1, help="The first rows only.", show_default=False)] = None,
    where: Annotated[
        str, typer.Option(metavar="EXPR", help="Only rows for which this is true.", show_default=False)
    ] = "",
    table: Annotated[str, typer.Option(help="Database: the table to read.", show_default=False)] = "",
    query: Annotated[
        str, typer.Option(help="Database: a SELECT to read in place of a table.", show_default=False)
    ] = "",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Check all and ask no model.")] = False,
    again: Annotated[bool, typer.Option("--again", help="Begin anew where the output is of another run.")] = False,
    retry_failed: Annotated[bool, typer.Option("--retry-failed", help="Do failed rows again.")] = False,
    watch: Annotated[
        bool, typer.Option("--watch", help="INPUT and -o are folders: run over each file that comes.")
    ] = False,
    show_: Annotated[
        bool, typer.Option("--show", help="Check the file and draw it; -o FILE.html draws a page.")
    ] = False,
    on: OnOption = "",
    expert: ExpertOption = None,
    json_: JsonOption = False,
) -> None:
    """Run a workflow over a table: each row once, with an audit trail. Exits with 1 where rows failed."""
    from doyen.cluster.answering import engine_on
    from doyen.config import load_settings
    from doyen.workflows.places import find_workflow
    from doyen.workflows.running import MOST_WINDOW, run_workflow

    if show_:
        _draw(workflow, out, expert, json_)
        return
    if source is None or out is None:
        raise UsageError("run takes an INPUT and -o OUTPUT", hint="doyen run WORKFLOW --show draws it")
    folder = expert_folder(expert)
    path = find_workflow(folder, workflow)
    if watch:
        given = {"--limit": limit, "--where": where, "--table": table, "--query": query}
        given |= {"--dry-run": dry_run, "--again": again, "--retry-failed": retry_failed, "--on": on}
        if unused := [name for name, value in given.items() if value]:
            raise UsageError(
                f"--watch takes no {', '.join(unused)}", hint="each file that comes is run over, whole and once"
            )
        _watch(folder, path, source, out, arm, adapter, json_)
        return
    options: dict[str, Any] = {"limit": limit, "where": where, "table": table, "query": query}
    options |= {"again": again, "retry_failed": retry_failed, "dry_run": dry_run, "arm": arm, "adapter": adapter}
    try:
        with engine_on("" if dry_run else on, load_settings(folder)) as engine, Bar("rows") as bar:
            window = MOST_WINDOW * (engine.workers if engine else 1)
            options |= {"engine": engine, "window": window}
            report = run_workflow(folder, path, source, out, progress=bar, say=note, **options)
    except KeyboardInterrupt:
        raise Interrupted("stopped: what is done is kept", hint="the same command goes on") from None
    show(dataclasses.asdict(report), "\n".join(_run_lines(report)), json_)
    if report.failed and not dry_run:
        raise typer.Exit(1)


def _draw(workflow: str, out: Path | None, expert: Path | None, json_: bool) -> None:
    from doyen.config import write_atomic
    from doyen.workflows.drawing import edges, mermaid, page
    from doyen.workflows.places import find_workflow
    from doyen.workflows.reading import FILE_NAME, load_workflow

    is_file = Path(workflow).is_file() or (Path(workflow) / FILE_NAME).is_file()
    flow = load_workflow(Path(workflow) if is_file else find_workflow(expert_folder(expert), workflow))
    if out is not None:
        write_atomic(out, page(flow))
        note(f"wrote {out}")
    steps = [{"name": s.name, "do": s.do, "when": s.when.text if s.when else None} for s in flow.steps]
    row = {"name": flow.name, "columns": {c.name: c.type for c in flow.columns.values()}, "steps": steps}
    row |= {"decision": flow.decision, "edges": edges(flow), "mermaid": mermaid(flow)}
    show(row, mermaid(flow).rstrip(), json_)


def _run_lines(report: RunReport) -> list[str]:
    if report.dry_run:
        faulty = f", {report.failed} of them with missing or wrong values" if report.failed else ""
        return [
            f"{report.workflow}: {report.rows} rows{faulty}; arm {report.arm}, {', '.join(report.adapters) or 'no adapter'}"
        ]
    lines = [f"{report.rows} rows: {report.done} done, {report.review} for a person, {report.failed} failed"]
    lines += (
        [f"decisions: {', '.join(f'{n} {name}' for name, n in report.decisions.items())}"] if report.decisions else []
    )
    if report.threshold is not None:
        lines.append(
            f"threshold: {min(report.threshold, 1):.2f}" + (", fitted on labelled rows" if report.calibrated else "")
        )
    elif not report.calibrated:
        lines.append("confidence is not calibrated: doyen evaluate-workflow does that")
    cost = f", US$ {report.cost_usd:.2f}" if report.cost_usd is not None else ""
    if report.ran:
        lines.append(f"{report.ran} rows in {report.seconds:.1f} s ({report.rows_per_second:.1f} rows/s){cost}")
    lines += ["doyen review list shows what waits for a person"] if report.review else []
    lines += ["--retry-failed does the failed rows again"] if report.failed else []
    return [*lines, f"wrote {report.out} and {report.audit}"]


def _watch(folder: Path, path: Path, source: str, out: Path, arm: str, adapter: str, json_: bool) -> None:
    from doyen.workflows.opening import open_setup
    from doyen.workflows.reading import load_workflow
    from doyen.workflows.watching import watch_folder

    setup = open_setup(folder, load_workflow(path), arm=arm, adapter=adapter)
    note(f"watching {source}; Ctrl-C stops")
    try:
        with closing(setup):
            follow(watch_folder(setup, Path(source), out), json_)
    except KeyboardInterrupt:
        raise Interrupted("stopped", hint="the same command goes on") from None


def follow(files: Iterable[Watched], json_: bool) -> None:
    """Tell what became of watched files as they come; with `json_` also a line of JSON each on stdout."""
    for found in files:
        said = _run_lines(found.report)[0] if found.report else str(found.error)
        note(f"{found.file.name}: {said}")
        if json_:
            told = dataclasses.asdict(found.report) if found.report else {"error": str(found.error)}
            print(json.dumps({"file": found.file.name} | told, ensure_ascii=False, default=str), flush=True)


def evaluate(
    workflow: _Flow,
    labelled: Annotated[Path, typer.Argument(metavar="LABELLED", help="A table with columns expected.STEP.")],
    arms: Annotated[str, typer.Option(help="The arms to compare.")] = "rag,finetuned,rag+finetuned",
    out: Annotated[
        Path | None,
        typer.Option(
            "-o", "--out", help="Folder of the report (default: workflows/evaluations/NAME).", show_default=False
        ),
    ] = None,
    adapter: _Adapter = "",
    limit: Annotated[int | None, typer.Option(min=1, help="The first labelled rows only.", show_default=False)] = None,
    keep: Annotated[
        bool, typer.Option("--keep/--no-keep", help="Keep confidence and thresholds for doyen run.")
    ] = True,
    expert: ExpertOption = None,
    json_: JsonOption = False,
) -> None:
    """Measure a workflow on labelled rows: accuracy, confidence, and what goes straight through at which error rate."""
    from doyen.workflows.evaluating import evaluate_workflow
    from doyen.workflows.places import find_workflow
    from doyen.workflows.reading import load_workflow

    folder = expert_folder(expert)
    flow = load_workflow(find_workflow(folder, workflow))
    target = out or folder / "workflows" / "evaluations" / flow.name
    names = [name.strip() for name in arms.split(",") if name.strip()]
    try:
        with Bar("rows") as bar:
            report = evaluate_workflow(
                folder,
                flow,
                labelled,
                arms=names,
                adapter=adapter,
                out=target,
                keep_fit=keep,
                limit=limit,
                progress=bar,
                say=note,
            )
    except KeyboardInterrupt:
        raise Interrupted("stopped: what is done is kept", hint="the same command goes on") from None
    show(report, "\n".join([*_evaluation_lines(report), f"wrote {target / 'report.html'} and report.json"]), json_)


def _evaluation_lines(report: dict[str, Any]) -> list[str]:
    from doyen.workflows.evaluation_page import shown

    lines = [f"{report['rows']} labelled rows of {report['labelled']}"]
    for arm, figures in report["arms"].items():
        lines.append(f"{arm}: {shown(figures['decision'])} right decisions")
        at = figures["confidence"].get("at_threshold")
        if at:
            lines.append(f"  straight through {shown(at['through'])}, of these wrong {shown(at['errors'])}")
        lines += [f"  {name}: {shown(step)}" for name, step in figures["steps"].items()]
    for row in report["differences"]:
        points = f"{100 * row['value']:+.1f} points ({100 * row['low']:+.1f} to {100 * row['high']:+.1f})"
        lines.append(f"{row['arm']} minus {row['minus']}: {points}, p {row['p_holm']:.4f}")
    return lines


# ---- the review queue


def list_(
    workflow: Annotated[str, typer.Option(help="Of this workflow only.", show_default=False)] = "",
    state: Annotated[str, typer.Option(help="new, accepted, corrected, rejected or all.")] = "new",
    expert: ExpertOption = None,
    json_: JsonOption = False,
) -> None:
    """List the rows that wait for a person, the oldest first."""
    from doyen.workflows.reviewing import STATES, ReviewQueue

    if state not in (*STATES, "all"):
        raise UsageError(f"unknown state '{state}'", hint=f"one of {', '.join(STATES)}, all")
    rows = ReviewQueue(expert_folder(expert)).rows(workflow, STATES if state == "all" else (state,))
    lines = []
    for row in rows:
        sure = "" if row.confidence is None else f" ({row.confidence:.2f})"
        lines += [
            f"{row.id}  {row.workflow}  row {_line(row.row_id, 40)}  {row.state}: {row.decision or 'undecided'}{sure}"
        ]
        lines += [f"  {_line(row.reason, 200)}"]
    show([row.as_dict() for row in rows], "\n".join(lines) or "nothing", json_)


def show_row(
    row: Annotated[str, typer.Argument(metavar="ID")], expert: ExpertOption = None, json_: JsonOption = False
) -> None:
    """Show a row of the queue: its input, and what each step made of it."""
    from doyen.workflows.reviewing import ReviewQueue

    found = ReviewQueue(expert_folder(expert)).find(row)
    lines = [f"{found.workflow}, row {found.row_id}: {found.reason}", ""]
    lines += [f"{name}: {_text(value)}" for name, value in found.input.items()]
    lines += ["", *(f"{name} = {_text(value)}" for name, value in found.outcome.items())]
    if found.final:
        lines += ["", f"{found.state} by {found.reviewer}: {_text(found.final)}"]
    show(found.as_dict(), "\n".join(lines), json_)


def accept(
    row: Annotated[str, typer.Argument(metavar="ID")],
    comment: Annotated[str, typer.Option(help="Why.", show_default=False)] = "",
    expert: ExpertOption = None,
    json_: JsonOption = False,
) -> None:
    """Say that all steps of a row were right."""
    _judged(row, "accept", {}, comment, expert, json_)


def correct(
    row: Annotated[str, typer.Argument(metavar="ID")],
    set_: Annotated[list[str], typer.Option("--set", metavar="STEP=VALUE", help="What is right (repeatable).")],
    comment: Annotated[str, typer.Option(help="Why.", show_default=False)] = "",
    expert: ExpertOption = None,
    json_: JsonOption = False,
) -> None:
    """Say what is right of a row; what is not named was right."""
    values: dict[str, Any] = {}
    for pair in set_:
        name, sign, text = pair.partition("=")
        if not sign:
            raise UsageError(f"--set {pair}: STEP=VALUE, or STEP.FIELD=VALUE")
        values[name.strip()] = _value(text)
    _judged(row, "correct", values, comment, expert, json_)


def reject(
    row: Annotated[str, typer.Argument(metavar="ID")],
    comment: Annotated[str, typer.Option(help="Why.", show_default=False)] = "",
    expert: ExpertOption = None,
    json_: JsonOption = False,
) -> None:
    """Say that a row is no example of anything."""
    _judged(row, "reject", {}, comment, expert, json_)


def _judged(row: str, verdict: str, values: dict[str, Any], comment: str, expert: Path | None, json_: bool) -> None:
    from doyen.workflows.reviewing import ReviewQueue

    found = ReviewQueue(expert_folder(expert)).review(row, verdict, "local", values=values, comment=comment)
    show(found.as_dict(), f"{found.id} {found.state}", json_)


def export(
    workflow: _Flow,
    out: Annotated[Path, typer.Option("-o", "--out", help="The labelled table to write (.csv or .jsonl).")],
    expert: ExpertOption = None,
    json_: JsonOption = False,
) -> None:
    """Write reviewed rows as a labelled table, for doyen examples build --workflow and evaluate-workflow."""
    from doyen.examples.importing import write_rows
    from doyen.workflows.places import find_workflow
    from doyen.workflows.reading import load_workflow
    from doyen.workflows.reviewing import ACCEPTED, CORRECTED, ReviewQueue, labelled_rows

    folder = expert_folder(expert)
    flow = load_workflow(find_workflow(folder, workflow))
    rows = labelled_rows(flow, ReviewQueue(folder).rows(flow.name, (ACCEPTED, CORRECTED)))
    if out.suffix.lower() == ".jsonl":
        write_rows(out, rows)
    elif out.suffix.lower() == ".csv":
        _write_csv(out, rows)
    else:
        raise UsageError(f"{out.name} is no .csv or .jsonl file")
    show({"rows": len(rows), "out": str(out)}, f"{len(rows)} rows in {out}", json_)


def _write_csv(out: Path, rows: Sequence[dict[str, Any]]) -> None:
    from doyen.config import replaced

    columns = list(dict.fromkeys(name for row in rows for name in row))
    with replaced(out) as path, path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(columns)
        writer.writerows([[_text(row.get(name)) for name in columns] for row in rows])


def _text(value: Any) -> str:
    if value is None:
        return ""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _value(text: str) -> Any:
    """Return a value of the command line: JSON where it is a number, an object and so on, else the text."""
    try:
        return json.loads(text)
    except ValueError:
        return text


def _line(text: str, most: int) -> str:
    """Show a text on one line: its line ends would look like rows of the list."""
    return " ".join(text.split())[:most]
