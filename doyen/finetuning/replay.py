"""General questions with the base model's own answers, trained on among the examples, where that is asked for.

Measured so far it does not keep the adapter nearer to the base (LOG.md): greedy answers sharpen what they should keep.

Enters: the model before its first step. Leaves: tokenised examples, numbered behind the user's own. The questions are
those of general.jsonl, none of which the forgetting check asks.
"""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from doyen.config import FinetuneSettings, write_atomic
from doyen.finetuning.data import TokenisedExample
from doyen.finetuning.forgetting import general_rows
from doyen.finetuning.preparing import Prepared, Say, text_hash
from doyen.models.engine import render, stop_token_ids
from doyen.models.transformers_engine import TransformersEngine
from doyen.prompts import Message

REPLAY_FILE = "replay.jsonl"
_ANSWER_TOKENS = 64


def add_replay(
    model: Any, folder: Path, settings: FinetuneSettings, prepared: Prepared, work: Path, own: int, say: Say
) -> None:
    """Append replay examples to `prepared.train`, numbered from `own` on, and say so in its summary.

    The answers are written greedily by `model` without its adapter, before any step, and kept in
    the run's work folder, so that a resumed run trains on the same.
    """
    wanted = replay_count(len(prepared.train), settings.replay)
    if not wanted:
        return
    path = work / REPLAY_FILE
    if not path.exists():
        say(f"replay against forgetting: the base model answers {wanted} general questions")
        rows = _answered(model, folder, settings, wanted)
        write_atomic(path, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))
    text = path.read_text(encoding="utf-8")
    rows = [json.loads(line) for line in text.splitlines()]
    engine = TransformersEngine(folder)
    added = tokenise_replay(rows, engine.tokenizer, stop_token_ids(engine.tokenizer, folder), own)
    prepared.train += added
    tokens = sum(len(e.ids) for e in added)
    prepared.summary["replay"] = {"examples": len(added), "tokens": tokens, "sha256": text_hash(text)}


def replay_count(examples: int, share: float) -> int:
    """Return how many replay examples go with so many examples: at most as many as there are questions."""
    return min(round(share * examples), len(general_rows("prompt")))


def _answered(model: Any, folder: Path, settings: FinetuneSettings, wanted: int) -> list[dict[str, Any]]:
    questions = [row["question"] for row in general_rows("prompt")]
    random.Random(settings.seed).shuffle(questions)
    chats: list[list[Message]] = [[{"role": "user", "content": q}] for q in questions[:wanted]]
    engine = TransformersEngine.around(model, folder, batch_tokens=2048, finished=lambda _: False)
    model.eval()
    with model.disable_adapter() if hasattr(model, "peft_config") else nullcontext():
        written = engine.generate(chats, max_tokens=_ANSWER_TOKENS)
    return [
        {"question": q, "answer": c.text, "ended": c.completion_tokens < _ANSWER_TOKENS}
        for q, c in zip(questions, written, strict=False)
        if c.text
    ]


def tokenise_replay(
    rows: Sequence[dict[str, Any]], tokenizer: Any, stops: Sequence[int], first_number: int
) -> list[TokenisedExample]:
    """Tokenise answered questions; the end of the turn is supervised only where the model itself ended it."""
    found = []
    for i, row in enumerate(rows):
        asked: list[Message] = [{"role": "user", "content": row["question"]}]
        prompt = render(tokenizer, asked)
        whole = render(tokenizer, [*asked, {"role": "assistant", "content": row["answer"]}], prompt=False)
        end = next((j for j in range(len(prompt), len(whole)) if whole[j] in stops), len(whole))
        ids = tuple(whole[: end + 1 if row["ended"] else end])
        if len(ids) > len(prompt):
            found.append(TokenisedExample(ids, len(prompt), first_number + i))
    return found


def without_replay(examples: Sequence[TokenisedExample], own: int) -> list[TokenisedExample]:
    """Return the user's own among the tokenised examples: those numbered below `own`."""
    return [e for e in examples if e.number < own]
