"""Gate before training with several processes: does the model over all of them give the logits of one device alone?

Enters: the model as one process loaded it, and what became of it. Leaves: the largest difference, or a GateError.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from doyen.config import FinetuneSettings
from doyen.errors import GateError
from doyen.finetuning.data import TokenisedExample
from doyen.finetuning.loss import supervised_logits
from doyen.finetuning.parallel import Group, own_seed
from doyen.finetuning.preparing import Prepared, Say
from doyen.finetuning.sharding import shard_model

_EXAMPLES = 2
_TOKENS = 32
_LIMIT = 0.02
"""Largest difference of a logit, as a share of the largest logit: what the order of 16-bit sums may leave."""
_LIMIT_ACROSS = 0.05
"""The same where one device is the processor and the other a GPU, which round otherwise; assumed, not measured."""


_APART = (
    "the processes have other examples, settings or models than each other",
    "the same expert's folder, on a shared disk, and the same model on every machine",
)


def spread(
    model: Any, prepared: Prepared, settings: FinetuneSettings, fingerprint: str, group: Group, say: Say
) -> None:
    """Make one model of the processes' copies, or of parts; `prepared.gates` gets what the parity gate measured.

    The main process computes the logits of a golden batch alone, before (of what will be sharded, on the processor).
    Afterwards every process computes them with the model that will be trained, and all stop where one of them differs.

    Raises:
        GateError: the logits differ, or the `fingerprint` of what the processes were given does.
    """
    if group.size == 1:
        return
    group.require_same(fingerprint, *_APART)
    expected = golden_logits(model, prepared.train) if group.main else None
    group.copy_from_main([p for p in model.parameters() if p.requires_grad])
    group.sharded = settings.shard
    if group.sharded:
        shard_model(model)
    found = golden_logits(model, prepared.train)
    across = group.sharded and next(model.parameters()).device.type != "cpu"
    difference = require_parity(found, group.same(expected), group, _LIMIT_ACROSS if across else _LIMIT)
    own_seed(group, settings.seed)
    kind = "sharded" if group.sharded else "replicated"
    say(f"gate: {group.size} processes, {kind}, give the logits of one (largest difference {difference:.1e})")
    prepared.gates["parity"] = {"processes": group.size, "model": kind, "largest_difference": difference}


def golden_logits(model: Any, examples: Sequence[TokenisedExample]) -> Any:
    """Return logits `(n, vocabulary) float32` on the CPU at the first supervised positions of the shortest examples."""
    import torch

    shortest = sorted(examples, key=lambda e: (len(e.ids), e.number))[:_EXAMPLES]
    training = model.training
    model.eval()
    with torch.no_grad():
        logits, _ = supervised_logits(model, shortest)
    model.train(training)
    return logits[:_TOKENS].float().cpu()


def require_parity(found: Any, expected: Any, group: Group, limit: float = _LIMIT) -> float:
    """Return the largest difference over all processes as a share of the largest logit.

    Raises:
        GateError: it is beyond what rounding explains, in one process or more; in all processes alike.
    """
    scale = float(expected.abs().max()) or 1.0
    differences = group.gather(float((found - expected).abs().max()) / scale)
    apart = [rank for rank, difference in enumerate(differences) if not difference <= limit]
    if apart:
        raise GateError(
            f"the model over {group.size} processes does not give the logits of one device: "
            + ", ".join(f"process {rank} is off by {differences[rank]:.1%}" for rank in apart),
            hint="the same model files on every machine? (sha256sum them); [finetune] shard off, or one process, works",
        )
    return round(max(differences), 6)
