"""A Workflow → what of it does not go together: names, order, cycles, types, schemas that nothing satisfies. Runs nothing."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from doyen.errors import UsageError
from doyen.models.constraints import Choices, JsonSchema, require_possible
from doyen.workflows.checking_kinds import kind_of, kind_of_path
from doyen.workflows.definition import (
    Check,
    Decide,
    Extract,
    Lookup,
    Prompt,
    Retrieve,
    Review,
    Step,
    Workflow,
    choices_of,
    prompt_of,
)
from doyen.workflows.expressions import Expression
from doyen.workflows.faults import near
from doyen.workflows.kinds import ANY, BOOLEAN, Kind


def faults_of(flow: Workflow) -> list[str]:
    """Return all faults in words, each with its step and field; none for a flow that can run."""
    if double := sorted(set(flow.columns) & set(flow.step_names)):
        return [f"[steps.{name}]: an input column has this name; take another one" for name in double]
    faults = list(_cyclic(flow))
    known: dict[str, Kind] = {name: column.kind for name, column in flow.columns.items()}
    later = {step.name: step for step in flow.steps}
    for step in flow.steps:
        del later[step.name]
        faults += _Checked(flow, step, known, {*later, step.name}).faults()
        known[step.name] = step.kind
    if flow.decision not in flow.step_names:
        given = f"decision = '{flow.decision}' is no step{near(flow.decision, flow.step_names)}"
        faults.append(
            given
            if flow.decision
            else "the file has no decide or classify step: decision = … names the one that decides"
        )
    elif flow.step(flow.decision).kind.name != "text":
        faults.append(
            f"decision = '{flow.decision}' is a {flow.step(flow.decision).do} step; a classify, decide or draft step decides"
        )
    return faults


def references(step: Step) -> Iterator[tuple[str, str]]:
    """Yield each dotted name that a step reads, with the field that reads it."""
    for field, expression, _ in _expressions(step):
        yield from ((field, path) for path in expression.paths)
        yield from ((field, name) for name in expression.sure_of)
    prompt = prompt_of(step)
    if prompt is not None:
        yield from (("input", path) for path in prompt.input.paths)
        if prompt.passages:
            yield "passages", prompt.passages
    if isinstance(step, Retrieve):
        yield from (("query", path) for path in step.query.paths)
        yield from (("filter", path) for template in step.filters for path in template.paths)
    if isinstance(step, Check):
        yield "of", step.of
        yield from (("numbers_in", name) for name in step.numbers_in)
        yield from (("quotes", path) for template in step.quotes for path in template.paths)


def _expressions(step: Step) -> Iterator[tuple[str, Expression, Kind | None]]:
    """Yield a step's expressions with their fields, and the kind that each must have (None: any)."""
    if step.when is not None:
        yield "when", step.when, BOOLEAN
    if isinstance(step, Decide):
        yield from ((f"rules[{i}].when", rule.when, BOOLEAN) for i, rule in enumerate(step.rules, 1))
    if isinstance(step, Check):
        yield from ((f"require[{i}].that", limit.that, BOOLEAN) for i, limit in enumerate(step.require, 1))
    if isinstance(step, Lookup):
        yield from ((f"with.{name}", expression, None) for name, expression in step.parameters.items())


def _cyclic(flow: Workflow) -> Iterator[str]:
    """Yield each circle of steps that read each other, once."""
    reads = {s.name: {p.split(".")[0] for _, p in references(s)} & set(flow.step_names) for s in flow.steps}
    done: set[str] = set()
    for start in reads:
        path = [start]
        found = _circle(path, reads, done)
        done.add(start)
        if found:
            done |= set(found)
            yield f"[steps.{start}]: a cycle: {' → '.join(found)}; a step reads earlier steps only"


def _circle(path: list[str], reads: Mapping[str, set[str]], done: set[str]) -> list[str]:
    for name in sorted(reads[path[-1]] - done):
        if name == path[0]:
            return [*path, name]
        if name not in path and (found := _circle([*path, name], reads, done)):
            return found
    return []


