"""A table, a mail folder or a database → rows as they came, numbered from 1, and an identity that changes with any of them.

Knows no step; of a flow only the columns, by which values get their types.
"""

from __future__ import annotations

import csv
import glob
import hashlib
import io
import json
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from doyen.config import write_atomic
from doyen.documents.csv_table import delimiter_of
from doyen.documents.mail import mail_contents
from doyen.documents.plain import clean_text, decode_text
from doyen.errors import DocumentError, UsageError, WorkflowError
from doyen.sources.options import SourceOptions
from doyen.workflows.definition import Column, Workflow
from doyen.workflows.faults import near

MAIL_COLUMNS = ("id", "sender", "recipients", "cc", "date", "subject", "text", "attachments")
_HEADERS = {"From": "sender", "To": "recipients", "Cc": "cc", "Date": "date", "Subject": "subject"}
TABLE_SUFFIXES = (".csv", ".tsv", ".parquet", ".jsonl")
_MAX_FIELD_CHARS = 10_000_000
_PAGE_ROWS = 5_000
_TRUE, _FALSE = ("true", "yes", "1"), ("false", "no", "0")
Given = tuple[dict[str, Any], str]
"""A row's cells by column, and what is wrong with it as a row ("": nothing)."""


@dataclass(frozen=True, slots=True)
class Input:
    """`read` yields the rows, the same at each call; `schema` is Arrow's, of Parquet."""

    name: str
    columns: tuple[str, ...]
    total: int
    identity: str
    read: Callable[[], Iterator[Given]]
    schema: Any = None


def open_input(source: str, *, table: str = "", query: str = "", snapshot: Path | None = None) -> Input:
    """Open a file, a folder of mails or a database URL.

    A database's rows are first copied to `snapshot` (JSON lines), so that an interrupted run goes on over the same rows.

    Raises:
        UsageError: what it is, is not known; a database without table or query.
        DocumentError: it cannot be read, or has no rows.
    """
    if "://" in source:
        return _database(source, table, query, snapshot)
    path = Path(source)
    if table or query:
        raise UsageError(
            "--table and --query are for databases", hint="doyen run FLOW.toml sqlite:///claims.db --table claims …"
        )
    if path.is_dir():
        return _mails(path)
    if not path.is_file():
        raise UsageError(f"there is no file or folder {path}")
    if path.suffix.lower() == ".eml":
        return _mails(path)
    if path.suffix.lower() not in _OPENERS:
        raise UsageError(
            f"{path.name} is no table", hint=f"{', '.join(_OPENERS)}, a folder of .eml files, or a database URL"
        )
    return _OPENERS[path.suffix.lower()](path)


def snapshot_of(out: Path, source: str, table: str, query: str) -> Path:
    """Return where a database's rows are kept for an output: those of another table or query stand in a file of their own."""
    return out.with_name(f".{out.name}.{_hash(json.dumps([source, table, query]).encode())}.input.jsonl")


def forget_snapshots(out: Path) -> None:
    """Remove what was kept of databases for an output: they are read anew."""
    for path in out.parent.glob(f".{glob.escape(out.name)}.*.input.jsonl"):
        path.unlink(missing_ok=True)


def require_columns(flow: Workflow, columns: Sequence[str], name: str) -> None:
    """Refuse an input that lacks columns of the flow. Raises WorkflowError."""
    missing = [c.name for c in flow.columns.values() if not c.optional and c.name not in columns]
    if missing:
        said = "; ".join(f"'{m}'{near(m, columns)}" for m in missing)
        raise WorkflowError(
            f"{name} has no column {said}",
            hint="[input] columns of the workflow file names them; optional ones may be missing",
        )


# ---- values by their columns' types


