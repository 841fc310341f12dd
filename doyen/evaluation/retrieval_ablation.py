"""What each stage of retrieval contributes: the same questions with one stage more each time, compared in pairs.

Enters: settings and scores of each variant. Leaves: the stages, and the paired difference of each to the one before. Knows
the settings that switch a stage, not how a stage works.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from doyen.config import Settings
from doyen.evaluation.retrieval_scores import means
from doyen.evaluation.statistics import paired_difference

SWITCHES: tuple[tuple[str, str, Any], ...] = (
    ("phrases", "retrieval.phrase_weight", 0.0),
    ("document signals", "retrieval.document_weight", 0.0),
    ("summaries", "retrieval.summary_weight", 0.0),
    ("reranking", "rerank.name", ""),
)
"""Stage after fusion, in their order → the setting that switches it, and the value that leaves it out."""

ARM_WEIGHTS = (("BM25 only", 0.0), ("dense only", 1.0))
FUSED = "fused"


@dataclass(frozen=True)
class Stage:
    """One variant of the settings; `against` names the stages whose better one it is compared with."""

    name: str
    settings: Settings
    against: tuple[str, ...] = ()


def stages_of(settings: Settings) -> list[Stage]:
    """Return the variants from one arm alone to the settings as they are.

    A stage that this doyen has no setting for, or that the settings leave out already, has no variant.
    """
    off = [(name, path, value) for name, path, value in SWITCHES if _value(settings, path) not in (None, value)]
    bare = settings
    for _, path, value in off:
        bare = _with(bare, path, value)
    arms = [Stage(name, _with(bare, "retrieval.dense_weight", weight)) for name, weight in ARM_WEIGHTS]
    stages = [*arms, Stage(FUSED, bare, tuple(arm.name for arm in arms))]
    for name, path, _ in off:
        stages.append(Stage(f"+ {name}", _with(stages[-1].settings, path, _value(settings, path)), (stages[-1].name,)))
    assert stages[-1].settings == settings
    return stages


def _value(settings: Settings, path: str) -> Any:
    """Return a setting by its table and key, None where there is no such setting."""
    table, key = path.split(".")
    return getattr(getattr(settings, table, None), key, None)


def _with(settings: Settings, path: str, value: Any) -> Settings:
    table, key = path.split(".")
    changed: dict[str, Any] = {table: replace(getattr(settings, table), **{key: value})}
    return replace(settings, **changed)


def ablation(
    stages: Sequence[Stage], scores: Sequence[Sequence[dict[str, float]]], *, seed: int
) -> list[dict[str, Any]]:
    """Return a row a stage: `name`, `metrics`, and `against` with the paired `differences` to that stage.

    `scores` holds each stage's scores of the same questions. A stage with several to compare with takes the one with the
    best mean nDCG@10.
    """
    rows: list[dict[str, Any]] = []
    of = {stage.name: list(found) for stage, found in zip(stages, scores, strict=True)}
    for stage in stages:
        mine = of[stage.name]
        row: dict[str, Any] = {"name": stage.name}
        row["metrics"] = {name: interval.as_dict() for name, interval in means(mine, seed=seed).items()}
        before = max(stage.against, key=lambda name: sum(r["ndcg@10"] for r in of[name]), default=None)
        row["against"] = before
        if before is not None:
            row["differences"] = differences(of[before], mine, seed=seed)
        rows.append(row)
    return rows


def differences(
    a: Sequence[dict[str, float]], b: Sequence[dict[str, float]], *, seed: int
) -> dict[str, dict[str, Any]]:
    """Return the paired difference b - a of each figure over the same questions."""
    return {name: paired_difference([r[name] for r in a], [r[name] for r in b], seed=seed).as_dict() for name in b[0]}
