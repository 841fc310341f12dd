"""`[reference]` and `[judge]` → the engines that ask them, and what is said before anything is sent there."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields, replace

from doyen.answer_costs import dollars, said_cost, told_before
from doyen.config import HostedSettings, ModelSettings, Settings
from doyen.errors import ConfigError
from doyen.models.server_engine import ServerEngine
from doyen.models.serving import server_engine
from doyen.models.token_estimate import estimated_tokens
from doyen.prompts import Message


def as_model(hosted: HostedSettings, model: ModelSettings) -> ModelSettings:
    """Return a hosted model's settings in the form of [model]: where it is, its pace, its prices, its longest answer."""
    own = {item.name: getattr(hosted, item.name) for item in fields(HostedSettings)}
    own["max_answer_tokens"] = hosted.max_answer_tokens or model.max_answer_tokens
    return ModelSettings(**own, engine="server")


def reference_settings(settings: Settings) -> Settings:
    """Return the settings under which the reference answers: the expert's, with the reference as [model]."""
    return replace(settings, model=as_model(settings.reference, settings.model))


def open_hosted(hosted: HostedSettings, table: str, settings: Settings) -> ServerEngine:
    """Return the engine of [reference] or [judge] (`table`); nothing is sent.

    Raises: ConfigError where it is not set up, EndpointError without its key.
    """
    if not hosted.name:
        raise ConfigError(f"[{table}] names no model", hint=f'[{table}] name = "openai:MODEL", or name and endpoint')
    return server_engine(as_model(hosted, settings.model), table=table)


def told_of_reference(
    engine: ServerEngine, settings: Settings, questions: Sequence[str], arms: Sequence[str]
) -> str | None:
    """Say to which host the reference arms' questions and passages go, and what that costs; None where nothing leaves."""
    return told_before(engine, reference_settings(settings), questions, arms, table="reference")


def told_of_judge(
    engine: ServerEngine, hosted: HostedSettings, prompts: Sequence[Sequence[Message]], tokens: int
) -> str | None:
    """Say to which host answers go to be judged, and what that costs; None where nothing leaves or is left to judge."""
    sent, written = sum(estimated_tokens(prompt) for prompt in prompts), tokens * len(prompts)
    cost = dollars(as_model(hosted, ModelSettings()), sent, written)
    if not prompts or (engine.endpoint.is_local and cost is None):
        return None
    head = (
        f"{len(prompts)} answers with their questions and known answers are sent to {engine.endpoint.host} to be judged by "
        f"{engine.name}: about {sent:,} tokens, and at most {written:,} back"
    )
    return f"{head}; {said_cost(cost, 'judge')}"
