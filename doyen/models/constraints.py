"""What an answer may be: JSON of a schema, a text that a regular expression matches, or one of a list of choices.

Only says it, and whether it can be met; each engine keeps to it in its own way.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from doyen.errors import UsageError


@dataclass(frozen=True, slots=True)
class JsonSchema:
    """The answer is JSON that is valid by this JSON Schema (draft 2020-12)."""

    schema: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Regex:
    """The whole answer is matched by this regular expression."""

    pattern: str


@dataclass(frozen=True, slots=True)
class Choices:
    """The answer is one of these texts. One may begin with another: the longer one then is the other's rival."""

    options: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class PassageNumbers:
    """The answer is free text, but a number in brackets, as `[2]` or `[1, 3]`, is never above `passages`.

    Engines that cannot keep to it may leave it out: `parse_answer` drops numbers of no passage.
    """

    passages: int


Form = JsonSchema | Regex | Choices
"""What a user asks for; every engine keeps to it or says that it cannot."""
Constraint = Form | PassageNumbers


def constraint_key(constraint: Constraint | None) -> str:
    """Return a text that is equal for equal constraints only; the order of a schema's properties counts."""
    return json.dumps([type(constraint).__name__, dataclasses.asdict(constraint)]) if constraint else ""


def require_choices(choices: Choices) -> None:
    """Refuse choices among which nothing can be chosen. Raises UsageError."""
    options: Any = choices.options
    if isinstance(options, str) or not all(isinstance(o, str) for o in options):
        raise UsageError(f"choices are a list of texts, not {options!r}", hint='Choices(("yes", "no"))')
    if not options:
        raise UsageError("the list of choices is empty", hint="name at least one")
    if blank := [o for o in options if not o.strip()]:
        raise UsageError(f"a choice is blank: {blank[0]!r}", hint='name it, as "none"')
    if double := sorted({o for o in options if options.count(o) > 1}):
        raise UsageError(f"a choice stands twice: {', '.join(map(repr, double))}", hint="each once")


def require_possible(constraint: Constraint | None) -> None:
    """Refuse a constraint that nothing satisfies, or that answers cannot be held to. Loads no model.

    Raises:
        UsageError: what of the schema, the expression or the choices is wrong.
    """
    from doyen.models.grammars import grammar_of

    if isinstance(constraint, Choices):
        require_choices(constraint)
    elif isinstance(constraint, PassageNumbers):
        if constraint.passages < 1:
            raise UsageError(f"there are {constraint.passages} passages to cite", hint="pass no constraint")
    elif constraint is not None:
        grammar_of(constraint)
