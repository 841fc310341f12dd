"""The review queue of workflows: rows that a person is to look at, what they made of them, and labelled rows out of that.

One SQLite file of an expert. A row is known by its flow and its input: it is queued once, however often the flow is run over it. Rows that
showed passages of a document, or looked up its table, go when that document is removed.
"""

from __future__ import annotations

import hashlib
import json
import sqlite3
import time
from collections.abc import Collection, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from doyen.errors import UsageError
from doyen.sqlite_file import FOLDER, KEPT_CLEAN, opened
from doyen.workflows.definition import Workflow
from doyen.workflows.faults import near
from doyen.workflows.labels import EXPECTED, labelled_steps
from doyen.workflows.rows import REVIEW, documents_of

FILE_NAME = "reviews.db"
NEW, ACCEPTED, CORRECTED, REJECTED = STATES = ("new", "accepted", "corrected", "rejected")
_TABLES = """
CREATE TABLE IF NOT EXISTS review (
    id TEXT PRIMARY KEY, workflow TEXT NOT NULL, row_id TEXT NOT NULL, created REAL NOT NULL, decision TEXT NOT NULL,
    confidence REAL, reason TEXT NOT NULL, input TEXT NOT NULL, outcome TEXT NOT NULL, state TEXT NOT NULL,
    reviewer TEXT NOT NULL, reviewed REAL, final TEXT NOT NULL, comment TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS review_shown (
    review TEXT NOT NULL REFERENCES review(id) ON DELETE CASCADE, document TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS review_adapter (
    review TEXT NOT NULL REFERENCES review(id) ON DELETE CASCADE, adapter TEXT NOT NULL);
CREATE INDEX IF NOT EXISTS review_state ON review(workflow, state);
CREATE INDEX IF NOT EXISTS review_document ON review_shown(document);
CREATE INDEX IF NOT EXISTS review_row ON review_shown(review);
CREATE INDEX IF NOT EXISTS review_adapter_row ON review_adapter(review);
"""


