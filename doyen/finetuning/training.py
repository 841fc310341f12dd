"""Base model + examples → adapter folder: gates, dry run, training with checkpoints, export, check, calibration.

Enters: tokenised examples. Leaves: `adapters/<name>/` with a manifest. Knows no index; retrieved passages are already
in the examples.
"""

from __future__ import annotations

import dataclasses
import datetime
import hashlib
import importlib.metadata
import json
import math
import os
import resource
import shutil
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from doyen.adapters import AdapterManifest, adapter_folder, question_hash, read_adapter
from doyen.config import FinetuneSettings, Settings
from doyen.errors import GateError, Interrupted, ModelError, UsageError
from doyen.finetuning.calibration import calibrate_refusal
from doyen.finetuning.checkpoint import RunState, discard_checkpoint, load_checkpoint, save_checkpoint
from doyen.finetuning.data import TokenisedExample, plan_steps, tokenise
from doyen.finetuning.gates import require_effect, require_end_of_turn, require_supervision, resolve_targets
from doyen.finetuning.loss import answer_loss, mean_loss
from doyen.lineage import write_lineage
from doyen.models.catalogue import find_entry
from doyen.models.engine import (
    FINETUNE_EXTRA,
    TransformersEngine,
    load_causal_model,
    load_tokenizer,
    quiet_peft,
    quiet_transformers,
    rope_switch,
    stop_token_ids,
    template_hash,
    working_dtype,
)
from doyen.models.fetching import require_model
from doyen.records import Example

CHECKPOINT_EVERY_S = 60.0
WARMUP_SHARE = 0.06
FINAL_RATE = 0.1
_VALIDATION_LOSS_EXAMPLES = 64


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
Say = Callable[[str], None]


def finetune(
    expert: Path,
    settings: Settings,
    train: Sequence[Example],
    validation: Sequence[Example],
    *,
    name: str,
    resume: bool = False,
    replace: bool = False,
    report: Report | None = None,
    say: Say | None = None,
    begun: Callable[[], None] | None = None,
    checkpoint_every_s: float = CHECKPOINT_EVERY_S,
) -> AdapterManifest:
    """Train an adapter and put it into `adapters/<name>/`.

    Interrupted (Ctrl-C), it writes a checkpoint and raises Interrupted; `resume` goes on from the last checkpoint and
    ends with the same weights as an undisturbed run. A run that is killed has its checkpoint of at most
    `checkpoint_every_s` and one step before. `begun` is called when the gates before training are passed.

    Raises:
        GateError: the run would learn nothing, or what was learned is not there where it is served.
        UsageError: the name is taken, or there is nothing to resume.
        ModelError: the model is not here, or the extra is not installed.
    """
    say = say or (lambda _: None)
    final, work = expert / "adapters" / name, expert / "adapters" / f".{name}.training"
    _check_name(name, final, work, resume=resume, replace=replace)
    _require_extra(settings.finetune.method)
    folder = require_model(settings.model.name)
    prepared = _prepare(folder, settings, train, validation, say)
    model = _adapted_model(folder, settings.finetune, prepared, say)
    fingerprint = _fingerprint(settings.finetune, prepared, folder)
    if not resume:
        discard_checkpoint(work)
        if begun:
            begun()
    state = _train(model, prepared, settings.finetune, work, fingerprint, report, say, checkpoint_every_s)
    try:
        made = _export(model, work)
        result = {
            "trained_parameters": sum(p.numel() for p in model.parameters() if p.requires_grad),
            "validation_loss": _rounded(
                mean_loss(model, prepared.validation[:_VALIDATION_LOSS_EXAMPLES], settings.finetune.micro_batch_tokens)
            ),
        }
        del model
        engine = TransformersEngine(folder, batch_tokens=settings.model.batch_tokens)
        result |= _as_served(engine, made, settings, train, validation, say)
    except KeyboardInterrupt:
        raise Interrupted(
            "stopped while the trained adapter was being checked; its weights are kept",
            hint=f"doyen finetune --resume --name {name}",
        ) from None
    except GateError:
        discard_checkpoint(work)  # there is nothing in it to go on with
        raise
    manifest = _manifest(name, settings, folder, prepared, state, _sources(train), result)
    write_lineage(made, [train[e.number] for e in prepared.train])
    manifest.write(made)
    if final.exists():
        shutil.rmtree(final)
    made.replace(final)
    discard_checkpoint(work)
    return manifest


