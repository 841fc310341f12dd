"""An engine and prompts as questions make them → seconds of reading a token, of a step, of each text in a step.

Prompts are read alone, answered alone, and answered together; none is used twice, since equal beginnings are read once.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence

from doyen.capacity.figures import LEAST_SPREAD
from doyen.capacity.queueing import NodeSpeed
from doyen.capacity.rates import EngineRates
from doyen.config import Settings
from doyen.expert import open_engine
from doyen.models.engine import Completion, Engine, LocalEngine
from doyen.prompts import Message, passages_messages
from doyen.retrieval.hybrid import Retriever
from doyen.retrieval.neighbours import hits_for

_ALONE, _TOGETHER = 6, 12
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
    lengths = [one.completion_tokens for one in made]
    left = seconds - read_token * sum(one.prompt_tokens for one in made)
    text_step = min(single, max(0.0, text_share(left, single, lengths)))
    answered = [m[0] for _, m in alone] + list(made)
    return EngineRates(
        name=engine.name,
        read_token_s=read_token,
        step_s=single - text_step,
        text_step_s=text_step,
        spread=max(LEAST_SPREAD, _halves([s / made[0].prompt_tokens for s, made in reading])),
        batch_tokens=batch_tokens,
        prompt_tokens=[one.prompt_tokens for one in answered],
        answer_tokens=[one.completion_tokens for one in answered],
    )


def _halves(values: Sequence[float]) -> float:
    """Return by how much the means of two halves differ, as a share of both."""
    first, second = sum(values[::2]), sum(values[1::2])
    return abs(first / max(1, len(values[::2])) - second / max(1, len(values[1::2]))) * len(values) / (first + second)


def text_share(writing_s: float, single_s: float, lengths: Sequence[int]) -> float:
    """Return what each text adds to a step, where texts of these lengths were written together from one moment on.

    A step alone takes `single_s` = step + text; so many steps have as many texts as are not done yet.
    """
    steps, texts = max(lengths, default=0), sum(lengths)
    if texts <= steps:
        return single_s
    return (writing_s - single_s * steps) / (texts - steps)


def node_speed(rates: EngineRates, most_requests: int, scale: float = 1.0) -> NodeSpeed:
    """Return an engine as the simulation takes it; `scale` makes its steps shorter (below 1) or longer."""
    prompt = statistics.fmean(rates.prompt_tokens)
    room = max(1.0, min(MOST_TEXTS, rates.batch_tokens / (prompt + max(rates.answer_tokens))))
    return NodeSpeed(rates.step_s * scale, rates.text_step_s * scale, int(room), most_requests)


def _timed(engine: Engine, prompts: Sequence[Prompt], max_tokens: int) -> tuple[float, list[Completion]]:
    began = time.perf_counter()
    made = engine.generate(prompts, max_tokens=max_tokens)
    return time.perf_counter() - began, made
