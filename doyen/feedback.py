"""What users say of answers, and what reviewers make of it: one SQLite file of an expert.

Enters: a thumb, perhaps a better answer, and the passages that were shown, each found verbatim in its document. Leaves: a
queue for review, and reviewed rows with their evidence. `examples/feedback.py` makes questions of those. A row is on disk
before `add` returns, and goes when a document that it showed is removed.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import secrets
import sqlite3
import time
from collections.abc import Callable, Collection, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from doyen.errors import StoreError, UsageError
from doyen.sqlite_file import FOLDER, KEPT_CLEAN, opened
from doyen.words import words

FILE_NAME = "feedback.db"
THUMBS = ("up", "down")
STATES = ("new", "accepted", "edited", "rejected")
COMPARE_SHARE = 0.3
LONGEST = 32_768
MOST_PASSAGES = 50
MOST_WAITING = 2000
"""Rows of one key that nobody has reviewed yet."""
_TABLES = """
CREATE TABLE IF NOT EXISTS feedback (
    id TEXT PRIMARY KEY, owner TEXT NOT NULL, created REAL NOT NULL, question TEXT NOT NULL, answer TEXT NOT NULL,
    thumb TEXT NOT NULL, correction TEXT NOT NULL, comment TEXT NOT NULL, arm TEXT NOT NULL, adapter TEXT NOT NULL,
    passages TEXT NOT NULL, state TEXT NOT NULL, reviewer TEXT NOT NULL, reviewed REAL,
    final_question TEXT NOT NULL, final_answer TEXT NOT NULL, evidence TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS feedback_shown (
    feedback TEXT NOT NULL REFERENCES feedback(id) ON DELETE CASCADE, document TEXT NOT NULL);
CREATE INDEX IF NOT EXISTS feedback_owner ON feedback(owner, state);
CREATE INDEX IF NOT EXISTS feedback_document ON feedback_shown(document);
CREATE INDEX IF NOT EXISTS feedback_row ON feedback_shown(feedback);
"""


class FullError(UsageError):
    """Nothing more is taken before something is done with what is there."""


@dataclass(frozen=True, slots=True)
class Passage:
    """Characters `[start, end)` of a version of a document; `quote` is the text there."""

    document: str
    sha256: str
    version: int
    page: int | None
    start: int
    end: int
    quote: str


@dataclass(frozen=True, slots=True)
class Feedback:
    """One row; `question` to `passages` are the user's, the rest the reviewer's ("" and () before)."""

    id: str
    owner: str
    created: float
    question: str
    answer: str
    thumb: str
    correction: str
    comment: str
    arm: str
    adapter: str
    passages: tuple[Passage, ...]
    state: str
    reviewer: str
    reviewed: float | None
    final_question: str
    final_answer: str
    evidence: tuple[Passage, ...]

    @property
    def documents(self) -> set[str]:
        """The documents that it shows."""
        return {p.document for p in (*self.passages, *self.evidence)}

    @property
    def proposed(self) -> str:
        """The answer that an acceptance takes: the correction, else one that was liked; "" where there is none."""
        return self.correction or (self.answer if self.thumb == "up" else "")

    @property
    def is_supported(self) -> bool:
        """Whether all words of the proposed answer stand in the passages: what is not needs a closer look."""
        there = {w for p in (self.evidence or self.passages) for w in words(p.quote)}
        return bool(self.proposed) and set(words(self.final_answer or self.proposed)) <= there

    @property
    def use(self) -> str:
        """What a reviewed row is for: "compare" or "train"; see `side_of`."""
        return side_of({p.document for p in self.evidence})

    def as_dict(self) -> dict[str, Any]:
        """Return the row as JSON."""
        row = dataclasses.asdict(self) | {"proposed": self.proposed, "supported": self.is_supported}
        return row | ({"use": self.use} if self.state in ("accepted", "edited") else {})


def side_of(documents: Collection[str]) -> str:
    """Return on which side feedback about documents is: "compare" where one of them is drawn for it, else "train".

    Names alone decide: feedback about one document, early or late, is on one side. Where a row to compare on shows others
    too, `examples/feedback.py` trains on none about those.
    """
    drawn = (int(hashlib.sha256(d.encode()).hexdigest()[:8], 16) / 2**32 for d in documents)
    return "compare" if any(value < COMPARE_SHARE for value in drawn) else "train"


class FeedbackBook:
    """The feedback of one expert; from any thread and process."""

    def __init__(self, expert: Path) -> None:
        """Take the expert's folder; the file is made with the first row."""
        self._path = expert / FOLDER / FILE_NAME

    def _open(self) -> AbstractContextManager[sqlite3.Connection]:
        return opened(self._path, "feedback", f"{KEPT_CLEAN} PRAGMA synchronous=EXTRA; {_TABLES}")

    def add(
        self,
        owner: str,
        question: str,
        answer: str,
        thumb: str,
        *,
        correction: str = "",
        comment: str = "",
        arm: str = "",
        adapter: str = "",
        passages: Sequence[Passage] = (),
    ) -> Feedback:
        """Keep what a user says of an answer; it is on disk then.

        Raises:
            UsageError: it is no feedback.
            FullError: MOST_WAITING rows of this owner wait for review.
        """
        if thumb not in THUMBS:
            raise UsageError(f"thumb is {thumb!r}", hint="up or down")
        if not question.strip() or max(map(len, (question, answer, correction, comment))) > LONGEST:
            raise UsageError(f"feedback has a question, and no text of more than {LONGEST:,} characters")
        if len(passages) > MOST_PASSAGES:
            raise UsageError(f"{len(passages)} passages; at most {MOST_PASSAGES} are taken")
        name = secrets.token_urlsafe(9)
        row = (name, owner, time.time(), question, answer, thumb, correction.strip(), comment, arm, adapter)
        with self._open() as connection:
            connection.execute("BEGIN IMMEDIATE")
            waiting = connection.execute(
                "SELECT COUNT(*) FROM feedback WHERE owner = ? AND state = 'new'", (owner,)
            ).fetchone()[0]
            if waiting >= MOST_WAITING:
                raise FullError(
                    f"{waiting:,} rows of feedback by this key wait for review", hint="doyen feedback review"
                )
            more = (_json(passages), "new", "", None, "", "", "[]")
            connection.execute(f"INSERT INTO feedback VALUES ({', '.join('?' * 17)})", (*row, *more))
            _show(connection, name, passages)
        return self.find(name)

    def find(self, name: str) -> Feedback:
        """Return a row. Raises UsageError where there is none."""
        with self._open() as connection:
            row = connection.execute("SELECT * FROM feedback WHERE id = ?", (name,)).fetchone()
        if row is None:
            raise UsageError(f"there is no feedback '{name[:40]}'", hint="doyen feedback list")
        return _row(row)

    def rows(self, states: Collection[str] = STATES) -> list[Feedback]:
        """Return the rows in some states, the oldest first."""
        if not self._path.exists():
            return []
        with self._open() as connection:
            found = connection.execute("SELECT * FROM feedback ORDER BY created, rowid").fetchall()
        return [_row(row) for row in found if row["state"] in states]

    def review(
        self,
        name: str,
        verdict: str,
        reviewer: str,
        *,
        question: str = "",
        answer: str = "",
        evidence: Sequence[Passage] = (),
    ) -> Feedback:
        """Accept, edit or reject a row; what is not given is taken from it. A later review takes the place of an earlier.

        Raises:
            UsageError: no such row or verdict; nothing to accept; an edit that changes nothing; no evidence.
        """
        row = self.find(name)
        if verdict not in ("accept", "edit", "reject"):
            raise UsageError(f"verdict is {verdict!r}", hint="accept, edit or reject")
        if verdict == "accept" and (question or answer):
            raise UsageError("an acceptance changes nothing", hint="the verdict is edit")
        if verdict == "edit" and not (question.strip() or answer.strip() or evidence):
            raise UsageError("an edit gives a question, an answer or evidence")
        final = answer.strip() or row.proposed
        shown = tuple(evidence) or row.passages
        if verdict != "reject" and not final:
            raise UsageError("there is no right answer in it", hint="the verdict is edit, with an answer; or reject")
        if verdict != "reject" and not shown:
            raise UsageError("there is no evidence: no passage was shown", hint="edit, with evidence")
        state = {"accept": "accepted", "edit": "edited", "reject": "rejected"}[verdict]
        kept = ((question.strip() or row.question), final, shown) if verdict != "reject" else ("", "", ())
        with self._open() as connection:
            connection.execute(
                "UPDATE feedback SET state = ?, reviewer = ?, reviewed = ?, final_question = ?, final_answer = ?,"
                " evidence = ? WHERE id = ?",
                (state, reviewer, time.time(), kept[0], kept[1], _json(kept[2]), name),
            )
            _show(connection, name, kept[2])
        return self.find(name)

    def forget(self, documents: Collection[str]) -> int:
        """Erase the rows that showed documents; return how many. Nothing of them stays in the file."""
        if not self._path.exists():
            return 0
        with self._open() as connection:
            return sum(
                connection.execute(
                    "DELETE FROM feedback WHERE id IN (SELECT feedback FROM feedback_shown WHERE document = ?)", (d,)
                ).rowcount
                for d in documents
            )


def resolve(
    given: Sequence[dict[str, Any]], version_of: Callable[[str, int | None], tuple[Any, str, Sequence[Any]]]
) -> tuple[Passage, ...]:
    """Return places `{"document", "start", "end", "version"?}` as passages with the text that stands there.

    `version_of` returns a version of a document with its text and pages, and raises StoreError where it is not there.

    Raises:
        UsageError: a document is not there, or such a place is not in it.
    """
    found = []
    for place in given:
        document, start, end = str(place.get("document", "")), place.get("start"), place.get("end")
        try:
            stored, text, pages = version_of(document, place.get("version"))
        except StoreError as error:
            raise UsageError(f"{error}") from None
        if not (isinstance(start, int) and isinstance(end, int) and 0 <= start < end <= len(text)):
            raise UsageError(f"characters {start!r} to {end!r} are no place in '{document}'")
        page = next((p.number for p in pages if p.start <= start < p.end), None)
        found.append(Passage(document, stored.sha256, stored.version, page, start, end, text[start:end]))
    return tuple(found)


def _json(passages: Sequence[Passage]) -> str:
    return json.dumps([dataclasses.asdict(p) for p in passages], ensure_ascii=False)


def _show(connection: sqlite3.Connection, name: str, passages: Sequence[Passage]) -> None:
    documents = sorted({p.document for p in passages})
    connection.executemany("INSERT INTO feedback_shown VALUES (?, ?)", [(name, d) for d in documents])


def _row(row: sqlite3.Row) -> Feedback:
    values = dict(row)
    places = {name: tuple(Passage(**p) for p in json.loads(values[name])) for name in ("passages", "evidence")}
    return Feedback(**values | places)
