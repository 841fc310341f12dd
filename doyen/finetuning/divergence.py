"""Losses of a run, step by step → stop where it diverges. Knows numbers only."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from pathlib import Path
from statistics import fmean, median

from doyen.errors import GateError

BEGIN_STEPS = 4
WINDOW_STEPS = 8
_FACTOR, _NATS = 1.5, 1.0
"""Batches of hard examples come and go; a loss for eight steps beyond both is none of them."""


class DivergenceWatch:
    """Stops a run whose loss is no number any more, or has risen far above its beginning.

    The median of the last WINDOW_STEPS losses is compared with the mean of the first BEGIN_STEPS (at most _FACTOR times the
    first): it may be _FACTOR times as high and _NATS more.
    """

    def __init__(self, usual_rate: float, losses: Iterable[float] = ()) -> None:
        self._usual_rate = usual_rate
        self._losses = list(losses)

    @classmethod
    def of_run(cls, work: Path, usual_rate: float, steps: int) -> DivergenceWatch:
        """Begin with the losses of the `steps` steps that a resumed run has in its `history.jsonl`."""
        path = work / "history.jsonl"
        lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
        return cls(usual_rate, (json.loads(line)["loss"] for line in lines[:steps]))

    def see(self, loss: float, norm: float, peak_rate: float) -> None:
        """Take in a step's loss and the norm of its gradients, before its update: no weight becomes other than a number.

        Raises:
            GateError: the run diverges; the message names the rate, the hint a better one.
        """
        self._losses.append(loss)
        if not math.isfinite(loss):
            raise self._stopped("the loss is not a number any more", peak_rate)
        if not math.isfinite(norm):
            raise self._stopped("the gradients are not numbers any more", peak_rate)
        if len(self._losses) < BEGIN_STEPS + WINDOW_STEPS:
            return
        # Where the first steps diverge already, the first loss alone tells where the run began.
        begin = min(fmean(self._losses[:BEGIN_STEPS]), _FACTOR * self._losses[0])
        now = median(self._losses[-WINDOW_STEPS:])
        if now > _FACTOR * begin + _NATS:
            raise self._stopped(f"the loss has risen from {begin:.2f} to {now:.2f}", peak_rate)

    def _stopped(self, what: str, rate: float) -> GateError:
        if len(self._losses) == 1:
            return GateError(
                f"{what}, before anything was learned: the learning rate has no part in it",
                hint="are the base model's weights sound? doyen models pull NAME fetches them again",
            )
        better = better_rate(rate, self._usual_rate)
        return GateError(
            f"training diverges in step {len(self._losses)} with learning rate {rate:g}: {what}",
            hint=f"doyen finetune --learning-rate {better:g}; the checkpoint from before is kept until then",
        )


def better_rate(rate: float, usual: float) -> float:
    """Return the method's usual rate where `rate` was well above it, else a quarter of `rate` (one digit)."""
    lower = usual if rate > 2 * usual else rate / 4
    return float(f"{lower:.0e}")
