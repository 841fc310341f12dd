"""Four arms × held-out questions → answers, kept as they come, → report.json, report.html, report.md.

Enters: an expert's folder and questions. Leaves: `comparisons/<id>/` with one answers file an arm. Answers of an
interrupted comparison with the same inputs are not asked for again.
"""

from __future__ import annotations

import dataclasses
import datetime
import hashlib
import importlib.metadata
import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from doyen.adapters import adapter_folder, list_adapters, question_hash, read_adapter
from doyen.answer_costs import answers_dollars, told_before
from doyen.answering import Progress, ask_into
from doyen.config import Settings, load_settings, write_atomic
from doyen.errors import UsageError
from doyen.evaluation.costs import MemoryNotes, cost_figures
from doyen.evaluation.markdown_report import write_markdown
from doyen.evaluation.methods import trained_methods
from doyen.evaluation.report import build_report, write_report
from doyen.evaluation.trained_on import trained_on
from doyen.examples.building import held_out_questions
from doyen.examples.importing import read_questions
from doyen.expert import Expert, open_engine, open_retriever, open_tuning
from doyen.models.engine import Engine
from doyen.models.server_engine import ServerEngine
from doyen.prompts import SYSTEM_CLOSED_BOOK, SYSTEM_PASSAGES, Shot
from doyen.records import ARMS, Answer, Arm, Question
from doyen.retrieval.hybrid import Retriever
from doyen.retrieval.neighbours import hits_for

HITS_DEPTH = 10


def compare(
    expert: Path | str,
    questions: Sequence[Question] | None = None,
    *,
    arms: Sequence[str] = ARMS,
    adapter: str = "",
    out: Path | None = None,
    shots: Sequence[Shot] = (),
    engine: Engine | None = None,
    seed: int = 7,
    progress: Progress | None = None,
    say: Callable[[str], None] | None = None,
) -> dict[str, Any]:
    """Ask every arm the same held-out questions and write `report.json`, `report.html` and `report.md` into `out`.

    `questions` default to the imported ones of the test split; `out` to `comparisons/<hash of the inputs>`.
    `shots` are worked examples put before the question in the rag arms. `say` is told where questions are sent, and what
    that costs, before they are.

    Returns:
        The report (schema: docs/reference/report.md), with its folder under "folder".

    Raises:
        UsageError: an arm is unknown or has no adapter or index; there are no questions, or trained-on ones.
    """
    folder = Path(expert)
    settings = load_settings(folder)
    asked = list(questions) if questions is not None else held_out_questions(folder)
    chosen = _check(asked, arms, folder, adapter)
    retriever = open_retriever(folder, settings)
    engine = engine or open_engine(settings)
    manifest = _manifest(folder, settings, chosen, adapter, asked, shots, retriever, engine, seed)
    shaping = manifest | {"settings": settings.shaping()}
    identity = hashlib.sha256(json.dumps(shaping, sort_keys=True).encode()).hexdigest()[:12]
    target = out or folder / "comparisons" / identity
    taken = _begin(target, {arm: _arm_identity(shaping, arm) for arm in chosen})
    if say and (told := told_before(engine, settings, [q.question for q in asked], chosen)):
        say(told)
    depth = max(HITS_DEPTH, hits_for(settings.answer.passages))
    hits = retriever.search_many([q.question for q in asked], depth)
    answers: dict[Arm, list[Answer]] = {}
    memory = MemoryNotes(target)
    for arm in chosen:
        tuning = open_tuning(folder, adapter) if "finetuned" in arm else None
        one = Expert(
            engine,
            retriever=retriever if "rag" in arm else None,
            tuning=tuning,
            settings=settings,
            shots=shots if "rag" in arm else (),
        )
        path = target / f"answers.{arm}.jsonl"
        held = path.stat().st_size if path.exists() else 0
        answers[arm] = ask_into(one, asked, hits, path, progress)
        if path.stat().st_size > held:  # this process wrote answers
            memory.note(arm, engine)
    manifest |= {"taken_over": taken} if taken else {}
    manifest |= _of_server(engine, settings, answers)
    manifest |= {"created": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"), "id": identity}
    methods = trained_methods(folder) if any("finetuned" in arm for arm in chosen) else ()
    tuned = any("finetuned" in arm for arm in chosen)
    report = build_report(
        questions=asked,
        answers=answers,
        hits=hits,
        manifest=manifest,
        seed=seed,
        methods=methods,
        trained=trained_on(folder, adapter, retriever.index.documents()) if tuned else None,
        cost=cost_figures(
            folder,
            settings,
            answers,
            adapter=adapter,
            memory_gib=memory.gib,
            paid_usd=manifest.get("cost_usd"),
        ),
    )
    write_report(report, target)
    write_markdown(report, target)
    return report | {"folder": str(target)}


def _check(questions: Sequence[Question], arms: Sequence[str], expert: Path, adapter: str) -> list[Arm]:
    unknown = [a for a in arms if a not in ARMS]
    if unknown or not arms:
        raise UsageError(f"unknown arm(s): {', '.join(unknown) or 'none given'}", hint=f"arms: {', '.join(ARMS)}")
    if not questions:
        raise UsageError(
            "there are no questions to compare on", hint='questions of the test split have "split": "test"'
        )
    if any("finetuned" in a for a in arms) and not list_adapters(expert):
        raise UsageError("the fine-tuned arms have no adapter", hint="doyen finetune, or --arms base,rag")
    if any("finetuned" in a for a in arms):
        _refuse_trained(questions, expert, adapter)
    return [arm for arm in ARMS if arm in arms]


def _refuse_trained(questions: Sequence[Question], expert: Path, adapter: str) -> None:
    """Refuse questions that the adapter was trained on: what they measure is memory."""
    trained = set(read_adapter(adapter_folder(expert, adapter)).examples.get("questions", ()))
    found = [q.id for q in questions if question_hash(q.question) in trained]
    if found:
        raise UsageError(
            f"{len(found)} of {len(questions)} questions were trained on ('{found[0]}')",
            hint="compare on held-out questions (--split test), or the arms that are not fine-tuned (--arms base,rag)",
        )


def _manifest(
    expert: Path,
    settings: Settings,
    arms: Sequence[Arm],
    adapter: str,
    questions: Sequence[Question],
    shots: Sequence[Shot],
    retriever: Retriever,
    engine: Engine,
    seed: int,
) -> dict[str, Any]:
    """Return everything that the answers depend on."""
    manifest: dict[str, Any] = {
        "doyen": importlib.metadata.version("doyen"),
        "arms": list(arms),
        "model": settings.model.name,
        "template_hash": engine.template_hash(),
        "engine": engine.kind,
        "settings": settings.as_dict(),
        "questions": _hash([_hashed(q) for q in questions]),
        "question_count": len(questions),
        "index": _hash(sorted((d.id, d.sha256) for d in retriever.index.documents())),
        "embedder": retriever.index.manifest.fingerprint,
        "prompts": _hash([SYSTEM_CLOSED_BOOK, SYSTEM_PASSAGES]),
        "shots": _hash([[s.question, s.answer] for s in shots]) if shots else None,
        "seed": seed,
    }
    if any("finetuned" in arm for arm in arms):
        made = read_adapter(adapter_folder(expert, adapter))
        names = (
            "name",
            "method",
            "created",
            "examples",
            "steps",
            "tokens",
            "seconds",
            "refusal_threshold",
            "calibration",
            "validation_loss",
        )
        manifest["adapter"] = {name: getattr(made, name) for name in names}
        if made.forgetting:
            manifest["adapter"]["forgetting"] = made.forgetting
    return manifest


def _of_server(engine: Engine, settings: Settings, answers: Mapping[Arm, Sequence[Answer]]) -> dict[str, Any]:
    """Return what a server's answers have besides: which server, what each arm cost, what could not be checked."""
    if not isinstance(engine, ServerEngine):
        return {}
    row: dict[str, Any] = {"server": f"{engine.server.kind} at {engine.endpoint.host}", "remarks": engine.remarks}
    costs = {arm: answers_dollars(settings.model, found) for arm, found in answers.items()}
    return row | {"cost_usd": {arm: round(cost, 6) for arm, cost in costs.items() if cost is not None}}


def _hash(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True, ensure_ascii=False, default=str).encode()).hexdigest()[:16]


