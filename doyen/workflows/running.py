"""`run_workflow`: a flow over a table, window by window; the audit trail is the journal, so that a killed run goes on.

Enters: an expert, a flow, an input. Leaves: the output table, its audit trail, rows for people in the review queue.
"""

from __future__ import annotations

import dataclasses
import datetime
import hashlib
import json
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from doyen.answer_costs import dollars, told_of_rows
from doyen.errors import UsageError
from doyen.models.engine import Engine
from doyen.workflows.checking_kinds import kind_of
from doyen.workflows.confidence import SIGNS, Confidence, key_of, load, plain_confidence, signs_of
from doyen.workflows.definition import Workflow
from doyen.workflows.doing import begin, run_rows
from doyen.workflows.expressions import Expression, ExpressionFault, parse_expression
from doyen.workflows.faults import RowFault
from doyen.workflows.inputs import Input, forget_snapshots, open_input, require_columns, snapshot_of
from doyen.workflows.journal import FORMAT, Journal, journal_path
from doyen.workflows.opening import Setup, describe, open_setup
from doyen.workflows.outputs import require_output, write_output
from doyen.workflows.reading import load_workflow
from doyen.workflows.reviewing import ReviewQueue
from doyen.workflows.rows import DONE, FAILED, REVIEW, Row, plain

LEAST_WINDOW, MOST_WINDOW = 16, 128
WINDOW_S = 15.0
"""About so long a window takes: what is on disk is never much older."""
Progress = Callable[[str, int, int, str], None]


@dataclass(slots=True)
class RunReport:
    """What a run did; `rows` are those of the output, `ran` those of this call. `cost_usd` None: not known, or nothing."""

    workflow: str
    out: str = ""
    audit: str = ""
    arm: str = ""
    adapters: list[str] = field(default_factory=list)
    rows: int = 0
    ran: int = 0
    done: int = 0
    review: int = 0
    failed: int = 0
    decisions: dict[str, int] = field(default_factory=dict)
    threshold: float | None = None
    calibrated: bool = False
    seconds: float = 0.0
    rows_per_second: float = 0.0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cost_usd: float | None = None
    dry_run: bool = False


def run_workflow(
    expert: Path | str,
    workflow: Workflow | Path | str,
    source: str | Path,
    out: Path | str,
    *,
    arm: str = "",
    adapter: str = "",
    limit: int | None = None,
    where: str = "",
    table: str = "",
    query: str = "",
    again: bool = False,
    retry_failed: bool = False,
    dry_run: bool = False,
    engine: Engine | None = None,
    window: int = MOST_WINDOW,
    progress: Progress | None = None,
    say: Callable[[str], None] = lambda text: None,
) -> RunReport:
    """Run a workflow over a file, a mail folder or a database, and write the output with its audit trail.

    A run that was interrupted, however, goes on with the same call. `limit` takes the first rows only, `where` those for which an
    expression over the input's columns is true. `say` is told where rows are sent, before they are.

    Raises:
        WorkflowError: the flow or its input is wrong; nothing was run.
        UsageError: arguments that do not go together; the output is another run's.
        DoyenError: the expert cannot be opened. What goes wrong with a row is in the output.
    """
    expert, out = Path(expert), Path(out)
    require_output(out, source)
    flow = workflow if isinstance(workflow, Workflow) else load_workflow(workflow)
    wanted = where_expression(flow, where)
    if again and not dry_run:
        forget_snapshots(out)
    snapshot = None if dry_run else snapshot_of(out, str(source), table, query)
    given = open_input(str(source), table=table, query=query, snapshot=snapshot)
    require_columns(flow, given.columns, given.name)
    setup = open_setup(expert, flow, arm=arm, adapter=adapter, engine=engine)
    with closing(setup):
        run = Run(setup, given, out, limit=limit, wanted=wanted, window=window, progress=progress)
        if told := told_of_rows(setup.engine, setup.settings, run.total, len(setup.adapters)):
            say(told)
        return run.estimate() if dry_run else run.go(again=again, retry_failed=retry_failed)


def where_expression(flow: Workflow, text: str) -> Expression | None:
    """Parse the condition of `--where` over the input's columns. Raises UsageError."""
    if not text.strip():
        return None
    try:
        found = parse_expression(text)
    except ExpressionFault as error:
        raise UsageError(f"--where: {error}") from None
    kind, faults = kind_of(found, {name: column.kind for name, column in flow.columns.items()})
    if faults or kind.name not in ("boolean", "any"):
        raise UsageError(f"--where: {'; '.join(faults) or 'is neither true nor false'}")
    return found


