"""The settings' generator of questions, opened: rules, the expert's own model, or a teacher behind an API."""

from __future__ import annotations

from doyen.config import Settings
from doyen.errors import UsageError
from doyen.examples.generating.facts import Generator
from doyen.examples.generating.rules import RuleGenerator
from doyen.examples.generating.teacher import open_teacher
from doyen.examples.generating.wording import ModelGenerator
from doyen.models.engine import Engine


def open_generator(settings: Settings, engine: Engine | None) -> Generator:
    """Return the generator that [examples] generator names; "model" needs the `engine`.

    Raises:
        UsageError: there is no engine for it.
        ConfigError, EndpointError: no teacher is set, or its key is missing.
    """
    if settings.examples.generator == "teacher":
        return open_teacher(settings.teacher)
    if settings.examples.generator == "rules":
        return RuleGenerator()
    if engine is None:
        raise UsageError("the generator 'model' needs an engine", hint="engine=open_engine(settings)")
    return ModelGenerator(engine)
