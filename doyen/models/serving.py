"""A model's folder → the engine that answers with it here, chosen by the settings, the model and the machine."""

from __future__ import annotations

import dataclasses
import importlib.util
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from doyen.config import ModelSettings
from doyen.errors import ModelError
from doyen.models.catalogue import find_entry
from doyen.models.engine import FINETUNE_EXTRA, Engine
from doyen.models.fetching import require_model
from doyen.models.measured import fastest
from doyen.models.openvino_engine import OpenVINOEngine, openvino_faults
from doyen.models.transformers_engine import TransformersEngine

ENGINES: dict[str, Callable[..., Engine]] = {"openvino": OpenVINOEngine, "transformers": TransformersEngine}


def serving_engine(settings: ModelSettings) -> Engine:
    """Return the engine of the model in the settings; its weights are loaded at the first prompt.

    Raises:
        ModelError: the model is not here, or the engine that the settings name cannot run it.
    """
    entry = find_entry(settings.name)
    folder = require_model(settings.name)
    options: dict[str, Any] = {"batch_tokens": settings.batch_tokens, "context_tokens": entry.context_tokens or None}
    options["bits"] = settings.bits
    return ENGINES[engine_name(folder, settings.engine, settings.bits)](folder, name=entry.name, **options)


def engines_here(settings: ModelSettings) -> dict[str, Engine]:
    """Return every engine that can run the model of the settings here, by name.

    Raises:
        ModelError: the model is not here, or none of them can.
    """
    folder = require_model(settings.name)
    names = [engine_name(folder)] if not _has_torch() else ["transformers"]
    names += ["openvino"] if not openvino_faults(folder) else []
    return {name: serving_engine(dataclasses.replace(settings, engine=name)) for name in dict.fromkeys(names)}


def engine_name(folder: Path, wanted: str = "auto", bits: int = 16) -> str:
    """Return "openvino" or "transformers". By itself it is the one that `doyen doctor --bench` found the faster.

    Where nothing was measured, it is OpenVINO, if that knows the model and torch has no GPU.

    Raises:
        ModelError: the wanted engine cannot run this model here.
    """
    if wanted == "transformers":
        return wanted
    faults = openvino_faults(folder)
    if wanted == "openvino" and faults:
        raise ModelError(
            f"the OpenVINO engine does not know the model in {folder}: {'; '.join(faults)}",
            hint='set [model] engine = "auto"',
        )
    best = fastest(folder, bits) if wanted == "auto" else None
    if best == "transformers" and _has_torch():
        return best
    if "openvino" in (wanted, best) and not faults or (not faults and not _torch_has_gpu()):
        return "openvino"
    if not _has_torch():
        raise ModelError(
            f"this model needs torch and transformers, which are not installed ({'; '.join(faults)})",
            hint=FINETUNE_EXTRA,
        )
    return "transformers"


def _has_torch() -> bool:
    return all(importlib.util.find_spec(name) is not None for name in ("torch", "transformers"))


def _torch_has_gpu() -> bool:
    """Whether torch computes on a GPU here; it is imported only where a driver is, since that takes seconds."""
    drivers = ("/dev/nvidiactl", "/dev/kfd", "/dev/dxg")  # NVIDIA's, AMD's, that of Windows under WSL
    if not _has_torch() or not (sys.platform == "win32" or any(Path(driver).exists() for driver in drivers)):
        return False
    import torch

    return bool(torch.cuda.is_available())
