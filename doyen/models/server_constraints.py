"""A constraint → what asks a server to keep to it; and the check of what came.

vLLM and llama.cpp's server know lists of choices themselves, vLLM regular expressions too. Elsewhere a text is asked for within a
JSON object, and taken out of it.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from doyen.models.chat_stream import TokenSigns
from doyen.models.constraints import Choices, Form, JsonSchema, Regex
from doyen.models.servers import LLAMACPP, VLLM, Server

_WITHIN = "answer"
# vLLM calls them `structured_outputs` from this version on, `guided_choice` and `guided_regex` before.
_NEW_NAMES = (0, 11)


@dataclass(frozen=True, slots=True)
class Asked:
    """How a constraint is asked for: fields of the request, and whether the text comes within a JSON object."""

    fields: dict[str, Any]
    within: bool = False


def asked_as(constraint: Form, server: Server) -> Asked:
    """Return how to ask this server for an answer that keeps to the constraint."""
    if isinstance(constraint, JsonSchema):
        return Asked(_schema_fields(dict(constraint.schema)))
    if server.kind == VLLM:
        kind, value = (
            ("choice", list(constraint.options)) if isinstance(constraint, Choices) else ("regex", constraint.pattern)
        )
        old = bool(server.version) and server.version < _NEW_NAMES
        return Asked({f"guided_{kind}": value} if old else {"structured_outputs": {kind: value}})
    if server.kind == LLAMACPP and isinstance(constraint, Choices):
        return Asked(
            {"grammar": "root ::= " + " | ".join(json.dumps(o, ensure_ascii=False) for o in constraint.options)}
        )
    if isinstance(constraint, Choices):
        inner: dict[str, Any] = {"type": "string", "enum": list(constraint.options)}
    else:
        inner = {"type": "string", "pattern": f"^({constraint.pattern})$"}
    schema = {"type": "object", "properties": {_WITHIN: inner}, "required": [_WITHIN], "additionalProperties": False}
    return Asked(_schema_fields(schema), within=True)


def _schema_fields(schema: dict[str, Any]) -> dict[str, Any]:
    named = {"name": "answer", "schema": schema, "strict": _is_strict(schema)}
    return {"response_format": {"type": "json_schema", "json_schema": named}}


def _is_strict(schema: Any) -> bool:
    """Whether OpenAI's strict mode takes a schema: each object names all of its properties as required and takes no others."""
    if isinstance(schema, list):
        return all(map(_is_strict, schema))
    if not isinstance(schema, Mapping):
        return True
    own = schema.get("properties")
    if schema.get("type") == "object" or own is not None:
        names = set(own or ())
        if schema.get("additionalProperties") is not False or set(schema.get("required") or ()) != names:
            return False
        return all(_is_strict(value) for value in (own or {}).values())
    return all(_is_strict(value) for value in schema.values())


def in_words(constraint: Form, within: bool) -> str:
    """Say a constraint to a model whose server did not keep to it."""
    if isinstance(constraint, JsonSchema):
        return f"Answer with nothing but JSON that is valid by this schema: {json.dumps(dict(constraint.schema))}"
    if isinstance(constraint, Choices):
        said = f"one of these texts: {json.dumps(list(constraint.options), ensure_ascii=False)}"
    else:
        said = f"a text that this regular expression matches: {constraint.pattern}"
    return (
        f'Answer with nothing but JSON of the form {{"{_WITHIN}": "…"}}, where … is {said}'
        if within
        else f"Answer with {said}"
    )


def taken_out(text: str, constraint: Form, within: bool) -> str | None:
    """Return the answer in what came, or None where that does not keep to the constraint."""
    text = text.strip()
    if within:
        try:
            value = json.loads(text)
        except ValueError:
            value = None
        inner = value.get(_WITHIN) if isinstance(value, dict) else None
        text = inner if isinstance(inner, str) else text  # a server that ignored the schema may have written it bare
    return text if keeps_to(text, constraint) else None


def keeps_to(text: str, constraint: Form) -> bool:
    """Whether an answer keeps to a constraint."""
    if isinstance(constraint, Choices):
        return text in constraint.options
    if isinstance(constraint, Regex):
        return re.fullmatch(constraint.pattern, text) is not None
    from jsonschema import Draft202012Validator

    try:
        value = json.loads(text)
    except ValueError:
        return False
    return bool(Draft202012Validator(dict(constraint.schema)).is_valid(value))


def choice_probabilities(first: TokenSigns | None, options: Sequence[str]) -> tuple[float, ...]:
    """Return each option's share of the first token's probability; () where that token does not tell all of them apart."""
    found = [0.0] * len(options)
    for token, log_probability in (first.top if first else {}).items():
        begun = [i for i, option in enumerate(options) if token.strip() and option.startswith(token.strip())]
        if len(begun) == 1:
            found[begun[0]] += math.exp(log_probability)
        elif begun:
            return ()
    total = sum(found)
    return tuple(value / total for value in found) if all(found) else ()
