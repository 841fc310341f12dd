"""Conversations: their turns in one SQLite file of an expert, each owned by the key that began it.

An answer may repeat what a document said, so turns that stand on a document go when that is erased.
"""

from __future__ import annotations

import json
import secrets
import sqlite3
import time
from collections.abc import Callable, Collection
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from doyen.errors import UsageError
from doyen.records import Answer
from doyen.sqlite_file import FOLDER, KEPT_CLEAN, opened

FILE_NAME = "sessions.db"
MOST_TURNS = 200
Hidden = Callable[[Collection[str]], set[str]]
"""Returns those of some documents that may not be seen."""
_TABLES = """
CREATE TABLE IF NOT EXISTS sessions (id TEXT PRIMARY KEY, owner TEXT NOT NULL, created REAL NOT NULL, used REAL NOT NULL);
CREATE TABLE IF NOT EXISTS turns (
    session TEXT NOT NULL REFERENCES sessions(id) ON DELETE CASCADE, number INTEGER NOT NULL, asked REAL NOT NULL,
    question TEXT NOT NULL, rewritten TEXT NOT NULL, answer TEXT NOT NULL, PRIMARY KEY (session, number));
CREATE TABLE IF NOT EXISTS shown (
    session TEXT NOT NULL, number INTEGER NOT NULL, document TEXT NOT NULL,
    FOREIGN KEY (session, number) REFERENCES turns(session, number) ON DELETE CASCADE);
CREATE INDEX IF NOT EXISTS shown_document ON shown(document);
CREATE INDEX IF NOT EXISTS shown_turn ON shown(session, number);
"""


@dataclass(frozen=True, slots=True)
class Turn:
    """A question as it was asked, as it was searched for, and the answer's text."""

    question: str
    answer: str
    rewritten: str = ""


class Sessions:
    """The conversations of one expert; from any thread and process."""

    def __init__(self, expert: Path) -> None:
        """Take the expert's folder; the file is made with the first session."""
        self._path = expert / FOLDER / FILE_NAME

    def _open(self) -> AbstractContextManager[sqlite3.Connection]:
        hint = f"free disk space, or delete serving/{FILE_NAME} in the expert's folder"
        return opened(self._path, f"the conversations in {self._path.name}", KEPT_CLEAN + _TABLES, hint=hint)

    def begin(self, owner: str) -> str:
        """Begin a session and return its id."""
        name, now = secrets.token_urlsafe(16), time.time()
        with self._open() as connection:
            connection.execute("INSERT INTO sessions VALUES (?, ?, ?, ?)", (name, owner, now, now))
        return name

    def turns(self, session: str, owner: str, last: int = MOST_TURNS, *, hidden: Hidden | None = None) -> list[Turn]:
        """Return a session's last turns, in their order, without those that show `hidden` documents.

        Raises UsageError if the owner has no such session.
        """
        with self._open() as connection:
            self._require(connection, session, owner)
            rows = connection.execute(
                "SELECT number, question, answer, rewritten FROM turns WHERE session = ? ORDER BY number DESC LIMIT ?",
                (session, last),
            ).fetchall()
            out = self._with(connection, session, hidden)
        return [Turn(q, json.loads(a)["answer"], r) for n, q, a, r in reversed(rows) if n not in out]

    def _with(self, connection: sqlite3.Connection, session: str, hidden: Hidden | None) -> set[int]:
        """Return the numbers of the turns in which a hidden document was shown."""
        if hidden is None:
            return set()
        shown = connection.execute("SELECT number, document FROM shown WHERE session = ?", (session,)).fetchall()
        unseen = hidden({document for _, document in shown})
        return {number for number, document in shown if document in unseen}

    def show(self, session: str, owner: str, *, hidden: Hidden | None = None) -> dict[str, Any]:
        """Return a session with whole answers, without turns that show `hidden` documents.

        Raises UsageError if the owner has no such session.
        """
        with self._open() as connection:
            created, used = self._require(connection, session, owner)
            rows = connection.execute(
                "SELECT number, asked, question, rewritten, answer FROM turns WHERE session = ? ORDER BY number",
                (session,),
            ).fetchall()
            out = self._with(connection, session, hidden)
        turns = [
            {"asked": t, "question": q, "rewritten": r, "answer": json.loads(a)}
            for n, t, q, r, a in rows
            if n not in out
        ]
        return {"id": session, "created": created, "used": used, "turns": turns}

    def of(self, owner: str, most: int = 100) -> list[dict[str, Any]]:
        """Return the owner's sessions, the last used first, each with its first question."""
        with self._open() as connection:
            rows = connection.execute(
                "SELECT id, created, used, (SELECT question FROM turns WHERE session = id ORDER BY number LIMIT 1),"
                " (SELECT COUNT(*) FROM turns WHERE session = id) FROM sessions WHERE owner = ? ORDER BY used DESC LIMIT ?",
                (owner, most),
            ).fetchall()
        return [dict(zip(("id", "created", "used", "question", "turns"), row, strict=True)) for row in rows]

    def add(self, session: str, owner: str, question: str, rewritten: str, answer: Answer) -> None:
        """Add a turn; beyond MOST_TURNS the oldest goes. Raises UsageError if the owner has no such session."""
        documents = {c.document for c in answer.citations} | {h.chunk.document for h in answer.hits}
        kept = json.dumps(answer.as_dict(), ensure_ascii=False)
        with self._open() as connection:
            connection.execute("BEGIN IMMEDIATE")
            self._require(connection, session, owner)
            last = connection.execute("SELECT MAX(number) FROM turns WHERE session = ?", (session,)).fetchone()[0]
            number, now = (last or 0) + 1, time.time()
            connection.execute(
                "INSERT INTO turns VALUES (?, ?, ?, ?, ?, ?)", (session, number, now, question, rewritten, kept)
            )
            connection.executemany("INSERT INTO shown VALUES (?, ?, ?)", [(session, number, d) for d in documents])
            connection.execute("DELETE FROM turns WHERE session = ? AND number <= ?", (session, number - MOST_TURNS))
            connection.execute("UPDATE sessions SET used = ? WHERE id = ?", (now, session))

    def delete(self, session: str, owner: str) -> None:
        """Delete a session. Raises UsageError if the owner has no such session."""
        with self._open() as connection:
            self._require(connection, session, owner)
            connection.execute("DELETE FROM sessions WHERE id = ?", (session,))

    def _require(self, connection: sqlite3.Connection, session: str, owner: str) -> tuple[float, float]:
        row = connection.execute(
            "SELECT created, used FROM sessions WHERE id = ? AND owner = ?", (session, owner)
        ).fetchone()
        if row is None:
            raise UsageError(f"there is no session '{session[:40]}'", hint="POST /api/sessions begins one")
        return float(row[0]), float(row[1])

    def forget(self, documents: Collection[str]) -> int:
        """Erase the turns that documents were shown in; return how many. Nothing of them stays in the file."""
        if not self._path.exists():
            return 0
        count = 0
        with self._open() as connection:
            for document in documents:
                count += connection.execute(
                    "DELETE FROM turns WHERE EXISTS (SELECT 1 FROM shown WHERE shown.session = turns.session"
                    " AND shown.number = turns.number AND shown.document = ?)",
                    (document,),
                ).rowcount
        return count
