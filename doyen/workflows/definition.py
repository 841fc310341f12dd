"""What a workflow is, once it has been read: its input's columns and its steps, in the order in which they run.

Plain frozen dataclasses; `reading.py` makes them of a file, `validating.py` checks that they go together.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Literal

from doyen.workflows.expressions import Expression
from doyen.workflows.kinds import BOOLEAN, COLUMN_KINDS, LIST, OBJECT, TEXT, Kind, kind_of_schema
from doyen.workflows.templates import Template

MAX_TOKENS = 200
MOST_LOOKED_UP = 100
RETRIES = 2
DECISION_TOKENS = 16  # of a choice: it is read, not written
OnFail = Literal["review", "fail", "note"]


@dataclass(frozen=True, slots=True)
class Column:
    """A column of the input; `type` is text, number, integer or boolean."""

    name: str
    type: str
    optional: bool = False

    @property
    def kind(self) -> Kind:
        """Its kind in expressions."""
        return COLUMN_KINDS[self.type]


@dataclass(frozen=True, slots=True)
class Prompt:
    """What a model is asked in a step: the same instruction for every row, then `passages` of that step, then the input."""

    instruction: str
    input: Template
    passages: str = ""
    arm: str = ""
    adapter: str = ""
    max_tokens: int = MAX_TOKENS


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """What all steps have."""

    do: ClassVar[str] = ""
    name: str
    when: Expression | None = None
    retries: int = RETRIES

    @property
    def kind(self) -> Kind:
        """The kind of its value in expressions."""
        return TEXT


@dataclass(frozen=True, slots=True, kw_only=True)
class Classify(Step):
    """One of `choices`, by the model; each with what it means ("": as it is called)."""

    do = "classify"
    prompt: Prompt
    choices: Mapping[str, str] = field(hash=False)

    @property
    def kind(self) -> Kind:
        """A text of the choices."""
        return Kind("text", tuple(self.choices))


@dataclass(frozen=True, slots=True, kw_only=True)
class Extract(Step):
    """An object that is valid by `schema`, by the model."""

    do = "extract"
    prompt: Prompt
    schema: Mapping[str, Any] = field(hash=False)

    @property
    def kind(self) -> Kind:
        """An object with the schema's properties."""
        return kind_of_schema(self.schema)

    @property
    def fields(self) -> list[str]:
        """The properties, in the schema's order."""
        return list(self.schema.get("properties", {}))


@dataclass(frozen=True, slots=True, kw_only=True)
class Retrieve(Step):
    """The expert's passages for a query; `passages` 0: as many as `[answer] passages`."""

    do = "retrieve"
    query: Template
    passages: int = 0
    filters: tuple[Template, ...] = ()

    @property
    def kind(self) -> Kind:
        """A list of passages."""
        return LIST


@dataclass(frozen=True, slots=True, kw_only=True)
class Lookup(Step):
    """Rows of the expert's tables. `columns` are known once the query was prepared (opening.py)."""

    do = "lookup"
    sql: str
    parameters: Mapping[str, Expression] = field(hash=False, default_factory=dict)
    rows: Literal["one", "all"] = "one"
    columns: Mapping[str, Kind] | None = field(hash=False, default=None)

    @property
    def kind(self) -> Kind:
        """The first row, or a list of rows."""
        return LIST if self.rows == "all" else Kind("object", fields=self.columns) if self.columns else OBJECT


@dataclass(frozen=True, slots=True)
class Rule:
    """Where `when` holds, the decision is `then`."""

    when: Expression
    then: str
    because: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Decide(Step):
    """The first rule that holds; where none does, the model's choice, or `otherwise`."""

    do = "decide"
    rules: tuple[Rule, ...] = ()
    prompt: Prompt | None = None
    choices: Mapping[str, str] = field(hash=False, default_factory=dict)
    otherwise: str = ""

    @property
    def decisions(self) -> tuple[str, ...]:
        """All decisions that are possible."""
        rest = [*self.choices, *([self.otherwise] if self.otherwise else [])]
        return tuple(dict.fromkeys([*(rule.then for rule in self.rules), *rest]))

    @property
    def kind(self) -> Kind:
        """A text of the decisions."""
        return Kind("text", self.decisions)


@dataclass(frozen=True, slots=True, kw_only=True)
class Draft(Step):
    """A text, by the model."""

    do = "draft"
    prompt: Prompt


@dataclass(frozen=True, slots=True)
class Limit:
    """A check that must hold."""

    that: Expression
    because: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Check(Step):
    """What a value is checked for."""

    do = "check"
    of: str
    schema: Mapping[str, Any] | None = field(hash=False, default=None)
    citations: bool = False
    quotes: tuple[Template, ...] = ()
    numbers_in: tuple[str, ...] = ()
    least_words: int = 0
    most_words: int = 0
    contains: tuple[str, ...] = ()
    never: tuple[str, ...] = ()
    require: tuple[Limit, ...] = ()
    on_fail: OnFail = "review"

    @property
    def kind(self) -> Kind:
        """`ok` and `faults`."""
        return Kind("object", fields={"ok": BOOLEAN, "faults": LIST})


@dataclass(frozen=True, slots=True, kw_only=True)
class Review(Step):
    """The row goes to a person."""

    do = "review"
    because: str = ""

    @property
    def kind(self) -> Kind:
        """Whether it does."""
        return BOOLEAN


@dataclass(frozen=True, slots=True)
class Workflow:
    """A whole flow. `threshold` None: the fitted one.

    `fingerprint` changes with all that shapes its results but arm and adapter, and what stands in its tables.
    """

    path: Path
    name: str
    columns: Mapping[str, Column] = field(hash=False)
    steps: tuple[Step, ...]
    title: str = ""
    system: str = ""
    arm: str = ""
    adapter: str = ""
    decision: str = ""
    id_column: str = ""
    tables: Mapping[str, Path] = field(hash=False, default_factory=dict)
    threshold: float | None = None
    max_errors: float = 0.05
    fingerprint: str = ""

    def row_id(self, cells: Mapping[str, Any], number: int) -> str:
        """Return what a row is called: the value of the id column, else its number."""
        found = cells.get(self.id_column) if self.id_column else None
        return str(found) if found not in (None, "") else str(number)

    def step(self, name: str) -> Step:
        """Return a step by its name."""
        return next(s for s in self.steps if s.name == name)

    @property
    def step_names(self) -> list[str]:
        """The steps' names, in order."""
        return [s.name for s in self.steps]


def prompt_of(step: Step) -> Prompt | None:
    """Return what a step asks a model, None where it asks none."""
    return step.prompt if isinstance(step, Classify | Extract | Draft | Decide) else None


def choices_of(step: Step) -> Mapping[str, str]:
    """Return the choices of a step that chooses, none of others."""
    return step.choices if isinstance(step, Classify | Decide) else {}