class Run:
    """One run of a flow over an input."""

    def __init__(
        self,
        setup: Setup,
        given: Input,
        out: Path,
        *,
        limit: int | None = None,
        wanted: Expression | None = None,
        window: int = MOST_WINDOW,
        progress: Progress | None = None,
        judged: bool = True,
    ) -> None:
        """Take what is opened; without `judged` no fit and no threshold is used, and nobody is asked to look."""
        self.setup, self.given, self.out = setup, given, out
        self._limit, self._wanted, self._window = limit, wanted, window
        self._progress = progress
        self._described = describe(setup)
        self.judge = Judge(setup, judged=judged)
        self._judged = judged
        self._size = min(LEAST_WINDOW, window)

    def estimate(self) -> RunReport:
        """Return how many rows it would be, and how many of them lack a value; no model is asked."""
        report = self._report()
        rows = list(self._rows(frozenset()))
        report.rows, report.dry_run = len(rows), True
        for row in rows:
            begin(self.setup.flow, row)
            report.failed += bool(row.failed)
        return report

    def go(self, *, again: bool = False, retry_failed: bool = False) -> RunReport:
        """Run over all rows that are not done yet, then write the output."""
        journal = Journal(journal_path(self.out))
        begun = time.perf_counter()
        with journal.held(self._header(), again=again):
            if retry_failed:
                journal.drop_failed()
            report = self._report()
            waiting = self._rows(frozenset(journal.done))
            queue = ReviewQueue(self.setup.expert)
            if self._judged:  # a run that was killed may have written rows that it did not queue
                queue.add(self.setup.flow, journal.records())
            for rows in self._windows(waiting):
                started = time.perf_counter()
                run_rows(self.setup, rows)
                records = [self.judge.record(row) for row in rows]
                journal.add(records)
                if self._judged:
                    queue.add(self.setup.flow, records)
                report.ran += len(rows)
                self._resize(len(rows), time.perf_counter() - started)
                self._tell(report, records, len(journal.done), self.total, time.perf_counter() - begun)
            write_output(self.out, self.setup.flow, self.given, journal.records())
            self._count(report, journal)
        report.seconds = round(time.perf_counter() - begun, 3)
        report.rows_per_second = round(report.ran / max(report.seconds, 1e-9), 3)
        return report

    def _rows(self, done: frozenset[int]) -> Iterator[Row]:
        """Yield the rows that are wanted and not done; the limit counts those that are done, too."""
        taken = 0
        for number, (cells, fault) in enumerate(self.given.read(), 1):
            if self._limit is not None and taken >= self._limit:
                return
            row = Row(number, self.setup.flow.row_id(cells, number), cells)
            if fault:
                row.fail("", fault)
            elif not self._is_wanted(row):
                continue
            taken += 1
            if number not in done:
                yield row

    def _is_wanted(self, row: Row) -> bool:
        if self._wanted is None:
            return True
        probe = Row(row.number, row.id, row.given)
        begin(self.setup.flow, probe)
        try:
            return self._wanted.evaluate(probe.values) is True
        except RowFault:
            return False

    def _windows(self, rows: Iterator[Row]) -> Iterator[list[Row]]:
        window: list[Row] = []
        for row in rows:
            window.append(row)
            if len(window) >= self._size:
                yield window
                window = []
        if window:
            yield window

    def _resize(self, rows: int, seconds: float) -> None:
        """Let the next window take about WINDOW_S."""
        fitting = int(WINDOW_S * rows / max(seconds, 1e-3))
        self._size = max(min(LEAST_WINDOW, self._window), min(self._window, fitting, 4 * self._size))

    @cached_property
    def total(self) -> int:
        """How many rows of the input are wanted."""
        if self._wanted is not None:
            return sum(1 for _ in self._rows(frozenset()))
        return self.given.total if self._limit is None else min(self._limit, self.given.total)

    def _tell(
        self, report: RunReport, records: Sequence[dict[str, Any]], done: int, total: int, seconds: float
    ) -> None:
        report.prompt_tokens += sum(r["tokens"][0] for r in records)
        report.completion_tokens += sum(r["tokens"][1] for r in records)
        report.cost_usd = self._cost(report)
        if self._progress:
            rate = report.ran / max(seconds, 1e-9)
            left = f", {max(0, total - done) / rate:.0f} s left" if rate else ""
            cost = f", US$ {report.cost_usd:.2f}" if report.cost_usd is not None else ""
            tokens = report.prompt_tokens + report.completion_tokens
            self._progress(self.setup.flow.name, done, total, f"{rate:.1f} rows/s{left}, {tokens:,} tokens{cost}")

    def _cost(self, report: RunReport) -> float | None:
        if self.setup.engine.kind != "server":
            return None
        return dollars(self.setup.settings.model, report.prompt_tokens, report.completion_tokens)

    def _report(self) -> RunReport:
        return RunReport(
            self.setup.flow.name,
            str(self.out),
            str(journal_path(self.out)),
            self.setup.arm,
            self.setup.adapter_names,
            threshold=self.judge.threshold,
            calibrated=self.judge.fitted is not None,
        )

    def _count(self, report: RunReport, journal: Journal) -> None:
        statuses = Counter(status for _, status in journal.done.values())
        report.rows = len(journal.done)
        report.done, report.review, report.failed = statuses[DONE], statuses[REVIEW], statuses[FAILED]
        decisions = Counter(str(r["decision"]) for r in journal.records() if r["decision"] is not None)
        report.decisions = dict(decisions.most_common())

    def _header(self) -> dict[str, Any]:
        flow = self.setup.flow
        parts = {
            "workflow": flow.fingerprint,
            "input": self.given.identity,
            "arm": self.setup.arm,
            "model": self.setup.engine.name,
            "adapter": self._described["adapters"],
            "condition": self._wanted.text if self._wanted else "",
            "way of judging": SIGNS,
            "tables": self.setup.tables.hashes() if self.setup.tables is not None else {},
        }
        header: dict[str, Any] = {
            "doyen_workflow": FORMAT,
            "identity": hashlib.sha256(json.dumps(parts, sort_keys=True, default=str).encode()).hexdigest()[:16],
            "parts": parts,
            "workflow": flow.name,
            "input": self.given.name,
            "began": _now(),
        }
        return header | {"with": self._described, "confidence": self.judge.described()}


