"""A model's settings → the engine that answers with it: one of this machine, or a server."""

from __future__ import annotations

import dataclasses
import importlib.util
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from doyen.config import ModelSettings
from doyen.errors import ConfigError, ModelError
from doyen.models.catalogue import EndpointSource, find_entry
from doyen.models.endpoint import TIMEOUT_S, Endpoint
from doyen.models.engine import FINETUNE_EXTRA, Engine
from doyen.models.fetching import is_fetched, model_folder, require_model
from doyen.models.measured import fastest
from doyen.models.openvino_engine import OpenVINOEngine, openvino_faults
from doyen.models.pace import Pace
from doyen.models.server_engine import ServerEngine
from doyen.models.transformers_engine import TransformersEngine

OWN_TIMEOUT_S = 300.0
"""How long a server of one's own may say nothing: requests wait in its queue."""
_CHATTING = ("openai", "azure")
ENGINES: dict[str, Callable[..., Engine]] = {"openvino": OpenVINOEngine, "transformers": TransformersEngine}


def serving_engine(settings: ModelSettings) -> Engine:
    """Return the engine of the model in the settings; weights are loaded, and servers asked, at the first prompt.

    Raises:
        ModelError: the model is not here, or the engine that the settings name cannot run it.
        ConfigError: a server is to answer, and nothing says where it is.
    """
    if is_served(settings):
        return server_engine(settings)
    return local_engine(settings)


def is_served(settings: ModelSettings) -> bool:
    """Whether a server answers, not this program. Raises ConfigError where the settings contradict each other."""
    behind = isinstance(find_entry(settings.name).source, EndpointSource) if ":" in settings.name else False
    if behind and settings.engine not in ("auto", "server"):
        raise ConfigError(
            f'[model] name = "{settings.name}" is behind an API, and engine = "{settings.engine}" needs weights',
            hint='set [model] engine = "auto"',
        )
    return behind or settings.engine == "server"


def local_engine(settings: ModelSettings) -> Engine:
    """Return the engine that has the model's weights here, though a server may answer questions. Raises ModelError."""
    entry = find_entry(settings.name)
    folder = require_model(settings.name)
    options: dict[str, Any] = {"batch_tokens": settings.batch_tokens, "context_tokens": entry.context_tokens or None}
    options["bits"] = settings.bits
    wanted = "auto" if settings.engine == "server" else settings.engine
    return ENGINES[engine_name(folder, wanted, settings.bits)](folder, name=entry.name, **options)


def server_engine(settings: ModelSettings, *, table: str = "model") -> ServerEngine:
    """Return the engine that asks a server; `table` of `doyen.toml` is what errors name.

    Raises: ConfigError without an endpoint, EndpointError without its key.
    """
    vendor, model, folder, name = "openai", settings.name, None, settings.name
    try:
        entry = find_entry(settings.name)
    except ModelError:  # a name that only the server knows
        entry = None
    if entry is not None and isinstance(entry.source, EndpointSource):
        vendor, model = entry.source.vendor, entry.source.model
        if vendor not in _CHATTING:
            raise ModelError(f"{settings.name} writes no answers", hint=f'[{table}] name = "openai:MODEL"')
    elif not settings.endpoint:
        raise ConfigError(
            f"nothing says where the server is: [{table}] name = {settings.name!r} has no endpoint",
            hint=f"set [{table}] endpoint"
            if table != "model"
            else "doyen serve --engine vllm starts one; or set [model] endpoint",
        )
    elif entry is not None:
        model = name = entry.name
        folder = model_folder(entry) if is_fetched(entry) else None
    endpoint = Endpoint(
        vendor,
        url=settings.endpoint,
        key_variable=settings.key_variable,
        deployment=model,
        table=table,
        timeout_s=TIMEOUT_S if vendor == "azure" or not settings.endpoint else OWN_TIMEOUT_S,
        pace=Pace(settings.requests_per_minute, settings.tokens_per_minute),
    )
    return ServerEngine(endpoint, model, name=name, folder=folder, context_tokens=settings.context_tokens)


def engines_here(settings: ModelSettings) -> dict[str, Engine]:
    """Return every engine that can run the model of the settings here, by name.

    Raises:
        ModelError: the model is not here, or none of them can.
    """
    folder = require_model(settings.name)
    names = ["openvino"] * (not openvino_faults(folder)) + ["transformers"] * _has_torch()
    names = names or [engine_name(folder)]  # says what is missing
    return {name: local_engine(dataclasses.replace(settings, engine=name)) for name in names}


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
    best = wanted if wanted == "openvino" else fastest(folder, bits)
    if best == "transformers" and _has_torch():
        return best
    if not faults and (best == "openvino" or not _torch_has_gpu()):
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
