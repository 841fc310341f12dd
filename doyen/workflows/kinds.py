"""What a value of a flow is: the types that expressions are checked with. Knows no step and no row."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class Kind:
    """`name` is text, number, boolean, list, object, null or any. `choices`: all texts that it may be, empty: any text.

    `fields` are an object's; None where they are not known.
    """

    name: str
    choices: tuple[str, ...] = ()
    fields: Mapping[str, Kind] | None = field(default=None, hash=False)


TEXT, NUMBER, BOOLEAN, LIST, NULL, ANY = map(Kind, ("text", "number", "boolean", "list", "null", "any"))
OBJECT = Kind("object")
COLUMN_KINDS = {"text": TEXT, "number": NUMBER, "integer": NUMBER, "boolean": BOOLEAN}
_OF_JSON = {"string": TEXT, "number": NUMBER, "integer": NUMBER, "boolean": BOOLEAN, "array": LIST, "null": NULL}


def kind_of_schema(schema: Any) -> Kind:
    """Return the kind of the values of a JSON schema; `any` where it does not tell. A null beside it does not count."""
    if not isinstance(schema, Mapping):
        return ANY
    if isinstance(schema.get("enum"), list):
        texts = [v for v in schema["enum"] if v is not None]
        return Kind("text", tuple(texts)) if texts and all(isinstance(v, str) for v in texts) else ANY
    named = schema.get("type")
    names = [n for n in (named if isinstance(named, list) else [named]) if n != "null"]
    if len(names) != 1:
        return ANY
    if names[0] == "object":
        properties = schema.get("properties")
        if not isinstance(properties, Mapping):
            return OBJECT
        return Kind("object", fields={name: kind_of_schema(of) for name, of in properties.items()})
    return _OF_JSON.get(str(names[0]), ANY)
