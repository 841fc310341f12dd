"""Shape × machine → for each method, the lightest way that fits, its memory by part, and time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from doyen.planning.devices import Machine
from doyen.planning.memory import GIB, Training, check_bytes, disk_bytes, parts, trained_parameters
from doyen.planning.shapes import ModelShape
from doyen.planning.timing import tokens_per_s

METHODS = ("full", "lora", "qlora")
RESERVE = 0.05
"""Of the memory, left free: what is measured differs from what is planned by this much and more."""


@dataclass(frozen=True, slots=True)
class Way:
    """One way of training by a method: what each device needs at the highest point. Sizes in GiB."""

    method: str
    placement: str
    checkpointing: bool
    parts_gib: dict[str, float]
    total_gib: float
    fits: bool
    host_gib: float
    runs_here: bool

    @property
    def label(self) -> str:
        """Such as `qlora, FSDP, gradient checkpointing`."""
        placed = [] if self.placement == "one device" else [self.placement]
        return ", ".join([self.method, *placed, *(["gradient checkpointing"] if self.checkpointing else [])])


@dataclass(frozen=True, slots=True)
class MethodPlan:
    """A method's lightest way that fits the machine (else the one that needs least), and the others that were tried.

    `tokens_per_s` is of all devices together; None where the device's rate is not known. `check_gib` is what the check
    of the result on the base in 16 bits takes after training, `disk_gib` what checkpoints take.
    """

    way: Way
    tried: tuple[Way, ...]
    trained_parameters: int
    tokens_per_s: float | None
    hours: float | None
    check_gib: float
    check_fits: bool
    disk_gib: float

    def as_dict(self) -> dict[str, Any]:
        """Return the plan as JSON."""
        row = asdict(self)
        way: dict[str, Any] = row.pop("way")
        kept = ("placement", "checkpointing", "total_gib", "fits")
        return way | row | {"tried": [{k: w[k] for k in kept} for w in row["tried"]]}


def plan_method(shape: ModelShape, how: Training, machine: Machine, total_tokens: int | None) -> MethodPlan:
    """Try the ways of one method from the fastest to the leanest; take the first that fits."""
    ordered = _ways(how, machine)
    ways = [_way(shape, changed, machine, placement) for placement, changed in ordered]
    fitting = [i for i, way in enumerate(ways) if way.fits]
    chosen = fitting[0] if fitting else min(range(len(ways)), key=lambda i: ways[i].total_gib)
    used = ordered[chosen][1]
    rate = tokens_per_s(shape, used, machine)
    if used.offload:
        rate = None  # bound by the bus to the machine's memory, of which nothing is known here
    check = check_bytes(shape, how) / GIB
    return MethodPlan(
        way=ways[chosen],
        tried=tuple(ways),
        trained_parameters=trained_parameters(shape, how),
        tokens_per_s=rate and round(rate, 1),
        hours=round(total_tokens / rate / 3600, 2) if rate and total_tokens else None,
        check_gib=round(check, 2),
        check_fits=check <= machine.usable_gib,
        disk_gib=round(disk_bytes(shape, how) / GIB, 2),
    )


def _ways(how: Training, machine: Machine) -> list[tuple[str, Training]]:
    """Return placements with what they change, the fastest first."""
    kept = replace(how, checkpointing=True)
    whole = "one device" if machine.count == 1 else "DDP"
    ways = [(whole, how)] if not how.checkpointing else []
    ways.append((whole, kept))
    if machine.count > 1:
        ways += [("FSDP", replace(kept, shards=machine.count))]
        ways += [("FSDP with CPU offload", replace(kept, shards=machine.count, offload=True))]
    return ways


def _way(shape: ModelShape, how: Training, machine: Machine, placement: str) -> Way:
    found = {name: value / GIB for name, value in parts(shape, how).items() if value}
    host = 0.0
    if placement == "DDP":
        found["gradient buckets"] = found["gradients"]  # DDP copies gradients into buckets to reduce them
    if how.offload:
        one = parts(shape, replace(how, shards=1, offload=False))
        host = sum(one[name] for name in ("weights", "adapter", "gradients", "optimiser")) / GIB
    total = sum(found.values())
    return Way(
        method=how.method,
        placement=placement,
        checkpointing=how.checkpointing,
        parts_gib={name: round(value, 3) for name, value in found.items()},
        total_gib=round(total, 2),
        fits=total <= machine.usable_gib * (1 - RESERVE),
        host_gib=round(host, 2),
        runs_here=placement in ("one device", "DDP") or (placement == "FSDP" and how.method != "qlora"),
    )


def advise(plans: Sequence[MethodPlan], machine: Machine) -> list[str]:
    """Say which method fits the machine, and what to mind."""
    fitting = [p for p in plans if p.way.fits]
    if not fitting:
        least = min(plans, key=lambda p: p.way.total_gib)
        free = machine.usable_gib * (1 - RESERVE)
        return [
            f"nothing fits: {least.way.label} needs {least.way.total_gib:.1f} GiB on each device, {free:.1f} are to be had"
        ]
    # LoRA before QLoRA, unless it has to be sharded further or offloaded; full fine-tuning is the yardstick.
    order = ("one device", "DDP", "FSDP", "FSDP with CPU offload")
    by_cost = {"lora": 0, "qlora": 0.5, "full": 2}

    def cost(plan: MethodPlan) -> float:
        offloaded = plan.way.placement == order[-1]
        return order.index(plan.way.placement) + (plan.way.host_gib if offloaded else by_cost[plan.way.method])

    best = min(fitting, key=cost)
    lines = [f"{best.way.label}: {best.way.total_gib:.1f} GiB of {machine.usable_gib:.1f} on each device"]
    if best.way.host_gib:
        lines.append(f"and {best.way.host_gib:.0f} GiB of the machine's own memory for what is offloaded")
    if not best.way.runs_here:
        lines.append(f"{best.way.label} is arithmetic: doyen finetune does not do it")
    elif machine.count > 1:
        shard = " --shard" if best.way.placement == "FSDP" else ""
        lines.append(f"doyen finetune --method {best.way.method} --processes {machine.count}{shard}")
    if not best.check_fits:
        lines.append(
            f"the check after training loads the base in 16 bits, {best.check_gib:.1f} GiB: it does not fit on one device"
        )
    return lines
