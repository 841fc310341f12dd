"""A labelled table → rows with what each step should give, checked. Labels stand in columns `expected.STEP[.FIELD]`."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from doyen.errors import WorkflowError
from doyen.workflows.definition import Classify, Decide, Draft, Extract, Step, Workflow
from doyen.workflows.faults import near
from doyen.workflows.inputs import Input, open_input, require_columns, typed_values

EXPECTED, SPLIT = "expected.", "split"
_MOST_FAULTS = 20


@dataclass(frozen=True, slots=True)
class Labelled:
    """A row with what its steps should give; `split` is train, test or "" (both)."""

    number: int
    id: str
    given: dict[str, Any]
    values: dict[str, Any]
    labels: dict[str, Any] = field(default_factory=dict)
    split: str = ""


def labelled_steps(flow: Workflow) -> list[Step]:
    """Return the steps that a person can label: what a model writes, and decisions."""
    return [step for step in flow.steps if isinstance(step, Classify | Extract | Decide | Draft)]


def read_labelled(flow: Workflow, source: Path | str) -> list[Labelled]:
    """Read a labelled table.

    Raises:
        WorkflowError: it lacks columns, has no label, names a step that is not there, or has labels that a step cannot give (each
            with its row).
    """
    given = open_input(str(source))
    require_columns(flow, given.columns, given.name)
    faults: list[str] = []
    rows = [_row(flow, given, number, cells, fault, faults) for number, (cells, fault) in enumerate(given.read(), 1)]
    if faults:
        more = f"\n… and {len(faults) - _MOST_FAULTS} more" if len(faults) > _MOST_FAULTS else ""
        raise WorkflowError("\n".join(f"{given.name}: {fault}" for fault in faults[:_MOST_FAULTS]) + more)
    if not any(row.labels for row in rows):
        named = ", ".join(f"{EXPECTED}{step.name}" for step in labelled_steps(flow))
        raise WorkflowError(f"{given.name} has no labels", hint=f"columns of what is right: {named}")
    return rows


def _row(flow: Workflow, given: Input, number: int, cells: dict[str, Any], fault: str, faults: list[str]) -> Labelled:
    values, wrong = typed_values(flow, cells)
    faults += [f"row {number}: {why}" for why in filter(None, (fault, *wrong))]
    split = str(cells.get(SPLIT) or "")
    if split not in ("", "train", "validation", "test"):
        faults.append(f"row {number}: split is '{split[:20]}', expected train or test")
    try:
        named = _flat(cells)
    except ValueError:
        faults.append(f"row {number}: expected is no JSON")
        named = {}
    labels: dict[str, Any] = {}
    known = {step.name: step for step in labelled_steps(flow)}
    for name in dict.fromkeys(path.split(".")[0] for path in named):
        if name not in known:
            text = f"'{EXPECTED}{name}' labels no step that a person can label{near(name, known)}"
            faults += [text] if text not in faults else []
            continue
        try:
            label = _label(known[name], name, named)
            if label is not None:
                labels[name] = label
        except ValueError as error:
            faults.append(f"row {number}: {EXPECTED}{name} {error}")
    plain = {k: v for k, v in cells.items() if not k.startswith(EXPECTED) and k not in ("expected", SPLIT)}
    return Labelled(number, flow.row_id(cells, number), plain, values, labels, split)


def _flat(cells: Mapping[str, Any]) -> dict[str, Any]:
    """Return labels by `STEP` or `STEP.FIELD`; a column `expected` may hold them as a JSON object. Raises ValueError for none."""
    named = {k.removeprefix(EXPECTED): v for k, v in cells.items() if k.startswith(EXPECTED)}
    whole = cells.get("expected")
    if isinstance(whole, str) and whole.strip().startswith("{"):
        whole = json.loads(whole)
    return named | (dict(whole) if isinstance(whole, Mapping) else {})


def _label(step: Step, name: str, named: Mapping[str, Any]) -> Any:
    """Return the label of a step, None where its cells are empty. Raises ValueError where the step cannot give it."""
    if isinstance(step, Extract):
        return _object(step, name, named)
    value = named.get(name)
    if value is None or not str(value).strip():
        return None
    text = str(value)
    choices: Sequence[str] = step.decisions if isinstance(step, Decide) else tuple(getattr(step, "choices", ()))
    if choices and text not in choices:
        raise ValueError(f"is '{text[:60]}', which the step never gives{near(text, choices)}")
    return text


def _object(step: Extract, name: str, named: Mapping[str, Any]) -> Any:
    from jsonschema import Draft202012Validator

    whole = named.get(name)
    if isinstance(whole, str) and whole.strip():
        try:
            whole = json.loads(whole)
        except ValueError:
            raise ValueError("is no JSON") from None
    value: dict[str, Any] = dict(whole) if isinstance(whole, Mapping) else {}
    cells = {k.partition(".")[2]: v for k, v in named.items() if k.startswith(f"{name}.")}
    properties = step.schema.get("properties", {})
    for field_, cell in cells.items():
        if field_ not in properties:
            raise ValueError(f"'{field_}' is no property of its schema{near(field_, properties)}")
        found = _as_property(cell, properties[field_])
        if found is not None or "null" in _types(properties[field_]):
            value[field_] = found
    if not value or not any(v is not None for v in value.values()):
        return None
    value = {f: value[f] for f in step.fields if f in value} | value
    error = next(Draft202012Validator(dict(step.schema)).iter_errors(value), None)
    if error is not None:
        raise ValueError(f"is not valid by its schema: {error.message[:120]}")
    return value


def _types(schema: Any) -> list[str]:
    found = schema.get("type", []) if isinstance(schema, Mapping) else []
    return [found] if isinstance(found, str) else list(found)


def _as_property(cell: Any, schema: Any) -> Any:
    """Return a cell as JSON of a property's type; "" and "null" are null."""
    if not isinstance(cell, str):
        return int(cell) if isinstance(cell, float) and cell.is_integer() and "integer" in _types(schema) else cell
    kinds = _types(schema)
    if not cell.strip() or cell.strip() == "null":
        return None
    if "string" in kinds or not kinds:
        return cell
    try:
        return json.loads(cell.strip().lower() if "boolean" in kinds else cell)
    except ValueError:
        raise ValueError(f"'{cell[:40]}' is no {' or '.join(kinds)}") from None
