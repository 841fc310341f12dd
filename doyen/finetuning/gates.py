"""The gates: silent failures of fine-tuning, found before (or right after) the hours are spent.

Each gate raises GateError with what it saw, or returns what it measured for the adapter's manifest. Knows tokens and
modules only.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from doyen.errors import GateError

MOST_TOO_LONG = 0.5
_LONGEST = 5


def require_supervision(supervised: Sequence[int], left_out: Counter[str]) -> dict[str, int]:
    """Gate "nothing supervised": every example must have answer tokens that carry a loss.

    Args:
        supervised: number of supervised tokens of each example.
        left_out: why other examples were left out, for the message.
    """
    empty = sum(n == 0 for n in supervised)
    if not supervised or empty:
        reasons = ", ".join(f"{n} {why}" for why, n in left_out.items()) or "none left out"
        raise GateError(
            f"nothing to learn: {empty} of {len(supervised)} examples have no supervised token ({reasons})",
            hint="doyen examples report shows them; a larger [finetune] max_tokens keeps long ones",
        )
    return {"examples": len(supervised), "tokens": sum(supervised), "fewest_in_an_example": min(supervised)}


def require_length(lengths: Sequence[int], limit: int) -> dict[str, Any]:
    """Gate "longer than the context": examples beyond `limit` tokens are left out, never cut; not more than half of them.

    Args:
        lengths: tokens of each example, the long ones included.
        limit: what the settings and the model's context allow.
    """
    longest = sorted(lengths, reverse=True)[:_LONGEST]
    beyond = sum(n > limit for n in lengths)
    if beyond > MOST_TOO_LONG * len(lengths):
        raise GateError(
            f"{beyond} of {len(lengths)} examples are longer than {limit:,} tokens and would be left out; "
            f"the longest: {', '.join(f'{n:,}' for n in longest)}",
            hint=f"[finetune] max_tokens = {longest[0]} if the model's context allows it; fewer [answer] passages",
        )
    return {
        "limit": limit,
        "longest": longest,
        "left_out": beyond,
        "tokens_left_out": sum(n for n in lengths if n > limit),
    }


def require_end_of_turn(last_tokens: Sequence[int], stops: Sequence[int], names: Sequence[str]) -> dict[str, Any]:
    """Gate "end of turn not supervised": each example's last supervised token must end the turn, else answers never stop."""
    wrong = sum(token not in stops for token in last_tokens)
    if wrong:
        raise GateError(
            f"the end of the turn is not supervised in {wrong} of {len(last_tokens)} examples (turn ends: {', '.join(names)})",
            hint="the model's chat template does not close the assistant's turn with a stop token: use its own template",
        )
    return {"stop_tokens": list(names)}


def resolve_targets(model: Any, wanted: str) -> list[str]:
    """Gate "target modules": return the full names of the linear modules to adapt, resolved from the model itself.

    `wanted` is `all-linear` or names separated by commas; the output layer never counts. A name that matches no
    linear module is an error: on Phi's fused `qkv_proj` and `gate_up_proj`, the usual list of LLaMA names would
    silently adapt a third of the model (PhiCookBook#185).
    """
    linears = linear_modules(model)
    kinds = Counter(name.rsplit(".", 1)[-1] for name in linears)
    if wanted.strip() == "all-linear":
        return linears
    names = [n.strip() for n in wanted.split(",") if n.strip()]
    missing = [n for n in names if n not in kinds]
    if missing or not names:
        matched = sorted(set(names) - set(missing))
        raise GateError(
            f"target modules {', '.join(missing) or '(none given)'} match nothing in this model"
            + (f"; only {', '.join(matched)} would have been adapted" if matched else "")
            + f". Its linear modules: {', '.join(f'{n} (×{c})' for n, c in kinds.items())}",
            hint='set [finetune] target_modules = "all-linear"',
        )
    return [name for name in linears if name.rsplit(".", 1)[-1] in names]


def linear_modules(model: Any) -> list[str]:
    """Return the names of all linear modules (quantised ones too) except the output layer."""
    import torch

    output = model.get_output_embeddings()
    return [
        name for name, module in model.named_modules() if isinstance(module, torch.nn.Linear) and module is not output
    ]


def _numbers(logits: Any) -> NDArray[np.float32]:
    """Return an engine's logits, torch's too, as numpy's float32."""
    return np.asarray(logits.float().cpu() if hasattr(logits, "cpu") else logits, dtype=np.float32)


def require_effect(base_logits: Any, adapted_logits: Any) -> dict[str, float]:
    """Gate "adapter changes no logits": what was saved, loaded as it is served, must differ from the base model."""
    difference = float(np.abs(_numbers(adapted_logits) - _numbers(base_logits)).max())
    if not difference > 1e-3:
        raise GateError(
            f"the saved adapter changes no logits (largest difference {difference:.2g}): it is a no-op where it is served",
            hint="raise [finetune] learning_rate or epochs; if that does not help, report a bug",
        )
    return {"largest_logit_difference": round(difference, 4)}
