"""What the answers of a comparison depend on → its manifest, hashes an arm's run, and answers taken over by them.

Answers with the same inputs are never asked for twice: neither in a comparison that goes on, nor in another one beside it.
"""

from __future__ import annotations

import dataclasses
import hashlib
import importlib.metadata
import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from doyen.adapters import adapter_folder, read_adapter
from doyen.answer_costs import answers_dollars
from doyen.config import Settings, write_atomic
from doyen.errors import UsageError
from doyen.evaluation.arm_runs import Run
from doyen.evaluation.hosted import reference_settings
from doyen.models.engine import Engine
from doyen.models.server_engine import ServerEngine
from doyen.prompts import SYSTEM_CLOSED_BOOK, SYSTEM_PASSAGES, Shot
from doyen.records import GOLD, HOSTED, TUNED, Answer, Question, shows_passages
from doyen.retrieval.hybrid import Retriever

_OF_ADAPTER = (
    *("name", "method", "created", "examples", "steps", "tokens", "seconds"),
    *("refusal_threshold", "calibration", "validation_loss"),
)
_MEASURING_TABLES = ("evaluation", "judge")
_TRAINING_TABLES = ("finetune", "examples")
_OF_TUNED_ARMS = ("adapter", "adapters")
_OF_READING_ARMS = ("index", "embedder", "shots")
_OF_OWN_MODEL = ("model", "template_hash", "engine")


def comparison_manifest(
    expert: Path,
    settings: Settings,
    arms: Sequence[str],
    adapters: Sequence[str],
    questions: Sequence[Question],
    shots: Sequence[Shot],
    retriever: Retriever,
    engine: Engine,
    seed: int,
) -> dict[str, Any]:
    """Return everything that the answers depend on; of several adapters `adapter` is the first and `adapters` has all."""
    manifest: dict[str, Any] = {
        "doyen": importlib.metadata.version("doyen"),
        "arms": list(arms),
        "model": settings.model.name,
        "template_hash": engine.template_hash(),
        "engine": engine.kind,
        "settings": settings.as_dict(),
        "questions": _hash([_hashed(q) for q in questions]),
        "asked": _hash([[q.id, q.question] for q in questions]),
        "question_count": len(questions),
        "index": _hash(sorted((d.id, d.sha256) for d in retriever.index.documents())),
        "embedder": retriever.index.manifest.fingerprint,
        "prompts": _hash([SYSTEM_CLOSED_BOOK, SYSTEM_PASSAGES]),
        "shots": _hash([[s.question, s.answer] for s in shots]) if shots else None,
        "seed": seed,
    }
    if any(TUNED in arm for arm in arms):
        made = [_adapter(expert, name) for name in adapters]
        manifest["adapter"] = made[0]
        if len(made) > 1:
            manifest["adapters"] = made
            manifest |= {"trainings_differ": differ} if (differ := trainings_differ(expert, adapters)) else {}
    return manifest


def _hashed(question: Question) -> dict[str, Any]:
    """Return a question as it is hashed: former answers change no answer, only its score."""
    return {key: value for key, value in dataclasses.asdict(question).items() if key != "former_answers"}


def _adapter(expert: Path, name: str) -> dict[str, Any]:
    made = read_adapter(adapter_folder(expert, name))
    row = {key: getattr(made, key) for key in _OF_ADAPTER}
    return row | ({"forgetting": made.forgetting} if made.forgetting else {})


def trainings_differ(expert: Path, adapters: Sequence[str]) -> list[str]:
    """Say in what adapters differ beside their seed: their spread then is not that of a training done again."""
    made = [read_adapter(adapter_folder(expert, name)) for name in adapters]
    found = [key for key in ("method", "model") if len({getattr(one, key) for one in made}) > 1]
    tables = [one.settings.get("finetune", one.settings) for one in made]
    names = sorted({key for table in tables for key in table} - {"seed"})
    found += [key for key in names if len({json.dumps(table.get(key)) for table in tables}) > 1 and key not in found]
    examples = {one.examples.get("sha256") for one in made}
    found += ["examples"] if len(examples) > 1 else []
    if not found:
        return []
    return [
        f"These adapters differ in more than their seed ({', '.join(found)}): the spread is between unlike trainings."
    ]


