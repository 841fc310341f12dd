"""`doyen examples …`: questions in, the training mix out, and a look at it."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Annotated, Any

import typer

from doyen.cli.output import Bar, ExpertOption, JsonOption, expert_folder, note, show
from doyen.config import load_settings
from doyen.errors import Interrupted, UsageError


def register(app: typer.Typer) -> None:
    """Add the commands."""
    examples = typer.Typer(
        help="Training examples: from the documents or from questions and chats; build the mix, look at it.",
        no_args_is_help=True,
    )
    examples.command("import")(import_)
    examples.command()(build)
    examples.command()(report)
    examples.command()(questions)
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
    labelled: Annotated[
        Path | None,
        typer.Argument(
            metavar="LABELLED", help="With --workflow: a table with columns expected.STEP.", show_default=False
        ),
    ] = None,
    workflow: Annotated[
        str,
        typer.Option(
            "--workflow",
            help="Make the examples of a workflow's model steps, from a labelled table.",
            show_default=False,
        ),
    ] = "",
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
    if bool(workflow) != (labelled is not None):
        raise UsageError(
            "a workflow's examples are made of a labelled table",
            hint="doyen examples build --workflow FLOW.toml LABELLED.csv",
        )
    if labelled is not None:
        _build_of_workflow(folder, workflow, labelled, json_)
        return
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


def _build_of_workflow(folder: Path, workflow: str, labelled: Path, json_: bool) -> None:
    from doyen.workflows.examples import build_workflow_examples
    from doyen.workflows.places import find_workflow

    made = build_workflow_examples(folder, find_workflow(folder, workflow), labelled)
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


def questions(
    count: Annotated[int, typer.Option(min=1, help="Most questions to make.")] = 60,
    generator: Annotated[
        str | None, typer.Option(help="Who makes them: rules, model or teacher.", show_default=False)
    ] = None,
    hold_out: Annotated[
        float | None,
        typer.Option(
            min=0.01,
            max=0.9,
            help="Share of the documents to keep out of training for them (default: what nothing was trained on, else 0.25).",
            show_default=False,
        ),
    ] = None,
    seen: Annotated[
        bool, typer.Option("--seen", help="Ask about documents that were trained on too; the report says so.")
    ] = False,
    neighbours: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="Another expert, whose documents give the questions without an answer (default: doyen's own texts).",
            show_default=False,
        ),
    ] = None,
    seed: Annotated[
        int | None, typer.Option(help="Seed of what is chosen (default: [examples] seed).", show_default=False)
    ] = None,
    reviewed: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE.csv",
            help="Make none: take in the marks of a table that a person looked through.",
            show_default=False,
        ),
    ] = None,
    expert: ExpertOption = None,
    json_: JsonOption = False,
) -> None:
    """Make questions to compare on from documents that training does not see; a page and a table to look through them."""
    import doyen
    from doyen.expert import open_retriever

    folder = expert_folder(expert)
    settings = load_settings(folder)
    retriever = open_retriever(folder, settings)
    if reviewed:
        if generator or hold_out or seen or neighbours or seed is not None:
            raise UsageError("--reviewed makes no questions", hint="it goes with --expert and --json only")
        made = doyen.review_questions(folder, retriever, reviewed)
    else:
        made = make(
            folder,
            retriever,
            count,
            generator=generator,
            hold_out=hold_out,
            seen=seen,
            neighbours=neighbours,
            seed=seed,
        )
    for warning in made.warnings:
        note(f"warning: {warning}")
    show(made.as_dict(), "\n".join(_made_lines(made.as_dict(), folder)), json_)


def make(folder: Path, retriever: Any, count: int, *, generator: str | None = None, **options: Any) -> Any:
    """Make questions to compare on, with a bar; see `doyen.make_questions`."""
    import doyen
    from doyen.expert import open_engine

    settings = load_settings(folder)
    engine = open_engine(settings) if (generator or settings.examples.generator) == "model" else None
    with Bar("passages") as bar:
        return doyen.make_questions(
            folder, retriever, count, generator=generator, engine=engine, say=note, progress=bar, **options
        )


def _made_lines(row: dict[str, Any], expert: Path) -> list[str]:
    answerable = f"{row['answerable']} answerable ({_counts(row['kinds'])})"
    lines = [f"{row['questions']} questions to compare on, {answerable}, from {len(row['documents'])} documents"]
    if not row["fresh"]:
        lines[0] += ", as made before"
    lines.append(f"made by: {_counts(row['writers'])} ({_counts(row['rules'])})")
    if row["marks"]:
        lines.append(f"looked through: {_counts(row['marks'])}")
    lines += [f"not asked: {n} {why}" for why, n in row["left_out"].items()]
    if not row["seen"]:
        lines.append("these documents stay out of doyen examples build from now on")
    return [
        *lines,
        f"look through {expert / 'examples' / 'questions_review.html'} (or the .csv beside it), then "
        "doyen examples questions --reviewed FILE.csv; next: doyen compare",
    ]


def _counts(counts: dict[str, int]) -> str:
    return ", ".join(f"{n} {name}" for name, n in counts.items())
