"""`workflow.toml` → a Workflow, or every fault of the file in one WorkflowError. Looks at no expert, and runs nothing."""

from __future__ import annotations

import hashlib
import json
import keyword
import re
import tomllib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from doyen.errors import WorkflowError
from doyen.records import ARMS
from doyen.workflows.definition import (
    MAX_TOKENS,
    RETRIES,
    Check,
    Classify,
    Column,
    Decide,
    Draft,
    Extract,
    Limit,
    Lookup,
    Prompt,
    Retrieve,
    Review,
    Rule,
    Step,
    Workflow,
)
from doyen.workflows.expressions import CONSTANTS
from doyen.workflows.faults import near
from doyen.workflows.fields import Fields
from doyen.workflows.kinds import COLUMN_KINDS
from doyen.workflows.validating import faults_of

FILE_NAME = "workflow.toml"
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,63}")
_RESERVED = {*CONSTANTS, *keyword.kwlist, "confidence", "expected"}
_MOST_STEPS = 64
_MOST_BYTES = 1_000_000


def load_workflow(path: Path | str) -> Workflow:
    """Read and check a workflow file (or the `workflow.toml` of a folder).

    Raises:
        WorkflowError: all that is wrong with it, each fault with its step and field.
    """
    path = Path(path)
    path = path / FILE_NAME if path.is_dir() else path
    try:
        data = path.read_bytes()
        if len(data) > _MOST_BYTES:
            raise WorkflowError(f"{path.name} has {len(data):,} bytes; a workflow file has at most {_MOST_BYTES:,}")
        table = tomllib.loads(data.decode("utf-8"))
    except OSError as error:
        raise WorkflowError(
            f"there is no workflow file {path} ({error.strerror})", hint="doyen run FLOW.toml …"
        ) from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise WorkflowError(f"{path.name} is no TOML: {error}") from None
    faults: list[str] = []
    flow = _workflow(path, table, faults)
    faults += faults_of(flow) if not faults else []
    if faults:
        raise WorkflowError("\n".join(f"{path.name}: {fault}" for fault in faults), hint="docs/guides/workflows.md")
    return flow


def _workflow(path: Path, table: dict[str, Any], faults: list[str]) -> Workflow:
    top = Fields(table, "the file", faults)
    columns, id_column = _input(top, faults)
    steps = _steps(top, path.parent, faults)
    confidence = Fields(top.take("confidence", dict, {}), "[confidence]", faults)
    threshold: float | None = confidence.take("threshold", float)
    max_errors: float = confidence.take("max_errors", float, 0.05)
    for name, value in (("threshold", threshold or 0.0), ("max_errors", max_errors)):
        if not 0 <= value <= 1:
            confidence.fault(name, f"is {value:g}, expected 0 to 1")
    confidence.done()
    name = top.text("name") or (path.parent.name if path.name == FILE_NAME else path.stem)
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}", name):
        top.fault("name", f"'{name[:40]}' is of letters, digits, '.', '-' and '_'")
    decision = top.text("decision") or _decision(steps)
    flow = Workflow(
        path=path,
        name=name,
        columns=columns,
        steps=tuple(steps),
        title=top.text("title"),
        system=top.text("system"),
        arm=_arm(top),
        adapter=top.text("adapter"),
        decision=decision,
        id_column=id_column,
        tables=_tables(top, path.parent),
        threshold=threshold,
        max_errors=max_errors,
        fingerprint=_fingerprint(table, path.parent, steps),
    )
    top.done()
    return flow


def _input(top: Fields, faults: list[str]) -> tuple[dict[str, Column], str]:
    fields = Fields(top.take("input", dict, {}, needed=True), "[input]", faults)
    declared = fields.take("columns", dict, {}, needed=True)
    optional = set(fields.texts("optional"))
    columns: dict[str, Column] = {}
    for name, type_ in declared.items():
        if type_ not in COLUMN_KINDS:
            fields.fault(f"columns.{name}", f"is {type_!r}, expected one of {', '.join(COLUMN_KINDS)}")
        elif fault := _name_fault(name):
            fields.fault(f"columns.{name}", fault)
        else:
            columns[name] = Column(name, type_, name in optional)
    for name in sorted(optional - set(declared)):
        fields.fault("optional", f"'{name}' is no column{near(name, declared)}")
    id_column = fields.text("id")
    if id_column and id_column not in declared:
        fields.fault("id", f"'{id_column}' is no column{near(id_column, declared)}")
    fields.done()
    return columns, id_column


def _name_fault(name: str) -> str:
    if not _NAME.fullmatch(name):
        return "names are of letters, digits and '_', and begin with no digit"
    if name in _RESERVED or name.startswith("flow_"):
        return f"'{name}' is a name of doyen's own; take another one"
    return ""


def _steps(top: Fields, beside: Path, faults: list[str]) -> list[Step]:
    steps: list[Step] = []
    declared = top.take("steps", dict, {}, needed=True)
    if declared == {} and not faults:
        top.fault("steps", 'are missing: [steps.NAME] with do = "classify" and so on')
    if len(declared) > _MOST_STEPS:
        top.fault("steps", f"are {len(declared)}; at most {_MOST_STEPS}")
    for name, table in declared.items():
        where = f"[steps.{name}]"
        if not isinstance(table, dict):
            faults.append(f"{where}: is a table, [steps.{name}] with do = …")
            continue
        if fault := _name_fault(name):
            faults.append(f"{where}: {fault}")
        fields = Fields(table, where, faults)
        do = fields.text("do", needed=True)
        if do not in _MAKERS:
            if do:
                fields.fault("do", f"'{do}' is no kind of step{near(do, _MAKERS)}")
            continue
        before = len(faults)
        common = {"name": name, "when": fields.expression("when"), "retries": fields.whole("retries", RETRIES, 0, 10)}
        step = _MAKERS[do](fields, common, beside)
        fields.done()
        if step is not None and len(faults) == before:
            steps.append(step)
    return steps


