"""The engines that answer on the CPU: how fast, and how near to transformers in float32.

Needs an expert with an index, and for the fine-tuned arm an adapter (`--adapter`); prompts are questions with the
passages that the expert's own search finds, about 1,200 tokens, answered with exactly 60 tokens. Both engines are
measured in turn, so that a busy machine slows both.
"""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import measuring
import numpy as np

from doyen.adapters import adapter_folder
from doyen.config import load_settings
from doyen.examples.importing import read_questions
from doyen.expert import open_retriever
from doyen.models.engine import Engine, render
from doyen.models.fetching import require_model
from doyen.models.openvino_engine import OpenVINOEngine
from doyen.models.transformers_engine import TransformersEngine
from doyen.prompts import Message, passages_messages

PROMPT_TOKENS, ANSWER_TOKENS, AT_ONCE, FORCED_TOKENS = 1200, 60, 16, 24


def never(text: str) -> bool:
    return False


def prompts_of(expert: Path, questions: Sequence[str], count: int, tokenizer: Any) -> list[list[Message]]:
    """Return prompts of nearly PROMPT_TOKENS with passages; the last `count` of twice as many have others' passages."""
    retriever = open_retriever(expert, load_settings(expert))
    made, found = [], []
    for question, hits in zip(questions, retriever.search_many(questions, 30), strict=True):
        shown = retriever.passages(hits, 12)
        while shown and len(render(tokenizer, passages_messages(question, shown))) > PROMPT_TOKENS:
            shown = shown[:-1]
        found.append(shown)
        made.append(passages_messages(question, shown))
    again = [passages_messages(questions[i + 1], found[i]) for i in range(count)]
    return [*made[:count], *again]


def seconds_of(engine: Engine, prompts: Sequence[Sequence[Message]], tokens: int, adapter: Path | None) -> list[float]:
    """Return the wall time of each prompt, one after the other."""
    taken = []
    for prompt in prompts:
        started = time.perf_counter()
        engine.generate([prompt], max_tokens=tokens, adapter=adapter)
        taken.append(time.perf_counter() - started)
    return taken


def speeds(
    ours: Engine, theirs: Engine, prompts: list[list[Message]], few: int, adapter: Path | None
) -> dict[str, Any]:
    """Measure both engines in turn. `prompts` are distinct; each engine meets each of them once."""
    distinct, again, at_once = prompts[0], prompts[1], prompts[2]
    half = len(distinct) // 2
    ours.generate(at_once[:1], max_tokens=4, adapter=adapter)
    theirs.generate(at_once[:1], max_tokens=4, adapter=adapter)
    rows: dict[str, Any] = {}
    first = seconds_of(ours, distinct[:half], 1, adapter)
    slow_first = seconds_of(theirs, distinct[:few], 1, adapter)
    whole = seconds_of(ours, distinct[half:], ANSWER_TOKENS, adapter)
    slow_whole = seconds_of(theirs, distinct[half : half + few], ANSWER_TOKENS, adapter)
    known = seconds_of(ours, again[half:], ANSWER_TOKENS, adapter)
    started = time.perf_counter()
    ours.generate(at_once, max_tokens=ANSWER_TOKENS, adapter=adapter)
    together = time.perf_counter() - started
    for name, begin, end in (("openvino", first, whole), ("transformers", slow_first, slow_whole)):
        median = statistics.median(end)
        rows[name] = {
            "first_token_s": round(statistics.median(begin), 3),
            "answer_s": round(median, 3),
            "decode_tokens_per_s": round((ANSWER_TOKENS - 1) / (median - statistics.median(begin)), 1),
            "answers": len(end),
        }
    rows["openvino"]["answer_s_with_known_passages"] = round(statistics.median(known), 3)
    rows["openvino"]["at_once_answers_per_s"] = round(len(at_once) / together, 3)
    one_by_one = 1 / statistics.fmean(slow_whole)
    rows["at_once_over_transformers_one_by_one"] = round(len(at_once) / together / one_by_one, 2)
    return rows


