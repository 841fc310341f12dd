"""Labelled rows → training examples of a flow's model steps: exactly the prompts that the steps ask, with the labels as answers.

Earlier steps have the values that they should give, passages are those that the expert finds. A step with passages makes two examples a row,
with and without them, as the arms with and without rag ask.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

from doyen.config import load_settings
from doyen.errors import ExamplesError
from doyen.examples.building import ExamplesReport, write_mix
from doyen.examples.doubles import Asked as AskedWords
from doyen.examples.doubles import near_questions
from doyen.models.engine import Engine
from doyen.records import FLOW_VARIANTS, Example, Hit, SourceSpan
from doyen.retrieval.hybrid import Retriever
from doyen.workflows.definition import Check, Decide, Draft, Lookup, Retrieve, Review, Step, Workflow, prompt_of
from doyen.workflows.doing import run_step
from doyen.workflows.faults import RowFault
from doyen.workflows.labels import Labelled, read_labelled
from doyen.workflows.opening import Setup, open_setup
from doyen.workflows.prompting import Asking, answer_of, fitted
from doyen.workflows.reading import load_workflow
from doyen.workflows.rows import Row
from doyen.workflows.validating import references

VARIANT, VARIANT_PASSAGES = FLOW_VARIANTS
Say = Callable[[str], None]


@dataclass(slots=True)
class Known:
    """A labelled row on its way through the flow; `unknown` are the steps whose value nobody gave."""

    labelled: Labelled
    row: Row
    unknown: set[str] = field(default_factory=set)


def build_workflow_examples(
    expert: Path | str,
    workflow: Workflow | Path | str,
    labelled: Path | str,
    *,
    engine: Engine | None = None,
    retriever: Retriever | None = None,
) -> ExamplesReport:
    """Make the expert's training examples out of labelled rows (those that are not `test`), in place of those that it has.

    Raises:
        WorkflowError: the flow or the labels are wrong.
        ExamplesError: no step of a row to train on has a label.
    """
    expert = Path(expert)
    flow = workflow if isinstance(workflow, Workflow) else load_workflow(workflow)
    rows = read_labelled(flow, labelled)
    settings = load_settings(expert)
    setup = open_setup(expert, flow, arm="rag", engine=engine, retriever=retriever)
    usable, near = _apart([r for r in rows if r.split != "test"], [r for r in rows if r.split == "test"], flow)
    left_out: Counter[str] = Counter({"nearly equal to a test row": near} if near else {})
    with closing(setup):
        made = examples_of(setup, usable, left_out)
    held = held_rows(usable, settings.finetune.validation_share)
    train = [e for number, e in made if number not in held]
    validation = [e for number, e in made if number in held]
    if not train:
        raise ExamplesError("no training example is left", hint="columns expected.STEP hold what a step should give")
    doubles = near_questions([AskedWords.of(e) for e in validation], [AskedWords.of(e) for e in train])
    if doubles:
        left_out["for validation, nearly equal to one for training"] = len(doubles)
    validation = [e for i, e in enumerate(validation) if i not in doubles]
    report = ExamplesReport(own=len(made), documents_in_index=_documents(setup))
    report.left_out = dict(left_out)
    write_mix(expert / "examples", train, validation, report, settings)
    return report


def held_rows(rows: Sequence[Labelled], share: float) -> set[int]:
    """Return the numbers of the rows to validate on: those that say so, else a share, drawn by a hash of their ids."""
    said = {row.number for row in rows if row.split == "validation"}
    if said:
        return said
    order = sorted(rows, key=lambda row: hashlib.sha256(f"validation {row.id}".encode()).hexdigest())
    return {row.number for row in order[: round(share * len(order))]}


def _apart(rows: Sequence[Labelled], test: Sequence[Labelled], flow: Workflow) -> tuple[list[Labelled], int]:
    """Return the rows that are not nearly a test row, and how many are."""
    texts = [c.name for c in flow.columns.values() if c.type == "text" and c.name != flow.id_column]

    def asked(row: Labelled) -> AskedWords:
        return AskedWords.made("\n".join(str(row.values.get(name) or "") for name in texts), ())

    near = near_questions([asked(row) for row in rows], [asked(row) for row in test])
    return [row for i, row in enumerate(rows) if i not in near], len(near)


def _documents(setup: Setup) -> int:
    return len(setup.retriever.index.documents()) if setup.retriever is not None else 0


def examples_of(setup: Setup, rows: Sequence[Labelled], left_out: Counter[str]) -> list[tuple[int, Example]]:
    """Return examples with the numbers of their rows, step by step; `left_out` counts why there are no more."""
    known = [Known(r, Row(r.number, r.id, r.given, dict(r.values))) for r in rows]
    found: list[tuple[int, Example]] = []
    for step in setup.flow.steps:
        for one in known:
            if any(path.split(".")[0] in one.unknown for _, path in references(step)):
                one.unknown.add(step.name)
        going = [one for one in known if step.name not in one.unknown and _is_done(step, one)]
        if isinstance(step, Retrieve | Lookup | Check | Review):
            _compute(setup, step, going, left_out)
        else:
            for one in going:
                found += _step_examples(setup, step, one, left_out)
        for one in known:
            _take_label(step, one)
    return found


def _compute(setup: Setup, step: Step, going: Sequence[Known], left_out: Counter[str]) -> None:
    """Do a step that asks no model, as in a run."""
    run_step(setup, step, [one.row for one in going])
    for one in going:
        if one.row.failed:
            left_out[f"[{step.name}] fails"] += 1
            one.row.failed = ""
            one.unknown.add(step.name)


def _is_done(step: Step, one: Known) -> bool:
    try:
        done = step.when is None or step.when.evaluate(one.row.values) is True
    except RowFault:
        one.unknown.add(step.name)
        return False
    if isinstance(step, Check) and one.row.values.get(step.of) is None:
        done = False
    if not done:
        one.row.values[step.name] = None
    return done


def _take_label(step: Step, one: Known) -> None:
    """Where a step's value cannot be computed, its label says it all the same."""
    if step.name in one.unknown and step.name in one.labelled.labels:
        one.row.values[step.name] = one.labelled.labels[step.name]
        one.unknown.discard(step.name)