def _prompt(fields: Fields) -> Prompt:
    return Prompt(
        instruction=fields.text("instruction", needed=True).strip(),
        input=fields.template("input", needed=True),
        passages=fields.text("passages"),
        arm=_arm(fields),
        adapter=fields.text("adapter"),
        max_tokens=fields.whole("max_tokens", MAX_TOKENS, 1, 4096),
    )


def _arm(fields: Fields) -> str:
    arm = fields.text("arm")
    if arm and arm not in ARMS:
        fields.fault("arm", f"is '{arm}', expected one of {', '.join(ARMS)}{near(arm, ARMS)}")
        return ""
    return arm


def _classify(fields: Fields, common: dict[str, Any], beside: Path) -> Step:
    return Classify(**common, prompt=_prompt(fields), choices=fields.choices("choices", needed=True))


def _extract(fields: Fields, common: dict[str, Any], beside: Path) -> Step:
    return Extract(**common, prompt=_prompt(fields), schema=fields.schema(beside, needed=True) or {})


def _retrieve(fields: Fields, common: dict[str, Any], beside: Path) -> Step:
    query, filters = fields.template("query", needed=True), fields.templates("filter")
    return Retrieve(**common, query=query, passages=fields.whole("passages", 0, 0, 50), filters=filters)


def _lookup(fields: Fields, common: dict[str, Any], beside: Path) -> Step:
    sql, parameters = fields.text("sql", needed=True), fields.expressions("with")
    return Lookup(**common, sql=sql, parameters=parameters, rows=fields.one_of("rows", ("one", "all"), "one"))


def _decide(fields: Fields, common: dict[str, Any], beside: Path) -> Step:
    rules = []
    for rule in fields.tables("rules"):
        when, then = rule.expression("when", needed=True), rule.text("then", needed=True)
        because = rule.text("because")
        rule.done()
        if when is not None:
            rules.append(Rule(when, then, because))
    choices, otherwise = fields.choices("choices"), fields.text("otherwise")
    if bool(choices) == bool(otherwise):
        fields.fault("otherwise", "or choices for the model: one of the two says what is decided where no rule holds")
    return Decide(
        **common,
        rules=tuple(rules),
        prompt=_prompt(fields) if choices else None,
        choices=choices,
        otherwise=otherwise,
    )


def _draft(fields: Fields, common: dict[str, Any], beside: Path) -> Step:
    return Draft(**common, prompt=_prompt(fields))


def _check(fields: Fields, common: dict[str, Any], beside: Path) -> Step:
    limits = []
    for limit in fields.tables("require"):
        that, because = limit.expression("that", needed=True), limit.text("because")
        limit.done()
        if that is not None:
            limits.append(Limit(that, because))
    return Check(
        **common,
        of=fields.text("of", needed=True),
        schema=fields.schema(beside),
        citations=fields.take("citations", bool, False),
        quotes=fields.templates("quotes"),
        numbers_in=fields.texts("numbers_in"),
        least_words=fields.whole("least_words", 0, 0, 100_000),
        most_words=fields.whole("most_words", 0, 0, 100_000),
        contains=fields.texts("contains"),
        never=fields.texts("never"),
        require=tuple(limits),
        on_fail=fields.one_of("on_fail", ("review", "fail", "note"), "review"),
    )


def _review(fields: Fields, common: dict[str, Any], beside: Path) -> Step:
    return Review(**common, because=fields.text("because"))


_MAKERS: dict[str, Callable[[Fields, dict[str, Any], Path], Step]] = {
    "classify": _classify,
    "extract": _extract,
    "retrieve": _retrieve,
    "lookup": _lookup,
    "decide": _decide,
    "draft": _draft,
    "check": _check,
    "review": _review,
}


def _decision(steps: list[Step]) -> str:
    """Return the step that decides where the file does not say: the last decide step, else the last classify."""
    for kind in (Decide, Classify):
        if found := [s.name for s in steps if isinstance(s, kind)]:
            return found[-1]
    return ""


def _tables(top: Fields, beside: Path) -> dict[str, Path]:
    found = {}
    for name, file in top.take("tables", dict, {}).items():
        if not isinstance(file, str) or not _NAME.fullmatch(name):
            top.fault(f"tables.{name}", 'is a file beside this one: policies = "policies.csv"')
        elif not (beside / file).is_file():
            top.fault(f"tables.{name}", f"there is no file '{file}' beside the workflow file")
        else:
            found[name] = beside / file
    return found


def _fingerprint(table: Mapping[str, Any], beside: Path, steps: list[Step]) -> str:
    """Hash all that shapes results; the arm, the adapter and the threshold are told apart elsewhere."""
    shaping = {k: v for k, v in table.items() if k not in ("name", "title", "arm", "adapter", "confidence", "tables")}
    schemas = [getattr(step, "schema", None) for step in steps]
    text = json.dumps([shaping, schemas], default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:16]
