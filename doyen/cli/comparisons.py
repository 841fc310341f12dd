"""`doyen compare`, `doyen advise`."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Annotated, Any

import typer

from doyen.cli.output import Bar, ExpertOption, JsonOption, OnOption, expert_folder, note, show
from doyen.errors import ThresholdError, UsageError
from doyen.records import ARMS, EXTRA_ARMS

SAMPLE_SEED = 7


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command()(compare)
    app.command()(advise)


# Long by its options, each with its help; what it does are the lines after them.
def compare(
    questions: Annotated[
        Path | None, typer.Option(help="A questions file (default: the imported ones, test split).", show_default=False)
    ] = None,
    arms: Annotated[
        str, typer.Option(help=f"Arms, separated by commas; beside the four: {', '.join(EXTRA_ARMS)}.")
    ] = ",".join(ARMS),
    adapter: Annotated[
        str,
        typer.Option(
            help="Adapter of the fine-tuned arms (default: the newest); several, separated by commas: the mean of these "
            "trainings, with their spread.",
            show_default=False,
        ),
    ] = "",
    domain_text: Annotated[
        bool,
        typer.Option(
            "--domain-text", help="Measure documents that were not trained on, in bits per byte (takes a while)."
        ),
    ] = False,
    limit: Annotated[
        int | None, typer.Option(min=1, help="Ask a seeded sample of N questions.", show_default=False)
    ] = None,
    split: Annotated[
        str | None, typer.Option(help="Split to ask (default: test; 'all' for every question).", show_default=False)
    ] = None,
    diff: Annotated[
        tuple[str, str] | None,
        typer.Option(
            help="Ask nothing: say what changed from comparison A to B (ids, folders or report.json files).",
            metavar="A B",
            show_default=False,
        ),
    ] = None,
    fail_under: Annotated[
        list[str] | None,
        typer.Option(
            metavar="[ARM=]SCORE",
            help="Exit with 1 if the overall score (0 to 1) of the recommended or the named arm is lower; with --diff, if B "
            "is surely less than this above A (0: surely worse). Repeatable.",
            show_default=False,
        ),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="Folder of the report (default: comparisons/ID).", show_default=False)
    ] = None,
    generate: Annotated[
        int | None,
        typer.Option(
            min=1,
            metavar="N",
            help="Ask N questions made from documents that training does not see too (doyen examples questions).",
            show_default=False,
        ),
    ] = None,
    curve: Annotated[
        bool,
        typer.Option("--curve", help="Train on parts of the examples too: is it worth collecting more of them?"),
    ] = False,
    curve_shares: Annotated[
        str | None,
        typer.Option(metavar="SHARES", help="The parts (default: 0.25,0.5,1). Means --curve.", show_default=False),
    ] = None,
    plan_questions: Annotated[
        float | None,
        typer.Option(help="Ask nothing; say how many questions show a difference of so much (0.05: 5 points)."),
    ] = None,
    on: OnOption = "",
    expert: ExpertOption = None,
    json_: JsonOption = False,
) -> None:
    """Ask the arms the same held-out questions and write report.html, report.json and report.md."""
    from doyen.evaluation.thresholds import parse_bounds, shortfalls

    chosen = [a.strip() for a in arms.split(",") if a.strip()]
    if diff:
        asking = (questions, adapter, limit, split, out, domain_text, generate, curve, curve_shares, plan_questions)
        if any(asking):
            raise UsageError(
                "--diff asks no questions", hint="it goes with --arms, --fail-under, --expert and --json only"
            )
        chosen = [*ARMS, *EXTRA_ARMS] if chosen == list(ARMS) else chosen
        return _show_difference(*diff, chosen, fail_under or [], expert, json_)
    if plan_questions is not None:
        return _show_plan(expert_folder(expert), plan_questions, json_)
    shares = _shares(curve_shares) if curve or curve_shares else ()
    bounds = parse_bounds(fail_under or [], chosen)  # a fault in them is told before the arms are asked
    import doyen
    from doyen.cluster.answering import engine_on
    from doyen.config import load_settings

    folder = expert_folder(expert)
    asked = _questions(folder, questions, split, generate)
    if limit and limit < len(asked):
        asked = random.Random(SAMPLE_SEED).sample(asked, limit)
    with engine_on(on, load_settings(folder)) as engine, Bar("questions") as bar:
        report = doyen.compare(
            folder,
            asked,
            engine=engine,
            arms=chosen,
            adapter=adapter,
            out=out,
            curve=shares,
            domain_text=domain_text,
            progress=bar,
            say=note,
        )
    for remark in report["manifest"].get("remarks", ()):
        note(f"remark: {remark}")
    note(f"wrote {report['folder']}/report.html")
    show({k: v for k, v in report.items() if k != "rows"}, "\n".join(summary_lines(report)), json_)
    _fail(shortfalls(report, bounds))


def _shares(given: str | None) -> tuple[float, ...]:
    from doyen.evaluation.learning_curve import SHARES

    try:
        return tuple(float(share) for share in given.split(",")) if given else SHARES
    except ValueError:
        raise UsageError(f"'{given}' are no shares of the examples", hint="--curve-shares 0.25,0.5,1") from None


def _questions(folder: Path, given: Path | None, split: str | None, generate: int | None) -> list[Any]:
    """Return the questions to ask: a file's, else the imported ones of the test split; with those generated, if wanted."""
    from doyen.evaluation.comparison import read_test_questions
    from doyen.examples.building import held_out_questions, imported_test_questions

    if given is None and split is None:
        asked = held_out_questions(folder) if generate is None else imported_test_questions(folder)
    else:
        asked = read_test_questions(given or folder / "examples" / "questions.jsonl", split)
    return asked if generate is None else [*asked, *_generated(folder, generate, {q.id for q in asked})]


