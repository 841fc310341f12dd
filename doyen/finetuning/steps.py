"""Adapted model + tokenised examples → trained weights: dry run, steps of the optimiser, held-out loss, checkpoints, curve.

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
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from doyen.config import FinetuneSettings
from doyen.errors import Interrupted
from doyen.finetuning.checkpoint import RunState, keep_weights, load_checkpoint, restore_kept, run_name, save_checkpoint
from doyen.finetuning.compiling import as_written
from doyen.finetuning.data import TokenisedExample, plan_steps
from doyen.finetuning.divergence import DivergenceWatch
from doyen.finetuning.held_out import HeldOutPlan, plan_held_out
from doyen.finetuning.loss import answer_loss, base_of, example_losses
from doyen.finetuning.methods import LEARNING_RATE, make_optimiser
from doyen.finetuning.parallel import Group
from doyen.finetuning.preparing import Prepared, Say
from doyen.finetuning.rehearsal import rehearse, try_save
from doyen.models.engine import rope_switch, working_dtype

CHECKPOINT_EVERY_S = 60.0
WARMUP_SHARE = 0.06
FINAL_RATE = 0.1
_APART = (
    "the processes have other checkpoints than each other",
    "the same expert's folder, on a shared disk, on every machine",
)


@dataclass(frozen=True, slots=True)
class TrainingProgress:
    """One line of the training curve. `loss` is the mean a supervised token of this step, in nats.

    `held_out_loss` is the same of validation examples after the step, None where it was not measured. `stage` names a
    stage before that of the examples.
    """

    step: int
    steps: int
    loss: float
    learning_rate: float
    tokens_per_s: float
    seconds_left: float
    held_out_loss: float | None = None
    stage: str | None = None


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
    group: Group | None = None,
) -> RunState:
    """Run the steps of the optimiser, from the last checkpoint if there is one; Ctrl-C keeps one and raises Interrupted.

    Of several processes each computes its share of every step, and all take the same step.
    Leaves in the model the last weights, or those from before the held-out loss surely rose.
    """
    group = group or Group()
    loop = _Loop(model, prepared, settings, work, group)
    loop.begin(fingerprint, say)
    saved = time.perf_counter()
    try:
        while not loop.ended:
            line = loop.take_step()
            if report:
                report(line)
            stop, save = group.decide(save=time.perf_counter() - saved > checkpoint_every_s)
            if stop or save:
                loop.save()
                saved = time.perf_counter()
            if stop:
                group.wait()  # the checkpoint is written
                raise loop.interrupted()
    except KeyboardInterrupt:
        loop.save_if_whole()
        raise loop.interrupted() from None
    loop.save()
    loop.restore_kept(say)
    model.eval()
    return loop.state


class _Loop:
    """A run between its steps: the plan, the optimiser, and where it is. All processes of a group take the same steps."""

    def __init__(self, model: Any, prepared: Prepared, settings: FinetuneSettings, work: Path, group: Group) -> None:
        switch = rope_switch(base_of(model).config)
        self._model, self._prepared, self._settings = model, prepared, settings
        self._work, self._group = work, group
        self._steps = plan_steps(
            prepared.train,
            epochs=settings.epochs,
            batch_size=settings.batch_size,
            micro_batch_tokens=settings.micro_batch_tokens,
            seed=settings.seed,
            switch=switch,
        )
        self._shares = group.share(prepared.train, self._steps, settings.micro_batch_tokens, switch)
        self._held_out = plan_held_out(prepared.validation, prepared.train, self._steps, settings)
        self._trainable = [p for p in model.parameters() if p.requires_grad]
        self._optimiser = make_optimiser(model, settings)

    def begin(self, fingerprint: str, say: Say) -> None:
        """Try the largest micro-batch, then take up the last checkpoint, or measure the held-out loss before the first step."""
        model, steps, group = self._model, len(self._steps), self._group
        model.train()
        _dry_run(model, self._optimiser, self._prepared, self._shares, self._settings, self._work, say, group)
        self.state = _state(model, self._optimiser, self._work, fingerprint, steps, say, group)
        if self._held_out.examples and not self.state.step:
            losses = without_gradients(model, self._held_out.examples, self._settings, group)
            self._held_out.begin(self.state.held_out, losses)
        self._watch = DivergenceWatch.of_run(self._work, LEARNING_RATE[self._settings.method], self.state.step)
        self._clock = _Clock(self.state, self._prepared.train, self._steps)
        self._after_whole_step()

    @property
    def ended(self) -> bool:
        """Whether all steps are taken, or the held-out loss rose for too long."""
        return self.state.step >= len(self._steps) or self.state.held_out.stopped

    def take_step(self) -> TrainingProgress:
        """Take one step, measure the held-out loss if it is due, and write a line of the curve."""
        state, settings, number = self.state, self._settings, self.state.step
        rate = learning_rate(number, len(self._steps), settings.learning_rate)
        loss, tokens = _gradients(
            self._model, self._prepared.train, self._steps[number], self._shares[number], self._group
        )
        self._group.add_gradients(self._trainable)
        self._watch.see(loss, _clip(self._trainable), settings.learning_rate)
        self._whole = False
        _update(self._optimiser, rate)
        state.step, state.tokens, state.last_loss = number + 1, state.tokens + tokens, loss
        pace, left = self._clock.after_step(state)
        measured = _held_out_loss(self._model, self._held_out, state, settings, self._work, self._group)
        line = TrainingProgress(state.step, len(self._steps), loss, rate, pace, left, measured)
        if self._group.main:
            row = {k: v for k, v in dataclasses.asdict(line).items() if v is not None}
            _append(self._work / "history.jsonl", row)
        self._after_whole_step()
        return line

    def _after_whole_step(self) -> None:
        """Note that the weights are those of `state.step` whole steps, and the random state that the next one begins with."""
        import torch

        self._random, self._whole = torch.get_rng_state(), True

    def save(self) -> None:
        """Write a checkpoint, of whose weights all processes have the same."""
        self._group.require_alike(self._trainable)
        save_checkpoint(self._work, self.state, self._model, self._optimiser, self._random, self._group)

    def save_if_whole(self) -> None:
        """Write a checkpoint unless a step was interrupted within, or there are others that would have to take part."""
        if self._whole and self.state.step and self._group.size == 1:
            save_checkpoint(self._work, self.state, self._model, self._optimiser, self._random)

    def restore_kept(self, say: Say) -> None:
        """Put back the weights from before the held-out loss surely rose, if it did."""
        found = self.state.held_out
        if found.evaluations and found.kept_step != self.state.step:
            say(_rose(self.state, len(self._steps)))
            self._group.wait()
            restore_kept(self._work, found.kept_step, self._model)

    def interrupted(self) -> Interrupted:
        """Return the error that says where the run stopped."""
        return _interrupted(self._work, self.state.step, len(self._steps), self._group)


def _state(model: Any, optimiser: Any, work: Path, fingerprint: str, steps: int, say: Say, group: Group) -> RunState:
    """Return where to go on, with model and optimiser as they were there; the start where there is no checkpoint."""
    state = load_checkpoint(work, fingerprint, model, optimiser, group) or RunState(fingerprint, processes=group.size)
    _go_on(state, steps, say)
    group.require_same((fingerprint, state.step), *_APART)
    if group.main:
        _trim_history(work, state.step)
    group.wait()  # the others read it
    return state


def _go_on(state: RunState, steps: int, say: Say) -> None:
    """Say where a resumed run goes on, and what will keep it from ending as an undisturbed one."""
    import torch

    threads = torch.get_num_threads()
    if state.step:
        say(f"going on after step {state.step} of {steps}")
        if state.threads not in (0, threads):
            say(
                f"warning: {threads} threads now, {state.threads} before: the adapter will differ in its last digits from "
                f"that of an undisturbed run (OMP_NUM_THREADS={state.threads} for the same)"
            )
    state.threads = threads


class _Clock:
    """Seconds, tokens a second and seconds left of a run that may have been interrupted before."""

    def __init__(
        self, state: RunState, examples: Sequence[TokenisedExample], steps: Sequence[Sequence[Sequence[int]]]
    ) -> None:
        self._begun, self._seconds, self._tokens = time.perf_counter(), state.seconds, state.tokens
        self._all = sum(len(examples[i].ids) for step in steps for group in step for i in group)

    def after_step(self, state: RunState) -> tuple[float, float]:
        """Set the state's seconds; return tokens a second since the start or resume, and the seconds left at that pace."""
        passed = time.perf_counter() - self._begun
        state.seconds = self._seconds + passed
        pace = (state.tokens - self._tokens) / passed
        return pace, (self._all - state.tokens) / pace


