"""A model whose weights lie in parts on several devices (FSDP2), and whole tensors out of the parts and back.

Enters: a loaded model, the same in each process. Knows no examples and no files.
"""

from __future__ import annotations

import types
from typing import Any

from doyen.errors import UsageError
from doyen.finetuning.loss import base_of, logits_at

SHARDED_LOGITS = "sharded_logits"


def require_shardable(method: str, shard: bool, size: int) -> None:
    """Raise UsageError where `[finetune] shard` does not go with the method or the number of processes."""
    if not shard:
        return
    if method == "qlora":
        raise UsageError(
            "shard does not go with qlora: sharding the packed 4-bit weights can change them without an error",
            hint="--method qlora without shard (each process holds the 4-bit model), or --method lora with it",
        )
    if size == 1:
        raise UsageError(
            "shard divides the weights among processes, and there is one", hint="--processes 2, or torchrun"
        )


def shard_model(model: Any) -> None:
    """Divide the weights of a causal model (or a PEFT model around one) among the processes, layer by layer.

    Each layer is put together when it is computed and dropped again; so are embeddings, output and last norm, around the
    whole pass. Weights move to this process's device.
    """
    import torch
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard, register_fsdp_forward_method

    inner = base_of(model)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    mesh = init_device_mesh(device, (torch.distributed.get_world_size(),))
    for layer in inner.get_decoder().layers:
        fully_shard(layer, mesh=mesh)
    # The root is the causal model itself, so that embeddings tied to the output are one parameter.
    fully_shard(inner, mesh=mesh, reshard_after_forward=True)
    setattr(inner, SHARDED_LOGITS, types.MethodType(logits_at, inner))
    register_fsdp_forward_method(inner, SHARDED_LOGITS)


def whole(value: Any) -> Any:
    """Return a tensor put together from its parts (all processes must call it), anything else as it is."""
    return value.full_tensor() if hasattr(value, "full_tensor") else value


def placed_like(value: Any, like: Any) -> Any:
    """Return this process's part of a whole tensor that all processes have, cut as `like` is."""
    if not hasattr(like, "full_tensor") or getattr(value, "shape", None) != like.shape:
        return value
    from torch.distributed.tensor import distribute_tensor

    return distribute_tensor(value.to(like.device), like.device_mesh, like.placements)


def whole_weights(model: Any) -> dict[str, Any]:
    """Return the trained weights by name, whole and on the CPU (all processes must call it)."""
    return {name: whole(p.detach()).cpu() for name, p in model.named_parameters() if p.requires_grad}


def whole_optimiser(optimiser: Any) -> dict[str, Any]:
    """Return an optimiser's state with whole tensors (all processes must call it)."""
    saved: dict[str, Any] = optimiser.state_dict()
    moments = {number: {key: whole(value) for key, value in entry.items()} for number, entry in saved["state"].items()}
    return saved | {"state": moments}


def placed_optimiser(saved: dict[str, Any], optimiser: Any) -> dict[str, Any]:
    """Return a saved optimiser's state with tensors cut as the optimiser's parameters are."""
    parameters = [p for group in optimiser.param_groups for p in group["params"]]
    moments = {
        number: {key: placed_like(value, parameters[number]) for key, value in entry.items()}
        for number, entry in saved["state"].items()
    }
    return saved | {"state": moments}
