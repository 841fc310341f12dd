"""Answers over a server → where questions go, and what they cost, about. Sends nothing.

The prices are those of the settings; doyen knows none.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from doyen.config import ModelSettings, Settings
from doyen.models.engine import Engine
from doyen.models.server_engine import ServerEngine
from doyen.prompts import SYSTEM_PASSAGES
from doyen.records import Answer, shows_passages

_BYTES_PER_TOKEN = 4


def dollars(settings: ModelSettings, sent: int, written: int) -> float | None:
    """Return what tokens cost in US dollars, None where a price is not set."""
    prices = settings.input_price, settings.output_price
    return (sent * prices[0] + written * prices[1]) / 1e6 if min(prices) >= 0 else None


def answers_dollars(settings: ModelSettings, answers: Iterable[Answer]) -> float | None:
    """Return what answers cost, by the tokens that they tell, None where a price is not set."""
    counted = [(answer.prompt_tokens, answer.completion_tokens) for answer in answers]
    return dollars(settings, sum(sent for sent, _ in counted), sum(written for _, written in counted))


def told_before(
    engine: Engine, settings: Settings, questions: Sequence[str], arms: Sequence[str], *, table: str = "model"
) -> str | None:
    """Say to which host questions and passages go and what that costs; None where they stay here and cost nothing.

    `arms` has one entry an asking: an arm that is asked with several adapters stands there as often. Tokens are four bytes
    each; a prompt with passages is taken to have all of them at their longest, an answer its longest. `table` of `doyen.toml`
    is where the prices stand.
    """
    if not isinstance(engine, ServerEngine):
        return None
    with_passages = sum(map(shows_passages, arms))
    passages = settings.answer.passages * settings.chunking.max_tokens
    asked = sum(len((SYSTEM_PASSAGES + question).encode()) // _BYTES_PER_TOKEN for question in questions)
    sent = asked * len(arms) + passages * with_passages * len(questions)
    written = settings.model.max_answer_tokens * len(arms) * len(questions)
    cost = dollars(settings.model, sent, written)
    if engine.endpoint.is_local and cost is None:
        return None
    what = "questions and passages" if with_passages else "questions"
    head = f"{what} are sent to {engine.endpoint.host} for {engine.name}: about {sent:,} tokens, and at most {written:,} back"
    return f"{head}; {said_cost(cost, table)}"


def told_of_rows(engine: Engine, settings: Settings, rows: int, prompts: int) -> str | None:
    """Say to which host a workflow's rows go, each in up to `prompts` prompts; None where they stay here and cost nothing."""
    if not isinstance(engine, ServerEngine) or not prompts:
        return None
    priced = min(settings.model.input_price, settings.model.output_price) >= 0
    if engine.endpoint.is_local and not priced:
        return None
    head = f"{rows:,} rows are sent to {engine.endpoint.host} for {engine.name}, each in up to {prompts} prompts"
    price = "the cost is told as it goes" if priced else said_cost(None, "model")
    return f"{head}; {price}"


def said_cost(cost: float | None, table: str) -> str:
    """Say what tokens cost at most, or which settings of a table would tell."""
    if cost is None:
        return f"their price is not known ([{table}] input_price and output_price set it)"
    return f"about US$ {cost:,.2f} at most"
