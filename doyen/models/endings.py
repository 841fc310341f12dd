"""A constraint → short texts that may end what it asks for: matches of its expressions, examples of its formats.

Suggestions only: what takes them up tries whether the grammar allows them. Knows no tokenizer.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from re import _parser  # type: ignore[attr-defined]
from typing import Any

from doyen.models.constraints import JsonSchema, Regex

_EXAMPLES = {
    "date": "2000-01-01",
    "time": "00:00:00Z",
    "date-time": "2000-01-01T00:00:00Z",
    "duration": "P1D",
    "email": "a@a.co",
    "hostname": "a.co",
    "ipv4": "1.1.1.1",
    "ipv6": "::1",
    "uuid": "00000000-0000-0000-0000-000000000000",
    "uri": "a:a",
}
_USUAL = "a0A -_.,"


def endings(constraint: JsonSchema | Regex) -> list[str]:
    """Return all ends of a short match of each expression, and of an example of each format; shorter ones first."""
    whole = [shortest_match(constraint.pattern)] if isinstance(constraint, Regex) else list(_texts(constraint.schema))
    return sorted({text[i:] for text in whole for i in range(len(text))}, key=lambda text: (len(text), text))


def _texts(schema: Any) -> Iterator[str]:
    if isinstance(schema, Mapping):
        if isinstance(schema.get("pattern"), str):
            yield shortest_match(schema["pattern"])
        if isinstance(schema.get("format"), str):
            yield _EXAMPLES.get(schema["format"], "")
    parts = schema.values() if isinstance(schema, Mapping) else schema if isinstance(schema, list | tuple) else ()
    for part in parts:
        yield from _texts(part)


def shortest_match(pattern: str) -> str:
    """Return a short text that an expression matches, "" where Python does not know the expression."""
    try:
        return _shortest(_parser.parse(pattern))
    except (re.error, RecursionError, OverflowError):
        return ""


def _shortest(parsed: Any) -> str:
    return "".join(_of_part(str(name), argument) for name, argument in parsed)


def _of_part(name: str, argument: Any) -> str:
    if name == "LITERAL":
        return chr(argument)
    if name == "NOT_LITERAL":
        return "b" if argument == ord("a") else "a"
    if name == "ANY":
        return "a"
    if name == "IN":
        return _member(argument)
    if name == "BRANCH":
        return min((_shortest(branch) for branch in argument[1]), key=len)
    if name == "SUBPATTERN":
        return _shortest(argument[3])
    if name.endswith("_REPEAT"):
        return _shortest(argument[2]) * min(int(argument[0]), 1000)
    return ""


def _member(items: Any) -> str:
    """Return a character of a class, a usual one if it has such."""
    listed = [chr(a if str(n) == "LITERAL" else a[0]) for n, a in items if str(n) in ("LITERAL", "RANGE")]
    negated = any(str(n) == "NEGATE" for n, _ in items)
    fitting = (c for c in (*_USUAL, *listed, "1", "x") if any(_is(c, str(n), a) for n, a in items) != negated)
    return next(fitting, "")


def _is(character: str, name: str, argument: Any) -> bool:
    if name == "LITERAL":
        return ord(character) == int(argument)
    if name == "RANGE":
        return bool(argument[0] <= ord(character) <= argument[1])
    kind = str(argument)
    held = {"DIGIT": character.isdigit(), "SPACE": character.isspace(), "WORD": character.isalnum() or character == "_"}
    found = held.get(kind.rsplit("_", 1)[-1], False)
    return name == "CATEGORY" and bool(found) != ("_NOT_" in kind)