def _export(model: Any, work: Path) -> Path:
    """Save the adapter and its training curve into a folder of the run."""
    made = work / "adapter"
    shutil.rmtree(made, ignore_errors=True)
    model.save_pretrained(str(made), save_embedding_layers=False)
    (made / "README.md").unlink(missing_ok=True)
    shutil.copyfile(work / "history.jsonl", made / "history.jsonl")
    return made


def _as_served(
    engine: TransformersEngine,
    made: Path,
    settings: Settings,
    train: Sequence[Example],
    validation: Sequence[Example],
    say: Say,
) -> dict[str, Any]:
    """Check and calibrate the saved adapter on the engine that serves it."""
    say("gate: the saved adapter changes the serving engine's logits")
    probe = list(train[0].messages[:-1])
    effect = require_effect(engine.next_token_logits(probe), engine.next_token_logits(probe, adapter=made))
    return {"effect": effect, **calibrated(engine, made, settings, validation, say)}


def calibrated(
    engine: TransformersEngine, adapter: Path, settings: Settings, validation: Sequence[Example], say: Say
) -> dict[str, Any]:
    """Return the manifest's entries about refusing, fitted on the validation examples."""
    context = find_entry(settings.model.name).context_tokens or settings.finetune.max_tokens
    room = min(settings.finetune.max_tokens, context - settings.model.max_answer_tokens)
    shown = [e for e in validation if e.variant != "closed-book" and engine.count_tokens(e.messages[:-1]) <= room]
    say(f"calibrating when to refuse, on up to {len(shown)} validation examples")
    calibration = calibrate_refusal(
        engine,
        adapter,
        shown,
        false_refusals=settings.finetune.false_refusals,
    )
    return {"refusal_threshold": calibration.threshold, "calibration": dataclasses.asdict(calibration)}


def recalibrate(
    expert: Path, name: str, settings: Settings, train: Sequence[Example], validation: Sequence[Example], *, say: Say
) -> AdapterManifest:
    """Fit an adapter's refusal rule again, on the validation examples that were held out from its training.

    Raises:
        UsageError: there is no such adapter, or it was trained on other examples.
    """
    folder = adapter_folder(expert, name)
    manifest = read_adapter(folder)
    if manifest.examples.get("sha256") != examples_hash(train):
        raise UsageError(
            f"adapter {folder.name} was trained on other examples than those of now",
            hint=f"doyen finetune --replace --name {folder.name}",
        )
    engine = TransformersEngine(require_model(settings.model.name), batch_tokens=settings.model.batch_tokens)
    used = manifest.settings | {"false_refusals": settings.finetune.false_refusals}
    manifest = dataclasses.replace(manifest, settings=used, **calibrated(engine, folder, settings, validation, say))
    manifest.write(folder)
    return manifest


def _manifest(
    name: str,
    settings: Settings,
    folder: Path,
    prepared: _Prepared,
    state: RunState,
    sources: list[dict[str, str]],
    result: dict[str, Any],
) -> AdapterManifest:
    effect = result.pop("effect")
    return AdapterManifest(
        name=name,
        model=find_entry(settings.model.name).name,
        model_fingerprint=_file_hash(folder / "config.json"),
        method=settings.finetune.method,
        template_hash=prepared.template_hash,
        created=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        settings=dataclasses.asdict(settings.finetune),
        examples=prepared.summary,
        sources=sources,
        target_modules=prepared.targets,
        steps=state.step,
        tokens=state.tokens,
        seconds=round(state.seconds, 1),
        peak_memory_gib=round(peak_memory_gib(), 2),
        train_loss=round(state.last_loss, 4),
        gates={**prepared.gates, "effect": effect},
        versions=_versions(),
        **result,
    )


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 4)


def peak_memory_gib() -> float:
    """Return this process's highest resident memory so far."""
    unit = 2**30 if sys.platform == "darwin" else 2**20
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit


@dataclass(slots=True)
class _Prepared:
    train: list[TokenisedExample]
    validation: list[TokenisedExample]
    template_hash: str
    gates: dict[str, Any]
    summary: dict[str, Any]
    targets: list[str]


