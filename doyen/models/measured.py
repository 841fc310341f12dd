"""How fast each engine answers with a model on this machine: measured once (`doyen doctor --bench`), remembered.

Enters: engines. Leaves: seconds and rates; `fastest` tells `[model] engine = "auto"` which to take. Changes no expert.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import os
import platform
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from doyen.config import write_atomic
from doyen.models.engine import Engine
from doyen.models.fetching import cache_folder
from doyen.prompts import Message

PROMPT_TOKENS = 1200
ANSWER_TOKENS = 60
_ROUNDS = 3
_PACKAGES = ("openvino", "torch", "transformers")
_TASK = "Retell all of the following as one long story, and leave nothing out."
_WORDS = "valve order filter claim bearing invoice ward pump policy ledger sensor clause permit boiler audit".split()


@dataclass(frozen=True, slots=True)
class Speed:
    """Medians of one engine on distinct prompts, warm. `answer_s` is reading PROMPT_TOKENS and writing ANSWER_TOKENS."""

    engine: str
    first_token_s: float
    read_tokens_per_s: float
    write_tokens_per_s: float
    answer_s: float

    def as_dict(self) -> dict[str, Any]:
        """Return the figures as JSON."""
        return {k: v if isinstance(v, str) else float(f"{v:.4g}") for k, v in asdict(self).items()}


def measure(engines: Mapping[str, Engine], progress: Callable[[str, int, int], None] | None = None) -> list[Speed]:
    """Measure engines in turn, round by round, so that a busy minute slows all of them; the fastest comes first."""
    prompts = {name: _prompts(engine) for name, engine in engines.items()}
    firsts: dict[str, list[float]] = {name: [] for name in engines}
    wholes: dict[str, list[tuple[float, int]]] = {name: [] for name in engines}
    for turn in range(_ROUNDS + 1):
        for name, engine in engines.items():
            first, _ = _timed(engine, prompts[name][2 * turn], 1)
            whole = _timed(engine, prompts[name][2 * turn + 1], ANSWER_TOKENS)
            if turn:  # the first round loads and compiles
                firsts[name].append(first)
                wholes[name].append(whole)
            if progress:
                progress(name, turn + 1, _ROUNDS + 1)
    speeds = [_speed(name, firsts[name], wholes[name], engine, prompts[name][0]) for name, engine in engines.items()]
    return sorted(speeds, key=lambda s: s.answer_s)


def _speed(name: str, firsts: list[float], wholes: list[tuple[float, int]], engine: Engine, prompt: Any) -> Speed:
    first, read = statistics.median(firsts), engine.count_tokens(prompt)
    writing = statistics.median((seconds - first) / max(1, tokens - 1) for seconds, tokens in wholes)
    writing = max(writing, 1e-6)  # an answer of one token takes no longer than its prompt
    answer = first * PROMPT_TOKENS / read + (ANSWER_TOKENS - 1) * writing
    return Speed(name, first, read / first, 1 / writing, answer)


def _timed(engine: Engine, prompt: list[Message], tokens: int) -> tuple[float, int]:
    started = time.perf_counter()
    (completion,) = engine.generate([prompt], max_tokens=tokens)
    return time.perf_counter() - started, completion.completion_tokens


def _prompts(engine: Engine) -> list[list[Message]]:
    """Return distinct prompts of nearly PROMPT_TOKENS, or as many as the context takes."""
    most = min(PROMPT_TOKENS, engine.context_tokens - ANSWER_TOKENS - 8)
    lines = [
        f"{i}: the {_WORDS[i % 15]} of the {_WORDS[i * 7 % 15]} came after the {_WORDS[i * 4 % 11]}."
        for i in range(200)
    ]
    found: list[list[Message]] = []
    for number in range(2 * _ROUNDS + 2):
        low, high = 1, len(lines)
        while low < high:
            middle = (low + high + 1) // 2
            prompt = _prompt(number, lines[:middle])
            low, high = (middle, high) if engine.count_tokens(prompt) <= most else (low, middle - 1)
        found.append(_prompt(number, lines[:low]))
    return found


def _prompt(number: int, lines: list[str]) -> list[Message]:
    return [{"role": "user", "content": "\n".join([f"{_TASK} Case {number}.", *lines])}]


def remember(folder: Path, bits: int, speeds: list[Speed]) -> Path:
    """Keep what was measured for the model in `folder` at `bits`, and return the file."""
    path = _file()
    rows = _read() | {
        _key(folder, bits): {
            "model": folder.name,
            "bits": bits,
            "date": datetime.now(UTC).date().isoformat(),
            "engines": [speed.as_dict() for speed in speeds],
        }
    }
    write_atomic(path, json.dumps(rows, indent=1))
    return path


def fastest(folder: Path, bits: int) -> str | None:
    """Return the engine that was fastest with this model on this machine, None where none was measured."""
    row = _read().get(_key(folder, bits))
    return str(row["engines"][0]["engine"]) if row else None


def _file() -> Path:
    return cache_folder() / "engines.json"


def _read() -> dict[str, Any]:
    try:
        found = json.loads(_file().read_text(encoding="utf-8"))
        return {k: v for k, v in found.items() if v["engines"][0]["engine"]}
    except (OSError, ValueError, KeyError, IndexError, TypeError, AttributeError):
        return {}


def _key(folder: Path, bits: int) -> str:
    """Return what changes with the machine, the model, or the packages that run it."""
    parts = [platform.node(), platform.machine(), platform.processor(), os.cpu_count(), str(folder.resolve()), bits]
    for name in _PACKAGES:
        try:
            parts.append(f"{name} {importlib.metadata.version(name)}")
        except importlib.metadata.PackageNotFoundError:
            parts.append(name)
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:16]
