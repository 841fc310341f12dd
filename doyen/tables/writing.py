"""A question and the tables' schema → SQL that a model writes, tried, and repaired once.

A local model writes under a regular expression made of the schema: one SELECT over one table, with its columns only. A
server's model writes freely. Both pass the same guard. Knows no index.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from doyen.errors import DoyenError, TableError
from doyen.models.catalogue import find_entry
from doyen.models.constraints import Regex
from doyen.models.engine import Completion, Engine
from doyen.prompts import Message
from doyen.tables.asked import Asked
from doyen.tables.executing import Reply, quoted
from doyen.tables.loading import Column, LoadedTable
from doyen.tables.mentions import LOOSE, column_mentions
from doyen.tables.operations import STRONG, operations
from doyen.tables.plans import Plan
from doyen.tables.sandbox import Sandbox

_ABLE_PARAMETERS = 1_000_000_000
_MOST_TOKENS = 300
_SHOWN_VALUES, _MOST_COLUMNS = 4, 60
_FENCED = re.compile(r"```(?:sql)?\s*(.*?)```", re.DOTALL | re.IGNORECASE)
_SYSTEM = (
    "You write DuckDB SQL. Answer with one SELECT statement over the given tables and nothing else. Quote column names"
    ' with double quotes. Write "NONE" where the tables cannot answer the question.'
)
_ABOUT_TABLES = re.compile(r"\b(data ?set|columns?|tables?|rows?|records?|spreadsheet)\b", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Written:
    """A statement that a model wrote and that ran: `rows_sql` gives the rows which it reads ("" where that is unknown)."""

    sql: str
    rows_sql: str
    reply: Reply
    plan: Plan
    prompt_tokens: int = 0
    completion_tokens: int = 0


def is_able(engine: Engine) -> bool:
    """Whether an engine's model is large enough to write SQL: a server's is taken to be."""
    if engine.kind == "server":
        return True
    try:
        return find_entry(engine.name).parameters >= _ABLE_PARAMETERS
    except DoyenError:
        return False


def model_plan(
    question: str, asked: Asked, tables: Sequence[LoadedTable], engine: Engine, sandbox: Sandbox
) -> Written | None:
    """Have the model write a statement, and once more with the fault of the first; None where that fails too."""
    meant = [table for table in tables if is_meant(asked, table)]
    if not meant:
        return None
    prompt = sql_prompt(question, meant)
    spent = [0, 0]
    for _ in range(2):
        done = _generated(engine, prompt, meant)
        spent = [spent[0] + done.prompt_tokens, spent[1] + done.completion_tokens]
        sql = statement_in(done.text)
        if sql is None:
            return None
        try:
            reply = sandbox.run(sql)
        except TableError as error:
            prompt = [*prompt, {"role": "assistant", "content": sql}, {"role": "user", "content": _fault(error)}]
            continue
        if not reply.rows or not reply.tables:
            return None
        table = next(t for t in meant if t.table.sql_name in reply.tables)
        columns = tuple(Column(name, "text") for name in reply.columns)
        rows_sql = reading_statement(sql, table) if len(reply.tables) == 1 else ""
        return Written(sql, rows_sql, reply, Plan(table, shown=columns), *spent)
    return None


def is_meant(asked: Asked, table: LoadedTable) -> bool:
    """Whether a question may be meant for a table: it calculates, or speaks of tables, and names a column."""
    calculates = any(o.kind in STRONG for o in operations(asked, frozenset())) or _ABOUT_TABLES.search(asked.text)
    return bool(calculates) and any(m.score >= LOOSE for m in column_mentions(asked, table.columns))


def statement_in(text: str) -> str | None:
    """Return the statement in what a model wrote, without its fence and `;`; None where there is none."""
    fenced = _FENCED.search(text)
    found = (fenced[1] if fenced else text).strip().rstrip(";").strip()
    return found if re.match(r"(?:select|with)\b", found, re.IGNORECASE) else None


def sql_prompt(question: str, tables: Sequence[LoadedTable]) -> list[Message]:
    """Return the chat that asks for a statement."""
    schema = "\n\n".join(map(schema_text, tables))
    return [{"role": "system", "content": _SYSTEM}, {"role": "user", "content": f"{schema}\n\nQuestion: {question}"}]


def schema_text(table: LoadedTable) -> str:
    """Return a table as a CREATE TABLE with some values of each column in a comment."""
    lines = [f"  {quoted(c.name)} {_sql_type(c)}, -- {_values(c)}" for c in table.columns[:_MOST_COLUMNS]]
    return f"CREATE TABLE {quoted(table.table.sql_name)} (\n" + "\n".join(lines) + f"\n); -- {len(table.places)} rows"


def _sql_type(column: Column) -> str:
    kinds = {"integer": "BIGINT", "number": "DOUBLE", "date": "DATE", "timestamp": "TIMESTAMP", "boolean": "BOOLEAN"}
    return kinds.get(column.kind, "VARCHAR")


def _values(column: Column) -> str:
    if column.low is not None:
        return f"{column.low} to {column.high}" + (f" {column.unit}" if column.unit else "")
    listed = ", ".join(json.dumps(v[:40], ensure_ascii=False) for v in column.values[:_SHOWN_VALUES])
    return f"{column.distinct} values: {listed}" if listed else f"{column.distinct} values"


def sql_pattern(table: LoadedTable) -> str:
    """Return a regular expression of statements over one table: aggregates and columns, bounds, a group, an order."""
    name, columns = re.escape(quoted(table.table.sql_name)), table.columns[:_MOST_COLUMNS]
    column = _one_of(quoted(c.name) for c in columns)
    numbers = [quoted(c.name) for c in columns if c.is_number] or [quoted(columns[0].name)]
    number = _one_of(numbers)
    measure = rf"((avg|sum|min|max|median|stddev_samp)\({number}\)|count\(\*\)|count\(DISTINCT {column}\))"
    value = r"('[^'\n\\]{1,40}'|-?[0-9]{1,9}(\.[0-9]{1,4})?)"
    bound = rf"{column} (=|<>|<|>|<=|>=) {value}"
    where = rf"( WHERE {bound}( AND {bound}){{0,2}})?"
    order = rf"( ORDER BY ({measure}|{column})( DESC)?)?( LIMIT [1-9][0-9]?)?"
    return rf"SELECT ({column}, )?({measure}|{column}) FROM {name}{where}( GROUP BY {column})?{order}"


def _one_of(names: Any) -> str:
    return "(" + "|".join(re.escape(name) for name in names) + ")"


def reading_statement(sql: str, table: LoadedTable) -> str:
    """Return the statement of the rows that a plain `SELECT … FROM table WHERE …` reads; "" for one of another form."""
    own = re.escape(table.table.sql_name)
    plain = rf"select\s.*?\sfrom\s+\"?{own}\"?(\s+where\s(?P<where>.*?))?(\s+group\s+by\s.*|\s+order\s+by\s.*|\s+limit\s.*)?"
    found = re.fullmatch(plain, sql, re.IGNORECASE | re.DOTALL)
    if found is None or re.search(r"\bselect\b", sql[6:], re.IGNORECASE):
        return ""
    where = f" WHERE {found['where']}" if found["where"] else ""
    return f"SELECT rowid FROM {quoted(table.table.sql_name)}{where}"


def _generated(engine: Engine, prompt: list[Message], tables: Sequence[LoadedTable]) -> Completion:
    constraint = None if engine.kind == "server" else Regex(sql_pattern(tables[0]))
    return engine.generate([prompt], max_tokens=_MOST_TOKENS, may_refuse=False, constraints=[constraint])[0]


def _fault(error: TableError) -> str:
    return f"That statement fails: {error}. Write a corrected SELECT statement and nothing else."
