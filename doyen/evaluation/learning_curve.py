"""`doyen compare --curve`: adapters trained on nested shares of the examples, asked the comparison's questions → its curve.

Enters: a compared adapter and the examples it was trained on. Leaves: `curves/adapters/` in the expert (apart from its own
adapters), answers beside those of the comparison, and the report's `curve`. What was trained or answered before is taken over.
"""

from __future__ import annotations

import dataclasses
import gc
import hashlib
import json
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from doyen.adapters import AdapterManifest, adapter_folder, interrupted_runs, read_adapter
from doyen.answering import Progress, ask_into
from doyen.config import FinetuneSettings, Settings
from doyen.errors import GateError, Interrupted, UsageError
from doyen.evaluation.arm_runs import Asking
from doyen.evaluation.curve_fit import curve_of
from doyen.evaluation.curve_text import curve_remarks, curve_sentence
from doyen.evaluation.scoring import score_answer
from doyen.examples.building import known_test_questions, load_examples
from doyen.expert import Expert, Tuning, open_engine
from doyen.finetuning.domain_text import read_domain
from doyen.finetuning.preparing import examples_hash
from doyen.finetuning.space import disk_full_said
from doyen.finetuning.training import finetune as train_adapter
from doyen.models.engine import Engine
from doyen.models.server_engine import ServerEngine
from doyen.records import Answer, Arm, Example

SHARES = (0.25, 0.5, 1.0)
FOLDER = "curves"
AGAINST: dict[Arm, Arm] = {"finetuned": "base", "rag+finetuned": "rag"}
SEED = 7
AGAIN = "the same doyen compare --curve goes on with it"
Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class CurvePoint:
    """A share of the examples; `name` is of its adapter, which has a `folder` where it is trained or will be."""

    share: float
    examples: Sequence[Example]
    name: str
    folder: Path

    @property
    def trained(self) -> bool:
        """Whether its adapter is there."""
        return (self.folder / "manifest.json").exists()


@dataclass(frozen=True, slots=True)
class CurvePlan:
    """What a curve takes: its points, the largest the compared adapter itself; `made` is that one's manifest."""

    expert: Path
    settings: Settings
    made: AdapterManifest
    validation: Sequence[Example]
    points: tuple[CurvePoint, ...]

    @property
    def open(self) -> list[CurvePoint]:
        """The points that are not trained yet."""
        return [point for point in self.points if not point.trained]

    def seconds(self) -> float:
        """Return about how long the trainings take, at the pace of the compared adapter."""
        whole = len(self.points[-1].examples)
        return sum(self.made.seconds * len(point.examples) / whole for point in self.open)

    def told(self, questions: int, arms: int) -> str:
        """Say what will be done and how long it takes."""
        new, whole = self.open, len(self.points[-1].examples)
        others = len(self.points) - 1
        asked = f"{questions} questions to {arms} arm{'s' * (arms > 1)} with {others} adapter{'s' * (others > 1)}"
        if not new:
            return f"learning curve: its adapters are trained; {asked} are asked"
        sizes = " and ".join(str(len(point.examples)) for point in new)
        pace = self.made.tokens / max(self.made.seconds, 0.1)
        return (
            f"learning curve: {len(new)} training{'s' * (len(new) > 1)} on {sizes} of {whole} examples, about "
            f"{_minutes(self.seconds())} at {pace:.0f} tokens/s (the pace of adapter {self.made.name}) and some for checks; "
            f"then {asked}"
        )


def _minutes(seconds: float) -> str:
    return f"{seconds / 60:.0f} minutes" if seconds >= 90 else f"{seconds:.0f} s"


# ------------------------------------------------------------------ the plan
def curve_arms(arms: Sequence[str]) -> dict[Arm, Arm]:
    """Return the arms that have a curve, each with the arm that its gain is over."""
    return {arm: against for arm, against in AGAINST.items() if arm in arms and against in arms}


def plan_curve_of(
    expert: Path,
    settings: Settings,
    arms: Sequence[str],
    adapters: Sequence[str],
    shares: Sequence[float],
    engine: Engine | None,
) -> CurvePlan:
    """Plan a comparison's curve; see `plan_curve`.

    Raises: UsageError where its arms are not asked, several adapters are, or the model runs on a server.
    """
    if not curve_arms(arms):
        raise UsageError(
            "a learning curve is of finetuned over base or of rag+finetuned over rag", hint="--arms rag,rag+finetuned"
        )
    if len(adapters) > 1:
        raise UsageError("a learning curve ends with one adapter", hint=f"--adapter {adapters[0]}")
    if isinstance(engine or open_engine(settings), ServerEngine):
        raise UsageError(
            "a learning curve trains adapters here, and the server does not have them",
            hint='[model] engine = "auto" answers here too',
        )
    return plan_curve(expert, settings, adapters[0], shares)


