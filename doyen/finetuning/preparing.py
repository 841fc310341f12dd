"""Examples → what a training run works on: tokens, hashes; the gates before training that need no weights.

Knows no optimiser, no model and no adapter folder.
"""

from __future__ import annotations

import dataclasses
import hashlib
import importlib.metadata
import json
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from doyen.adapters import question_hash
from doyen.config import FinetuneSettings, Settings
from doyen.errors import ModelError
from doyen.finetuning.data import TokenisedExample, tokenise
from doyen.finetuning.gates import require_end_of_turn, require_length, require_supervision
from doyen.finetuning.screening import screen
from doyen.models.engine import (
    FINETUNE_EXTRA,
    context_length,
    golden_tokens,
    load_tokenizer,
    stop_token_ids,
    template_hash,
)
from doyen.models.fitting import fingerprint_of_config
from doyen.prompts import question_of, shows_summaries
from doyen.records import Example, Question

Say = Callable[[str], None]


@dataclass(slots=True)
class Prepared:
    """Tokenised examples and what the gates measured; `summary` and `targets` go into the manifest.

    `initial` holds the adapter's first weights where they are not those of a no-op (LoftQ).
    """

    train: list[TokenisedExample]
    validation: list[TokenisedExample]
    template_hash: str
    gates: dict[str, Any]
    summary: dict[str, Any]
    targets: list[str]
    initial: dict[str, Any] = field(default_factory=dict)
    golden_tokens: list[int] = field(default_factory=list)


def require_extra(method: str) -> None:
    """Raise ModelError where a package that the method needs is not installed."""
    needed = ["torch", "transformers"] + (["peft"] if method != "full" else [])
    needed += ["bitsandbytes"] if method == "qlora" else []
    missing = []
    for package in needed:
        try:
            importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            missing.append(package)
    if missing:
        raise ModelError(f"fine-tuning needs {', '.join(missing)}, not installed here", hint=FINETUNE_EXTRA)


def prepare(
    folder: Path,
    settings: Settings,
    train: Sequence[Example],
    validation: Sequence[Example],
    say: Say,
    test: Sequence[Question] = (),
) -> Prepared:
    """Tokenise and pass the gates that need no weights; nothing near to a validation or `test` question is trained on."""
    tokenizer = load_tokenizer(folder)
    stops = stop_token_ids(tokenizer, folder)
    screened = screen(train, validation, test, say)
    limit = min(settings.finetune.max_tokens, context_length(folder) or settings.finetune.max_tokens)
    kept = [i for i in range(len(train)) if i not in screened.left_out]
    whole = tokenise([train[i] for i in kept], tokenizer, stops)
    tokenised = [dataclasses.replace(e, number=kept[e.number]) for e in whole if len(e.ids) <= limit]
    held_out = [e for e in tokenise(validation, tokenizer, stops) if len(e.ids) <= limit]
    left_out = Counter(screened.left_out.values())
    if len(whole) > len(tokenised):
        left_out[f"longer than {limit} tokens"] = len(whole) - len(tokenised)
    gates: dict[str, Any] = {"supervision": require_supervision([e.supervised for e in tokenised], left_out)}
    gates |= screened.gates | {"length": require_length([len(e.ids) for e in whole], limit)}
    gates["end_of_turn"] = require_end_of_turn(
        [e.ids[-1] for e in tokenised], stops, tokenizer.convert_ids_to_tokens(stops)
    )
    tokens = sum(len(e.ids) for e in tokenised)
    supervised = gates["supervision"]["tokens"]
    say(
        f"{len(tokenised)} examples, {tokens:,} tokens of which {supervised:,} supervised"
        + "".join(f"; {n} {why}" for why, n in left_out.items())
    )
    if gates["length"]["left_out"]:
        longest = ", ".join(f"{n:,}" for n in gates["length"]["longest"])
        say(f"examples longer than {limit:,} tokens are left out, not cut; the longest have {longest}")
    variants: dict[str, int] = {}
    used = [train[e.number] for e in tokenised]
    for example in used:
        variants[example.variant or "own"] = variants.get(example.variant or "own", 0) + 1
    summary = {
        "sha256": examples_hash(train),
        "validation_sha256": examples_hash(validation),
        "questions": sorted({question_hash(question_of(e.messages)) for e in used}),
        "train": len(tokenised),
        "validation": len(held_out),
        "tokens": tokens,
        "left_out": dict(left_out),
        "variants": variants,
    }
    if any(shows_summaries(e.messages) for e in train):
        summary["document_summaries"] = True
    golden = golden_tokens(tokenizer)
    return Prepared(tokenised, held_out, template_hash(tokenizer), gates, summary, [], golden_tokens=golden)


def examples_hash(examples: Sequence[Example]) -> str:
    """Return a hash of examples in their order."""
    return text_hash(json.dumps([e.as_dict() for e in examples], sort_keys=True))


def text_hash(text: str) -> str:
    """Return the first 16 hex digits of the SHA-256 of a text."""
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def run_fingerprint(settings: FinetuneSettings, prepared: Prepared, folder: Path) -> str:
    """Return a hash of all that a checkpoint must agree with to be resumed."""
    weighing = {k: v for k, v in dataclasses.asdict(settings).items() if k not in ("false_refusals", "report_to")}
    return text_hash(
        json.dumps(
            [
                weighing,
                prepared.summary,
                prepared.template_hash,
                fingerprint_of_config(folder),
            ],
            sort_keys=True,
        )
    )
