"""What, beside settings and examples, decides the bits of a training: processor, threads, precision, versions, weights."""

from __future__ import annotations

import importlib.metadata
import platform
from pathlib import Path
from typing import Any

from doyen.models.engine import working_dtype

_PACKAGES = (
    *("doyen", "torch", "transformers", "peft", "bitsandbytes", "tokenizers", "safetensors", "accelerate", "numpy"),
)


def machine() -> dict[str, Any]:
    """Return the parts of this machine and of torch's state on which the bits of a training depend."""
    import torch

    cuda = torch.cuda.is_available()
    return {
        "processor": processor_name(),
        "device": torch.cuda.get_device_name() if cuda else "cpu",
        "instructions": torch.backends.cpu.get_cpu_capability(),
        "threads": torch.get_num_threads(),
        "dtype": str(working_dtype()).removeprefix("torch."),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        **({"cuda": torch.version.cuda} if cuda else {}),
    }


def processor_name() -> str:
    """Return the processor's name as the system knows it."""
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()


def versions() -> dict[str, str]:
    """Return the versions of the packages that compute."""
    found = {}
    for name in _PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found
