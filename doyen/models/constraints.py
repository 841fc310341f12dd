"""What an answer may be: JSON of a schema, a text that a regular expression matches, or one of a list of choices.

Only says it; each engine keeps to it in its own way.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


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
    """The answer is one of these texts."""

    options: tuple[str, ...]


Constraint = JsonSchema | Regex | Choices
