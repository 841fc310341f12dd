"""What a machine has for training: memory, the dense bf16 rate, bandwidth. A table of GPUs, or this machine measured.

Enters: a name such as `h100`, `2x24` or `4xa100-80`. Leaves: a Machine. Knows no model.
"""

from __future__ import annotations

import os
import re
import time
from dataclasses import dataclass

from doyen.errors import UsageError

_DATASHEET = "https://www.nvidia.com/en-us/data-center/"


@dataclass(frozen=True, slots=True)
class Device:
    """A GPU, or this machine's processor. 0 where a figure is unknown.

    `memory_gib` is the whole memory, `tera_flops` the dense bf16 matrix rate (no sparsity), `bandwidth_gb_s` that of
    its memory, `source` where the figures are from.
    """

    name: str
    memory_gib: float
    tera_flops: float
    bandwidth_gb_s: float
    source: str
    kind: str = "gpu"


def _gpu(name: str, memory: float, rate: float, bandwidth: float, source: str) -> Device:
    return Device(name, memory, rate, bandwidth, source if source.startswith("http") else _DATASHEET + source)


_ADA = "https://images.nvidia.com/aem-dam/Solutions/Data-Center/l4/nvidia-ada-gpu-architecture-whitepaper-v2.1.pdf"
_GA102 = "https://www.nvidia.com/content/PDF/nvidia-ampere-ga-102-gpu-architecture-whitepaper-v2.1.pdf"
_BLACKWELL = "https://images.nvidia.com/aem-dam/Solutions/geforce/blackwell/nvidia-rtx-blackwell-gpu-architecture.pdf"
GPUS = {
    gpu.name: gpu
    for gpu in (
        # By the makers' data sheets and white papers, compared with secondary sources only: the addresses were out of
        # reach when this was written. Where they give the rate with sparsity, half of it. The T4 has no bf16:
        # its rate is that of float16.
        _gpu("t4", 16, 65, 320, "tesla-t4/"),
        _gpu("l4", 24, 121, 300, "l4/"),
        _gpu("a10", 24, 125, 600, "products/a10-gpu/"),
        _gpu("rtx-3090", 24, 71, 936, _GA102),
        _gpu("rtx-4090", 24, 165, 1008, _ADA),
        _gpu("rtx-5090", 32, 209.5, 1792, _BLACKWELL),
        _gpu("rtx-a6000", 48, 155, 768, _GA102),
        _gpu("l40s", 48, 362, 864, "l40s/"),
        _gpu("a100-40", 40, 312, 1555, "a100/"),
        _gpu("a100-80", 80, 312, 2039, "a100/"),
        _gpu("h100-pcie", 80, 756, 2000, "h100/"),
        _gpu("h100", 80, 989, 3350, "h100/"),
        _gpu("h200", 141, 989, 4800, "h200/"),
        _gpu("b200", 180, 2250, 8000, "dgx-b200/"),
        _gpu("mi300x", 192, 1307, 5300, "https://www.amd.com/en/products/accelerators/instinct/mi300/mi300x.html"),
    )
}
_ALIASES = {"a100": "a100-80", "4090": "rtx-4090", "3090": "rtx-3090", "5090": "rtx-5090", "a6000": "rtx-a6000"}
_USABLE = 0.975
"""Of the memory on the label, what a process sees: an H100's 80 are 79.1 GiB in PyTorch, less error correction's share."""


@dataclass(frozen=True, slots=True)
class Machine:
    """`count` devices of one kind."""

    device: Device
    count: int = 1

    @property
    def usable_gib(self) -> float:
        """What one device has for a process."""
        return self.device.memory_gib * (_USABLE if self.device.kind == "gpu" else 1.0)

    @property
    def label(self) -> str:
        """Such as `2 × rtx-4090 (24 GiB)`."""
        many = f"{self.count} × " if self.count > 1 else ""
        return f"{many}{self.device.name} ({self.device.memory_gib:.0f} GiB)"


def read_machine(text: str, count: int | None = None) -> Machine:
    """Read `h100`, `2xh100`, `24`, `24GB` or `2x24`; `count` is the number of GPUs where the text has none.

    Raises:
        UsageError: there is no such GPU in the table, or the number of GPUs is given twice and differs.
    """
    match = re.fullmatch(r"(?:(\d+)\s*[x×*]\s*)?(.+?)", text.strip().lower())
    name = match[2].replace(" ", "-").removeprefix("nvidia-") if match else ""
    number = int(match[1]) if match and match[1] else None
    if number is not None and count is not None and number != count:
        raise UsageError(f"--gpu {text} names {number} GPUs and --gpus {count}", hint="one of the two")
    many = number if number is not None else count or 1
    size = re.fullmatch(r"(\d+(?:\.\d+)?)\s*(?:gb|gib|g)?", name)
    if size and name not in _ALIASES and float(size[1]) > 0 and many > 0:
        return Machine(Device("GPU", float(size[1]), 0.0, 0.0, "as given"), many)
    gpu = GPUS.get(_ALIASES.get(name, name))
    if gpu is None or many < 1:
        raise UsageError(
            f"unknown GPU '{text}'", hint=f"memory (24, 2x24) or a name (h100, 2xa100-80): {', '.join(GPUS)}"
        )
    return Machine(gpu, many)


def this_machine(*, measure: bool = True) -> Machine:
    """Return this machine's GPUs, or its processor and memory; `measure` times matrix products on it (about 1 s)."""
    try:
        import torch
    except ImportError:
        return Machine(_processor(0.0))
    if torch.cuda.is_available():
        first = torch.cuda.get_device_properties(0)
        name = first.name.lower().replace(" ", "-").removeprefix("nvidia-").removeprefix("geforce-")
        known = next((g for key, g in GPUS.items() if key in name), None)
        memory = first.total_memory / 2**30 / _USABLE
        rate, bandwidth = (known.tera_flops, known.bandwidth_gb_s) if known else (0.0, 0.0)
        if measure:
            rate = _matrix_rate("cuda")
        return Machine(Device(name, memory, rate, bandwidth, "measured here"), torch.cuda.device_count())
    return Machine(_processor(_matrix_rate("cpu") if measure else 0.0))


def _processor(rate: float) -> Device:
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return Device(f"this machine ({os.cpu_count()} cores)", memory, rate, 0.0, "measured here", kind="cpu")


def _matrix_rate(device: str, seconds: float = 1.0) -> float:
    """Time matrix products of a linear layer's size in the precision of training; return tera FLOP/s."""
    import torch

    from doyen.models.engine import working_dtype

    rows, width = (8192, 8192) if device == "cuda" else (1024, 2048)
    x = torch.randn(rows, width, device=device, dtype=working_dtype())
    w = torch.randn(width, width, device=device, dtype=working_dtype())

    def wait() -> float:
        if device == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter()

    with torch.inference_mode():
        for _ in range(3):
            torch.nn.functional.linear(x, w)
        begun, done = wait(), 0
        while wait() - begun < seconds:
            torch.nn.functional.linear(x, w)
            done += 1
        return 2 * rows * width * width * done / (wait() - begun) / 1e12
