"""The first of two stages: the model reads the documents' own text (continued pre-training), before it learns examples.

Enters: a model with its adapter, the texts, replay examples. Leaves: the same model, further trained, and how well it
foretells documents that it has not read, before and after. The adapter goes on into the stage of the examples.
"""

from __future__ import annotations

import dataclasses
import json
import math
import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from doyen.config import FinetuneSettings, write_atomic
from doyen.errors import UsageError
from doyen.finetuning.data import TokenisedExample, plan_steps
from doyen.finetuning.domain_text import HELD_CHARACTERS, Domain, DomainText, domain_hash, windows
from doyen.finetuning.loss import base_of
from doyen.finetuning.parallel import Group
from doyen.finetuning.preparing import Prepared, Say, text_hash
from doyen.finetuning.steps import Report, TrainingProgress, train_steps, without_gradients
from doyen.models.engine import load_tokenizer, rope_switch

FOLDER = "documents"
"""Where the stage keeps its checkpoint, curve and result, in the run's work folder."""
WINDOW_TOKENS = 512
_MOST_REPLAYS = 4


@dataclass(frozen=True, slots=True)
class DocumentsStage:
    """What the stage learned from and what it brought; it stands in the manifest, under `stages`.

    `read` are the texts that its steps read something of. `bits_per_byte_*` are of the documents kept back, None where
    there are too few documents to keep any back.
    """

    documents: int
    held_out_documents: int
    tokens: int
    replay_tokens: int
    steps: int
    seconds: float
    train_loss: float
    bits_per_byte_before: float | None
    bits_per_byte_after: float | None
    sha256: str
    read: list[DomainText]

    def as_dict(self) -> dict[str, Any]:
        """Return the figures, without the texts."""
        own = {f.name: getattr(self, f.name) for f in dataclasses.fields(self) if f.name != "read"}
        return {"stage": FOLDER} | own


@dataclass(frozen=True, slots=True)
class DocumentsRun:
    """The run that the stage is a part of: its work folder, what must not change on resuming, and who is told."""

    work: Path
    fingerprint: str
    report: Report | None
    say: Say
    checkpoint_every_s: float
    group: Group


def learn_documents(
    model: Any,
    folder: Path,
    domain: Domain,
    settings: FinetuneSettings,
    replay: Sequence[TokenisedExample],
    run: DocumentsRun,
) -> DocumentsStage:
    """Train the model on the texts of the domain; go on, or do nothing, where `run.work` says that this was done before.

    Each row holds a part of one document, so that no document is read as the beginning of another, and no mask is
    needed. All tokens are supervised.

    Raises:
        UsageError: there is no text.
        GateError, Interrupted: see `doyen.finetuning.steps.train_steps`.
    """
    stage, tokenizer = run.work / FOLDER, load_tokenizer(folder)
    rows = domain_rows(domain, tokenizer, settings)
    if not rows:
        raise UsageError("there is no document to learn from", hint="doyen ingest, or --documents-epochs 0")
    mixed = rows + repeated(replay, settings.replay * _tokens(rows), settings.seed)
    held = held_rows(domain, tokenizer, settings)
    once = dataclasses.replace(settings, epochs=settings.documents_epochs)
    run.say(
        f"stage 1 of 2, documents: {len(domain.learned)} with {_tokens(rows):,} tokens, {_tokens(mixed[len(rows) :]):,} of "
        f"general replay; {len(domain.held_out)} kept back to measure"
    )
    own = text_hash(json.dumps([run.fingerprint, domain_hash(domain), [e.ids for e in mixed[len(rows) :]]]))
    before = _once(stage / "before.json", run.group, lambda: _bits(model, domain, held, settings, run.group))
    prepared = Prepared(mixed, held, "", {}, {}, [])
    state = train_steps(
        model, prepared, once, stage, own, _named(run.report), run.say, run.checkpoint_every_s, run.group
    )
    after = _once(stage / "after.json", run.group, lambda: _bits(model, domain, held, settings, run.group))
    if before is not None and after is not None:
        run.say(f"documents kept back: {before:.4f} bits a byte before, {after:.4f} after ({after / before - 1:+.1%})")
    run.say("stage 2 of 2, examples")
    switch = rope_switch(base_of(model).config)
    read = learned_texts(domain, mixed, once, switch)
    return DocumentsStage(
        documents=len(read),
        held_out_documents=len(domain.held_out),
        tokens=state.tokens,
        replay_tokens=_tokens([row for row in _read(mixed, once, switch) if row.number < 0]),
        steps=state.step,
        seconds=round(state.seconds, 1),
        train_loss=round(state.last_loss, 4),
        bits_per_byte_before=before,
        bits_per_byte_after=after,
        sha256=domain_hash(domain),
        read=read,
    )