def typed_values(flow: Workflow, given: dict[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """Return the values of a flow's columns, and what is wrong with them."""
    values: dict[str, Any] = {}
    faults = []
    for column in flow.columns.values():
        try:
            values[column.name] = typed(column, given.get(column.name))
        except ValueError as error:
            values[column.name] = None
            faults.append(f"column '{column.name}' {error}")
    return values, faults


def typed(column: Column, value: Any) -> Any:
    """Return a cell as its column's type; None where it is empty and may be. Raises ValueError that says what is wrong."""
    if value is None or (isinstance(value, str) and not value.strip()):
        if column.optional:
            return None
        raise ValueError("has no value" if value is None else "is empty")
    if column.type == "text":
        return value if isinstance(value, str) else _as_text(value)
    if column.type == "boolean":
        return _boolean(value)
    return _number(value, whole=column.type == "integer")


def _as_text(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False) if isinstance(value, dict | list | bool) else str(value)


def _boolean(value: Any) -> bool:
    text = str(value).strip().lower()
    if text in _TRUE or text in _FALSE:
        return text in _TRUE
    raise ValueError(f"is {str(value)[:40]!r}, expected true or false")


def _number(value: Any, *, whole: bool) -> float | int:
    what = "a whole number" if whole else "a number"
    try:
        if isinstance(value, bool) or len(str(value)) > 40:
            raise ValueError
        found = float(value)
    except (TypeError, ValueError):
        raise ValueError(f"is {str(value)[:40]!r}, expected {what}") from None
    if not math.isfinite(found) or (whole and not found.is_integer()):
        raise ValueError(f"is {str(value)[:40]!r}, expected {what}")
    return int(found) if found.is_integer() and abs(found) < 1e15 else found


# ---- files


def _csv(path: Path) -> Input:
    data = path.read_bytes()
    text = clean_text(decode_text(data, path.name)).replace("\f", "")
    rows = _parsed(text, "\t" if path.suffix.lower() == ".tsv" else delimiter_of(text), path.name)
    if not rows:
        raise DocumentError(f"{path.name} has no header")
    header = [cell.strip() for cell in rows[0]]
    if len(set(header)) < len(header) or not all(header):
        raise DocumentError(
            f"{path.name}: two columns have one name, or one has none", hint="give each column a name of its own"
        )

    def read() -> Iterator[Given]:
        for cells in rows[1:]:
            wide = f"has {len(cells)} cells under {len(header)} columns" if len(cells) > len(header) else ""
            yield dict(zip(header, [*cells, *[None] * (len(header) - len(cells))], strict=False)), wide

    return Input(path.name, tuple(header), len(rows) - 1, _hash(data), read)


def _parsed(text: str, delimiter: str, name: str) -> list[list[str]]:
    csv.field_size_limit(_MAX_FIELD_CHARS)
    try:
        return [row for row in csv.reader(io.StringIO(text, newline=""), delimiter=delimiter) if any(row)]
    except csv.Error as error:
        raise DocumentError(f"{name} is not a readable table: {error}") from error


def _jsonl(path: Path) -> Input:
    data = path.read_bytes()
    rows: list[Given] = []
    columns: dict[str, None] = {}
    for number, line in enumerate(data.decode("utf-8-sig", "replace").split("\n"), 1):
        if line.strip():
            rows.append(_json_row(line, number))
            columns |= dict.fromkeys(rows[-1][0])
    return Input(path.name, tuple(columns), len(rows), _hash(data), lambda: iter(rows))


def _json_row(line: str, number: int) -> Given:
    try:
        found = json.loads(line)
    except (ValueError, RecursionError) as error:
        return {}, f"line {number} is no JSON ({error})"
    return (found, "") if isinstance(found, dict) else ({}, f"line {number} is no JSON object")


def _parquet(path: Path) -> Input:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(path) as file:
            schema, total = file.schema_arrow, file.metadata.num_rows
    except (pa.ArrowException, OSError) as error:
        raise DocumentError(f"{path.name} is not a readable Parquet file ({error})") from None

    def read() -> Iterator[Given]:
        with pq.ParquetFile(path) as file:
            for batch in file.iter_batches(batch_size=_PAGE_ROWS, use_threads=False):
                yield from ((row, "") for row in batch.to_pylist())

    return Input(path.name, tuple(schema.names), total, _hash(path.read_bytes()), read, schema)


_OPENERS: dict[str, Callable[[Path], Input]] = {".csv": _csv, ".tsv": _csv, ".parquet": _parquet, ".jsonl": _jsonl}


# ---- mails


def _mails(path: Path) -> Input:
    files = [path] if path.is_file() else sorted(p for p in path.rglob("*.eml") if p.is_file())
    if not files:
        raise DocumentError(f"{path} holds no .eml file")
    root = path.parent if path.is_file() else path
    names = [str(file.relative_to(root)) for file in files]
    state = [[name, _hash(file.read_bytes())] for name, file in zip(names, files, strict=True)]

    def read() -> Iterator[Given]:
        for name, file in zip(names, files, strict=True):
            yield mail_row(name, file)

    return Input(path.name, MAIL_COLUMNS, len(files), _hash(json.dumps(state).encode()), read)


def mail_row(name: str, file: Path) -> Given:
    """Return a mail as a row; one that cannot be read has a fault."""
    try:
        headers, bodies, parts = mail_contents(file.read_bytes(), file)
    except (DocumentError, OSError) as error:
        return {"id": name}, str(error)
    row: dict[str, Any] = {"id": name} | {_HEADERS[key]: value for key, value in headers}
    row["text"] = "\n\n".join(body.text for body in bodies)
    row["attachments"] = ", ".join(part.name for part in parts)
    return row, ""


# ---- databases


def _database(url: str, table: str, query: str, snapshot: Path | None) -> Input:
    if bool(table) == bool(query):
        raise UsageError(
            "a database needs --table or --query", hint="doyen run FLOW.toml sqlite:///claims.db --table claims …"
        )
    if snapshot is not None and snapshot.exists():
        return _jsonl(snapshot)
    rows = _database_rows(url, SourceOptions(tables=(table,) if table else (), query=query))
    lines = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    if snapshot is not None:
        write_atomic(snapshot, lines)
        return _jsonl(snapshot)
    columns = tuple(rows[0]) if rows else ()
    return Input(table or "query", columns, len(rows), _hash(lines.encode()), lambda: iter([(row, "") for row in rows]))


def _database_rows(url: str, options: SourceOptions) -> list[dict[str, Any]]:
    from doyen.sources.database.connecting import Database
    from doyen.sources.database.relations import find_relations
    from doyen.sources.database.rows import plain

    database = Database(url)
    try:
        relation = find_relations(database, options)[0][0]
        found = database.rows(
            relation.page(relation.columns, None) if relation.key else relation.select(relation.columns)
        )
    finally:
        database.close()
    return [
        {name: None if value is None else plain(value) for name, value in zip(relation.columns, row, strict=True)}
        for row in found
    ]


def _hash(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()[:16]
