"""`doyen finetune --target embedder|reranker`, and the way back: an expert's folder → a retriever that has learned it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from doyen.errors import UsageError
from doyen.finetuning.preparing import Say
from doyen.finetuning.retriever.embedder import (
    EmbedderOptions,
    Progress,
    finetune_embedder,
    undo_embedder,
)
from doyen.finetuning.retriever.record import RetrieverTraining
from doyen.finetuning.retriever.reranker import RerankerOptions, finetune_reranker, undo_reranker

TARGETS = ("embedder", "reranker")


def finetune_retriever(
    expert: Path | str,
    target: str,
    *,
    name: str | None = None,
    learning_rate: float | None = None,
    resume: bool = False,
    progress: Progress | None = None,
    say: Say | None = None,
) -> RetrieverTraining:
    """Train the expert's embedder, or a reranker, on its documents and imported training questions.

    It is used only if the 95% interval of its gain on held-out documents lies above zero; `used` of what is returned
    says so. `progress` is called with stage, done, total and a remark.

    Raises:
        UsageError: the target is unknown, the name is taken, or there is nothing to resume.
        ExamplesError, GateError, ModelError, StoreError, Interrupted: see `finetune_embedder`, `finetune_reranker`.
    """
    _check_target(target)
    if target == "embedder":
        options = EmbedderOptions()
        options = options if learning_rate is None else replace(options, learning_rate=learning_rate)
        return finetune_embedder(expert, name=name, options=options, resume=resume, progress=progress, say=say)
    if resume:
        raise UsageError("a reranker's training is not resumed", hint="doyen finetune --target reranker starts anew")
    own = RerankerOptions()
    own = own if learning_rate is None else replace(own, learning_rate=learning_rate)
    return finetune_reranker(expert, name=name, options=own, progress=progress, say=say)


def undo_retriever(
    expert: Path | str, target: str, *, progress: Progress | None = None, say: Say | None = None
) -> RetrieverTraining:
    """Go back to the embedder or reranker from before the last training, and remove the trained one.

    Raises: UsageError where the expert uses no trained one, or the target is unknown.
    """
    _check_target(target)
    return undo_embedder(expert, progress=progress, say=say) if target == "embedder" else undo_reranker(expert)


def _check_target(target: str) -> None:
    if target not in TARGETS:
        raise UsageError(f"unknown target '{target}'", hint=f"one of {', '.join(TARGETS)}")