def _hashed(question: Question) -> dict[str, Any]:
    """Return a question as it is hashed: former answers change no answer, only its score."""
    return {key: value for key, value in dataclasses.asdict(question).items() if key != "former_answers"}


_TRAINING_TABLES = ("finetune", "examples")
_OF_TUNED_ARMS = ("adapter",)
_OF_RAG_ARMS = ("index", "embedder", "shots")


def _arm_identity(manifest: dict[str, Any], arm: str) -> str:
    """Hash what one arm's answers depend on."""
    apart = {"arms", "seed"}
    apart |= set() if "finetuned" in arm else set(_OF_TUNED_ARMS)
    apart |= set() if "rag" in arm else set(_OF_RAG_ARMS)
    settings = {table: value for table, value in manifest["settings"].items() if table not in _TRAINING_TABLES}
    return _hash([arm, {k: v for k, v in manifest.items() if k not in apart} | {"settings": settings}])


def _begin(target: Path, identities: dict[Arm, str]) -> dict[Arm, str]:
    """Make the folder; answers with other inputs are cleared away.

    Answers of the same arm with the same inputs, which another comparison beside this one has, are taken over;
    returns arm → that comparison's name.
    """
    target.mkdir(parents=True, exist_ok=True)
    marker = target / "inputs"
    if not marker.exists() and any(target.glob("answers.*.jsonl")):
        raise UsageError(f"{target} holds answers that no comparison wrote", hint="--out another folder")
    before = _inputs(marker)
    taken: dict[Arm, str] = {}
    for arm, identity in identities.items():
        path = target / f"answers.{arm}.jsonl"
        if before.get(arm) != identity:
            path.unlink(missing_ok=True)
        others = (p.parent for p in sorted(target.parent.glob("*/inputs")) if _inputs(p).get(arm) == identity)
        other = next((o for o in others if o != target and (o / "report.json").exists()), None)
        if other and not path.exists():
            shutil.copyfile(other / path.name, path)
            taken[arm] = other.name
    write_atomic(marker, json.dumps(identities, indent=1))
    return taken


def _inputs(marker: Path) -> dict[str, str]:
    """Return what the answers of a comparison's arms were made from; nothing where that is unknown."""
    try:
        found = json.loads(marker.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


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
