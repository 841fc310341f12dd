"""Rows through the steps of a flow, step by step over all of them, so that an engine gets whole batches.

Enters: rows with the input as it came. Leaves: the same rows with values, trail and where they end. A row that fails is left out of
later steps; no row's fault is another's.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import Any

from doyen.errors import DoyenError, TableError, UsageError
from doyen.retrieval.neighbours import hits_for
from doyen.workflows.asking import WAIT_S, ask_model
from doyen.workflows.checks import faults_of_value
from doyen.workflows.definition import (
    MOST_LOOKED_UP,
    Check,
    Classify,
    Decide,
    Draft,
    Extract,
    Lookup,
    Retrieve,
    Review,
    Step,
    Workflow,
    prompt_of,
)
from doyen.workflows.expressions import Expression
from doyen.workflows.faults import RowFault
from doyen.workflows.inputs import typed_values
from doyen.workflows.opening import Setup
from doyen.workflows.rows import Row, place_of


def run_rows(setup: Setup, rows: Sequence[Row]) -> None:
    """Take rows through all steps."""
    for row in rows:
        if not row.failed:
            begin(setup.flow, row)
    for step in setup.flow.steps:
        going = [row for row in rows if not row.failed]
        run_step(setup, step, [row for row in going if _is_wanted(step, row)])
    for row in rows:
        row.values.setdefault(setup.flow.decision, None)
        if not row.failed and row.values[setup.flow.decision] is None:
            row.reasons.append(f"nothing was decided: [{setup.flow.decision}] was not done")


def begin(flow: Workflow, row: Row) -> None:
    """Give a row the values of its columns, by their types; what is missing or of another type fails it."""
    values, faults = typed_values(flow, row.given)
    row.values.update(values)
    if faults:
        row.fail("", "; ".join(faults))


def run_step(setup: Setup, step: Step, rows: Sequence[Row]) -> None:
    """Do one step for rows."""
    if rows:
        _DOING[type(step)](setup, step, rows)


def _is_wanted(step: Step, row: Row) -> bool:
    """Whether a step is done for a row; where it is not, its value is null."""
    try:
        wanted = step.when is None or _true(step.when, row, "when")
    except RowFault as error:
        row.fail(step.name, str(error))
        return False
    if isinstance(step, Check) and row.values.get(step.of) is None:
        wanted = False
    if not wanted:
        row.values[step.name] = None
    return wanted


def _true(expression: Expression, row: Row, field: str) -> bool:
    found = expression.evaluate(row.values, row.sure)
    if not isinstance(found, bool):
        raise RowFault(f"{field} {expression.text!r} is {found!r}, neither true nor false")
    return found


def _each(work: Callable[[Setup, Any, Row], None]) -> Callable[[Setup, Any, Sequence[Row]], None]:
    """Make a step of many rows of one of a row, whose fault it is what goes wrong."""

    def each(setup: Setup, step: Any, rows: Sequence[Row]) -> None:
        for row in rows:
            try:
                work(setup, step, row)
            except RowFault as error:
                row.fail(step.name, str(error))

    return each


def _decide(setup: Setup, step: Decide, rows: Sequence[Row]) -> None:
    for_model = []
    for row in rows:
        try:
            if not _by_rules(step, row, is_decision=step.name == setup.flow.decision):
                for_model.append(row)
        except RowFault as error:
            row.fail(step.name, str(error))
    if step.prompt is not None and for_model:
        ask_model(setup, step, for_model)


def _by_rules(step: Decide, row: Row, *, is_decision: bool) -> bool:
    """Decide by the first rule that holds, or `otherwise`; return whether that decides."""
    entry: dict[str, Any] = {"step": step.name, "do": step.do}
    for number, rule in enumerate(step.rules, 1):
        if _true(rule.when, row, f"rules[{number}]"):
            row.values[step.name] = rule.then
            row.trail.append(entry | {"rule": number, "because": rule.because, "value": rule.then})
            if is_decision:
                row.because = rule.because
            return True
    if step.otherwise:
        row.values[step.name] = step.otherwise
        row.trail.append(entry | {"rule": "otherwise", "value": step.otherwise})
        return True
    return False


def _retrieve(setup: Setup, step: Retrieve, rows: Sequence[Row]) -> None:
    if setup.retriever is None or not setup.searches(step):
        for row in rows:
            row.values[step.name] = ()
        return
    groups: dict[tuple[str, ...], list[tuple[Row, str]]] = defaultdict(list)
    for row in rows:
        try:
            filters = tuple(template.fill(row.values) for template in step.filters)
            groups[filters].append((row, step.query.fill(row.values)[:4000]))
        except RowFault as error:
            row.fail(step.name, str(error))
    for filters, group in groups.items():
        _search(setup, step, filters, group)


def _search(setup: Setup, step: Retrieve, filters: tuple[str, ...], group: Sequence[tuple[Row, str]]) -> None:
    retriever = setup.retriever
    assert retriever is not None
    count = step.passages or setup.settings.answer.passages
    begun = time.perf_counter()
    try:
        found = _retried(
            step.retries,
            lambda: retriever.search_many([q for _, q in group], hits_for(count), where=setup.filtered(list(filters))),
        )
    except RowFault as error:
        for row, _ in group:
            row.fail(step.name, str(error))
        return
    seconds = (time.perf_counter() - begun) / len(group)
    for (row, query), hits in zip(group, found, strict=True):
        passages = tuple(retriever.passages(hits, count))
        row.values[step.name] = passages
        entry: dict[str, Any] = {"step": step.name, "do": step.do, "query": query, "filters": list(filters)}
        row.trail.append(entry | {"passages": [place_of(hit) for hit in passages], "seconds": round(seconds, 4)})


def _retried(retries: int, work: Callable[[], Any]) -> Any:
    """Return what work gives; a fault after all retries is the rows'."""
    why = ""
    for attempt in range(retries + 1):
        try:
            return work()
        except (UsageError, TableError) as error:  # again it would be the same
            raise RowFault(str(error)) from None
        except (DoyenError, OSError) as error:
            why = str(error)
            time.sleep(WAIT_S * 4**attempt if attempt < retries else 0)
    raise RowFault(why)


