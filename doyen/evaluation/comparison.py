"""Arms × held-out questions → answers, kept as they come, → report.json, report.html, report.md.

Enters: an expert's folder and questions. Leaves: `comparisons/<id>/` with one answers file an arm (and adapter, of several).
Answers of an interrupted comparison with the same inputs are not asked for again.
"""

from __future__ import annotations

import datetime
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from doyen.adapters import adapter_folder, list_adapters, question_hash, read_adapter
from doyen.answer_costs import told_before
from doyen.answering import Progress
from doyen.config import Settings, load_settings
from doyen.errors import UsageError
from doyen.evaluation.arm_runs import Asked, Asking, Run, runs_of_arms
from doyen.evaluation.comparison_inputs import (
    begin,
    comparison_identity,
    comparison_manifest,
    of_servers,
    run_identity,
    shaping,
)
from doyen.evaluation.costs import cost_figures
from doyen.evaluation.domain_bits import domain_bits
from doyen.evaluation.further import FurtherScores
from doyen.evaluation.hosted import open_hosted, told_of_judge, told_of_reference
from doyen.evaluation.judging import ANSWER_TOKENS, Judge, judged_figures, messages
from doyen.evaluation.latency import latency_by_arm
from doyen.evaluation.learning_curve import AskingPoints, curve_arms, kept_curve, measure_curve, plan_curve_of
from doyen.evaluation.markdown_report import write_markdown
from doyen.evaluation.memory_notes import memory_by_arm
from doyen.evaluation.methods import trained_methods
from doyen.evaluation.question_origin import question_origin
from doyen.evaluation.report import build_report, write_report
from doyen.evaluation.scoring import Score
from doyen.evaluation.trained_on import trained_on
from doyen.examples.building import held_out_questions
from doyen.examples.held_out.documents import adapter_documents
from doyen.examples.importing import read_questions
from doyen.expert import open_engine, open_retriever
from doyen.models.engine import Engine
from doyen.models.server_engine import ServerEngine
from doyen.prompts import Shot
from doyen.records import ARMS, EXTRA_ARMS, HOSTED, TUNED, Question
from doyen.retrieval.neighbours import hits_for

VERDICTS_FILE = "verdicts.jsonl"
HITS_DEPTH = 10