def kept_curve(target: Path, identity: str) -> dict[str, Any] | None:
    """Return the curve that an earlier run of the same comparison has measured, None without one."""
    try:
        before = json.loads((target / "report.json").read_text(encoding="utf-8"))
        found: dict[str, Any] | None = before.get("curve") if before["manifest"]["id"] == identity else None
    except (OSError, ValueError, LookupError, TypeError, AttributeError):
        return None
    return found


def plan_curve(expert: Path, settings: Settings, adapter: str, shares: Sequence[float]) -> CurvePlan:
    """Choose the nested subsets and their adapters. A question's examples stay together.

    Raises:
        UsageError: a share is not between 0 and 1, there is but one, or the adapter was trained on other examples.
        ExamplesError: there are no examples.
    """
    if any(not 0 < share <= 1 for share in shares):
        raise UsageError(f"shares lie between 0 and 1, got {', '.join(f'{s:g}' for s in shares)}", hint="0.25,0.5,1")
    wanted = sorted({*shares, 1.0})
    if len(wanted) < 2:
        raise UsageError("a curve needs a share beside all examples", hint="--curve-shares 0.25,0.5,1")
    folder = adapter_folder(expert, adapter)
    made = read_adapter(folder)
    train, validation = load_examples(expert)
    found = {"sha256": examples_hash(train), "validation_sha256": examples_hash(validation)}
    if any(made.examples.get(key, value) != value for key, value in found.items()):
        raise UsageError(
            f"adapter {made.name} was trained on other examples than examples/train.jsonl holds now: it cannot end a curve",
            hint="doyen finetune, then doyen compare --curve; or --adapter with one trained on the examples as they are",
        )
    points = []
    for share in wanted[:-1]:
        some = subset(train, share)
        name = f"{round(100 * share)}-percent-{_identity(made, some, validation)}"
        points.append(CurvePoint(share, some, name, expert / FOLDER / "adapters" / name))
    if len({len(point.examples) for point in points} | {0, len(train)}) != len(points) + 2:
        raise UsageError(
            f"{len(train)} examples cannot be cut into shares of {', '.join(f'{s:g}' for s in wanted)}",
            hint="larger steps between the shares, or more examples",
        )
    points.append(CurvePoint(1.0, train, made.name, folder))
    return CurvePlan(expert, settings, made, validation, tuple(points))


def subset(examples: Sequence[Example], share: float, seed: int = SEED) -> list[Example]:
    """Return a share of the examples, in their order: of a larger share, a part; all examples of a question or none."""
    keys = [example.question_id or f"\0{i}" for i, example in enumerate(examples)]
    order = list(dict.fromkeys(keys))
    random.Random(seed).shuffle(order)
    kept = set(order[: round(share * len(order))])
    return [example for key, example in zip(keys, examples, strict=True) if key in kept]


def _identity(made: AdapterManifest, examples: Sequence[Example], validation: Sequence[Example]) -> str:
    """Hash what decides an adapter's weights beside the machine: settings, examples, the base model."""
    apart = ("report_to", "shard")
    settings = {key: value for key, value in made.settings.items() if key not in apart}
    base = [made.model_fingerprint, made.weights_fingerprint, made.template_hash]
    whole = [settings, base, examples_hash(examples), examples_hash(validation)]
    return hashlib.sha256(json.dumps(whole, sort_keys=True).encode()).hexdigest()[:8]


# ------------------------------------------------------------------ training
def train_points(plan: CurvePlan, progress: Progress | None, say: Say) -> None:
    """Train what is not trained, the smallest first; an interrupted training goes on from its checkpoint.

    Raises:
        Interrupted: stopped by the user; what was done is kept.
        GateError, ModelError, DoyenError: see `doyen.finetuning.training.finetune`.
    """
    for point in plan.open:
        say(f"training on {len(point.examples)} of {len(plan.points[-1].examples)} examples ({point.share:.0%})")
        resume = point.name in interrupted_runs(plan.expert / FOLDER)
        try:
            try:
                _train(plan, point, progress, say, resume=resume)
            except GateError as error:
                if not resume:
                    raise
                say(f"the interrupted training cannot be gone on with ({error}): it begins anew")
                _train(plan, point, progress, say, resume=False)
        except Interrupted as stop:
            raise Interrupted(f"{stop} (learning curve, {point.share:.0%} of the examples)", hint=AGAIN) from None
        gc.collect()  # the trained model, before answers are written


