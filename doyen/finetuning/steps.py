"""Adapted model + tokenised examples → trained weights: dry run, steps of the optimiser, checkpoints, the training curve.

Knows no base model's name and no adapter folder but the run's own work folder.
"""

from __future__ import annotations

import dataclasses
import json
import math
import os
import resource
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from doyen.config import FinetuneSettings
from doyen.errors import Interrupted
from doyen.finetuning.checkpoint import RunState, load_checkpoint, save_checkpoint
from doyen.finetuning.compiling import as_written
from doyen.finetuning.data import TokenisedExample, plan_steps
from doyen.finetuning.divergence import DivergenceWatch
from doyen.finetuning.loss import answer_loss, base_of
from doyen.finetuning.methods import LEARNING_RATE, make_optimiser
from doyen.finetuning.preparing import Prepared, Say
from doyen.finetuning.rehearsal import rehearse, try_save
from doyen.models.engine import rope_switch, working_dtype

CHECKPOINT_EVERY_S = 60.0
WARMUP_SHARE = 0.06
FINAL_RATE = 0.1


@dataclass(frozen=True, slots=True)
class TrainingProgress:
    """One line of the training curve. `loss` is the mean a supervised token of this step, in nats."""

    step: int
    steps: int
    loss: float
    learning_rate: float
    tokens_per_s: float
    seconds_left: float


Report = Callable[[TrainingProgress], None]


def train_steps(
    model: Any,
    prepared: Prepared,
    settings: FinetuneSettings,
    work: Path,
    fingerprint: str,
    report: Report | None,
    say: Say,
    checkpoint_every_s: float,
) -> RunState:
    """Run the steps of the optimiser, from the last checkpoint if there is one; Ctrl-C keeps one and raises Interrupted."""
    import torch

    steps = plan_steps(
        prepared.train,
        epochs=settings.epochs,
        batch_size=settings.batch_size,
        micro_batch_tokens=settings.micro_batch_tokens,
        seed=settings.seed,
        switch=rope_switch(base_of(model).config),
    )
    trainable = [p for p in model.parameters() if p.requires_grad]
    optimiser = make_optimiser(model, settings)
    model.train()
    _dry_run(model, optimiser, prepared, steps, settings, work, say)
    state = load_checkpoint(work, fingerprint, model, optimiser) or RunState(fingerprint)
    if state.step:
        say(f"going on after step {state.step} of {len(steps)}")
    _trim_history(work, state.step)
    watch = DivergenceWatch.of_run(work, LEARNING_RATE[settings.method], state.step)
    saved = begun = time.perf_counter()
    earlier, tokens_before = state.seconds, state.tokens
    random, whole = torch.get_rng_state(), True  # whole: the weights are those of `state.step` whole steps
    try:
        for number in range(state.step, len(steps)):
            rate = learning_rate(number, len(steps), settings.learning_rate)
            loss, tokens = _gradients(model, prepared.train, steps[number])
            watch.see(loss, _clip(trainable), settings.learning_rate)
            whole = False
            _update(optimiser, rate)
            now = time.perf_counter()
            state.step, state.tokens, state.last_loss = number + 1, state.tokens + tokens, loss
            state.seconds = earlier + now - begun
            pace = (state.tokens - tokens_before) / (now - begun)
            left = (
                sum(len(prepared.train[i].ids) for step in steps[number + 1 :] for group in step for i in group) / pace
            )
            line = TrainingProgress(state.step, len(steps), loss, rate, pace, left)
            _append(work / "history.jsonl", dataclasses.asdict(line))
            random, whole = torch.get_rng_state(), True
            if report:
                report(line)
            if now - saved > checkpoint_every_s:
                save_checkpoint(work, state, model, optimiser, random)
                saved = time.perf_counter()
    except KeyboardInterrupt:
        if whole and state.step:
            save_checkpoint(work, state, model, optimiser, random)
        raise _interrupted(work, state.step, len(steps)) from None
    save_checkpoint(work, state, model, optimiser, random)
    model.eval()
    return state


def _interrupted(work: Path, step: int, steps: int) -> Interrupted:
    command = f"doyen finetune --name {work.name[1:].removesuffix('.training')}"
    if (work / "checkpoint.pt").exists():
        return Interrupted(f"stopped in step {step + 1} of {steps}; a checkpoint is kept", hint=f"{command} --resume")
    return Interrupted(f"stopped in the first of {steps} steps; there is nothing to keep yet", hint=command)


