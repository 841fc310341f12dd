"""`doyen evaluate-retrieval`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from doyen.cli.output import Bar, ExpertOption, JsonOption, expert_folder, note, show


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("evaluate-retrieval")(evaluate_retrieval)


def evaluate_retrieval(
    questions: Annotated[
        Path | None, typer.Option(help="A questions file (default: the imported ones, test split).", show_default=False)
    ] = None,
    k: Annotated[int, typer.Option("-k", min=1, max=100, help="Depth of recall@k.")] = 10,
    split: Annotated[
        str | None, typer.Option(help="Split to ask (default: test; 'all' for every question).", show_default=False)
    ] = None,
    stages: Annotated[bool, typer.Option("--stages/--no-stages", help="Measure what each stage adds.")] = True,
    against: Annotated[
        Path | None, typer.Option(help="Folder of an earlier evaluation to compare with.", show_default=False)
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="Folder of the report (default: evaluations/ID).", show_default=False)
    ] = None,
    expert: ExpertOption = None,
    json_: JsonOption = False,
) -> None:
    """Measure whether the documents and pages that questions name are found, and what each stage of retrieval adds."""
    import doyen
    from doyen.errors import UsageError
    from doyen.evaluation.comparison import read_test_questions
    from doyen.examples.building import held_out_questions

    folder = expert_folder(expert)
    if questions is None and split is None:
        asked = held_out_questions(folder)
    else:
        asked = read_test_questions(questions or folder / "examples" / "questions.jsonl", split)
    if not asked:
        raise UsageError(f"no question is of the split '{split}'", hint="--split all asks every question")
    with Bar("questions") as bar:
        report = doyen.evaluate_retrieval(folder, asked, k=k, out=out, stages=stages, against=against, progress=bar)
    for warning in report["warnings"]:
        note(f"warning: {warning}")
    note(f"wrote {report['folder']}/report.json")
    show({name: value for name, value in report.items() if name != "rows"}, "\n".join(summary_lines(report)), json_)


def summary_lines(report: Mapping[str, Any]) -> Iterator[str]:
    """Yield the evaluation as tables for the terminal, 95% intervals in brackets."""
    shown = ("hit@1", f"hit@{report['k']}", f"recall@{report['k']}", "mrr", "ndcg@10")
    counts = report["questions"]
    yield f"{counts['with_gold']} questions with gold, {counts['without_gold']} without (left out)"
    levels = {"document": report["levels"]["document"]}
    if "page" in report["levels"]:
        levels |= {"page": report["levels"]["page"]}
    yield from _table("level", levels, shown)
    for title, groups in (("language", report["by_language"]), ("kind", report["by_kind"])):
        if len(groups) > 1:
            yield from _table(title, groups, shown)
    if report["stages"]:
        yield from _table("stage", {row["name"]: row["metrics"] for row in report["stages"]}, shown)
        yield ""
        yield f"{'paired difference':<40}" + "".join(f"{name:>26}" for name in shown)
        for row in report["stages"]:
            if row["against"] is not None:
                yield _difference(f"{row['name']} − {row['against']}", row["differences"], shown)
        yield from _shown(report["shown"])
    if "against" in report:
        yield ""
        yield f"{'against the earlier evaluation':<40}" + "".join(f"{name:>26}" for name in shown)
        earlier = report["against"]
        yield _difference(f"{earlier['id']}, {earlier['questions']} questions", earlier["differences"], shown)


def _shown(shown: Mapping[str, Any]) -> Iterator[str]:
    """Yield what the passages that a model is shown hold."""
    names = list(shown["single"])
    yield ""
    yield f"{shown['passages']} passages shown".ljust(26) + "".join(f"{name:>26}" for name in names)
    for name in ("single", "joined"):
        yield f"{name:<26}" + "".join(f"{_value(shown[name], metric):>26}" for metric in names)
    yield _difference("joined − single", shown["differences"], tuple(names), width=26)


def _table(title: str, rows: Mapping[str, Any], shown: tuple[str, ...]) -> Iterator[str]:
    yield ""
    yield f"{title:<20}{'n':>6}" + "".join(f"{name:>22}" for name in shown)
    for name, figures in rows.items():
        cells = (f"{_value(figures, metric):>22}" for metric in shown)
        yield f"{name:<20}{figures['mrr']['n']:>6}" + "".join(cells)


def _value(figures: Mapping[str, Any], metric: str) -> str:
    figure = figures[metric]
    return f"{figure['value']:.3f} [{figure['low']:.3f}, {figure['high']:.3f}]"


def _difference(name: str, differences: Mapping[str, Any], shown: tuple[str, ...], width: int = 40) -> str:
    cells = []
    for metric in shown:
        d = differences.get(metric)
        cells.append(f"{d['value']:+.3f} [{d['low']:+.3f}, {d['high']:+.3f}]" if d else "-")
    return f"{name:<{width}}" + "".join(f"{cell:>26}" for cell in cells)