def _train(plan: CurvePlan, point: CurvePoint, progress: Progress | None, say: Say, *, resume: bool) -> None:
    known = {f.name for f in fields(FinetuneSettings)}
    own = FinetuneSettings(**{key: value for key, value in plan.made.settings.items() if key in known})
    own = dataclasses.replace(own, report_to="", shard=False)
    settings = dataclasses.replace(plan.settings, finetune=own)
    work = point.folder.with_name(f".{point.name}.training")
    stage = f"training {point.share:.0%}"
    with disk_full_said(work, "doyen compare --curve"):
        train_adapter(
            plan.expert / FOLDER,
            settings,
            point.examples,
            plan.validation,
            name=point.name,
            test=known_test_questions(plan.expert),
            resume=resume,
            report=(lambda p: progress(p.stage or stage, p.step, p.steps)) if progress else None,
            say=say,
            domain=read_domain(plan.expert, settings) if own.documents_epochs else None,
        )


# ------------------------------------------------------------------ asking
@dataclass(frozen=True, slots=True)
class AskingPoints:
    """How the points' adapters are asked: as the comparison's arms were; answers are kept in `folder`.

    `identities` hash what an arm's answers depend on beside its adapter.
    """

    asking: Asking
    folder: Path
    identities: Mapping[Arm, str]
    seed: int

    def ask(self, arm: Arm, tuning: Tuning, path: Path, progress: Progress | None) -> list[Answer]:
        """Return one arm's answers with one adapter."""
        own = self.asking
        seeing, shown = (own.retriever, own.shots) if "rag" in arm else (None, ())
        expert = Expert(own.engine, retriever=seeing, tuning=tuning, settings=own.settings, shots=shown)
        return ask_into(expert, own.questions, own.hits, path, progress)


def measure_curve(
    plan: CurvePlan, asking: AskingPoints, rows: Sequence[Mapping[str, Any]], progress: Progress | None, say: Say
) -> dict[str, Any]:
    """Train and ask what is open; return the report's `curve` (docs/reference/report.md). `rows` are the report's.

    Raises:
        UsageError: no question is scored.
    """
    arms = [arm for arm in AGAINST if arm in asking.identities]
    known = _known_scores(rows)
    scored = [i for i, values in enumerate(known) if values]
    if not scored:
        raise UsageError("no question has a known answer, so there is no curve", hint='fill "answers" in the questions')
    train_points(plan, progress, say)
    found: dict[Arm, list[list[float]]] = {arm: [] for arm in arms}
    for point in plan.points[:-1]:
        for arm in arms:
            found[arm].append(_ask(point, arm, asking, progress))
    made = [read_adapter(point.folder) for point in plan.points]
    examples = [int(one.examples["train"]) for one in made]
    curve: dict[str, Any] = {"adapters": [_about(p, m) for p, m in zip(plan.points, made, strict=True)], "arms": {}}
    for arm in arms:
        values = [[own[i] for i in scored] for own in found[arm]] + [[known[i][arm] for i in scored]]
        row = curve_of(examples, values, [known[i][AGAINST[arm]] for i in scored], seed=asking.seed)
        row |= {"against": AGAINST[arm]}
        curve["arms"][arm] = row | {"answer": curve_sentence(arm, row)}
    best = "rag+finetuned" if "rag+finetuned" in arms else arms[0]
    return curve | {"worth": curve["arms"][best]["worth"], "remarks": curve_remarks(curve["arms"][best])}


def _known_scores(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, float]]:
    """Return each question's overall score by arm; nothing where it is not scored."""
    return [{arm: a["scores"]["overall"] for arm, a in row["arms"].items() if "overall" in a["scores"]} for row in rows]


def _ask(point: CurvePoint, arm: Arm, asking: AskingPoints, progress: Progress | None) -> list[float]:
    """Return the overall scores of a point's adapter in one arm, 0 where a question is not scored."""
    tuning = Tuning(point.folder, read_adapter(point.folder).refusal_rule)
    path = asking.folder / f"answers.{point.name}.{arm}.{asking.identities[arm][:8]}.jsonl"
    path.parent.mkdir(parents=True, exist_ok=True)
    told: Progress | None = None
    if progress:
        told = lambda stage, done, total: progress(f"{stage} at {point.share:.0%}", done, total)  # noqa: E731
    answers = asking.ask(arm, tuning, path, told)
    scores = [score_answer(q, a).overall for q, a in zip(asking.asking.questions, answers, strict=True)]
    return [0.0 if score is None else score for score in scores]


def _about(point: CurvePoint, made: AdapterManifest) -> dict[str, Any]:
    row = {"share": point.share, "adapter": point.name, "examples": int(made.examples["train"])}
    row |= {"questions": len({e.question_id or i for i, e in enumerate(point.examples)})}
    return row | {"tokens": made.tokens, "seconds": made.seconds, "validation_loss": made.validation_loss}
