"""Exports of one adapter, each loaded back by what reads it: their answers' token F1, and how near they are to the expert.

Needs an expert with an adapter, a folder of questions and documents (questions.jsonl, docs/) whose questions name the
document that holds the answer, and xllamacpp. Each question is asked with that document's text as the one passage. The
reference of the divergences is transformers with PEFT in float32.
"""

from __future__ import annotations

import argparse
import json
import random
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import measuring
import numpy as np

import doyen
from doyen.adapters import adapter_folder
from doyen.config import load_settings
from doyen.evaluation.metrics import token_f1
from doyen.exporting.gguf_model import write_gguf
from doyen.exporting.llama_cpp import LlamaCpp
from doyen.exporting.merging import MergedModel
from doyen.exporting.readers import EngineReader, LlamaReader
from doyen.exporting.scoring import LARGEST_DROP, _dense, _divergence, _ended, log_softmax
from doyen.models.engine import render
from doyen.models.fetching import require_model
from doyen.models.openvino_engine import OpenVINOEngine
from doyen.models.transformers_engine import TransformersEngine
from doyen.prompts import Message, parse_answer, passages_messages
from doyen.records import Chunk, Hit

ANSWER_TOKENS, FORCED, FORCED_TOKENS, CONTEXT = 32, 40, 8, 4096


def prompts_of(folder: Path, language: str, count: int, seed: int) -> list[tuple[list[Message], list[str]]]:
    """Return prompts with the document that answers, and the right answers: all questions of as many documents."""
    rows = [json.loads(line) for line in (folder / "questions.jsonl").read_text(encoding="utf-8").splitlines()]
    rows = [r for r in rows if r.get("lang", language) == language and r.get("answers") and r.get("gold")]
    documents = sorted({r["gold"][0]["document"] for r in rows})
    random.Random(seed).shuffle(documents)
    made: list[tuple[list[Message], list[str]]] = []
    for row in sorted(rows, key=lambda r: documents.index(r["gold"][0]["document"]))[:count]:
        name = row["gold"][0]["document"]
        text = (folder / "docs" / name).read_text(encoding="utf-8").strip()
        chunk = Chunk(document=name, sha256="", start=0, end=len(text), text=text)
        made.append((passages_messages(row["question"], [Hit(chunk, 1.0)]), row["answers"]))
    return made


