"""Questions and an index → answers calculated over tables, for those questions that are meant for one.

Enters: a question, what search found for it. Leaves: an Answer with citations of rows, or None: then the passages answer.
Templates first (planning.py); where they do not fit and the model is able, the model writes the SQL (writing.py).
"""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

from doyen.errors import TableError
from doyen.index.filtering import Where
from doyen.index.store import Index
from doyen.models.engine import Engine
from doyen.records import Answer, Hit
from doyen.tables.asked import Asked, read_question
from doyen.tables.catalogue import StoredTable, allowed_ids, among
from doyen.tables.evidence import MOST_KEYS, cite_rows
from doyen.tables.executing import Reply
from doyen.tables.limits import QueryLimits
from doyen.tables.loading import LoadedTable, load
from doyen.tables.named_values import named_answer
from doyen.tables.plans import Plan
from doyen.tables.routing import ONLY_TABLES, candidates, route
from doyen.tables.running import arrow_of
from doyen.tables.sandbox import Sandbox
from doyen.tables.sentences import decimals_asked, sentence, values_of
from doyen.tables.statements import Statements, statements
from doyen.tables.writing import Written, is_able, model_plan

_log = logging.getLogger(__name__)
_POPULATION = re.compile(r"population (?:standard )?(?:deviation|variance)|ddof ?= ?0", re.IGNORECASE)
_Z_SCORE = re.compile(r"z-?\s?scores?", re.IGNORECASE)
_THRESHOLD = re.compile(
    r"threshold (?:of|is|=|at|set to)?\s*(\d(?:\.\d+)?)|(?:greater than|above|exceeds?|>)\s*(\d(?:\.\d+)?)",
    re.IGNORECASE,
)
_USUAL_THRESHOLD = 3.0


@dataclass(frozen=True, slots=True)
class Tables:
    """What questions over tables are answered with: the index, who asks, and the engine (None: templates alone)."""

    index: Index
    where: Where | None = None
    engine: Engine | None = None
    arm: str = "rag"
    limits: QueryLimits = QueryLimits()

    def answers(
        self, questions: Sequence[str], found: Sequence[Sequence[Hit]], listed: Sequence[StoredTable]
    ) -> dict[int, Answer]:
        """Return the answers to those questions (by their number) that are meant for one of the `listed` tables."""
        answered: dict[int, Answer] = {}
        for n, (question, hits) in enumerate(zip(questions, found, strict=True)):
            asked = read_question(question)
            chosen = candidates(asked, listed, list(dict.fromkeys(h.chunk.document for h in hits)))
            tables = [load(self.index, table, where=self.where) for table in chosen]
            if tables and (answer := self._answer(question, asked, tables)) is not None:
                answered[n] = answer
        return answered

    def _answer(self, question: str, asked: Asked, tables: Sequence[LoadedTable]) -> Answer | None:
        started = time.perf_counter()
        able = self.engine is not None and is_able(self.engine)
        routed = route(asked, tables, able=able)
        try:
            if routed is None and not able and self._only_tables():
                routed = route(asked, tables, threshold=ONLY_TABLES)
            if routed is not None:
                return self._calculated(asked, routed.plan, started)
            if self.engine is not None and able:
                return self._written(question, asked, tables, self.engine, started)
        except TableError as error:  # the passages may answer it all the same
            _log.info("a question over tables was left to the passages: %s", error)
        return None

    def _only_tables(self) -> bool:
        """Whether there is nothing but tables to answer from: by a filter, or by what was ingested."""
        tables = {d.id for d in self.index.with_tables(among=among(self.where))}
        ids = allowed_ids(self.where)
        if ids is not None:
            return ids <= tables
        return all(d.id in tables for d in self.index.iter_documents(among=among(self.where)))

    def _calculated(self, asked: Asked, plan: Plan, started: float) -> Answer:
        whole = f"{asked.text} {asked.instructions}"
        made = statements(plan, population=bool(_POPULATION.search(whole)), threshold=threshold_asked(whole))
        with Sandbox(arrow_of([plan.table]), self.limits) as sandbox:
            reply = sandbox.run(made.sql)
            return self._told(asked, plan, made, reply, sandbox, started)

    def _written(
        self, question: str, asked: Asked, tables: Sequence[LoadedTable], engine: Engine, started: float
    ) -> Answer | None:
        with Sandbox(arrow_of(tables), self.limits) as sandbox:
            written = model_plan(question, asked, tables, engine, sandbox)
            if written is None:
                return None
            made = Statements(written.sql, written.rows_sql)
            answer = self._told(asked, written.plan, made, written.reply, sandbox, started, written)
        return answer

    def _told(
        self,
        asked: Asked,
        plan: Plan,
        made: Statements,
        reply: Reply,
        sandbox: Sandbox,
        started: float,
        written: Written | None = None,
    ) -> Answer:
        decimals = decimals_asked(asked)
        text = named_answer(asked, values_of(plan, reply.columns, reply.rows), decimals)
        text = text or sentence(plan, reply.columns, reply.rows, decimals, truncated=reply.truncated)
        row_ids, count = rows_read(sandbox, made.rows_sql)
        text_of = lru_cache(maxsize=64)(lambda document: self.index.text(document)[0])
        return Answer(
            text=text,
            answered=True,
            arm=self.arm,
            citations=cite_rows(plan.table, made.sql, row_ids, count, text_of),
            seconds=time.perf_counter() - started,
            prompt_tokens=written.prompt_tokens if written else 0,
            completion_tokens=written.completion_tokens if written else 0,
        )


def rows_read(sandbox: Sandbox, rows_sql: str) -> tuple[list[int], int]:
    """Return the ids of the first rows that a statement reads, and how many it reads in all."""
    if not rows_sql:
        return [], 0
    first = sandbox.run(f"SELECT rowid FROM ({rows_sql}) LIMIT {MOST_KEYS}")
    count = sandbox.run(f"SELECT count(*) FROM ({rows_sql})")
    return [int(row[0]) for row in first.rows], int(count.rows[0][0])


def threshold_asked(text: str) -> float | None:
    """Return from how many standard deviations on a value is an outlier; None where no z-scores are asked for."""
    if not _Z_SCORE.search(text):
        return None
    found = _THRESHOLD.search(text)
    return float(found[1] or found[2]) if found else _USUAL_THRESHOLD
