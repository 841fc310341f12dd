"""Texts with `{name}` in them: parsed, and filled with a row's values. `{{` and `}}` are braces."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from doyen.prompts import passage_text
from doyen.records import Hit
from doyen.workflows.expressions import ExpressionFault, resolve

_PART = re.compile(r"\{\{|\}\}|\{([^{}]*)\}|[{}]")
_PATH = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*")
NOTHING = "none"


@dataclass(frozen=True, slots=True)
class Template:
    """`parts` are texts and, at odd places, dotted names."""

    text: str
    parts: tuple[str, ...]

    @property
    def paths(self) -> tuple[str, ...]:
        """The dotted names that it shows, in order."""
        return self.parts[1::2]

    def fill(self, values: Mapping[str, Any], cut: Mapping[str, int] | None = None) -> str:
        """Return the text for a row; of the values of the names in `cut` only so many characters are shown."""
        shown = list(self.parts)
        for i in range(1, len(shown), 2):
            path = shown[i]
            text = as_text(resolve(path, values))
            shown[i] = text[: cut[path]].rstrip() + " …" if cut and len(text) > cut.get(path, len(text)) else text
        return "".join(shown)


def parse_template(text: str) -> Template:
    """Parse a template. Raises ExpressionFault for a single brace, or what is no name within braces."""
    parts, kept, at = [], "", 0
    for found in _PART.finditer(text):
        kept += text[at : found.start()]
        at = found.end()
        if found[0] in ("{{", "}}"):
            kept += found[0][0]
        elif found[1] is not None and _PATH.fullmatch(found[1].strip()):
            parts += [kept, found[1].strip()]
            kept = ""
        else:
            raise ExpressionFault(f"'{found[0]}' in a template is no name; write {{{{ for a brace")
    return Template(text, (*parts, kept + text[at:]))


def as_text(value: Any) -> str:
    """Return a value as a prompt shows it: passages numbered, objects as JSON, null as "none"."""
    if value is None:
        return NOTHING
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float) and value.is_integer() and abs(value) < 1e15:
        return str(int(value))
    if isinstance(value, int | float):
        return str(value)
    if isinstance(value, tuple) and all(isinstance(hit, Hit) for hit in value):
        return "\n\n".join(passage_text(n, hit) for n, hit in enumerate(value, 1)) or NOTHING
    return json.dumps(value, ensure_ascii=False, default=str)