def spread(count: int, most: int) -> list[int]:
    """Return at most `most` different numbers below `count`, evenly spread."""
    wanted = min(count, most)
    return [i * count // wanted for i in range(wanted)]


class Reading:
    """How one form answers: F1 of each question, and its divergence from the reference."""

    def __init__(
        self, reader: Any, prompts: Sequence[tuple[list[Message], list[str]]], tokenizer: Any, forced: int
    ) -> None:
        started = time.perf_counter()
        asked = [(messages, render(tokenizer, messages)) for messages, _ in prompts]
        texts = [_ended(text.strip()) for text in reader.write(asked, ANSWER_TOKENS)]
        self.seconds = (time.perf_counter() - started) / len(prompts)
        self.texts = [parse_answer(text, 1).text for text in texts]
        self.f1 = np.array([
            100 * max(token_f1(text, answer) for answer in answers)
            for text, (_, answers) in zip(self.texts, prompts, strict=True)
        ])  # fmt: skip
        few = spread(len(prompts), forced)
        self.forced = []
        for i in few:
            answer = tokenizer(prompts[i][1][0], add_special_tokens=False)["input_ids"][:FORCED_TOKENS]
            self.forced += reader.log_probabilities(asked[i][1], answer)


def compared(found: Reading, reference: Reading | None, sixteen: Reading | None) -> dict[str, Any]:
    """Return what is written of a form; `sixteen` is the same in 16 bits."""
    row: dict[str, Any] = {
        "questions": len(found.f1),
        "token_f1": round(float(found.f1.mean()), 2),
        "seconds": round(found.seconds, 3),
    }
    if reference is not None:
        kl = [_divergence(_dense(*p), *q) for p, q in zip(reference.forced, found.forced, strict=True)]
        row |= {"positions": len(kl), "mean_kl": float(f"{np.mean(kl):.3g}"), "largest_kl": float(f"{max(kl):.3g}")}
    if sixteen is not None and len(sixteen.f1) == len(found.f1):
        lost = found.f1 - sixteen.f1
        draws = np.random.default_rng(7).integers(0, len(lost), (2000, len(lost)))
        low, high = np.percentile(lost[draws].mean(axis=1), [2.5, 97.5])
        row["f1_to_f16"] = [round(float(x), 2) for x in (lost.mean(), low, high)]
        row["same_answers"] = round(
            float(np.mean([a == b for a, b in zip(found.texts, sixteen.texts, strict=True)])), 3
        )
    return row


Opened = Callable[[], AbstractContextManager[Any]]


class _InLlamaCpp:
    """A GGUF file in llama.cpp, as a reader in a `with`."""

    def __init__(self, gguf: Path, lora: Path | None = None) -> None:
        self._server = LlamaCpp(gguf, lora=lora, context=CONTEXT)

    def __enter__(self) -> LlamaReader:
        return LlamaReader(self._server)

    def __exit__(self, *error: object) -> None:
        self._server.__exit__(None, None, None)


class _Transformers:
    """transformers and PEFT in float32."""

    def __init__(self, base: Path, adapter: Path) -> None:
        import torch

        self._engine, self._adapter = TransformersEngine(base, dtype=torch.float32), adapter

    def log_probabilities(self, prompt: Sequence[int], answer: Sequence[int]) -> Any:
        logits = np.asarray(self._engine.logits_after(prompt, answer, adapter=self._adapter))
        return [(np.arange(logits.shape[-1]), row) for row in log_softmax(logits)]

    def write(self, prompts: Sequence[tuple[Sequence[Message], list[int]]], max_tokens: int) -> list[str]:
        messages = [row for row, _ in prompts]
        return [c.text for c in self._engine.generate(messages, max_tokens=max_tokens, adapter=self._adapter)]


def forms_of(expert: Path, base: Path, adapter: Path, work: Path) -> dict[str, Opened]:
    """Return the forms, to be made when they are opened."""

    def exported(form: str, quantise: str = "") -> Path:
        made = work / f"{form}-{quantise}"
        if not made.exists():
            doyen.export_adapter(expert, made, name=adapter.name, form=form, quantise=quantise, check=False)
        return made

    def gguf(quantise: str) -> Opened:
        return lambda: _InLlamaCpp(next(exported("gguf", quantise).glob("*.gguf")))

    def lora() -> AbstractContextManager[Any]:
        if not (work / "base.gguf").exists():
            write_gguf(MergedModel(base, None), work / "base.gguf", "f16", {"name": "base"}, lambda *_: None)
        return _InLlamaCpp(work / "base.gguf", next(exported("gguf-lora").glob("*.gguf")))

    def served(bits: int) -> Opened:
        def opened() -> AbstractContextManager[Any]:
            reader = EngineReader(base, adapter)
            reader.engine = OpenVINOEngine(base, bits=bits)  # in the precision that it answers in
            return nullcontext(reader)

        return opened

    return {
        "gguf f16, llama.cpp": gguf("f16"),
        "gguf q8_0, llama.cpp": gguf("q8_0"),
        "gguf q4_k_m, llama.cpp": gguf("q4_k_m"),
        "adapter, OpenVINO f32": lambda: nullcontext(EngineReader(base, adapter)),
        "gguf-lora, llama.cpp": lora,
        "merged f16, OpenVINO f32": lambda: nullcontext(EngineReader(exported("merged", "f16"))),
        "adapter, OpenVINO as served": served(16),
        "adapter, OpenVINO 8 bits": served(8),
        "adapter, OpenVINO 4 bits": served(4),
        "merged bf16, OpenVINO f32": lambda: nullcontext(EngineReader(exported("merged", "bf16"))),
        "gguf bf16, llama.cpp": gguf("bf16"),
        "base without adapter, OpenVINO f32": lambda: nullcontext(EngineReader(base)),
    }


def main() -> None:
    command = argparse.ArgumentParser(description=__doc__)
    command.add_argument("--expert", type=Path, required=True)
    command.add_argument("--adapter", default="")
    command.add_argument("--questions", type=Path, required=True, help="a folder with questions.jsonl and docs/")
    command.add_argument("--language", default="en")
    command.add_argument("--count", type=int, default=500)
    command.add_argument("--forms", nargs="*", help="the forms to read, the 16-bit one that F1 is held against first")
    command.add_argument("--forced", type=int, default=FORCED, help="questions over which divergences are measured")
    command.add_argument("--out", type=Path, default=measuring.RESULTS / "export.json")
    given = command.parse_args()
    base = require_model(load_settings(given.expert).model.name)
    adapter = adapter_folder(given.expert, given.adapter)
    prompts = prompts_of(given.questions, given.language, given.count, 7)
    result: dict[str, Any] = {
        "questions": f"{given.questions.name}, {given.language}",
        "answer_tokens": ANSWER_TOKENS,
        "reference": "transformers and PEFT, float32",
        "f1_to_f16": "F1 less that of the first form",
        "bars": {"16 bits, mean KL": 1e-3, "points of F1": {str(bits): drop for bits, drop in LARGEST_DROP.items()}},
        "forms": {},
    }
    sixteen = None
    with tempfile.TemporaryDirectory(dir=given.expert) as name:
        forms = forms_of(given.expert, base, adapter, Path(name))
        if unknown := [form for form in given.forms or () if form not in forms]:
            command.error(f"--forms: there is no {unknown[0]!r}; the forms are {', '.join(map(repr, forms))}")
        tokenizer = OpenVINOEngine(base).tokenizer
        some = [prompts[i] for i in spread(len(prompts), given.forced)]
        reference = Reading(_Transformers(base, adapter), some, tokenizer, given.forced)
        result["forms"]["adapter, transformers f32"] = compared(reference, None, None)
        for form in given.forms or forms:
            with forms[form]() as reader:
                found = Reading(reader, prompts, tokenizer, given.forced)
            sixteen = sixteen or found
            result["forms"][form] = compared(found, reference, sixteen if found is not sixteen else None)
            print(form, result["forms"][form], flush=True)
            measuring.save("export", result, given.out)


if __name__ == "__main__":
    main()