def domain_rows(domain: Domain, tokenizer: Any, settings: FinetuneSettings) -> list[TokenisedExample]:
    """Return the rows of the texts to learn; `number` is the text's place among them."""
    most = min(WINDOW_TOKENS, settings.max_tokens, settings.micro_batch_tokens)
    return [row for i, text in enumerate(domain.learned) for row in windows(text.text, tokenizer, most, i)]


def held_rows(domain: Domain, tokenizer: Any, settings: FinetuneSettings) -> list[TokenisedExample]:
    """Return the rows of the beginnings of the texts kept back."""
    most = min(WINDOW_TOKENS, settings.max_tokens, settings.micro_batch_tokens)
    texts = [text.text[:HELD_CHARACTERS] for text in domain.held_out]
    return [row for i, text in enumerate(texts) for row in windows(text, tokenizer, most, i, whole=False)]


def repeated(replay: Sequence[TokenisedExample], tokens: float, seed: int) -> list[TokenisedExample]:
    """Return replay examples with about so many tokens: a part of them, or all of them several times (at most 4).

    Their `number` is -1: they are of no document.
    """
    order = random.Random(seed).sample(list(replay), len(replay)) * _MOST_REPLAYS
    found: list[TokenisedExample] = []
    held = 0
    for example in order:
        if held + len(example.ids) / 2 > tokens:
            break
        found.append(dataclasses.replace(example, number=-1))
        held += len(example.ids)
    return found


def learned_texts(
    domain: Domain, mixed: Sequence[TokenisedExample], settings: FinetuneSettings, switch: int | None = None
) -> list[DomainText]:
    """Return the texts that the stage's steps read something of: less than one pass leaves some out."""
    read = {row.number for row in _read(mixed, settings, switch)}
    return [text for i, text in enumerate(domain.learned) if i in read]


def _read(mixed: Sequence[TokenisedExample], settings: FinetuneSettings, switch: int | None) -> list[TokenisedExample]:
    """Return the rows that the stage's steps read, in their order."""
    steps = plan_steps(
        mixed,
        epochs=settings.epochs,
        batch_size=settings.batch_size,
        micro_batch_tokens=settings.micro_batch_tokens,
        seed=settings.seed,
        switch=switch,
    )
    return [mixed[i] for step in steps for part in step for i in part]


def _bits(
    model: Any, domain: Domain, held: Sequence[TokenisedExample], settings: FinetuneSettings, group: Group
) -> float | None:
    """Return the bits that each byte of the beginnings of the texts kept back costs the model; None without any."""
    if not held:
        return None
    losses = without_gradients(model, held, settings, group)
    size = sum(len(text.text[:HELD_CHARACTERS].encode("utf-8", "surrogatepass")) for text in domain.held_out)
    return round(sum(losses) / math.log(2) / size, 4)


def _once(path: Path, group: Group, measure: Any) -> float | None:
    """Return what `measure` gives, from a file of an interrupted run where there is one."""
    kept = group.same(path.read_text(encoding="utf-8") if path.exists() else None)
    if kept is not None:
        value: float | None = json.loads(kept)
        return value
    value = measure()
    if group.main:
        write_atomic(path, json.dumps(value))
    return value


def _named(report: Report | None) -> Report | None:
    """Return a report that says of each line that it is of this stage."""
    if report is None:
        return None

    def named(line: TrainingProgress) -> None:
        report(dataclasses.replace(line, stage=FOLDER))

    return named


def _tokens(rows: Sequence[TokenisedExample]) -> int:
    return sum(len(row.ids) for row in rows)
