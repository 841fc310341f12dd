"""`doyen ask`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from doyen.cli.output import Bar, ExpertOption, FilterOption, JsonOption, expert_folder, note, show
from doyen.errors import UsageError


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(ask)


def ask(
    question: Annotated[str | None, typer.Argument(metavar="QUESTION", show_default=False)] = None,
    arm: Annotated[
        str | None,
        typer.Option(help="base, rag, finetuned or rag+finetuned (default: [answer] arm).", show_default=False),
    ] = None,
    adapter: Annotated[
        str | None, typer.Option(help="Adapter of the fine-tuned arms (default: the newest).", show_default=False)
    ] = None,
    questions: Annotated[Path | None, typer.Option(help="Answer every question of a file.", show_default=False)] = None,
    out: Annotated[Path | None, typer.Option(help="The answers file to write.", show_default=False)] = None,
    filter_: FilterOption = None,
    expert: ExpertOption = None,
    json_: JsonOption = False,
) -> None:
    """Answer a question, with citations."""
    import doyen

    if (question is None) == (questions is None) or (questions is None) != (out is None):
        raise UsageError("ask takes a QUESTION, or --questions FILE with --out FILE")
    one = doyen.Expert.open(expert_folder(expert), arm=arm, adapter=adapter, filters=filter_ or ())
    if questions is not None and out is not None:
        from doyen.answering import answer_file
        from doyen.examples.importing import read_questions

        with Bar("questions") as bar:
            answers = answer_file(one, read_questions(questions), out, bar)
        note(f"wrote {out}")
        refused = sum(not a.answered for a in answers)
        row = {"questions": len(answers), "refused": refused, "arm": one.arm, "out": str(out)}
        show(row, f"{len(answers)} questions, {refused} without an answer", json_)
        return
    answer = one.ask(question or "")
    lines = [answer.text]
    for n, c in enumerate(answer.citations, 1):
        page = f", page {c.page}" if c.page else ""
        found = " (found by doyen, not named by the model)" if c.attributed else ""
        lines.append(f"[{n}] {c.document}{page}{found}: “{' '.join(c.quote.split())}”")
    if answer.answered and answer.hits and not answer.citations:
        lines.append("(no passage found that supports this)")
    if answer.passages_left_out:
        lines.append(f"({answer.passages_left_out} passages left out: they do not fit into the model's context)")
    show(answer.as_dict(), "\n".join(lines), json_)
