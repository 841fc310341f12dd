"""The adapter folders of an expert: where they are and what their manifests say. Knows no torch."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from doyen.config import write_atomic
from doyen.errors import ExpertError, UsageError
from doyen.refusing import RefusalRule
from doyen.words import words


@dataclass(frozen=True, slots=True)
class AdapterManifest:
    """What an adapter was made of and how; `sources` are the document versions that its examples stand on.

    `refusal_threshold` and the rule in `calibration` are fitted on validation examples (None: too few of them).
    `examples` has, under `questions`, the `question_hash` of all that was trained on. `gates` maps each gate to what it
    measured. `weights_fingerprint` is of samples of the base's weights, `golden_tokens` are those that training made of a
    fixed conversation: serving refuses others. Losses are mean negative log-likelihoods a supervised token, in nats.
    `held_out` says what was measured while training and which weights were kept, `forgetting` what general texts cost before
    and after, `labels` the different sets of labels of its documents (None: unknown), `machine` what beside settings,
    examples and versions decides the weights' bits.
    """

    name: str
    model: str
    model_fingerprint: str
    method: str
    template_hash: str
    created: str
    settings: dict[str, Any]
    examples: dict[str, Any]
    sources: list[dict[str, str]]
    target_modules: list[str]
    trained_parameters: int
    steps: int
    tokens: int
    seconds: float
    peak_memory_gib: float
    train_loss: float
    validation_loss: float | None
    refusal_threshold: float | None = None
    calibration: dict[str, Any] = field(default_factory=dict)
    gates: dict[str, Any] = field(default_factory=dict)
    held_out: dict[str, Any] = field(default_factory=dict)
    training_memory_gib: float = 0.0
    forgetting: dict[str, Any] = field(default_factory=dict)
    weights_fingerprint: str = ""
    machine: dict[str, Any] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=dict)
    golden_tokens: list[int] = field(default_factory=list)
    processes: int = 1
    stages: list[dict[str, Any]] = field(default_factory=list)
    labels: list[list[str]] | None = None

    def write(self, folder: Path) -> None:
        """Write `manifest.json` into the adapter's folder."""
        write_atomic(folder / "manifest.json", json.dumps(asdict(self), indent=1, ensure_ascii=False))

    @property
    def refusal_rule(self) -> RefusalRule | None:
        """The calibrated rule, or None."""
        if self.refusal_threshold is None:
            return None
        numbers = {key: self.calibration.get(key, default) for key, default in _RULE_DEFAULTS.items()}
        return RefusalRule(self.refusal_threshold, **numbers)


_RULE_DEFAULTS = {"slope": 1.0, "similarity_weight": 0.0, "lexical_weight": 0.0, "confidence_weight": 0.0, "bias": 0.0}


def read_adapter(folder: Path) -> AdapterManifest:
    """Read an adapter's manifest. Raises ExpertError if it is missing or broken."""
    try:
        return AdapterManifest(**json.loads((folder / "manifest.json").read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError) as error:
        raise ExpertError(
            f"the manifest of adapter {folder.name} cannot be read: {error}",
            hint="doyen finetune --name NAME makes a new one",
        ) from error


def list_adapters(expert: Path | str) -> list[Path]:
    """Return the folders of finished adapters, oldest first."""
    found = [p.parent for p in (Path(expert) / "adapters").glob("*/manifest.json") if not p.parent.name.startswith(".")]
    return sorted(found, key=_age)


def _age(folder: Path) -> tuple[str, int, str]:
    """When an adapter was made: as its manifest says, so that copies and later calibrations change no order."""
    path = folder / "manifest.json"
    try:
        created = str(json.loads(path.read_text(encoding="utf-8"))["created"])
    except (OSError, ValueError, TypeError, KeyError):
        created = ""
    return created, path.stat().st_mtime_ns, folder.name


def question_hash(question: str) -> str:
    """Return a hash of a question's words, kept in manifests to know what an adapter was trained on."""
    return hashlib.sha256(" ".join(words(question)).encode()).hexdigest()[:12]


def interrupted_runs(expert: Path) -> list[str]:
    """Return the names of the runs that have a checkpoint to go on from, the latest last."""
    found: dict[str, int] = {}
    for pattern in (".*.training/checkpoint.pt", ".*.training/documents/checkpoint.pt"):
        for path in (expert / "adapters").glob(pattern):
            run = path.relative_to(expert / "adapters").parts[0][1:].removesuffix(".training")
            found[run] = max(found.get(run, 0), path.stat().st_mtime_ns)
    return sorted(found, key=lambda run: (found[run], run))


def adapter_folder(expert: Path, name: str) -> Path:
    """Return the folder of adapter `name`, or of the newest for ''. Raises UsageError if there is none."""
    folders = list_adapters(expert)
    strange = expert / "adapters" / name
    if name and (strange / "adapter_config.json").exists() and not (strange / "manifest.json").exists():
        raise UsageError(
            f"adapters/{name} was not made by doyen finetune: it has no manifest.json, so nothing says what it fits to",
            hint=f"doyen finetune --name {name} --replace trains one; a merged model can be used as [model] name",
        )
    if not folders:
        raise UsageError(
            f"the expert in {expert} has no adapter", hint="doyen examples import FILE, then doyen finetune"
        )
    if not name:
        return folders[-1]
    for folder in folders:
        if folder.name == name:
            return folder
    raise UsageError(f"there is no adapter '{name}'", hint=f"adapters: {', '.join(f.name for f in folders)}")
