"""An engine and prompts as questions make them → seconds of reading a token, of a step, of each text in a step.

Prompts are read alone, answered alone, and answered together; none is used twice, since equal beginnings are read once.
"""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from doyen.capacity.figures import LEAST_SPREAD
from doyen.capacity.queueing import NodeSpeed, Questions, Simulation
from doyen.capacity.rates import EngineRates
from doyen.config import Settings
from doyen.expert import open_engine
from doyen.models.engine import Completion, Engine, LocalEngine
from doyen.prompts import Message, passages_messages
from doyen.retrieval.hybrid import Retriever
from doyen.retrieval.neighbours import hits_for

_ALONE, _TOGETHER = 6, 24
_HALVINGS = 30
MOST_TEXTS = 64
"""So many answers the engine writes together at most (doyen.models.decoding)."""
Prompt = list[Message]


def measure_engine(
    settings: Settings, retriever: Retriever, questions: Sequence[str], say: Callable[[str], None]
) -> EngineRates | None:
    """Measure the settings' model on questions with the passages that are found for them; None for one behind a server."""
    engine = open_engine(settings)
    if not isinstance(engine, LocalEngine):
        say(f"{engine.name} is behind a server, which is not measured")
        return None
    count = settings.answer.passages
    prompts = [
        passages_messages(question, retriever.passages(retriever.search(question, hits_for(count)), count))
        for question in questions
    ]
    return rates_of(engine, prompts, settings.model.max_answer_tokens, settings.model.batch_tokens)


def rates_of(engine: Engine, prompts: Sequence[Prompt], max_tokens: int, batch_tokens: int) -> EngineRates:
    """Measure an engine on distinct prompts; at least four are needed, thirty are better."""
    share = max(1, min(_ALONE, len(prompts) // 4))
    engine.generate([[{"role": "user", "content": "Hello"}]], max_tokens=2)
    firsts, wholes = prompts[:share], prompts[share : 2 * share]
    together = prompts[2 * share : 2 * share + _TOGETHER]
    reading = [_timed(engine, [p], 1) for p in firsts]
    read_token = statistics.median(s / made[0].prompt_tokens for s, made in reading)
    alone = [_timed(engine, [p], max_tokens) for p in wholes]
    writing_s = [s - read_token * made[0].prompt_tokens for s, made in alone]
    tokens = [made[0].completion_tokens for _, made in alone]
    single = max(sum(writing_s) / max(1, sum(tokens)), 1e-5)
    seconds, made = _timed(engine, together, max_tokens)
    answered = [m[0] for _, m in alone] + list(made)
    rates = EngineRates(
        name=engine.name,
        read_token_s=read_token,
        step_s=single,
        text_step_s=0.0,
        spread=max(LEAST_SPREAD, _halves([s / made[0].prompt_tokens for s, made in reading])),
        batch_tokens=batch_tokens,
        prompt_tokens=[one.prompt_tokens for one in answered],
        answer_tokens=[one.completion_tokens for one in answered],
    )
    text_step = text_share(seconds, single, _as_questions(rates, made), node_speed(rates, len(made)).most_at_work)
    return replace(rates, step_s=single - text_step, text_step_s=text_step)


def _as_questions(rates: EngineRates, made: Sequence[Completion]) -> Questions:
    """Return answers as the simulation takes them."""
    read = np.array([one.prompt_tokens for one in made], dtype=np.float64) * rates.read_token_s
    return Questions(read, np.array([one.completion_tokens for one in made], dtype=np.float64))


def _halves(values: Sequence[float]) -> float:
    """Return by how much the means of two halves differ, as a share of both."""
    first, second = sum(values[::2]), sum(values[1::2])
    return abs(first / max(1, len(values[::2])) - second / max(1, len(values[1::2]))) * len(values) / (first + second)


def text_share(seconds: float, single_s: float, asked: Questions, most_at_work: float) -> float:
    """Return what each text adds to a step, where these questions, all asked at one moment, took so many seconds.

    A step of one text takes `single_s` = step + share. The share is the one with which the simulation takes as long.
    """
    low, high = 0.0, single_s
    for _ in range(_HALVINGS):
        share = (low + high) / 2
        speed = NodeSpeed(single_s - share, share, most_at_work)
        if _simulated_s(speed, asked) < seconds:
            low = share
        else:
            high = share
    return (low + high) / 2


def _simulated_s(speed: NodeSpeed, asked: Questions) -> float:
    run = Simulation(speed, 1, asked)
    for number in range(len(asked.read_s)):
        run.arrive(number, 0.0)
    run.run_until(math.inf)
    return max(run.ended)


def node_speed(rates: EngineRates, most_requests: int, scale: float = 1.0) -> NodeSpeed:
    """Return an engine as the simulation takes it; `scale` makes its steps shorter (below 1) or longer."""
    prompt = statistics.fmean(rates.prompt_tokens)
    room = max(1.0, min(MOST_TEXTS, rates.batch_tokens / (prompt + max(rates.answer_tokens))))
    return NodeSpeed(rates.step_s * scale, rates.text_step_s * scale, int(room), most_requests)


def _timed(engine: Engine, prompts: Sequence[Prompt], max_tokens: int) -> tuple[float, list[Completion]]:
    began = time.perf_counter()
    made = engine.generate(prompts, max_tokens=max_tokens)
    return time.perf_counter() - began, made