def _check_name(name: str, final: Path, work: Path, *, resume: bool, replace: bool) -> None:
    if not name or "/" in name or name.startswith("."):
        raise UsageError(f"'{name}' is not a name for an adapter", hint="use letters, digits, '-' and '_'")
    if final.exists() and not replace:
        raise UsageError(f"there is an adapter '{name}' already", hint="--name another one, or --replace")
    if resume and not (work / "checkpoint.pt").exists():
        raise UsageError(f"there is no interrupted run '{name}' to resume", hint=f"doyen finetune --name {name}")


def _require_extra(method: str) -> None:
    needed = ["torch", "transformers", "peft"] + (["bitsandbytes"] if method == "qlora" else [])
    missing = []
    for package in needed:
        try:
            importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            missing.append(package)
    if missing:
        raise ModelError(f"fine-tuning needs {', '.join(missing)}, not installed here", hint=FINETUNE_EXTRA)


def _prepare(
    folder: Path, settings: Settings, train: Sequence[Example], validation: Sequence[Example], say: Say
) -> _Prepared:
    """Tokenise and pass the gates that need no weights."""
    tokenizer = load_tokenizer(folder)
    stops = stop_token_ids(tokenizer, folder)
    tokenised, left_out = tokenise(train, tokenizer, stops, settings.finetune.max_tokens)
    held_out, _ = tokenise(validation, tokenizer, stops, settings.finetune.max_tokens)
    gates: dict[str, Any] = {"supervision": require_supervision([e.supervised for e in tokenised], left_out)}
    gates["end_of_turn"] = require_end_of_turn(
        [e.ids[-1] for e in tokenised], stops, tokenizer.convert_ids_to_tokens(stops)
    )
    tokens = sum(len(e.ids) for e in tokenised)
    supervised = gates["supervision"]["tokens"]
    say(
        f"{len(tokenised)} examples, {tokens:,} tokens of which {supervised:,} supervised"
        + "".join(f"; {n} {why}" for why, n in left_out.items())
    )
    variants: dict[str, int] = {}
    for example in train:
        variants[example.variant or "own"] = variants.get(example.variant or "own", 0) + 1
    summary = {
        "sha256": examples_hash(train),
        "questions": sorted({question_hash(_question(e)) for e in train}),
        "train": len(tokenised),
        "validation": len(held_out),
        "tokens": tokens,
        "left_out": dict(left_out),
        "variants": variants,
    }
    return _Prepared(tokenised, held_out, template_hash(tokenizer), gates, summary, [])


def _adapted_model(folder: Path, settings: FinetuneSettings, prepared: _Prepared, say: Say) -> Any:
    """Load the base model (4-bit for qlora), resolve the target modules and add the LoRA layers."""
    quiet_transformers()
    import torch
    from peft import LoraConfig, get_peft_model, prepare_model_for_kbit_training
    from transformers import set_seed

    device = "cuda" if torch.cuda.is_available() else "cpu"
    if settings.method == "qlora":
        model = load_causal_model(folder, dtype=working_dtype(), quantization_config=_nf4(), device_map={"": device})
        model = prepare_model_for_kbit_training(model, use_gradient_checkpointing=False)
    else:
        model = load_causal_model(folder, dtype=working_dtype()).to(device)
    names = resolve_targets(model, settings.target_modules)
    prepared.targets = sorted({name.rsplit(".", 1)[-1] for name in names})
    set_seed(settings.seed)
    config = LoraConfig(
        r=settings.rank,
        lora_alpha=settings.alpha,
        lora_dropout=settings.dropout,
        target_modules=names,
        bias="none",
        task_type="CAUSAL_LM",
    )
    with quiet_peft():
        model = get_peft_model(model, config)
    trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
    whole = sum(p.numel() for p in model.parameters())
    say(
        f"{settings.method}: {len(names)} linear modules ({', '.join(prepared.targets)}), {trained:,} of {whole:,} parameters trained"
    )
    prepared.gates["targets"] = {"modules": len(names), "trained_parameters": trained}
    return model


def _nf4() -> Any:
    from transformers import BitsAndBytesConfig

    return BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=working_dtype(),
    )