def _held_out_loss(
    model: Any, plan: HeldOutPlan, state: RunState, settings: FinetuneSettings, work: Path, group: Group
) -> float | None:
    """Measure the held-out loss if it is due, judge it, and keep the weights while it does not surely rise."""
    if not plan.due(state.step):
        return None
    mean = plan.judge(state.held_out, state.step, without_gradients(model, plan.examples, settings, group))
    if plan.patience and state.held_out.kept_step == state.step < plan.steps:
        keep_weights(work, state.step, model, group)
    return mean


def without_gradients(
    model: Any, examples: Sequence[TokenisedExample], settings: FinetuneSettings, group: Group
) -> list[float]:
    """Return the summed loss of each example; dropout is off, and torch's random state stays as it was."""
    model.eval()
    with _mixed_precision(model), as_written(model):
        losses = group.spread(examples, lambda part: example_losses(model, part, settings.micro_batch_tokens))
    model.train()
    return losses


def _rose(state: RunState, steps: int) -> str:
    stopped = f"stopped after step {state.step} of {steps}: " if state.held_out.stopped else ""
    return f"{stopped}the held-out loss rose after step {state.held_out.kept_step}, whose weights are kept"


def _interrupted(work: Path, step: int, steps: int, group: Group) -> Interrupted:
    command = f"doyen finetune --name {run_name(work)}{group.option}"
    if (work / "checkpoint.pt").exists():
        return Interrupted(f"stopped in step {step + 1} of {steps}; a checkpoint is kept", hint=f"{command} --resume")
    return Interrupted(f"stopped in the first of {steps} steps; there is nothing to keep yet", hint=command)