def agreement(ours: OpenVINOEngine, exact: Any, prompts: Sequence[Sequence[Message]], adapter: Path | None) -> Any:
    """Compare next-token distributions after each token of the answers that float32 writes."""
    divergences: list[float] = []
    margins: list[float] = []
    for prompt in prompts:
        ids = render(exact.tokenizer, prompt)
        answer, theirs = _written(exact, ids, adapter)
        mine = _log_softmax(ours.logits_after(ids, answer[:-1], adapter=adapter))
        divergences += (np.exp(theirs) * (theirs - mine)).sum(axis=1).tolist()
        best, chosen = theirs.argmax(axis=1), mine.argmax(axis=1)
        rows = np.flatnonzero(best != chosen)
        margins += (theirs[rows, best[rows]] - theirs[rows, chosen[rows]]).tolist()
    return {
        "tokens": len(divergences),
        "mean_kl": float(f"{np.mean(divergences):.3g}"),
        "largest_kl": float(f"{np.max(divergences):.3g}"),
        "other_best_token": len(margins),
        "largest_margin_of_these": round(max(margins, default=0.0), 4),
    }


def _written(exact: Any, ids: list[int], adapter: Path | None) -> tuple[list[int], Any]:
    """Return the tokens that transformers writes in float32, and its log-probabilities before each `(n, vocabulary)`."""
    import torch

    with exact._adapter_applied(adapter), torch.inference_mode():
        options = {"max_new_tokens": FORCED_TOKENS, "do_sample": False, "pad_token_id": 0}
        tokens = torch.tensor([ids])
        whole = exact._model.generate(tokens, attention_mask=torch.ones_like(tokens), **options)
        logits = exact._model(whole).logits[0, len(ids) - 1 : -1]
    return whole[0, len(ids) :].tolist(), _log_softmax(logits.numpy())


def _log_softmax(logits: Any) -> Any:
    shifted = logits - logits.max(axis=-1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))


def main() -> None:
    parser = measuring.parser(__doc__ or "")
    parser.add_argument("--questions", type=Path, required=True, help="questions file (contract form)")
    parser.add_argument("--adapter", default=None, help="name of the expert's adapter; none: the base model alone")
    parser.add_argument("--distinct", type=int, default=10, help="prompts, half of them for the first token alone")
    parser.add_argument("--few", type=int, default=5, help="of these, how many transformers gets")
    parser.add_argument("--forced", type=int, default=8, help="prompts for the agreement")
    arguments = parser.parse_args()
    import torch

    folder = require_model(load_settings(arguments.work).model.name)
    ours = OpenVINOEngine(folder, finished=never, batch_tokens=32768)
    theirs = TransformersEngine(folder, finished=never)
    for engine in (ours, theirs):  # no token ends an answer: all have ANSWER_TOKENS
        engine._stops = [len(engine.tokenizer) - 1]
    count = arguments.distinct + AT_ONCE
    questions = [q.question for q in read_questions(arguments.questions)]
    all_prompts = {}
    arms: dict[str, Any] = {"base": None}
    if arguments.adapter:
        arms["finetuned"] = adapter_folder(arguments.work, arguments.adapter)
    result: dict[str, Any] = {"prompt_tokens": PROMPT_TOKENS, "answer_tokens": ANSWER_TOKENS, "arms": {}}
    for number, (arm, adapter) in enumerate(arms.items()):
        asked = questions[number * (count + 1) : (number + 1) * (count + 1)]
        made = prompts_of(arguments.work, asked, count, ours.tokenizer)
        distinct, again = made[: arguments.distinct], made[count : count + arguments.distinct]
        all_prompts[arm] = distinct
        row = speeds(ours, theirs, [distinct, again, made[arguments.distinct : count]], arguments.few, adapter)
        result["arms"][arm] = row
        print(arm, json.dumps(row), flush=True)
    result["openvino_precision"] = ours._load(None).network.precision
    del theirs
    exact = TransformersEngine(folder, dtype=torch.float32, finished=never)
    for arm, adapter in arms.items():
        row = agreement(ours, exact, all_prompts[arm][: arguments.forced], adapter)
        result["arms"][arm]["agreement_with_transformers_float32"] = row
        print(arm, json.dumps(row), flush=True)
    measuring.save("engines", result, arguments.out)


if __name__ == "__main__":
    main()