@dataclass(frozen=True, slots=True)
class Reviewed:
    """One row of the queue: the flow's `outcome` (values of its steps), and the reviewer's `final` values, {} before.

    `decision` is the flow's; `documents` were shown in it, `adapters` wrote values of it.
    """

    id: str
    workflow: str
    row_id: str
    created: float
    decision: str
    confidence: float | None
    reason: str
    input: dict[str, Any]
    outcome: dict[str, Any]
    state: str
    reviewer: str
    reviewed: float | None
    final: dict[str, Any]
    comment: str
    documents: tuple[str, ...] = ()
    adapters: tuple[str, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        """Return it as JSON."""
        return asdict(self)


class ReviewQueue:
    """The queue of one expert; from any thread and process."""

    def __init__(self, expert: Path) -> None:
        """Take the expert's folder; the file is made with the first row."""
        self._path = expert / FOLDER / FILE_NAME

    def _open(self) -> AbstractContextManager[sqlite3.Connection]:
        return opened(self._path, "the review queue", f"{KEPT_CLEAN} PRAGMA synchronous=EXTRA; {_TABLES}")

    def add(self, flow: Workflow, records: Iterable[Mapping[str, Any]]) -> list[str]:
        """Queue the records (of an audit trail) that are for a person; return the ids. Those that are there stay as they are."""
        waiting = [record for record in records if record["status"] == REVIEW]
        if not waiting:
            return []
        ids = [review_id(flow.name, record["input"]) for record in waiting]
        with self._open() as connection:
            for name, record in zip(ids, waiting, strict=True):
                self._insert(connection, flow, name, record)
        return ids

    def _insert(self, connection: sqlite3.Connection, flow: Workflow, name: str, record: Mapping[str, Any]) -> None:
        row = (
            name,
            flow.name,
            record["id"],
            time.time(),
            str(record["decision"] or ""),
            record["confidence"],
            record["reason"],
        )
        more = (_json(record["input"]), _json(record["values"]), NEW, "", None, "{}", "")
        added = connection.execute(f"INSERT OR IGNORE INTO review VALUES ({', '.join('?' * 14)})", (*row, *more))
        if added.rowcount:
            shown = [(name, document) for document in documents_of(record)]
            connection.executemany("INSERT INTO review_shown VALUES (?, ?)", shown)
            adapters = {step["adapter"] for step in record["steps"] if step.get("adapter")}
            connection.executemany("INSERT INTO review_adapter VALUES (?, ?)", [(name, a) for a in sorted(adapters)])

    def rows(self, workflow: str = "", states: Collection[str] = STATES) -> list[Reviewed]:
        """Return the rows of a flow ("": of all) in some states, the oldest first."""
        marks = ", ".join("?" * len(states))
        return self._select(f"state IN ({marks}) AND ? IN ('', workflow)", [*states, workflow])

    def find(self, name: str) -> Reviewed:
        """Return a row. Raises UsageError where there is none."""
        found = self._select("id = ?", [name])
        if not found:
            raise UsageError(f"there is no row '{name[:40]}' in the review queue", hint="doyen review list")
        return found[0]

    def _select(self, condition: str, values: Sequence[str]) -> list[Reviewed]:
        if not self._path.exists():
            return []
        shown = "(SELECT json_group_array(document) FROM review_shown WHERE review = id) AS documents"
        wrote = "(SELECT json_group_array(adapter) FROM review_adapter WHERE review = id) AS adapters"
        with self._open() as connection:
            found = connection.execute(
                f"SELECT *, {shown}, {wrote} FROM review WHERE {condition} ORDER BY created, rowid", values
            ).fetchall()
        return [_row(row) for row in found]

    def review(
        self, name: str, verdict: str, reviewer: str, *, values: Mapping[str, Any] | None = None, comment: str = ""
    ) -> Reviewed:
        """Accept, correct or reject a row; a later verdict takes the place of an earlier one.

        `values` are what is right, by step or `STEP.FIELD`; what they do not name was right as it was.

        Raises:
            UsageError: no such row, verdict or step; a correction without values.
        """
        row = self.find(name)
        states = {"accept": ACCEPTED, "correct": CORRECTED, "reject": REJECTED}
        if verdict not in states:
            raise UsageError(f"verdict is {verdict!r}", hint="accept, correct or reject")
        if bool(values) != (verdict == "correct"):
            raise UsageError(
                "a correction, and it alone, gives values", hint="doyen review correct ID --set STEP=VALUE"
            )
        final = {} if verdict == "reject" else corrected(row.outcome, values or {})
        with self._open() as connection:
            connection.execute(
                "UPDATE review SET state = ?, reviewer = ?, reviewed = ?, final = ?, comment = ? WHERE id = ?",
                (states[verdict], reviewer, time.time(), _json(final), comment, name),
            )
        return self.find(name)

    def forget(self, documents: Collection[str]) -> int:
        """Erase the rows that showed documents; return how many."""
        if not self._path.exists():
            return 0
        with self._open() as connection:
            return sum(
                connection.execute(
                    "DELETE FROM review WHERE id IN (SELECT review FROM review_shown WHERE document = ?)", (d,)
                ).rowcount
                for d in documents
            )


def review_id(workflow: str, given: Mapping[str, Any]) -> str:
    """Return the id of a row in the queue: the same for the same flow and input."""
    return hashlib.sha256(f"{workflow}\0{_json(given)}".encode()).hexdigest()[:16]


def corrected(outcome: Mapping[str, Any], values: Mapping[str, Any]) -> dict[str, Any]:
    """Return a flow's values with a person's in their place. Raises UsageError for a step or field that is not there."""
    final: dict[str, Any] = json.loads(_json(outcome))
    for path, value in values.items():
        name, _, field = path.partition(".")
        if name not in final:
            raise UsageError(f"the flow has no step '{name}'{near(name, final)}")
        if field and not isinstance(final[name], dict | None):
            raise UsageError(f"'{name}' has no field '{field}': it is {final[name]!r}")
        if field:
            final[name] = (final[name] or {}) | {field: value}
        else:
            final[name] = value
    return final


def labelled_rows(flow: Workflow, rows: Sequence[Reviewed]) -> list[dict[str, Any]]:
    """Return reviewed rows as rows of a labelled table: the input, and what is right in `expected.` columns.

    Of an object a column a property; of steps whose value no person could check (passages, lookups, checks), none.
    """
    found = []
    for row in rows:
        labels: dict[str, Any] = {}
        for step in labelled_steps(flow):
            value = row.final.get(step.name)
            if isinstance(value, dict):
                labels |= {f"{EXPECTED}{step.name}.{field}": of for field, of in value.items()}
            elif value is not None:
                labels[f"{EXPECTED}{step.name}"] = value
        found.append({**row.input, **labels, "split": "train"})
    return found


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, default=str)


def _row(row: sqlite3.Row) -> Reviewed:
    values = dict(row)
    for name in ("input", "outcome", "final"):
        values[name] = json.loads(values[name])
    lists = {name: tuple(sorted(json.loads(values[name]))) for name in ("documents", "adapters")}
    return Reviewed(**values | lists)
