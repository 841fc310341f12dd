"""The answer-only loss: vocabulary logits are computed only where a token is supervised. Knows any causal model."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

from doyen.finetuning.data import TokenisedExample, micro_batches, pad
from doyen.models.engine import rope_switch


def base_of(model: Any) -> Any:
    """Return the causal model inside a PEFT model, or the model itself."""
    return model.get_base_model() if hasattr(model, "get_base_model") else model


def answer_loss(model: Any, examples: Sequence[TokenisedExample]) -> tuple[Any, int]:
    """Return the summed cross-entropy of the supervised tokens (nats, float32), by their weights, and their number.

    `model` is a causal model or a PEFT model around one.
    """
    import torch

    logits, targets = supervised_logits(model, examples)
    if all(e.weight == 1.0 for e in examples):
        return torch.nn.functional.cross_entropy(logits, targets, reduction="sum"), len(targets)
    losses = torch.nn.functional.cross_entropy(logits, targets, reduction="none")
    weights = [e.weight for e in examples for _ in range(e.supervised)]
    return (losses * losses.new_tensor(weights)).sum(), len(targets)


def supervised_logits(model: Any, examples: Sequence[TokenisedExample]) -> tuple[Any, Any]:
    """Return the logits `(supervised, vocabulary)` float32 that foretell the supervised tokens, row by row, and these tokens."""
    inner = base_of(model)
    device = next(inner.parameters()).device
    ids, positions, targets = pad(examples, device, rope_switch(inner.config))
    compute = getattr(inner, "sharded_logits", None) or partial(logits_at, inner)
    return compute(ids, positions).float(), targets


def logits_at(inner: Any, ids: Any, positions: Any) -> Any:
    """Return the logits `(n, vocabulary)` of a causal model at the flat `positions (n,)` of padded rows."""
    hidden = inner.get_decoder()(input_ids=ids, use_cache=False).last_hidden_state
    return inner.get_output_embeddings()(hidden.flatten(0, 1)[positions])


def example_losses(model: Any, examples: Sequence[TokenisedExample], micro_batch_tokens: int) -> list[float]:
    """Return each example's summed loss (nats) over its supervised tokens, without gradients."""
    import torch

    found = [0.0] * len(examples)
    # no_grad, not inference_mode: what a forward pass renews (LongRoPE's buffers, shards) is used in training again.
    with torch.no_grad():
        for group in micro_batches(
            examples, range(len(examples)), micro_batch_tokens, rope_switch(base_of(model).config)
        ):
            logits, targets = supervised_logits(model, [examples[i] for i in group])
            losses = torch.nn.functional.cross_entropy(logits, targets, reduction="none")
            for i, part in zip(group, losses.split([examples[i].supervised for i in group]), strict=True):
                found[i] = float(part.sum())
    return found


def mean_loss(model: Any, examples: Sequence[TokenisedExample], micro_batch_tokens: int) -> float | None:
    """Return the mean loss a supervised token over examples, without gradients; None for no examples."""
    if not examples:
        return None
    return sum(example_losses(model, examples, micro_batch_tokens)) / sum(e.supervised for e in examples)
