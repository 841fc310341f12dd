"""One table of a workflow file, taken out field by field: types are checked, what is unknown is named, faults are collected."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from doyen.workflows.expressions import Expression, ExpressionFault, parse_expression
from doyen.workflows.faults import near
from doyen.workflows.templates import Template, parse_template

_NAMED = {
    str: "a text",
    int: "a whole number",
    float: "a number",
    bool: "true or false",
    list: "a list",
    dict: "a table",
}


class Fields:
    """The fields of a table; `where` is said in faults, as `[steps.kind]`."""

    def __init__(self, table: Mapping[str, Any], where: str, faults: list[str]) -> None:
        self._table = dict(table)
        self._asked: list[str] = []
        self.where = where
        self.faults = faults

    def fault(self, field: str, what: str) -> None:
        """Note a fault of a field."""
        self.faults.append(f"{self.where} {field}: {what}" if field else f"{self.where}: {what}")

    def take(self, name: str, kind: type, default: Any = None, *, needed: bool = False) -> Any:
        """Return a field of a type, the default where it is absent or wrong."""
        self._asked.append(name)
        if name not in self._table:
            if needed:
                self.fault(name, f"is missing: {_NAMED[kind]}")
            return default
        value = self._table.pop(name)
        if kind is float and isinstance(value, int) and not isinstance(value, bool):
            value = float(value)
        if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
            self.fault(name, f"is {_said(value)}, expected {_NAMED[kind]}")
            return default
        return value

    def text(self, name: str, default: str = "", *, needed: bool = False) -> str:
        """Return a text; with `needed` one that is not blank."""
        found: str = self.take(name, str, default, needed=needed)
        if needed and not found.strip() and not self._has_fault(name):
            self.fault(name, "is empty")
        return found

    def whole(self, name: str, default: int, low: int, high: int) -> int:
        """Return a whole number between two bounds."""
        found: int = self.take(name, int, default)
        if not low <= found <= high:
            self.fault(name, f"is {found}, expected {low} to {high}")
            return default
        return found

    def one_of(self, name: str, options: tuple[str, ...], default: str) -> Any:
        """Return one of some texts."""
        found = self.text(name, default)
        if found not in options:
            self.fault(name, f"is '{found}', expected one of {', '.join(options)}{near(found, options)}")
            return default
        return found

    def texts(self, name: str) -> tuple[str, ...]:
        """Return a list of texts."""
        found = self.take(name, list, [])
        if not all(isinstance(item, str) and item.strip() for item in found):
            self.fault(name, "is a list of texts, none of them empty")
            return ()
        return tuple(found)

    def tables(self, name: str) -> list[Fields]:
        """Return a list of tables."""
        found = self.take(name, list, [])
        if not all(isinstance(item, dict) for item in found):
            self.fault(name, "is a list of tables: [{ … }, …]")
            return []
        place = f"{self.where} {name}"
        return [Fields(item, f"{place}[{i}]", self.faults) for i, item in enumerate(found, 1)]

    def expression(self, name: str, *, needed: bool = False) -> Expression | None:
        """Return an expression, None where there is none."""
        text = self.text(name, needed=needed)
        return self._parsed(parse_expression, name, text) if text.strip() else None

    def template(self, name: str, *, needed: bool = False) -> Template:
        """Return a template."""
        text = self.text(name, needed=needed)
        return self._parsed(parse_template, name, text) or Template("", ("",))

    def templates(self, name: str) -> tuple[Template, ...]:
        """Return a list of templates."""
        return tuple(filter(None, (self._parsed(parse_template, name, text) for text in self.texts(name))))

    def expressions(self, name: str) -> dict[str, Expression]:
        """Return a table of expressions."""
        found = {}
        for key, text in self.take(name, dict, {}).items():
            if not isinstance(text, str):
                self.fault(f"{name}.{key}", f"is {_said(text)}, expected an expression")
            elif (parsed := self._parsed(parse_expression, f"{name}.{key}", text)) is not None:
                found[key] = parsed
        return found

    def choices(self, name: str, *, needed: bool = False) -> dict[str, str]:
        """Return choices with what each means: of a list of texts, or a table."""
        self._asked.append(name)
        value = self._table.pop(name, None)
        if value is None:
            if needed:
                self.fault(name, 'is missing: a list of texts, ["water", "storm"]')
            return {}
        if isinstance(value, list) and all(isinstance(v, str) and v.strip() for v in value):
            found = dict.fromkeys(value, "")
            if len(found) < len(value):
                self.fault(name, "has a choice twice")
        elif isinstance(value, dict) and all(isinstance(v, str) for v in value.values()):
            found = dict(value)
        else:
            self.fault(name, f"is {_said(value)}, expected a list of texts, or a table of texts")
            return {}
        if len(found) < 2:
            self.fault(name, "needs two choices or more")
        return found

    def schema(self, beside: Path, *, needed: bool = False) -> dict[str, Any] | None:
        """Return the JSON schema of `schema`, or of the file that `schema_file` names."""
        found: dict[str, Any] | None = self.take("schema", dict)
        file = self.text("schema_file")
        if found is not None and file:
            self.fault("schema_file", "and schema exclude each other")
        if not file:
            if needed and found is None and not self._has_fault("schema"):
                self.fault("schema", "is missing: a JSON schema, or schema_file")
            return found
        try:
            read = json.loads((beside / file).read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            self.fault("schema_file", f"'{file}' cannot be read: {error}")
            return None
        if not isinstance(read, dict):
            self.fault("schema_file", f"'{file}' holds no JSON object")
            return None
        return read

    def done(self) -> None:
        """Name the fields that were not asked for."""
        for name in self._table:
            self.fault(name, f"is no field of it{near(name, self._asked)}")

    def _parsed(self, parse: Callable[[str], Any], name: str, text: str) -> Any:
        try:
            return parse(text)
        except ExpressionFault as error:
            self.fault(name, str(error))
            return None

    def _has_fault(self, name: str) -> bool:
        return any(f.startswith(f"{self.where} {name}:") for f in self.faults)


def _said(value: Any) -> str:
    kind = next((said for of, said in _NAMED.items() if type(value) is of), type(value).__name__)
    return f"{kind} ({json.dumps(value, default=str, ensure_ascii=False)[:40]})"
