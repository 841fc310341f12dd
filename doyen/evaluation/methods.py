"""The expert's adapters → what each way of training cost and brought on the same examples: full, LoRA or QLoRA, by figures.

Works on the adapters' manifests and a plan for this machine; trains and measures nothing itself.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from doyen.adapters import AdapterManifest, list_adapters, read_adapter
from doyen.config import load_settings
from doyen.errors import ModelError
from doyen.planning import plan
from doyen.planning.fitting import METHODS, MethodPlan

CLOSE = 1.02
"""Held-out losses nearer than this ratio count as equal: one run each tells no finer."""
_ALIKE = ("epochs", "batch_size", "max_tokens", "seed", "lora_variants", "documents_epochs", "replay")
_NAMES = {"lora": "LoRA", "qlora": "QLoRA", "full": "full fine-tuning"}


def trained_methods(expert: Path | str) -> list[dict[str, Any]]:
    """Return a row of the newest adapter of each method that saw the same examples as the newest of all, equally long.

    A row has `adapter`, `method`, `trained_parameters`, `seconds`, `tokens`, `peak_memory_gib` (of the training, where the
    manifest tells it apart from the check on the serving engine), and `before` and `after`: the mean loss a supervised token
    over the same held-out examples (nats), before of the model as it was loaded.
    """
    found = [made for made in map(read_adapter, list_adapters(expert)) if "before" in made.held_out]
    newest: dict[str, AdapterManifest] = {made.method: made for made in found if _key(made) == _key(found[-1])}
    return [_row(newest[method]) for method in ("full", "lora", "qlora") if method in newest]


def _key(made: AdapterManifest) -> tuple[Any, ...]:
    return (
        made.model_fingerprint,
        made.examples.get("sha256"),
        made.held_out.get("examples"),
        *(made.settings.get(name) for name in _ALIKE),
    )


def _row(made: AdapterManifest) -> dict[str, Any]:
    names = ("method", "trained_parameters", "seconds", "tokens")
    row = {"adapter": made.name} | {n: getattr(made, n) for n in names} | {n: made.held_out[n] for n in _LOSSES}
    return row | {"peak_memory_gib": made.training_memory_gib or made.peak_memory_gib}


_LOSSES = ("before", "after")


def won_back(rows: Sequence[Mapping[str, Any]]) -> float | None:
    """Return which share of what NF4 costs the untrained model training wins back: 1 where QLoRA ends as LoRA does.

    None where LoRA and QLoRA are not both there, or NF4 costs nothing.
    """
    by = {row["method"]: row for row in rows}
    if not {"lora", "qlora"} <= set(by):
        return None
    cost = by["qlora"]["before"] - by["lora"]["before"]
    return 1 - (by["qlora"]["after"] - by["lora"]["after"]) / cost if cost > 1e-4 else None


def advise_training(expert: Path | str) -> dict[str, Any]:
    """Say whether to train an expert's model with LoRA or QLoRA; see `training_advice`.

    Raises: ConfigError, ExpertError: the expert's files are wrong.
    """
    settings = load_settings(Path(expert))
    given = settings.finetune
    try:
        found = plan(
            settings.model.name,
            max_tokens=given.max_tokens,
            micro_batch_tokens=given.micro_batch_tokens,
            rank=given.rank,
            gradient_checkpointing=given.gradient_checkpointing,
            measure=False,
        ).methods
    except ModelError:  # the model is not here: what it takes is not known
        found = ()
    return training_advice(trained_methods(expert), found)


def training_advice(rows: Sequence[Mapping[str, Any]], plans: Sequence[MethodPlan]) -> dict[str, Any]:
    """Say whether to train with LoRA or QLoRA: by the runs in `rows` where both are there, and by what fits this machine.

    Returns `method` (None: neither fits), `reasons`, `measured` (whether both were trained here) and `methods` (the rows).
    """
    by = {row["method"]: row for row in rows}
    fits = {p.way.method: p for p in plans}
    measured = {"lora", "qlora"} <= set(by)
    possible = [m for m in METHODS if m != "full" and (m not in fits or fits[m].way.fits)]
    reasons = [_ran(row) for row in rows]
    if measured:
        reasons += _compared(by["lora"], by["qlora"], won_back(rows))
    reasons += [_fits(plan) for plan in plans if plan.way.method != "full"]
    method = _choice(by, possible) if measured else next(iter(possible), None)
    if not measured and method:
        other = "qlora" if method == "lora" else "lora"
        reasons.append(
            "LoRA is the faster one where its 16-bit base fits; QLoRA keeps the base in 4 bits for it, at some time a token. "
            f"Not measured on your examples: `doyen finetune --method {other}` beside `--method {method}` does."
        )
    return {"method": method, "reasons": reasons, "measured": measured, "methods": [dict(row) for row in rows]}


def _choice(by: Mapping[str, Mapping[str, Any]], possible: Sequence[str]) -> str | None:
    """Take what fits; of both, the lower loss where it is surely lower, else the faster."""
    if len(possible) < 2:
        return next(iter(possible), None)
    lora, qlora = by["lora"], by["qlora"]
    if qlora["after"] > CLOSE * lora["after"]:
        return "lora"
    if lora["after"] > CLOSE * qlora["after"]:
        return "qlora"
    return "lora" if lora["seconds"] <= qlora["seconds"] else "qlora"


def _ran(row: Mapping[str, Any]) -> str:
    return (
        f"{_NAMES[row['method']]} ({row['adapter']}): held-out loss {row['before']:.3f} → {row['after']:.3f} in "
        f"{row['seconds'] / 60:.1f} minutes, peak memory {row['peak_memory_gib']:.1f} GiB, "
        f"{row['trained_parameters']:,} parameters trained."
    )


def _compared(lora: Mapping[str, Any], qlora: Mapping[str, Any], back: float | None) -> list[str]:
    pace = (qlora["seconds"] / qlora["tokens"]) / (lora["seconds"] / lora["tokens"])
    found = [
        f"QLoRA took {pace:.2f} times LoRA's time a token and {qlora['peak_memory_gib'] / lora['peak_memory_gib']:.2f} times "
        f"its memory, and ended at {qlora['after'] / lora['after']:.3f} times its held-out loss."
    ]
    if back is not None:
        found.append(
            f"NF4 without training costs {qlora['before'] - lora['before']:.3f} of loss, "
            + (f"of which training wins back {back:.0%}." if back < 1 else "all of which training wins back.")
        )
    return found


def _fits(plan: MethodPlan) -> str:
    way = plan.way
    return f"On this machine {_NAMES[way.method]} needs about {way.total_gib:.1f} GiB and {'fits' if way.fits else 'does not fit'}."
