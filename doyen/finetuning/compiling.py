"""The layers of a model → the same layers with their element-wise work fused into compiled loops (`torch.compile`).

Knows when that pays. What is saved, and what runs without gradients, stays as it was.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from doyen.config import FinetuneSettings
from doyen.finetuning.loss import base_of
from doyen.finetuning.preparing import Say

FEWEST_TOKENS = 300_000
"""Of a whole run on the CPU: compiling takes half a minute to one and a half there, and wins a fourth of the time (LOG.md)."""


def compiles(settings: FinetuneSettings, tokens: int, device: str) -> bool:
    """Return whether a run over `tokens` tokens compiles its layers: as set, or (auto) where that was measured to pay.

    On a GPU auto means no: it was not measured there.
    """
    if settings.compile != "auto":
        return settings.compile == "on"
    compiler = any(shutil.which(name) for name in ("g++", "clang++", "c++"))
    return device == "cpu" and settings.method != "qlora" and tokens >= FEWEST_TOKENS and compiler


def compile_layers(model: Any, trial: Callable[[], Any], say: Say) -> bool:
    """Compile each decoder layer for any batch and width; `trial` computes gradients once. Where it fails, undo it.

    One compiled function serves all layers, since they are alike. Returns whether they are compiled.
    """
    import torch

    say("compiling the layers: up to a minute and a half, less the next time")
    for layer in _layers(model):
        layer.compile(dynamic=True)
    try:
        trial()
    except Exception as error:  # noqa: BLE001 - whatever a compiler of this machine raises: the run goes on without
        for layer in _layers(model):
            layer._compiled_call_impl = None
        torch._dynamo.reset()
        say(f"not compiled ({type(error).__name__}: {str(error).strip().splitlines()[0]}); training goes on without")
        return False
    return True


@contextmanager
def as_written(model: Any) -> Iterator[None]:
    """Run the layers uncompiled: without gradients they would be compiled once more."""
    compiled = [(layer, layer._compiled_call_impl) for layer in _layers(model)]
    for layer, _ in compiled:
        layer._compiled_call_impl = None
    try:
        yield
    finally:
        for layer, call in compiled:
            layer._compiled_call_impl = call


def _layers(model: Any) -> list[Any]:
    return list(getattr(base_of(model).get_decoder(), "layers", ()))