def _gradients(
    model: Any,
    examples: Sequence[TokenisedExample],
    step: Sequence[Sequence[int]],
    share: Sequence[Sequence[int]],
    group: Group,
) -> tuple[float, int]:
    """Compute this process's `share` of a step's gradients.

    Returns the mean loss a supervised token, by their weights, and the number of tokens read, both of the whole step.
    """
    model.zero_grad(set_to_none=True)
    count = sum(examples[i].counted for part in step for i in part)
    own = 0.0
    for part in share:
        if not part and not group.sharded:
            continue
        with _mixed_precision(model):
            loss, _ = answer_loss(model, [examples[i] for i in part or step[0][:1]])
        # Sharded, every process must compute when one does: an empty part counts nothing.
        (loss * (group.scale / count if part else 0.0)).backward()
        own += float(loss.detach()) if part else 0.0
    total = group.total(own)
    return total / count, sum(len(examples[i].ids) for part in step for i in part)


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
    group: Group,
) -> None:
    """Do once what the run will do, with its largest micro-batch, so that memory runs out now or not at all."""
    examples = prepared.train
    largest = max(
        (part for step in steps for part in step),
        key=lambda part: len(part) * max((len(examples[i].ids) for i in part), default=0),
    ) or [0]

    def save() -> None:  # not where the processes hold parts: that would need all of them, and they write less
        if group.main and not group.sharded:
            try_save(work / "rehearsal", model, optimiser)

    with nullcontext() if group.sharded else group.together():
        rehearse(
            model,
            optimiser,
            lambda: try_gradients(model, *(examples[i] for i in largest)),
            lambda batch: _loss_without_gradients(model, batch),
            prepared.validation,
            settings.micro_batch_tokens,
            save,
        )
    width = max(len(examples[i].ids) for i in largest)
    peak = peak_memory_gib()
    prepared.gates["memory"] = {"rows": len(largest), "width": width, "peak_gib": round(peak, 2)}
    say(
        f"dry run of the largest micro-batch ({len(largest)} × {width} tokens), evaluation and save: {peak:.1f} GiB at most"
    )


def _loss_without_gradients(model: Any, examples: Sequence[TokenisedExample]) -> None:
    import torch

    # no_grad, not inference_mode: shards that are put together here are used in training again.
    with torch.no_grad(), _mixed_precision(model), as_written(model):
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
