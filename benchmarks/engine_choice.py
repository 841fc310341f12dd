"""Which engine answers fastest on this processor: ours beside openvino-genai, llama.cpp, onnxruntime-genai, transformers.

All answer the same prompts (token ids of questions with passages, 1,200 tokens) with exactly 60 tokens, greedily, in turn.
Needs an expert with an index. The others are optional: openvino-genai and llama.cpp (xllamacpp) read `--gguf`, the file
that the default model comes from; onnxruntime-genai reads `--onnx`, a folder made by
`python -m onnxruntime_genai.models.builder -i MODEL -o DIR -p int4 -e cpu`. What is not installed is left out.
"""

from __future__ import annotations

import importlib.metadata
import os
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import measuring
import numpy as np
from engines import ANSWER_TOKENS, PROMPT_TOKENS, never, prompts_of

from doyen.config import load_settings
from doyen.examples.importing import read_questions
from doyen.models.engine import render
from doyen.models.fetching import require_model

Writer = Callable[[list[int], int], int]
"""Takes a prompt's token ids and how many to write; returns how many were written."""


def ours(folder: Path, bits: int) -> Writer:
    from doyen.models.decoding import Decoder, Request
    from doyen.models.openvino_engine import OpenVINOEngine

    engine = OpenVINOEngine(folder, finished=never, bits=bits, batch_tokens=4096)
    loaded = engine._load(None)

    def write(ids: list[int], tokens: int) -> int:
        loaded.network.reserve(2 * (PROMPT_TOKENS + ANSWER_TOKENS))
        decoder = Decoder(loaded.network, loaded.rotary, (), lambda _: False)
        (done,) = decoder.run([Request(0, ids, tokens)], 4096)
        return len(done.written)

    return write


def transformers(folder: Path, compiled: bool) -> Writer:
    import torch

    from doyen.models.engine import load_causal_model

    model = load_causal_model(folder, dtype=torch.bfloat16).eval()
    options: dict[str, Any] = {"cache_implementation": "static"} if compiled else {}
    if compiled:
        model.forward = torch.compile(model.forward, dynamic=None)

    def write(ids: list[int], tokens: int) -> int:
        prompt = torch.tensor([ids])
        with torch.inference_mode():
            out = model.generate(
                prompt, attention_mask=torch.ones_like(prompt), max_new_tokens=tokens, min_new_tokens=tokens,
                do_sample=False, pad_token_id=0, **options,
            )  # fmt: skip
        return int(out.shape[1]) - len(ids)

    return write


def openvino_genai(gguf: Path) -> Writer:
    import openvino as ov
    import openvino_genai as genai

    pipeline = genai.LLMPipeline(str(gguf), "CPU")

    def write(ids: list[int], tokens: int) -> int:
        config = genai.GenerationConfig(max_new_tokens=tokens, ignore_eos=True, do_sample=False)
        row = np.array([ids], dtype=np.int64)
        made = pipeline.generate(genai.TokenizedInputs(ov.Tensor(row), ov.Tensor(np.ones_like(row))), config)
        return len(made.tokens[0])

    return write


def llama_cpp(gguf: Path) -> Writer:
    import xllamacpp

    params = xllamacpp.CommonParams()
    params.model.path = str(gguf)
    params.n_ctx, params.n_parallel, params.verbosity = 2048, 1, -1
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = os.cpu_count() or 1
    server = xllamacpp.Server(params)

    def write(ids: list[int], tokens: int) -> int:
        wanted = {"prompt": ids, "max_tokens": tokens, "temperature": 0.0, "cache_prompt": False, "ignore_eos": True}
        return int(server.handle_completions(wanted)["usage"]["completion_tokens"])

    return write


def onnxruntime_genai(folder: Path) -> Writer:
    import onnxruntime_genai as genai

    model = genai.Model(str(folder))

    def write(ids: list[int], tokens: int) -> int:
        params = genai.GeneratorParams(model)
        length = len(ids) + tokens
        params.set_search_options(max_length=length, min_length=length, do_sample=False)
        generator = genai.Generator(model, params)
        generator.append_tokens(np.array([ids], dtype=np.int32))
        count = 0
        while not generator.is_done() and count < tokens:
            generator.generate_next_token()
            count += 1
        return count

    return write


def installed(package: str) -> bool:
    try:
        importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        print(f"{package} is not installed: left out")
        return False
    return True


def writers(folder: Path, gguf: Path | None, onnx: Path | None, compiled: bool) -> dict[str, Writer]:
    """Load every engine that is here."""
    made: dict[str, Writer] = {f"doyen, {bits} bits": ours(folder, bits) for bits in (16, 8, 4)}
    if gguf and installed("openvino-genai"):
        made["openvino-genai, GGUF Q4_1"] = openvino_genai(gguf)
    if gguf and installed("xllamacpp"):
        made["llama.cpp, GGUF Q4_1"] = llama_cpp(gguf)
    if onnx and installed("onnxruntime-genai"):
        made["onnxruntime-genai, int4"] = onnxruntime_genai(onnx)
    made["transformers bf16"] = transformers(folder, compiled=False)
    if compiled:
        made["transformers bf16, static cache, compiled"] = transformers(folder, compiled=True)
    return made


def main() -> None:
    parser = measuring.parser(__doc__ or "")
    parser.add_argument("--questions", type=Path, required=True, help="questions file (contract form)")
    parser.add_argument("--gguf", type=Path, help="the default model as GGUF")
    parser.add_argument("--onnx", type=Path, help="the default model for onnxruntime-genai")
    parser.add_argument("--compiled", action="store_true", help="transformers compiled too: minutes for each new width")
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    folder = require_model(load_settings(arguments.work).model.name)
    engines = writers(folder, arguments.gguf, arguments.onnx, arguments.compiled)
    from doyen.models.openvino_engine import OpenVINOEngine

    tokenizer = OpenVINOEngine(folder).tokenizer
    questions = [q.question for q in read_questions(arguments.questions)][: 2 * arguments.rounds + 3]
    made = prompts_of(arguments.work, questions, 2 * arguments.rounds + 2, tokenizer)
    prompts = [render(tokenizer, p) for p in made[: 2 * arguments.rounds + 2]]
    first: dict[str, list[float]] = {name: [] for name in engines}
    whole: dict[str, list[float]] = {name: [] for name in engines}
    for turn in range(arguments.rounds + 1):
        for name, write in engines.items():
            for seconds, ids, tokens in ((first, prompts[2 * turn], 1), (whole, prompts[2 * turn + 1], ANSWER_TOKENS)):
                begun = time.perf_counter()
                written = write(ids, tokens)
                if turn:  # the first round compiles and warms up
                    seconds[name].append(time.perf_counter() - begun)
                assert written == tokens, (name, written)
            print(turn, name, round(time.perf_counter() - begun, 2), flush=True)
    rows = []
    for name in engines:
        start, end = statistics.median(first[name]), statistics.median(whole[name])
        rows.append(
            {
                "engine": name,
                "answer_s": round(end, 3),
                "best_answer_s": round(min(whole[name]), 3),
                "first_token_s": round(start, 3),
                "write_tokens_per_s": round((ANSWER_TOKENS - 1) / max(1e-9, end - start), 1),
            }
        )
        print(rows[-1], flush=True)
    others = ("openvino-genai", "xllamacpp", "onnxruntime-genai")
    versions = {name: importlib.metadata.version(name) for name in others if installed(name)}
    shape = {"prompt_tokens": statistics.median(map(len, prompts)), "answer_tokens": ANSWER_TOKENS}
    result = shape | {"rounds": arguments.rounds, "other_versions": versions, "engines": rows}
    measuring.save("engine_choice", result, arguments.out)


if __name__ == "__main__":
    main()
