"""`doyen examples …`: questions in, the training mix out, and a look at it."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Annotated, Any

import typer

from doyen.cli.output import Bar, ExpertOption, JsonOption, expert_folder, note, show
from doyen.config import load_settings
from doyen.errors import Interrupted


def register(app: typer.Typer) -> None:
    """Add the commands."""
    examples = typer.Typer(
        help="Training examples: from the documents or from questions and chats; build the mix, look at it.",
        no_args_is_help=True,
    )
    examples.command("import")(import_)
    examples.command()(build)
    examples.command()(report)
    app.add_typer(examples, name="examples")


def import_(
    file: Annotated[Path, typer.Argument(metavar="FILE")], expert: ExpertOption = None, json_: JsonOption = False
) -> None:
    """Take in a questions file, or chats (messages, ShareGPT, Alpaca, prompt and completion), after checking every line."""
    import doyen

    made = doyen.import_file(expert_folder(expert), file)
    for warning in made.warnings:
        note(f"warning: {warning}")
    if made.own:
        text = f"{made.own} chats"
    else:
        split = " (split by document, 70/30: the file had none)" if made.split_made else ""
        text = f"{made.questions} questions, {made.test_questions} of them held out for comparing{split}"
    show(dataclasses.asdict(made), f"{text}\nnext: doyen examples build", json_)


def build(
    from_documents: Annotated[
        bool,
        typer.Option(
            "--from-documents", help="Make questions from the documents too (the default without imported ones)."
        ),
    ] = False,
    questions: Annotated[
        int | None, typer.Option(help="Most questions made from documents.", show_default=False)
    ] = None,
    generator: Annotated[
        str | None, typer.Option(help="Who makes them: rules, model or teacher.", show_default=False)
    ] = None,
    check: Annotated[
        bool, typer.Option("--check", help="Leave out what the language model answers without any document.")
    ] = False,
    expert: ExpertOption = None,
    json_: JsonOption = False,
) -> None:
    """Make the training mix, with passages from the expert's own retriever: from imported questions, or the documents."""
    import doyen
    from doyen.expert import open_engine, open_retriever

    folder = expert_folder(expert)
    settings = load_settings(folder)
    needed = check or (generator or settings.examples.generator) == "model"
    try:
        with Bar("passages") as bar:
            made = doyen.build_examples(
                folder,
                open_retriever(folder, settings),
                from_documents=from_documents or generator is not None or questions is not None,
                engine=open_engine(settings) if needed else None,
                generator=generator,
                questions=questions,
                check=check,
                say=note,
                progress=bar,
            )
    except KeyboardInterrupt:
        raise Interrupted(
            "stopped: nothing was built, and the review file is as it was", hint="doyen examples build"
        ) from None
    for warning in made.warnings:
        note(f"warning: {warning}")
    show(dataclasses.asdict(made), "\n".join(_built(made)), json_)


def _built(made: Any) -> list[str]:
    lines = []
    if made.review:
        kept = f"; {made.edited} edited by hand, {made.not_kept} not kept" if made.edited or made.not_kept else ""
        lines.append(
            f"{made.generated} questions on {made.generated_facts} facts of the documents ({_counts(made.made_by)}){kept}"
        )
        lines += [f"not asked: {n} {why}" for why, n in made.not_generated.items() if n]
    lines.append(
        f"{made.train} training examples ({_counts(made.variants)}), {made.validation} for validation, from {made.documents} documents"
    )
    lines += [f"left out: {n} {why}" for why, n in made.left_out.items()]
    if made.review:
        lines.append(f"look through {made.review}, then build again; next: doyen examples report, doyen finetune")
    return lines


def report(expert: ExpertOption = None, json_: JsonOption = False) -> None:
    """Show what the training examples are, and whether they are enough to expect a gain."""
    from doyen.examples.reporting import examples_report

    row = examples_report(expert_folder(expert))
    lines = [f"{row['train']} training examples: {_counts(row['variants'])}", f"kinds: {_counts(row['kinds'])}"]
    if row["made_by"]:
        lines.append(
            f"questions from documents: {row['generated']} on {row['generated_facts']} facts ({_counts(row['made_by'])})"
        )
    lines += [f"{name}: median {n['median']}, longest {n['longest']} words" for name, n in row["words"].items()]
    lines.append(f"documents: {row['documents']} of {row['documents_in_index']} have an example")
    lines += [f"left out: {n} {why}" for why, n in {**row["not_generated"], **row["left_out"]}.items() if n]
    lines += [f"flag: {flag}" for flag in row["flags"]]
    lines += ["", row["expectation"]]
    for sample in row["samples"]:
        lines += [
            "",
            f"--- {sample['variant']} ({sample['kind']})",
            *[f"{m['role']}: {m['content']}" for m in sample["messages"]],
        ]
    show(row, "\n".join(lines), json_)


def _counts(counts: dict[str, int]) -> str:
    return ", ".join(f"{n} {name}" for name, n in counts.items())
