"""A flow and an expert → all that its steps need, opened and checked: engine, retriever, adapters, tables.

What is named and is not there is told before anything runs, all of it at once.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from doyen.adapters import adapter_folder, list_adapters, read_adapter
from doyen.config import Settings, load_settings
from doyen.errors import DoyenError, StoreError, TableError, UsageError, WorkflowError
from doyen.expert import open_engine, open_retriever
from doyen.index.filtering import Where
from doyen.ingesting import open_index
from doyen.models.engine import Engine
from doyen.records import ARMS
from doyen.retrieval.hybrid import Retriever
from doyen.workflows.definition import Lookup, Retrieve, Step, Workflow, prompt_of
from doyen.workflows.faults import near
from doyen.workflows.lookup import ArrowTables, Tables, tables_for, unknown_table
from doyen.workflows.validating import faults_of


@dataclass(slots=True)
class Setup:
    """A flow with all that it needs. `arm` is the run's (or the flow's); `arms` and `adapters` are each model step's.

    `where` is what searches are held to beside the steps' own filters, `filtered` joins both.
    """

    expert: Path
    flow: Workflow
    settings: Settings
    engine: Engine
    arm: str
    arms: dict[str, str]
    adapters: dict[str, Path | None]
    retriever: Retriever | None = None
    tables: Tables | None = None
    filtered: Callable[[list[str]], Where | None] = field(default=lambda _: None)

    def searches(self, step: Retrieve) -> bool:
        """Whether passages are sought in a retrieve step: its readers' arms have rag; the run's arm where none reads it."""
        readers = [s.name for s in self.flow.steps if (p := prompt_of(s)) and p.passages == step.name]
        return any("rag" in self.arms[name] for name in readers) if readers else "rag" in self.arm

    def shows_passages(self, step: str) -> bool:
        """Whether a model step is shown its passages."""
        return "rag" in self.arms[step]

    def close(self) -> None:
        """End the process that looks up tables."""
        if self.tables is not None:
            self.tables.close()

    @property
    def adapter_names(self) -> list[str]:
        """The adapters that it uses."""
        return sorted({path.name for path in self.adapters.values() if path is not None})


def open_setup(
    expert: Path,
    flow: Workflow,
    *,
    arm: str = "",
    adapter: str = "",
    engine: Engine | None = None,
    retriever: Retriever | None = None,
    adapter_of: Callable[[str], Path] | None = None,
) -> Setup:
    """Open what a flow needs of an expert. `arm` and `adapter` go before those of the file, also the steps' own.

    `adapter_of` finds an adapter by its name ("" the newest), where not all may be used.

    Raises:
        UsageError: an unknown arm; an adapter for an arm without one.
        WorkflowError: an adapter, table or column that is not there; lookups that are no SELECT.
        DoyenError: the expert has no index, or no model.
    """
    settings = load_settings(expert)
    if arm and arm not in ARMS:
        raise UsageError(f"unknown arm '{arm}'", hint=f"one of {', '.join(ARMS)}")
    whole = arm or flow.arm or settings.answer.arm
    if adapter and arm and "finetuned" not in arm:
        raise UsageError(f"the arm '{arm}' uses no adapter", hint="--arm finetuned or rag+finetuned")
    faults: list[str] = []
    arms = {s.name: arm or p.arm or whole for s in flow.steps if (p := prompt_of(s))}
    find = adapter_of or (lambda name: adapter_folder(expert, name))
    known = [] if adapter_of else [path.name for path in list_adapters(expert)]  # names tell, too
    adapters = {
        s.name: _adapter(s.name, adapter or p.adapter or flow.adapter or settings.answer.adapter, find, known, faults)
        if "finetuned" in arms[s.name]
        else None
        for s in flow.steps
        if (p := prompt_of(s))
    }
    tables = _tables(expert, flow, settings, retriever, faults)
    if tables is not None:
        flow = _with_columns(flow, tables, faults)
        faults += [f for f in faults_of(flow) if f not in faults]
    if faults:
        raise WorkflowError("\n".join(f"{flow.path.name}: {fault}" for fault in faults))
    setup = Setup(expert, flow, settings, engine or open_engine(settings), whole, arms, adapters, tables=tables)
    if any(setup.searches(s) for s in flow.steps if isinstance(s, Retrieve)):
        found = retriever or open_retriever(expert, settings)
        setup.retriever = found
        setup.filtered = lambda filters: found.index.filter_condition(filters) if filters else None
        for step in flow.steps:
            if isinstance(step, Retrieve):
                _check_filters(step, found)
    return setup


def _adapter(step: str, name: str, find: Callable[[str], Path], known: Sequence[str], faults: list[str]) -> Path | None:
    try:
        folder = find(name)
        read_adapter(folder)
        return folder
    except DoyenError as error:
        faults.append(f"[steps.{step}] adapter: {error}{near(name, known) if name else ''}")
        return None


def _tables(
    expert: Path, flow: Workflow, settings: Settings, retriever: Retriever | None, faults: list[str]
) -> ArrowTables | None:
    """Return the tables of the flow's lookups: those of its files, and the ingested ones that they name."""
    statements = [step.sql for step in flow.steps if isinstance(step, Lookup)]
    if not statements:
        return None
    try:
        index = retriever.index if retriever is not None else open_index(expert, settings)
    except StoreError:  # nothing is ingested
        index = None
    try:
        return tables_for(statements, flow.tables, index)
    except UsageError as error:
        faults.append(f"[tables]: {error}")
        return None


def _with_columns(flow: Workflow, tables: Tables, faults: list[str]) -> Workflow:
    """Return the flow with what its lookups give."""
    steps: list[Step] = []
    for step in flow.steps:
        if isinstance(step, Lookup):
            try:
                step = dataclasses.replace(step, columns=tables.columns(step.sql, step.parameters))
            except TableError as error:
                said = unknown_table(step.sql, tables.names()) or f" (tables: {', '.join(tables.names()) or 'none'})"
                faults.append(f"[steps.{step.name}] sql: {error}{said}")
        steps.append(step)
    return dataclasses.replace(flow, steps=tuple(steps))


def _check_filters(step: Retrieve, retriever: Retriever) -> None:
    """Refuse filters on fields that no document has; those with values of a row are only known with the row."""
    fixed = [template.text for template in step.filters if not template.paths]
    try:
        if fixed:
            retriever.index.filter_condition(fixed)
    except UsageError as error:
        raise WorkflowError(f"[steps.{step.name}] filter: {error}", hint=error.hint) from None


def describe(setup: Setup) -> dict[str, Any]:
    """Return what a run is with, for its audit trail: model, engine, arms, adapters with what they were trained on."""
    manifests = {path: read_adapter(path) for path in setup.adapters.values() if path is not None}
    return {
        "model": setup.engine.name,
        "engine": setup.engine.kind,
        "arm": setup.arm,
        "steps": {
            name: {"arm": arm, "adapter": found.name if (found := setup.adapters[name]) else None}
            for name, arm in setup.arms.items()
        },
        "adapters": {
            path.name: {"created": m.created, "examples": m.examples.get("sha256", "")} for path, m in manifests.items()
        },
    }