def _generated(folder: Path, count: int, known: set[str]) -> list[Any]:
    """Return questions made from the documents, without those asked already; say what to look through."""
    from doyen.cli.examples import make
    from doyen.config import load_settings
    from doyen.expert import open_retriever

    made = make(folder, open_retriever(folder, load_settings(folder)), count)
    for warning in made.warnings:
        note(f"warning: {warning}")
    note(f"{len(made.questions)} generated questions: look through {folder / 'examples' / 'questions_review.html'}")
    return [q for q in made.questions if q.id not in known]


def _show_plan(folder: Path, difference: float, json_: bool) -> None:
    from doyen.evaluation.comparison import latest_report
    from doyen.evaluation.pairs import plan_lines, plan_questions

    plan = plan_questions(difference, latest_report(folder))
    show(plan, "\n".join(plan_lines(plan)), json_)


def summary_lines(report: dict[str, Any]) -> list[str]:
    """Return the comparison as a table for the terminal: one line an arm, 95% intervals in brackets."""
    from doyen.evaluation.curve_text import curve_lines
    from doyen.evaluation.further_sections import further_lines
    from doyen.evaluation.question_origin import origin_lines

    shown = (
        "token_f1",
        "answer_score",
        "unanswerable_refused",
        "false_refusal_rate",
        "citation_precision",
        "seconds_mean",
    )
    lines = [f"{'arm':<14}" + "".join(f"{name:>26}" for name in shown)]
    for arm, figures in report["arms"].items():
        cells = []
        for name in shown:
            m = figures["metrics"].get(name)
            cells.append(f"{m['value']:.3f} [{m['low']:.3f}, {m['high']:.3f}]" if m else "-")
        lines.append(f"{arm:<14}" + "".join(f"{cell:>26}" for cell in cells))
    if costs := report["manifest"].get("cost_usd"):
        lines.append(
            f"cost: US$ {sum(costs.values()):.4f} ({', '.join(f'{arm} {usd:.4f}' for arm, usd in costs.items())})"
        )
    lines += further_lines(report)
    advice = report["advice"]
    lines += [*origin_lines(report), f"advice: {advice['arm']}", *[f"  - {reason}" for reason in advice["reasons"]]]
    return [*lines, *curve_lines(report)]


def _show_difference(a: str, b: str, arms: list[str], fail_under: list[str], expert: Path | None, json_: bool) -> None:
    import doyen
    from doyen.evaluation.difference_text import difference_lines
    from doyen.evaluation.thresholds import declines, parse_bounds

    whole = all((Path(run) / "report.json").is_file() or Path(run).is_file() for run in (a, b))
    folder = None if whole and expert is None else expert_folder(expert)  # two files need no expert
    difference = doyen.compare_runs(a, b, expert=folder, arms=arms)
    bounds = parse_bounds(fail_under, list(difference["arms"]), low=-1.0)
    show(difference, "\n".join(difference_lines(difference)), json_)
    _fail(declines(difference, bounds))


def _fail(faults: list[str]) -> None:
    if faults:
        raise ThresholdError("; ".join(faults), hint="--fail-under sets the bound; the report is written and says why")


def advise(
    changes: Annotated[
        str | None,
        typer.Option(help="How often documents change: hourly, daily, weekly, monthly or rarely.", show_default=False),
    ] = None,
    traceable: Annotated[bool, typer.Option("--traceable", help="Answers must cite their source.")] = False,
    max_seconds: Annotated[
        float | None, typer.Option(help="Most seconds an answer (95th percentile).", show_default=False)
    ] = None,
    max_memory: Annotated[float | None, typer.Option(help="Most GiB while serving.", show_default=False)] = None,
    offline: Annotated[bool, typer.Option("--offline", help="Nothing may be sent over a network.")] = False,
    budget: Annotated[float | None, typer.Option(help="Most US dollars for 1,000 answers.", show_default=False)] = None,
    form: Annotated[
        bool, typer.Option("--form", help="Answers keep a house form (for the advice without a comparison).")
    ] = False,
    expert: ExpertOption = None,
    json_: JsonOption = False,
) -> None:
    """Say which arm to use and which way to train, and why: from what was measured here, else from the rules."""
    import doyen
    from doyen.config import load_settings
    from doyen.evaluation.comparison import latest_report
    from doyen.evaluation.methods import advise_training
    from doyen.evaluation.rules import advise_without_comparison, facts_of

    demands = doyen.Constraints(
        changes=changes,
        traceable=traceable,
        seconds=max_seconds,
        memory_gib=max_memory,
        offline=offline,
        budget_usd=budget,
        form=form,
    )
    folder = expert_folder(expert)
    report = latest_report(folder)
    advice = doyen.advise(report, demands) if report else advise_without_comparison(facts_of(folder), demands)
    basis = f"measured: {report['folder']}" if report else "advice, not a measurement"
    lines = [f"{advice.arm or 'no arm'} ({basis})", *[f"  - {reason}" for reason in advice.reasons]]
    if advice.runner_up:
        lines.append(f"runner-up: {advice.runner_up}")
    if advice.arm and advice.arm != load_settings(folder).answer.arm:
        lines.append(f'to use it: arm = "{advice.arm}" under [answer] in doyen.toml; `ask` and `serve` go by that')
    training = advise_training(folder)
    basis = "measured" if training["measured"] else "advice, not a measurement"
    lines += [f"to train: {training['method'] or 'nothing fits'} ({basis})", *[f"  - {r}" for r in training["reasons"]]]
    show(advice.as_dict() | {"training": training}, "\n".join(lines), json_)
