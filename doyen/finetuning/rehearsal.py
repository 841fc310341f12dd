"""What a run does beside its gradients, done once before the first step: so that memory runs out now or not at all.

The optimiser's state, the longest held-out batch and a checkpoint's file. Leaves weights and random state as they were, and
the optimiser before its first step. Knows no order of steps.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from doyen.errors import GateError
from doyen.finetuning.checkpoint import RunState, save_checkpoint
from doyen.finetuning.data import TokenisedExample, micro_batches


def rehearse(
    model: Any,
    optimiser: Any,
    gradients: Callable[[], None],
    evaluate: Callable[[Sequence[TokenisedExample]], Any],
    held_out: Sequence[TokenisedExample],
    micro_batch_tokens: int,
    save: Callable[[], Any],
) -> None:
    """Hold all that a run holds at once: the optimiser's state, the largest micro-batch's gradients, an evaluation, a save.

    Args:
        model: in training mode; it stays so, and its weights stay as they are.
        optimiser: one that has taken no step; its next one is its first.
        gradients: computes those of the largest micro-batch, and drops them.
        evaluate: computes the loss of a held-out batch.
        held_out: validation examples; the largest batch of them is tried.
        micro_batch_tokens: padded tokens of a batch.
        save: writes a checkpoint, and removes it.

    Raises:
        GateError: memory runs out, and in what.
    """
    import torch

    random = torch.get_rng_state()
    trained = [p for p in model.parameters() if p.requires_grad]
    with _memory("the optimiser's state", "lower [finetune] rank; --method lora instead of full"):
        _make_state(optimiser, trained)
    with _memory("the largest micro-batch", "lower [finetune] micro_batch_tokens or max_tokens"):
        gradients()
    batches = micro_batches(held_out, range(len(held_out)), micro_batch_tokens)
    if batches:
        largest = max(batches, key=lambda batch: len(batch) * max(len(held_out[i].ids) for i in batch))
        with _memory("evaluation of the longest held-out examples", "lower [finetune] max_tokens"):
            model.eval()
            evaluate([held_out[i] for i in largest])
            model.train()
    with _memory("saving a checkpoint", "lower [finetune] rank; --method lora instead of full"):
        save()
    _forget_step(optimiser)
    torch.set_rng_state(random)


def try_save(folder: Path, model: Any, optimiser: Any) -> None:
    """Write a checkpoint into a folder and remove it."""
    import torch

    try:
        save_checkpoint(folder, RunState(""), model, optimiser, torch.get_rng_state())
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _make_state(optimiser: Any, trained: Sequence[Any]) -> None:
    """Let the optimiser make its state by a step of rate 0 with gradients of 0, which changes no weight."""
    import torch

    rates = [group["lr"] for group in optimiser.param_groups]
    for group in optimiser.param_groups:
        group["lr"] = 0.0
    for parameter in trained:
        parameter.grad = torch.zeros_like(parameter)
    optimiser.step()
    for group, rate in zip(optimiser.param_groups, rates, strict=True):
        group["lr"] = rate
    for parameter in trained:
        parameter.grad = None


def _forget_step(optimiser: Any) -> None:
    """Let the next step count as the first: the moments are 0 still.

    Clearing the state would leave the paged buffers of bitsandbytes allocated, and make them once more.
    """
    for state in optimiser.state.values():
        step = state["step"]
        state["step"] = step.zero_() if hasattr(step, "zero_") else 0


@contextmanager
def _memory(what: str, hint: str) -> Iterator[None]:
    """Gate "out of memory": say in what it ran out."""
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if "memory" not in str(error).lower() and not isinstance(error, MemoryError):
            raise
        raise GateError(f"{what} does not fit into memory: {error}", hint=hint) from error
