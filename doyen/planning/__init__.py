"""Will it fit, how long will it take: from a model's configuration and a machine, before anything is loaded."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from doyen.errors import UsageError
from doyen.planning.devices import Machine, read_machine, this_machine
from doyen.planning.fitting import METHODS, MethodPlan, advise, plan_method
from doyen.planning.memory import Training
from doyen.planning.shapes import ModelShape, find_shape


@dataclass(frozen=True, slots=True)
class Plan:
    """What training a model takes on a machine, by method; `advice` says it in sentences."""

    model: ModelShape
    machine: Machine
    training: Training
    methods: tuple[MethodPlan, ...]
    advice: tuple[str, ...]

    def as_dict(self) -> dict[str, Any]:
        """Return the plan as JSON."""
        device = self.machine.device
        return {
            "model": self.model.name,
            "parameters": self.model.parameters,
            "machine": self.machine.label,
            "devices": self.machine.count,
            "usable_gib": round(self.machine.usable_gib, 2),
            "tera_flops": round(device.tera_flops, 3),
            "source": device.source,
            "tokens": self.training.tokens,
            "length": self.training.length,
            "rank": self.training.rank,
            "supervised_share": self.training.supervised_share,
            "methods": [m.as_dict() for m in self.methods],
            "advice": list(self.advice),
        }


def plan(
    model: str,
    *,
    method: str | None = None,
    gpu: str | None = None,
    gpus: int | None = None,
    max_tokens: int = 2048,
    micro_batch_tokens: int = 1024,
    rank: int = 16,
    dora: bool = False,
    supervised_share: float = 0.1,
    gradient_checkpointing: bool = False,
    total_tokens: int | None = None,
    measure: bool = True,
) -> Plan:
    """Plan full, LoRA and QLoRA training of a model, of which only the configuration need be here.

    Args:
        model: a catalogue name, a folder, or a built-in shape (`llama-70b`, see `doyen.planning.shapes.SHAPES`).
        method: only this one; None for all.
        gpu: such as `h100`, `24`, `2x24`; None for this machine, whose matrix rate is measured (about 1 s).
        gpus: how many, where `gpu` does not say.
        max_tokens: the longest example; longer than `micro_batch_tokens`, it is a micro-batch of its own.
        micro_batch_tokens: padded tokens computed at once.
        rank: LoRA's rank.
        dora: whether DoRA's magnitudes are trained too.
        gradient_checkpointing: whether to plan with it only; else it is taken where nothing fits without.
        supervised_share: share of the tokens that are answers.
        total_tokens: tokens to be trained on, epochs included, for the hours.
        measure: whether to time this machine.

    Raises:
        ModelError: the model is unknown, or its configuration is not here.
        UsageError: the method, GPU or a number makes no sense.
    """
    if method is not None and method not in METHODS:
        raise UsageError(f"unknown method '{method}'", hint=f"--method {', '.join(METHODS)}")
    _require_positive(max_tokens=max_tokens, micro_batch_tokens=micro_batch_tokens, rank=rank, gpus=gpus or 1)
    if not 0 < supervised_share <= 1:
        raise UsageError(f"a supervised share of {supervised_share}", hint="--supervised: above 0, at most 1")
    shape = find_shape(model)
    if gpu is None and gpus is not None:
        raise UsageError(f"--gpus {gpus} of which kind?", hint="--gpu 24 or --gpu h100 with it")
    machine = read_machine(gpu, gpus) if gpu else this_machine(measure=measure)
    length = min(max_tokens, shape.context or max_tokens)
    training = Training(
        method=method or "lora",
        tokens=max(micro_batch_tokens, length),
        length=length,
        rank=rank,
        dora=dora,
        supervised_share=supervised_share,
        checkpointing=gradient_checkpointing,
        gpu=machine.device.kind == "gpu",
        compute_bytes=2 if machine.device.kind == "gpu" else _processor_bytes(),
    )
    return plan_training(shape, training, machine, (method,) if method else METHODS, total_tokens)


def plan_training(
    shape: ModelShape, training: Training, machine: Machine, methods: tuple[str, ...], total_tokens: int | None = None
) -> Plan:
    """Plan methods for a shape, a way to train and a machine that are known already."""
    found = tuple(plan_method(shape, replace(training, method=m), machine, total_tokens) for m in methods)
    return Plan(shape, machine, training, found, tuple(advise(found, machine)))


def _require_positive(**numbers: int) -> None:
    for name, value in numbers.items():
        if value < 1:
            raise UsageError(f"{name.replace('_', ' ')} is {value}", hint=f"--{name.replace('_', '-')}: 1 or more")


def _processor_bytes() -> int:
    """Bytes of a number in training on this processor: bfloat16 where it has that, else float32."""
    try:
        from doyen.models.engine import working_dtype

        return int(working_dtype().itemsize)
    except ImportError:
        return 2