def _train(
    model: Any,
    prepared: _Prepared,
    settings: FinetuneSettings,
    work: Path,
    fingerprint: str,
    report: Report | None,
    say: Say,
    checkpoint_every_s: float,
) -> RunState:
    import torch

    steps = plan_steps(
        prepared.train,
        epochs=settings.epochs,
        batch_size=settings.batch_size,
        micro_batch_tokens=settings.micro_batch_tokens,
        seed=settings.seed,
        switch=rope_switch(model.get_base_model().config),
    )
    trainable = [p for p in model.parameters() if p.requires_grad]
    optimiser = torch.optim.AdamW(trainable, lr=settings.learning_rate, betas=(0.9, 0.99), weight_decay=0.0)
    model.train()
    _dry_run(model, prepared.train, steps, say)
    state = load_checkpoint(work, fingerprint, model, optimiser) or RunState(fingerprint)
    if state.step:
        say(f"going on after step {state.step} of {len(steps)}")
    _trim_history(work, state.step)
    saved = begun = time.perf_counter()
    earlier, tokens_before = state.seconds, state.tokens
    random, whole = torch.get_rng_state(), True  # whole: the weights are those of `state.step` whole steps
    try:
        for number in range(state.step, len(steps)):
            rate = learning_rate(number, len(steps), settings.learning_rate)
            loss, tokens = _gradients(model, prepared.train, steps[number])
            whole = False
            _update(optimiser, trainable, rate)
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
    if not math.isfinite(total):
        raise GateError("the loss is not a number any more", hint="lower [finetune] learning_rate")
    return total / count, sum(len(examples[i].ids) for group in groups for i in group)


def _update(optimiser: Any, trainable: list[Any], rate: float) -> None:
    """Let the optimiser take one step with the gradients, clipped to norm 1."""
    import torch

    torch.nn.utils.clip_grad_norm_(trainable, 1.0)
    for parameters in optimiser.param_groups:
        parameters["lr"] = rate
    optimiser.step()


def _dry_run(
    model: Any, examples: Sequence[TokenisedExample], steps: Sequence[Sequence[Sequence[int]]], say: Say
) -> None:
    """Run the largest micro-batch once, forward and backward, so that memory runs out now or not at all."""
    import torch

    largest = max(
        (group for step in steps for group in step), key=lambda g: len(g) * max(len(examples[i].ids) for i in g)
    )
    state = torch.get_rng_state()
    try:
        with _mixed_precision(model):
            loss, _ = answer_loss(model, [examples[i] for i in largest])
        loss.backward()
    except (RuntimeError, MemoryError) as error:
        if "memory" not in str(error).lower() and not isinstance(error, MemoryError):
            raise
        raise GateError(
            f"the largest micro-batch does not fit into memory: {error}",
            hint="lower [finetune] micro_batch_tokens or max_tokens",
        ) from error
    model.zero_grad(set_to_none=True)
    torch.set_rng_state(state)
    width = max(len(examples[i].ids) for i in largest)
    say(f"dry run of the largest micro-batch ({len(largest)} × {width} tokens): {peak_memory_gib():.1f} GiB at most")


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


def _question(example: Example) -> str:
    """Return the question of an example: what stands after the passages, or the last user turn."""
    user = next((m["content"] for m in reversed(example.messages) if m["role"] == "user"), "")
    return user.rsplit("Question: ", 1)[-1]


def examples_hash(examples: Sequence[Example]) -> str:
    """Return a hash of examples in their order."""
    return _hash(json.dumps([e.as_dict() for e in examples], sort_keys=True))


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _file_hash(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()[:16]


def _fingerprint(settings: FinetuneSettings, prepared: _Prepared, folder: Path) -> str:
    weighing = {k: v for k, v in dataclasses.asdict(settings).items() if k != "false_refusals"}
    return _hash(
        json.dumps(
            [
                weighing,
                prepared.summary,
                prepared.template_hash,
                _file_hash(folder / "config.json"),
            ],
            sort_keys=True,
        )
    )


def _sources(examples: Sequence[Example]) -> list[dict[str, str]]:
    pairs = sorted({(s.document, s.sha256) for e in examples for s in e.source})
    return [{"document": document, "sha256": sha256} for document, sha256 in pairs]


def _versions() -> dict[str, str]:
    names = ("doyen", "torch", "transformers", "peft", "bitsandbytes")
    found = {}
    for name in names:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found