def _step_examples(setup: Setup, step: Step, one: Known, left_out: Counter[str]) -> list[tuple[int, Example]]:
    """Return the examples of a model step, and give the row the step's value."""
    label = one.labelled.labels.get(step.name)
    if isinstance(step, Decide):
        try:
            ruled = next((r.then for r in step.rules if r.when.evaluate(one.row.values) is True), step.otherwise)
        except RowFault:
            left_out[f"[{step.name}] a rule fails"] += 1
            one.unknown.add(step.name)
            return []
        if ruled:
            if label not in (None, ruled):
                left_out[f"[{step.name}] a rule decides otherwise than the label"] += 1
            one.row.values[step.name] = label or ruled
            return []
    if label is None:
        left_out[f"[{step.name}] without a label"] += 1
        one.unknown.add(step.name)
        return []
    one.row.values[step.name] = label
    if isinstance(step, Decide) and label not in step.choices:
        left_out[f"[{step.name}] the label is no choice of the model's"] += 1
        return []
    prompt = prompt_of(step)
    assert prompt is not None
    shown = one.row.values.get(prompt.passages) if prompt.passages else None
    forms: list[Sequence[Hit]] = [(), shown] if shown else [()]
    return [
        (one.row.number, _example(setup, step, one, hits))  # type: ignore[arg-type]
        for hits in forms
    ]


def _example(setup: Setup, step: Asking, one: Known, hits: Sequence[Hit]) -> Example:
    asked = fitted(setup.engine, setup.flow, step, one.row.values, hits)
    label = one.labelled.labels[step.name]
    spans = tuple(
        SourceSpan(h.chunk.document, h.chunk.sha256, h.chunk.page, h.chunk.start, h.chunk.end) for h in asked.hits
    )
    return Example(
        messages=(*asked.messages, {"role": "assistant", "content": answer_of(step, label)}),
        source=spans,
        origin="human",
        kind="long" if isinstance(step, Draft) else "span",
        variant=VARIANT_PASSAGES if asked.hits else VARIANT,
        question_id=f"{setup.flow.name}:{one.labelled.id}:{step.name}",
    )
