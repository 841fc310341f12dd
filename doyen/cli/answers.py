"""`doyen ask`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from doyen.cli.output import Bar, ExpertOption, FilterOption, JsonOption, OnOption, expert_folder, note, show
from doyen.errors import UsageError

if TYPE_CHECKING:
    from doyen.expert import Expert
    from doyen.models.constraints import Form
    from doyen.records import Answer, Question


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
    json_schema: Annotated[
        Path | None, typer.Option(help="Answer with JSON that is valid by the schema in this file.", show_default=False)
    ] = None,
    regex: Annotated[
        str | None, typer.Option(help="Answer with a text that matches this expression.", show_default=False)
    ] = None,
    choices: Annotated[
        str | None, typer.Option(help='Answer with one of these: "yes,no,maybe".', show_default=False)
    ] = None,
    cache: Annotated[bool, typer.Option(help="Take and keep answers in the expert's cache.")] = True,
    filter_: FilterOption = None,
    on: OnOption = "",
    expert: ExpertOption = None,
    json_: JsonOption = False,
) -> None:
    """Answer a question, with citations."""
    import doyen
    from doyen.cluster.answering import engine_on
    from doyen.config import load_settings

    if (question is None) == (questions is None) or (questions is None) != (out is None):
        raise UsageError("ask takes a QUESTION, or --questions FILE with --out FILE")
    constraint = _constraint(json_schema, regex, choices)
    folder = expert_folder(expert)
    with engine_on(on, load_settings(folder)) as engine:
        options: dict[str, Any] = {"arm": arm, "adapter": adapter, "filters": filter_ or (), "cache": cache}
        one = doyen.Expert.open(folder, engine=engine, **options)
        _answer(one, _asked(question, questions), out, constraint, json_)


def _answer(one: Expert, asked: list[Question], out: Path | None, constraint: Form | None, json_: bool) -> None:
    """Answer the questions of a file into `out`, or the only one onto the screen."""
    from doyen.answer_costs import told_before

    if told := told_before(one.engine, one.settings, [q.question for q in asked], [one.arm]):
        note(told)
    if out is not None:
        from doyen.answering import answer_file

        with Bar("questions") as bar:
            answers = answer_file(one, asked, out, bar, constraint=constraint)
        note(f"wrote {out}")
        refused = sum(not a.answered for a in answers)
        row = {"questions": len(answers), "refused": refused, "arm": one.arm, "out": str(out), **_cost(one, answers)}
        _remark(one)
        show(row, f"{len(answers)} questions, {refused} without an answer", json_)
        return
    answer = one.ask(asked[0].question, constraint=constraint)
    _remark(one)
    show(answer.as_dict() | _cost(one, [answer]), "\n".join(_lines(answer)), json_)


def _constraint(json_schema: Path | None, regex: str | None, choices: str | None) -> Form | None:
    """Return what the answer has to be. Raises UsageError for more than one of them, or a file that is no schema."""
    from doyen.models.constraints import Choices, JsonSchema, Regex, require_possible

    if sum(option is not None for option in (json_schema, regex, choices)) > 1:
        raise UsageError("an answer keeps to one of --json-schema, --regex and --choices")
    found: Form | None = None
    if json_schema is not None:
        try:
            found = JsonSchema(json.loads(json_schema.read_text(encoding="utf-8")))
        except (OSError, ValueError) as error:
            raise UsageError(f"{json_schema} holds no JSON schema: {error}", hint='{"type": "object", …}') from error
    elif regex is not None:
        found = Regex(regex)
    elif choices is not None:
        found = Choices(tuple(option.strip() for option in choices.split(",")) if choices.strip() else ())
    require_possible(found)
    return found


def _lines(answer: Answer) -> list[str]:
    """Return the answer as it is shown: its text, the probabilities of a choice, its citations, remarks."""
    lines = [answer.text]
    lines += [f"  {option}: {probability:.3f}" for option, probability in answer.choice_probabilities.items()]
    if answer.shortened:
        lines.append("(cut short: [model] max_answer_tokens left no room)")
    for n, c in enumerate(answer.citations, 1):
        page = f", page {c.page}" if c.page else ""
        found = " (found by doyen, not named by the model)" if c.attributed else ""
        lines.append(f"[{n}] {c.document}{page}{found}: “{' '.join(c.quote.split())}”")
    if answer.citations and answer.citations[0].sql:
        first = answer.citations[0]
        lines.append(f"calculated over {first.row_count:,} rows: {first.sql}")
    if answer.answered and answer.hits and not answer.citations:
        lines.append("(no passage found that supports this)")
    if answer.passages_left_out:
        lines.append(f"({answer.passages_left_out} passages left out: they do not fit into the model's context)")
    return lines


def _asked(question: str | None, path: Path | None) -> list[Question]:
    from doyen.examples.importing import read_questions
    from doyen.records import Question

    return [Question(id="", question=question or "")] if path is None else read_questions(path)


def _cost(expert: Expert, answers: list[Answer]) -> dict[str, float]:
    """Return what answers over a server cost, where that is known."""
    from doyen.answer_costs import answers_dollars

    cost = answers_dollars(expert.settings.model, answers) if expert.engine.kind == "server" else None
    return {} if cost is None else {"cost_usd": round(cost, 6)}


def _remark(expert: Expert) -> None:
    for remark in getattr(expert.engine, "remarks", ()):
        note(f"remark: {remark}")