def shaping(manifest: Mapping[str, Any], settings: Settings) -> dict[str, Any]:
    """Return the part of a manifest that shapes answers; what only measures or is for arms that are not asked is left out."""
    hosted = any(HOSTED in arm for arm in manifest["arms"])
    apart = _MEASURING_TABLES if hosted else (*_MEASURING_TABLES, "reference")
    kept = {table: values for table, values in settings.shaping().items() if table not in apart}
    return {**{k: v for k, v in manifest.items() if k != "trainings_differ"}, "settings": kept}


def comparison_identity(shaped: Mapping[str, Any]) -> str:
    """Return the comparison's id, the name of its folder."""
    return hashlib.sha256(json.dumps(shaped, sort_keys=True).encode()).hexdigest()[:12]


def run_identity(shaped: Mapping[str, Any], run: Run, adapters: Sequence[str]) -> str:
    """Hash what the answers of one run depend on: the same whether its adapter is compared alone or with others."""
    # known answers and tags change no answer: `asked` has what was asked; gold is what the oracle arms are shown
    apart = {"arms", "seed", "adapters", "asked" if GOLD in run.arm else "questions"}
    apart |= set() if TUNED in run.arm else set(_OF_TUNED_ARMS)
    apart |= set() if shows_passages(run.arm) else set(_OF_READING_ARMS)
    own = dict(shaped)
    if run.several:
        own["adapter"] = shaped["adapters"][list(adapters).index(run.adapter)]
    settings = {table: value for table, value in shaped["settings"].items() if table not in _TRAINING_TABLES}
    if HOSTED in run.arm:
        apart |= set(_OF_OWN_MODEL)
        settings["model"] = {"max_answer_tokens": settings["model"]["max_answer_tokens"]}
    else:
        settings.pop("reference", None)
    return _hash([run.arm, {k: v for k, v in own.items() if k not in apart} | {"settings": settings}])


def of_servers(
    engine: Engine, reference: ServerEngine | None, settings: Settings, answers: Mapping[str, Sequence[Answer]]
) -> dict[str, Any]:
    """Return what answers of servers have besides: which server, what each arm cost, what could not be checked."""
    row: dict[str, Any] = {}
    costs: dict[str, float | None] = {}
    if isinstance(engine, ServerEngine):
        row |= {"server": f"{engine.server.kind} at {engine.endpoint.host}", "remarks": engine.remarks}
        costs |= {arm: answers_dollars(settings.model, own) for arm, own in answers.items() if HOSTED not in arm}
    if reference is not None:
        row["reference"] = {"model": reference.name, "host": reference.endpoint.host}
        row["remarks"] = [*row.get("remarks", ()), *reference.remarks]
        prices = reference_settings(settings).model
        costs |= {arm: answers_dollars(prices, own) for arm, own in answers.items() if HOSTED in arm}
    if row:
        row["cost_usd"] = {arm: round(cost, 6) for arm, cost in costs.items() if cost is not None}
    return row


def begin(target: Path, identities: Mapping[str, str]) -> dict[str, str]:
    """Make the folder; answers with other inputs are cleared away. `identities` are by run key.

    Answers of the same arm with the same inputs, which another comparison beside this one has, are taken over;
    returns run key → that comparison's name.
    """
    target.mkdir(parents=True, exist_ok=True)
    marker = target / "inputs"
    if not marker.exists() and any(target.glob("answers.*.jsonl")):
        raise UsageError(f"{target} holds answers that no comparison wrote", hint="--out another folder")
    before = _inputs(marker)
    taken: dict[str, str] = {}
    for key, identity in identities.items():
        path = target / f"answers.{key}.jsonl"
        if before.get(key) != identity:
            path.unlink(missing_ok=True)
        other = None if path.exists() else _answered(target, identity)
        if other is not None:
            shutil.copyfile(other, path)
            if other.parent != target:
                taken[key] = other.parent.name
    write_atomic(marker, json.dumps(identities, indent=1))
    return taken


def _answered(target: Path, identity: str) -> Path | None:
    """Return the answers file that a finished comparison has of a run with these inputs."""
    for marker in sorted(target.parent.glob("*/inputs")):
        if not (marker.parent / "report.json").exists():
            continue
        for key, known in _inputs(marker).items():
            path = marker.parent / f"answers.{key}.jsonl"
            if known == identity and path.exists():
                return path
    return None


def _inputs(marker: Path) -> dict[str, str]:
    """Return what the answers of a comparison's runs were made from; nothing where that is unknown."""
    try:
        found = json.loads(marker.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _hash(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True, ensure_ascii=False, default=str).encode()).hexdigest()[:16]