class _Checked:
    """One step, checked with what is known before it."""

    def __init__(self, flow: Workflow, step: Step, known: Mapping[str, Kind], later: set[str]) -> None:
        self._flow, self._step, self._known, self._later = flow, step, known, later
        self._found: list[str] = []

    def faults(self) -> list[str]:
        step = self._step
        self._check_names()
        self._check_kinds()
        if (prompt := prompt_of(step)) is not None:
            self._check_prompt(prompt)
        if isinstance(step, Extract):
            self._check_schema(step.schema)
        if isinstance(step, Check):
            self._check_check(step)
        if isinstance(step, Review) and self._flow.decision == step.name:
            self._say("do", "a review step decides nothing")
        return self._found

    def _say(self, field: str, what: str) -> None:
        text = f"[steps.{self._step.name}] {field}: {what}"
        if text not in self._found:
            self._found.append(text)

    def _check_names(self) -> None:
        for field, path in references(self._step):
            name = path.split(".")[0]
            if name in self._later and name not in self._known:
                made = "this step itself" if name == self._step.name else f"the later step [steps.{name}]"
                self._say(field, f"'{name}' is the value of {made}; move it before this one")
            elif fault := kind_of_path(path, self._known)[1]:
                self._say(field, fault)

    def _check_kinds(self) -> None:
        for field, expression, wanted in _expressions(self._step):
            kind, faults = kind_of(expression, dict.fromkeys(self._later, ANY) | dict(self._known))
            for fault in faults:
                self._say(field, fault)
            if not faults and wanted is not None and kind.name not in (wanted.name, "any"):
                self._say(field, f"'{expression.text}' is a {kind.name}, expected true or false")
            for name in expression.sure_of:
                if name not in self._flow.step_names or prompt_of(self._flow.step(name)) is None:
                    self._say(field, f"confidence({name}): '{name}' is no step that asks a model")

    def _check_prompt(self, prompt: Prompt) -> None:
        if prompt.passages and prompt.passages in self._flow.step_names:
            if not isinstance(self._flow.step(prompt.passages), Retrieve):
                self._say("passages", f"'{prompt.passages}' is no retrieve step")
        elif prompt.passages in self._flow.columns:
            self._say("passages", f"'{prompt.passages}' is a column, expected the name of a retrieve step")
        choices = choices_of(self._step)
        if choices:
            self._possible("choices", Choices(tuple(choices)))

    def _check_schema(self, schema: Mapping[str, Any]) -> None:
        if schema.get("type") != "object" or not isinstance(schema.get("properties"), Mapping):
            self._say("schema", 'is of an object: type = "object", with properties')
        else:
            self._possible("schema", JsonSchema(schema))

    def _possible(self, field: str, constraint: JsonSchema | Choices) -> None:
        try:
            require_possible(constraint)
        except UsageError as error:
            self._say(field, f"{error}" + (f" ({error.hint})" if error.hint else ""))

    def _check_check(self, step: Check) -> None:
        if step.of not in self._flow.step_names:
            if step.of in self._flow.columns:
                self._say("of", f"'{step.of}' is a column, expected the name of a step")
            return
        checked = self._flow.step(step.of)
        is_text = checked.kind.name == "text"
        prompt = prompt_of(checked)
        for field in ("citations", "quotes"):
            if getattr(step, field) and not (prompt and prompt.passages):
                self._say(field, f"[steps.{step.of}] is shown no passages to cite")
        for field in ("least_words", "most_words", "contains", "never"):
            if getattr(step, field) and not is_text:
                self._say(field, f"[steps.{step.of}] gives no text")
        asks = (
            step.schema,
            step.citations,
            step.quotes,
            step.numbers_in,
            step.least_words,
            step.most_words,
            step.contains,
            step.never,
        )
        if not any(asks) and not step.require:
            self._say(
                "of",
                "nothing is checked: name schema, citations, quotes, numbers_in, most_words, contains, never or require",
            )
        if step.schema is not None:
            self._check_valid_schema(step.schema)

    def _check_valid_schema(self, schema: Mapping[str, Any]) -> None:
        import jsonschema

        try:
            jsonschema.Draft202012Validator.check_schema(dict(schema))
        except jsonschema.SchemaError as error:
            self._say("schema", f"is no JSON schema: {error.message}")