def _lookup(setup: Setup, step: Lookup, row: Row) -> None:
    tables = setup.tables
    assert tables is not None
    parameters = {name: e.evaluate(row.values, row.sure) for name, e in step.parameters.items()}
    begun = time.perf_counter()
    most = 1 if step.rows == "one" else MOST_LOOKED_UP
    found = _retried(step.retries, lambda: tables.rows(step.sql, parameters, most))
    if step.rows == "one":
        found = found[0] if found else dict.fromkeys(step.columns or {})
    row.values[step.name] = found
    entry: dict[str, Any] = {
        "step": step.name,
        "do": step.do,
        "sql": step.sql,
        "parameters": parameters,
        "value": found,
        "documents": tables.documents(step.sql),
    }
    row.trail.append(entry | {"seconds": round(time.perf_counter() - begun, 4)})


def _check(setup: Setup, step: Check, row: Row) -> None:
    prompt = prompt_of(setup.flow.step(step.of))
    shown = row.values.get(prompt.passages) if prompt and prompt.passages and setup.shows_passages(step.of) else None
    faults = faults_of_value(step, row.values, shown)
    row.values[step.name] = {"ok": not faults, "faults": faults}
    row.trail.append({"step": step.name, "do": step.do, "value": row.values[step.name]})
    if faults and step.on_fail == "fail":
        raise RowFault("; ".join(faults))
    if faults and step.on_fail == "review":
        row.reasons.append(f"[{step.name}] {'; '.join(faults)}")


def _review(setup: Setup, step: Review, row: Row) -> None:
    row.values[step.name] = True
    row.reasons.append(step.because or f"[{step.name}]")
    row.trail.append({"step": step.name, "do": step.do, "value": True})


_DOING: dict[type[Step], Callable[[Setup, Any, Sequence[Row]], None]] = {
    Classify: ask_model,
    Extract: ask_model,
    Draft: ask_model,
    Decide: _decide,
    Retrieve: _retrieve,
    Lookup: _each(_lookup),
    Check: _each(_check),
    Review: _each(_review),
}