# Long by its parameters and what they mean; the body names the steps.
def compare(
    expert: Path | str,
    questions: Sequence[Question] | None = None,
    *,
    arms: Sequence[str] = ARMS,
    adapter: str | Sequence[str] = "",
    out: Path | None = None,
    shots: Sequence[Shot] = (),
    engine: Engine | None = None,
    reference: ServerEngine | None = None,
    judge: ServerEngine | None = None,
    domain_text: bool = False,
    seed: int = 7,
    curve: Sequence[float] = (),
    progress: Progress | None = None,
    say: Callable[[str], None] | None = None,
) -> dict[str, Any]:
    """Ask every arm the same held-out questions and write `report.json`, `report.html` and `report.md` into `out`.

    `questions` default to the imported ones of the test split; `out` to `comparisons/<hash of the inputs>`. With several
    adapters (a list, or names separated by commas) the fine-tuned arms are asked with each. `shots` are worked examples put
    before the question in the rag arms. `reference` and `judge` are engines instead of those that the settings name. With
    `domain_text`, documents that were not trained on are measured in bits per byte; with `curve` (shares of the examples, as
    0.25, 0.5), adapters are trained on these too, and the report says whether more examples are worth it. `say` is told where
    questions are sent, and what that costs, before they are.

    Returns:
        The report (schema: docs/reference/report.md), with its folder under "folder".

    Raises:
        UsageError: an arm is unknown or has no adapter or index; there are no questions, double ids, or trained-on ones.
        ConfigError: the settings name no reference, or a glossary that cannot be read; before anything is asked.
    """
    folder = Path(expert)
    settings = load_settings(folder)
    asked = list(questions) if questions is not None else held_out_questions(folder)
    adapters = adapter_names(adapter)
    chosen = _check(asked, arms, folder, adapters)
    compared = adapters if any(TUNED in arm for arm in chosen) else []
    runs = runs_of_arms(chosen, adapters)
    reference = _reference(settings, chosen, reference)
    judge = judge or (open_hosted(settings.judge, "judge", settings) if settings.judge.name else None)
    plan = plan_curve_of(folder, settings, chosen, adapters, curve, engine) if curve else None
    retriever = open_retriever(folder, settings)
    further = FurtherScores.open(folder, settings, retriever.index, retriever.embedder)
    engine = engine or open_engine(settings)
    manifest = comparison_manifest(folder, settings, chosen, adapters, asked, shots, retriever, engine, seed)
    shaped = shaping(manifest, settings)
    identity = comparison_identity(shaped)
    target = out or folder / "comparisons" / identity
    taken = begin(target, {run.key: run_identity(shaped, run, adapters) for run in runs})
    _tell(say, engine, reference, settings, [q.question for q in asked], [run.arm for run in runs])
    if plan and say:
        say(plan.told(len(asked), len(curve_arms(chosen))))
    hits = retriever.search_many([q.question for q in asked], max(HITS_DEPTH, hits_for(settings.answer.passages)))
    asking = Asking(folder, settings, engine, reference, retriever, asked, hits, shots, target, progress)
    found = asking.ask(runs)
    further.prepare([pair for own in found.pairs(asked).values() for pair in own])
    happened = _happened(found) | (_judged(asking, found, further, judge, say) if judge else {})
    if domain_text:
        happened["domain_text"] = domain_bits(folder, retriever.index, engine, compared, seed=seed)
    manifest |= {"taken_over": taken} if taken else {}
    manifest |= of_servers(engine, reference, settings, found.by_arm())
    manifest |= {"created": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"), "id": identity}
    report = _report(asking, found, compared, manifest, further, seed) | happened
    report["curve"] = kept_curve(target, identity)
    _write(report, target)
    if plan:
        identities = {arm: run_identity(shaped, Run(against), adapters) for arm, against in curve_arms(chosen).items()}
        points = AskingPoints(asking, target / "curve", identities, seed)
        report["curve"] = measure_curve(plan, points, report["rows"], progress, say or (lambda _: None))
        _write(report, target)
    return report | {"folder": str(target)}


def _report(
    asking: Asking,
    found: Asked,
    adapters: Sequence[str],
    manifest: dict[str, Any],
    score: FurtherScores,
    seed: int,
) -> dict[str, Any]:
    """Return the report of what was asked; `adapters` are those of the fine-tuned arms, none where there is no such arm."""
    folder, index, adapter = asking.expert, asking.retriever.index, adapters[0] if adapters else None
    return build_report(
        questions=asking.questions,
        answers={run.arm: own for run, own in found.answers.items()},
        hits=asking.hits,
        manifest=manifest,
        seed=seed,
        methods=() if adapter is None else trained_methods(folder),
        trainings=found.by_training(),
        score=score,
        trained=None if adapter is None else trained_on(folder, adapter, index.documents()),
        cost=cost_figures(
            folder,
            asking.settings,
            found.by_arm(),
            adapter=adapter or "",
            memory_gib=memory_by_arm(asking.target),
            latency=latency_by_arm(asking.target),
            paid_usd=manifest.get("cost_usd"),
        ),
        origin=question_origin(asking.questions, index, () if adapter is None else adapter_documents(folder, adapter)),
    )


def _write(report: dict[str, Any], target: Path) -> None:
    write_report(report, target)
    write_markdown(report, target)


def _reference(settings: Settings, arms: Sequence[str], given: ServerEngine | None) -> ServerEngine | None:
    """Return the engine of the reference arms, None where none is compared. Raises ConfigError where it is not set up."""
    if not any(HOSTED in arm for arm in arms):
        return None
    return given or open_hosted(settings.reference, "reference", settings)


def adapter_names(given: str | Sequence[str]) -> list[str]:
    """Return the adapters that are named, by commas or as a list; [""], the newest, where none is.

    Raises: UsageError where one is named twice.
    """
    names = [name.strip() for name in (given.split(",") if isinstance(given, str) else given)]
    names = [name for name in names if name] or [""]
    double = next((name for name in names if names.count(name) > 1), None)
    if double is not None:
        raise UsageError(f"adapter '{double}' is named twice", hint="name each training once")
    return names


def _tell(
    say: Callable[[str], None] | None,
    engine: Engine,
    reference: ServerEngine | None,
    settings: Settings,
    questions: Sequence[str],
    arms: Sequence[str],
) -> None:
    """Say where questions and passages go, and what that costs; `arms` has one entry a run."""
    if say is None:
        return
    own = [arm for arm in arms if HOSTED not in arm]
    told = [told_before(engine, settings, questions, own)]
    if reference is not None:
        told.append(told_of_reference(reference, settings, questions, [arm for arm in arms if HOSTED in arm]))
    for line in filter(None, told):
        say(line)


def _happened(found: Asked) -> dict[str, Any]:
    """Return what the report says of arms without figures, or that were not asked everything."""
    return {name: value for name in ("failed", "left_out") if (value := getattr(found, name))}


def _judged(
    asking: Asking,
    found: Asked,
    further: FurtherScores,
    judge: ServerEngine,
    say: Callable[[str], None] | None,
) -> dict[str, Any]:
    """Ask the judge, whose verdicts `further` takes up; return what the report says of it."""
    settings, pairs = asking.settings.judge, found.pairs(asking.questions)
    # its verdicts serve all comparisons of the expert
    store = asking.expert / "comparisons" / VERDICTS_FILE
    further.judge = judging = Judge(judge, store, max_tokens=settings.max_answer_tokens)
    everything = [pair for own in pairs.values() for pair in own]
    prompts = [messages(q, a.text) for q, a in judging.waiting(everything)]
    if say and (told := told_of_judge(judge, settings, prompts, settings.max_answer_tokens or ANSWER_TOKENS)):
        say(told)
    judging.judge(everything, asking.progress)
    scores: dict[str, list[Score]] = {}
    for run, own in pairs.items():
        scores.setdefault(run.arm, []).extend(further(q, a) for q, a in own)
    return {"judge": judged_figures(judging, scores)}


def _check(questions: Sequence[Question], arms: Sequence[str], expert: Path, adapters: Sequence[str]) -> list[str]:
    known = (*ARMS, *EXTRA_ARMS)
    unknown = [a for a in arms if a not in known]
    if unknown or not arms:
        raise UsageError(
            f"unknown arm(s): {', '.join(unknown) or 'none given'}",
            hint=f"arms: {', '.join(ARMS)}; beside them: {', '.join(EXTRA_ARMS)}",
        )
    if not any(arm in ARMS for arm in arms):
        raise UsageError(
            f"{', '.join(arms)}: measured beside an arm, not alone", hint=f"--arms base,rag,{','.join(arms)}"
        )
    if not questions:
        raise UsageError(
            "there are no questions to compare on", hint='questions of the test split have "split": "test"'
        )
    _refuse_doubles(questions)
    tuned = [arm for arm in arms if TUNED in arm]
    if tuned and not list_adapters(expert):
        others = [arm for arm in arms if TUNED not in arm] or ["base", "rag"]
        raise UsageError(
            f"the fine-tuned arms have no adapter ({', '.join(tuned)})",
            hint=f"doyen examples import FILE and doyen finetune make one; or --arms {','.join(others)}",
        )
    for name in adapters if tuned else ():
        _refuse_trained(questions, expert, name)
    if len(adapters) > 1 and not tuned:
        raise UsageError("several adapters, and no arm that uses them", hint="--arms base,rag,finetuned,rag+finetuned")
    return [arm for arm in known if arm in arms]


def _refuse_doubles(questions: Sequence[Question]) -> None:
    """Refuse two questions with one id: their answers could not be told apart."""
    seen: dict[str, int] = {}
    for number, question in enumerate(questions, 1):
        if seen.setdefault(question.id, number) != number:
            raise UsageError(
                f"questions {seen[question.id]} and {number} have the same id '{question.id}'",
                hint="give each question its own id",
            )


def _refuse_trained(questions: Sequence[Question], expert: Path, adapter: str) -> None:
    """Refuse questions that the adapter was trained on: what they measure is memory."""
    trained = set(read_adapter(adapter_folder(expert, adapter)).examples.get("questions", ()))
    found = [q.id for q in questions if question_hash(q.question) in trained]
    if found:
        raise UsageError(
            f"{len(found)} of {len(questions)} questions were trained on ('{found[0]}')",
            hint="compare on held-out questions (--split test), or the arms that are not fine-tuned (--arms base,rag)",
        )


def read_test_questions(path: Path, split: str | None = None) -> list[Question]:
    """Read a questions file for comparing: its test split where it marks one (or `split`), else all of it."""
    questions = read_questions(path)
    wanted = split or ("test" if any(q.split == "test" for q in questions) else None)
    return [q for q in questions if wanted in (None, "all", q.split)]


def latest_report(expert: Path) -> dict[str, Any] | None:
    """Return the newest comparison's report of an expert, or None."""
    found = sorted((expert / "comparisons").glob("*/report.json"), key=lambda p: p.stat().st_mtime_ns)
    if not found:
        return None
    report: dict[str, Any] = json.loads(found[-1].read_text(encoding="utf-8"))
    return report | {"folder": str(found[-1].parent)}