class Judge:
    """How sure a flow's decisions are, and whether that is enough."""

    def __init__(self, setup: Setup, *, judged: bool = True) -> None:
        self._flow, self._judged = setup.flow, judged
        created = describe(setup)["adapters"]
        self.made_for = key_of(setup.flow, setup.arm, {name: str(row["created"]) for name, row in created.items()})
        self.fitted: Confidence | None = load(setup.expert, setup.flow, setup.arm, self.made_for) if judged else None

    @property
    def threshold(self) -> float | None:
        """The confidence under which a row goes to a person; None: there is none."""
        if self._flow.threshold is not None and self._judged:
            return self._flow.threshold
        if self.fitted is None:
            return None
        return 1.01 if self.fitted.threshold is None else self.fitted.threshold  # nothing was found to be sure enough

    def described(self) -> dict[str, Any] | None:
        """Return the fit as the audit trail tells it."""
        return {"threshold": self.threshold} | (
            dataclasses.asdict(self.fitted) if self.fitted else {"calibrated": False}
        )

    def record(self, row: Row) -> dict[str, Any]:
        """Judge a row, and return its line of the audit trail."""
        decision = row.values.get(self._flow.decision)
        sure = plain_confidence(self._flow, row)
        signs = signs_of(sure)
        if not row.failed and decision is not None:
            row.confidence = self.fitted.of(signs) if self.fitted else sure
            row.calibrated = self.fitted is not None
            threshold = self.threshold
            if threshold is not None and row.confidence is not None and row.confidence < threshold:
                row.reasons.append(f"confidence {row.confidence:.2f} is under {min(threshold, 1):.2f}")
        return {
            "row": row.number,
            "id": row.id,
            "status": row.status,
            "decision": None if row.failed else decision,
            "confidence": None if row.confidence is None else round(row.confidence, 6),
            "calibrated": row.calibrated,
            "reason": row.reason,
            "signs": {name: round(value, 6) for name, value in signs.items()},
            "input": row.given,
            "values": {name: plain(row.values.get(name)) for name in self._flow.step_names},
            "steps": row.trail,
            "tokens": list(row.tokens),
            "time": _now(),
        }


def _now() -> str:
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
