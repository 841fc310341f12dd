"""`doyen feedback`: the review queue from the command line."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from doyen.cli.output import ExpertOption, JsonOption, expert_folder, show
from doyen.errors import UsageError
from doyen.feedback import STATES


def register(app: typer.Typer) -> None:
    """Add the commands."""
    group = typer.Typer(no_args_is_help=True, help="What users said of answers: list it, review it, hand it on.")
    group.command("list")(list_)
    group.command("review")(review)
    group.command("export")(export)
    app.add_typer(group, name="feedback")


def list_(
    state: Annotated[str, typer.Option(help="new, accepted, edited, rejected or all.")] = "new",
    expert: ExpertOption = None,
    json_: JsonOption = False,
) -> None:
    """List feedback with its evidence, the oldest first."""
    from doyen.feedback import FeedbackBook

    if state not in (*STATES, "all"):
        raise UsageError(f"unknown state '{state}'", hint=f"one of {', '.join(STATES)}, all")
    rows = FeedbackBook(expert_folder(expert)).rows(STATES if state == "all" else (state,))
    lines = []
    for row in rows:
        lines += [
            f"{row.id}  {row.state}  thumb {row.thumb}  {_line(row.question)}",
            f"  answer: {_line(row.answer, 200)}",
        ]
        lines += [f"  better: {_line(row.correction)}"] if row.correction else []
        lines += [f"  in {p.document} {p.start}-{p.end}: {_line(p.quote, 120)}" for p in row.passages]
        lines += [] if row.is_supported else ["  its answer is not word for word in the passages"]
    show([row.as_dict() for row in rows], "\n".join(lines) or "nothing", json_)


def _line(text: str, most: int | None = None) -> str:
    """Show a user's text on one line: its line ends would look like rows of the list."""
    return " ".join(text.split())[:most]


def review(
    feedback: Annotated[str, typer.Argument(help="Its id.")],
    verdict: Annotated[str, typer.Argument(help="accept, edit or reject.")],
    question: Annotated[str, typer.Option(help="edit: the question as it should be.", show_default=False)] = "",
    answer: Annotated[str, typer.Option(help="edit: the right answer.", show_default=False)] = "",
    expert: ExpertOption = None,
    json_: JsonOption = False,
) -> None:
    """Accept, edit or reject feedback."""
    from doyen.feedback import FeedbackBook

    book = FeedbackBook(expert_folder(expert))
    row = book.review(feedback, verdict, "local", question=question, answer=answer)
    show(row.as_dict(), f"{row.id} {row.state}" + (f", to {row.use} on" if verdict != "reject" else ""), json_)


def export(
    out: Annotated[Path, typer.Option(help="The file to write: one example a line.")],
    compare: Annotated[
        bool, typer.Option("--compare", help="The questions to compare on, instead of the examples to train on.")
    ] = False,
    expert: ExpertOption = None,
    json_: JsonOption = False,
) -> None:
    """Write reviewed feedback as an examples file, or a questions file."""
    from doyen.examples.feedback import feedback_examples, feedback_questions
    from doyen.examples.importing import question_row, write_rows

    folder = expert_folder(expert)
    if compare:
        rows = [question_row(q) for q in feedback_questions(folder, "compare")]
    else:
        rows = [example.as_dict() for example in feedback_examples(folder)]
    write_rows(out, rows)
    show({"rows": len(rows), "out": str(out)}, f"{len(rows)} rows in {out}", json_)
