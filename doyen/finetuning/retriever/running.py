"""`doyen finetune --target embedder|reranker`, and the way back: an expert's folder → a retriever that has learned it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from doyen.errors import UsageError
from doyen.finetuning.preparing import Say
from doyen.finetuning.retriever import embedder, reranker
from doyen.finetuning.retriever.embedder import Progress, finetune_embedder, undo_embedder
from doyen.finetuning.retriever.record import RetrieverTraining
from doyen.finetuning.retriever.reranker import finetune_reranker, undo_reranker

OPTIONS = {"embedder": embedder.OPTIONS, "reranker": reranker.OPTIONS}
"""How each target is trained by default."""


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
    options = OPTIONS[target]
    if learning_rate is not None:
        options = replace(options, learning_rate=learning_rate)
    if target == "embedder":
        return finetune_embedder(expert, name=name, options=options, resume=resume, progress=progress, say=say)
    if resume:
        raise UsageError("a reranker's training is not resumed", hint="doyen finetune --target reranker starts anew")
    return finetune_reranker(expert, name=name, options=options, progress=progress, say=say)


def undo_retriever(
    expert: Path | str, target: str, *, progress: Progress | None = None, say: Say | None = None
) -> RetrieverTraining:
    """Go back to the embedder or reranker from before the last training, and remove the trained one.

    Raises: UsageError where the expert uses no trained one, or the target is unknown.
    """
    _check_target(target)
    return undo_embedder(expert, progress=progress, say=say) if target == "embedder" else undo_reranker(expert)


def _check_target(target: str) -> None:
    if target not in OPTIONS:
        raise UsageError(f"unknown target '{target}'", hint=f"one of {', '.join(OPTIONS)}")
