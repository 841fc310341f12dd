"""JSON schema or regular expression → a grammar of llguidance, or what is wrong with it. Knows no model.

JSON is written as Python's json.dumps does (", " and ": "), as models know it. What a schema leaves unbounded is
bounded here: a small model may go on for ever within a text, a list or the digits of a number.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from doyen.errors import UsageError
from doyen.models.constraints import JsonSchema, Regex

MOST_CHARACTERS = 200
MOST_ITEMS = 32
LARGEST = 10**15
SMALLEST_STEP = 1e-6

_OF_SCHEMAS = ("properties", "patternProperties", "$defs", "definitions", "dependentSchemas")
_LISTS = ("anyOf", "oneOf", "allOf", "prefixItems")
_ONES = ("items", "additionalProperties")
_ENDS_TEXT = ("maxLength", "pattern", "format", "enum", "const")
_ENDS_NUMBER = ("enum", "const")
_OPENED_ELSEWHERE = ("$ref", "anyOf", "oneOf", "allOf", "additionalProperties", "patternProperties")
_REGEX_HINT = "look-around and back-references are not known; the rest is as in Rust's regex crate"
_LAYOUT = {"whitespace_flexible": False, "item_separator": ", ", "key_separator": ": "}


def grammar_of(constraint: JsonSchema | Regex) -> str:
    """Return the grammar that the answers are held to.

    Raises:
        UsageError: nothing satisfies it, it is broken, or it uses what answers cannot be held to (named).
    """
    from llguidance import LLMatcher

    if isinstance(constraint, Regex):
        grammar: str = LLMatcher.grammar_from_regex(constraint.pattern)
        if fault := LLMatcher.validate_grammar(grammar):
            raise UsageError(f"the regular expression is not usable: {_short(fault)}", hint=_REGEX_HINT)
        return grammar
    schema = _as_json(constraint.schema)
    if not _names(schema, "allOf"):  # bounds on one part can contradict another part
        bounded: str = LLMatcher.grammar_from_json_schema(_bounded(schema), overrides=_LAYOUT)
        if not LLMatcher.validate_grammar(bounded):
            return bounded
    grammar = LLMatcher.grammar_from_json_schema(schema, overrides=_LAYOUT)
    if fault := LLMatcher.validate_grammar(grammar):
        message, hint = _explained(fault)
        raise UsageError(message, hint=hint)
    return grammar


def _as_json(schema: Any) -> dict[str, Any]:
    """Return a copy of a schema as JSON holds it. Raises UsageError where it is no JSON object."""
    try:
        copied = json.loads(json.dumps(schema, allow_nan=False))
    except (TypeError, ValueError) as error:
        raise UsageError(f"the schema is not JSON: {error}") from error
    if not isinstance(copied, dict):
        raise UsageError(f"a JSON schema is an object, not {json.dumps(copied)[:40]}", hint='{"type": "object", …}')
    copied.pop("x-guidance", None)  # llguidance's own options: these are doyen's to set
    return copied


def _explained(fault: str) -> tuple[str, str]:
    if found := re.search(r"Unimplemented keys: (\[.*\])", fault):
        words = ", ".join(json.loads(found[1]))
        return (
            f"the schema uses keywords that answers cannot be held to: {words}",
            "leave them out, and check what they ask for on the answer",
        )
    if "oneOf" in fault:
        return "the schema has a oneOf whose cases may both be true", "use anyOf"
    if "Unsatisfiable" in fault:
        return f"nothing satisfies the schema: {_short(fault).split(': ', 1)[-1]}", "correct the schema"
    return f"the schema is not usable: {_short(fault)}", "https://json-schema.org/draft/2020-12"


def _short(fault: str) -> str:
    """Return the first lines of a message of llguidance on one line, without its own state."""
    found = re.sub(r"^at \d+\(\d+\): |\d+ \| start: .*", "", fault.split("<state>")[0], flags=re.DOTALL)
    return " ".join(found.split())[:300]


def _names(schema: Any, keyword: str) -> bool:
    if isinstance(schema, Mapping):
        return keyword in schema or any(_names(v, keyword) for v in schema.values())
    return isinstance(schema, list) and any(_names(v, keyword) for v in schema)


def _bounded(schema: Any) -> Any:
    """Return a narrower schema: what satisfies it satisfies the one given, and it has no endless text, list or number."""
    if not isinstance(schema, dict):
        return schema
    narrow = dict(schema)
    for key in _OF_SCHEMAS:
        if isinstance(narrow.get(key), dict):
            narrow[key] = {name: _bounded(value) for name, value in narrow[key].items()}
    for key in _LISTS:
        if isinstance(narrow.get(key), list):
            narrow[key] = [_bounded(value) for value in narrow[key]]
    for key in _ONES:
        if key in narrow:
            narrow[key] = _bounded(narrow[key])
    for kind in _kinds(narrow):
        narrow |= _BOUNDS[kind](narrow) if kind in _BOUNDS else {}
    return narrow


def _kinds(schema: Mapping[str, Any]) -> list[str]:
    kinds = schema.get("type", [])
    return [kinds] if isinstance(kinds, str) else [k for k in kinds if isinstance(k, str)]


def _text_bounds(schema: Mapping[str, Any]) -> dict[str, Any]:
    if any(key in schema for key in _ENDS_TEXT):
        return {}
    least = schema.get("minLength", 0)
    return {"maxLength": max(MOST_CHARACTERS, least if isinstance(least, int) else 0)}


def _list_bounds(schema: Mapping[str, Any]) -> dict[str, Any]:
    if any(key in schema for key in ("maxItems", "enum", "const")):
        return {}
    least = schema.get("minItems", 0)
    return {"maxItems": max(MOST_ITEMS, least if isinstance(least, int) else 0)}


def _number_bounds(schema: Mapping[str, Any]) -> dict[str, Any]:
    if any(key in schema for key in _ENDS_NUMBER):
        return {}
    bounds: dict[str, Any] = {}
    if "minimum" not in schema and "exclusiveMinimum" not in schema:
        bounds["minimum"] = -LARGEST
    if "maximum" not in schema and "exclusiveMaximum" not in schema:
        bounds["maximum"] = LARGEST
    if "multipleOf" not in schema and "integer" not in _kinds(schema):
        bounds["multipleOf"] = SMALLEST_STEP
    return bounds


def _object_bounds(schema: Mapping[str, Any]) -> dict[str, Any]:
    if "properties" not in schema or any(key in schema for key in _OPENED_ELSEWHERE):
        return {}
    return {"additionalProperties": False}


_BOUNDS = {
    "string": _text_bounds,
    "array": _list_bounds,
    "number": _number_bounds,
    "integer": _number_bounds,
    "object": _object_bounds,
}