def _gradients(model: Any, examples: Sequence[TokenisedExample], groups: Sequence[Sequence[int]]) -> tuple[float, int]:
    """Compute one step's gradients; return the mean loss a supervised token and the number of tokens read."""
    model.zero_grad(set_to_none=True)
    count = sum(examples[i].supervised for group in groups for i in group)
    total = 0.0
    for group in groups:
        with _mixed_precision(model):
            loss, _ = answer_loss(model, [examples[i] for i in group])
        (loss / count).backward()
        total += float(loss.detach())
    return total / count, sum(len(examples[i].ids) for group in groups for i in group)


def _clip(trainable: list[Any]) -> float:
    """Clip the gradients to norm 1 and return their norm before."""
    import torch

    norm = torch.nn.utils.clip_grad_norm_(trainable, 1.0)
    return float(norm.full_tensor() if hasattr(norm, "full_tensor") else norm)


def _update(optimiser: Any, rate: float) -> None:
    """Let the optimiser take one step with the gradients."""
    for parameters in optimiser.param_groups:
        parameters["lr"] = rate
    optimiser.step()


def _dry_run(
    model: Any,
    optimiser: Any,
    prepared: Prepared,
    steps: Sequence[Sequence[Sequence[int]]],
    settings: FinetuneSettings,
    work: Path,
    say: Say,
) -> None:
    """Do once what the run will do, with its largest micro-batch, so that memory runs out now or not at all."""
    examples = prepared.train
    largest = max(
        (group for step in steps for group in step), key=lambda g: len(g) * max(len(examples[i].ids) for i in g)
    )
    rehearse(
        model,
        optimiser,
        lambda: try_gradients(model, *(examples[i] for i in largest)),
        lambda batch: _loss_without_gradients(model, batch),
        prepared.validation,
        settings.micro_batch_tokens,
        lambda: try_save(work / "rehearsal", model, optimiser),
    )
    width = max(len(examples[i].ids) for i in largest)
    peak = peak_memory_gib()
    prepared.gates["memory"] = {"rows": len(largest), "width": width, "peak_gib": round(peak, 2)}
    say(
        f"dry run of the largest micro-batch ({len(largest)} × {width} tokens), evaluation and save: {peak:.1f} GiB at most"
    )


def _loss_without_gradients(model: Any, examples: Sequence[TokenisedExample]) -> None:
    import torch

    with torch.inference_mode(), _mixed_precision(model), as_written(model):
        answer_loss(model, examples)


def try_gradients(model: Any, *examples: TokenisedExample) -> None:
    """Compute the gradients of one micro-batch and drop them; torch's random state stays as it was."""
    import torch

    state = torch.get_rng_state()
    with _mixed_precision(model):
        loss, _ = answer_loss(model, examples)
    loss.backward()
    model.zero_grad(set_to_none=True)
    torch.set_rng_state(state)


@contextmanager
def _mixed_precision(model: Any) -> Iterator[None]:
    """Compute matrix products in the base model's precision; the LoRA weights themselves stay float32."""
    import torch

    dtype = working_dtype()
    with torch.autocast(next(model.parameters()).device.type, dtype=dtype, enabled=dtype != torch.float32):
        yield


def learning_rate(step: int, steps: int, peak: float) -> float:
    """Linear warm-up over WARMUP_SHARE of the steps, then cosine decay to FINAL_RATE of the peak."""
    warmup = max(1, round(WARMUP_SHARE * steps))
    if step < warmup:
        return peak * (step + 1) / warmup
    done = (step - warmup) / max(1, steps - warmup)
    return peak * (FINAL_RATE + (1 - FINAL_RATE) * 0.5 * (1 + math.cos(math.pi * done)))


def _append(path: Path, row: dict[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a", encoding="utf-8") as f:
        f.write(json.dumps({k: round(v, 6) if isinstance(v, float) else v for k, v in row.items()}) + os.linesep)


def _trim_history(work: Path, step: int) -> None:
    """Drop the lines of steps that will be run again."""
    path = work / "history.jsonl"
    work.mkdir(parents=True, exist_ok=True)
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    path.write_text("".join(line + "\n" for line in lines[:step]), encoding="utf-8")


def peak_memory_gib() -> float:
    """Return this process's highest resident memory so far."""
    unit = 2**30 if sys.platform == "darwin" else 2**20
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit
