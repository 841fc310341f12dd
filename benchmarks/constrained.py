"""Constrained answers: random schemas whose every output has to be valid, and what holding to them costs.

    python benchmarks/constrained.py --work DIR [--count 2000] [--pairs 40]

Bars: 100% of outputs are valid by `jsonschema`; at most 15% more decode time than free text of as many tokens, by pairs,
forced tokens not counted as a gain. The default model on OpenVINO; `--work` is not used.
"""

from __future__ import annotations

import json
import statistics
import time
from typing import Any

import jsonschema
from measuring import parser, save
from random_schemas import random_case

from doyen.errors import DoyenError
from doyen.models import decoding
from doyen.models.constraints import JsonSchema
from doyen.models.fetching import require_model
from doyen.models.guiding import GrammarGuide
from doyen.models.openvino_engine import OpenVINOEngine
from doyen.prompts import Message

MAX_TOKENS, ROOMY_TOKENS, AT_ONCE, FEWEST_TOKENS = 96, 384, 64, 12


def main() -> None:
    options = parser(__doc__ or "")
    options.add_argument("--count", type=int, default=2000, help="schemas")
    options.add_argument("--pairs", type=int, default=40, help="answers that are timed with and without")
    options.add_argument("--minutes", type=float, default=600, help="stop with fewer schemas after this time")
    arguments = options.parse_args()
    engine = OpenVINOEngine(require_model("smollm2-135m-instruct"), finished=lambda text: False)
    found = validity(engine, arguments.count, arguments.minutes * 60)
    print(json.dumps(found, indent=1, ensure_ascii=False))
    cost = overhead(engine, arguments.pairs)
    print(json.dumps(cost, indent=1))
    bars = {
        "valid share (bar: 1.0)": found["valid"] / max(found["outputs"], 1),
        "overhead without forced tokens, median (bar: 0.15)": cost["overhead_unforced_median"],
    }
    save(
        "constrained",
        {"bars": bars, "validity": found, "overhead": cost, "max_tokens": MAX_TOKENS, "roomy_tokens": ROOMY_TOKENS},
        arguments.out,
    )


def prompt_of(text: str) -> list[Message]:
    return [{"role": "user", "content": text}]


# ---- validity


def validity(engine: OpenVINOEngine, count: int, seconds: float) -> dict[str, Any]:
    """Answer under `count` random schemas, AT_ONCE together, each answer with a schema of its own."""
    started, outputs, faults, refused = time.perf_counter(), [], [], []
    shortened = seed = 0
    while seed < count and time.perf_counter() - started < seconds:
        cases = []
        for number in range(seed, min(seed + AT_ONCE, count)):
            schema, prompt = random_case(number)
            cases.append((number, schema, prompt))
        seed += len(cases)
        for number, schema, completion in answers(engine, cases, refused):
            outputs.append(completion.completion_tokens)
            shortened += completion.shortened
            if fault := fault_of(schema, completion.text):
                faults.append({"seed": number, "text": completion.text[:200], "fault": fault[:200]})
        if seed % (AT_ONCE * 3) == 0:
            print(
                f"{seed} schemas, {len(faults)} invalid, {len(refused)} refused, {time.perf_counter() - started:.0f} s"
            )
    return {
        "schemas": seed,
        "outputs": len(outputs),
        "valid": len(outputs) - len(faults),
        "faults": faults,
        "refused": refused,
        "shortened": shortened,
        "tokens_median": statistics.median(outputs),
        "seconds": round(time.perf_counter() - started, 1),
    }


def answers(engine: OpenVINOEngine, cases: list[tuple[int, dict, str]], refused: list[dict]) -> list[tuple]:
    """Return `(seed, schema, completion)`. A schema that needs more than MAX_TOKENS gets ROOMY_TOKENS, or is `refused`."""
    made = []
    for tokens in (MAX_TOKENS, ROOMY_TOKENS):
        fitting, left = [], []
        for case in cases:
            try:
                engine._guides_of([JsonSchema(case[1])], 1, tokens)
                fitting.append(case)
            except DoyenError as error:
                left.append((case, str(error)))
        found = engine.generate(
            [prompt_of(prompt) for _, _, prompt in fitting],
            max_tokens=tokens,
            constraints=[JsonSchema(schema) for _, schema, _ in fitting],
        )
        made += [(number, schema, one) for (number, schema, _), one in zip(fitting, found, strict=True)]
        cases = [case for case, _ in left]
    refused += [{"seed": case[0], "fault": fault} for case, fault in left]
    return made


def fault_of(schema: dict[str, Any], text: str) -> str:
    try:
        value = json.loads(text)
        checker = jsonschema.Draft202012Validator.FORMAT_CHECKER
        jsonschema.Draft202012Validator(schema, format_checker=checker).validate(value)
    except (ValueError, jsonschema.ValidationError) as error:
        return str(error)
    return ""


# ---- cost


def overhead(engine: OpenVINOEngine, pairs: int) -> dict[str, Any]:
    """Time answers one by one: held to a schema, with and without forced tokens, and free text of as many tokens."""
    stops, guesses, forced = engine._stops, decoding.GUESSES, GrammarGuide._forced
    decoding.GUESSES = 0  # what is guessed right depends on the text
    rows, seed = [], 10**6
    try:
        while len(rows) < pairs:
            schema, text = random_case(seed)
            seed += 1
            prompt, held = prompt_of(text), [JsonSchema(schema)]
            try:
                engine.generate([prompt], max_tokens=MAX_TOKENS, constraints=held)  # reads the prompt
            except DoyenError:
                continue
            GrammarGuide._forced = lambda self: []
            unforced = timed(engine, prompt, MAX_TOKENS, held)
            GrammarGuide._forced = forced
            if unforced[1] < FEWEST_TOKENS:
                continue
            forcing = timed(engine, prompt, MAX_TOKENS, held)
            engine._stops = []
            free = timed(engine, prompt, unforced[1], [])
            engine._stops = stops
            rows.append((unforced[0] / free[0] - 1, (forcing[0] / forcing[1]) / (free[0] / free[1]) - 1, *unforced))
    finally:
        decoding.GUESSES, GrammarGuide._forced, engine._stops = guesses, forced, stops
    return {
        "pairs": len(rows),
        "tokens_median": statistics.median(r[3] for r in rows),
        "overhead_unforced_median": round(statistics.median(r[0] for r in rows), 4),
        "overhead_unforced_quartiles": [round(q, 4) for q in statistics.quantiles([r[0] for r in rows], n=4)],
        "overhead_with_forced_tokens_median": round(statistics.median(r[1] for r in rows), 4),
    }


def timed(engine: OpenVINOEngine, prompt: list[Message], tokens: int, held: list[JsonSchema]) -> tuple[float, int]:
    """Return the wall time and the written tokens of the faster of two answers."""
    found = []
    for _ in range(2):
        started = time.perf_counter()
        made = engine.generate([prompt], max_tokens=tokens, constraints=held)[0]
        found.append((time.perf_counter() - started, made.completion_tokens))
    return min(found)


if __name__ == "__main__":
    main()
