"""Rows of an audit trail → the output table: the input's columns, a column a step (a property), and what the flow says.

Written in one step: a crash leaves the old file or the new one.
"""

from __future__ import annotations

import csv
import glob
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from doyen.config import replaced
from doyen.errors import UsageError
from doyen.spreadsheets import guarded
from doyen.workflows.definition import Extract, Lookup, Retrieve, Workflow
from doyen.workflows.inputs import TABLE_SUFFIXES, Input
from doyen.workflows.kinds import Kind

FLOW_COLUMNS = ("flow_status", "flow_decision", "flow_confidence", "flow_reason")
_BATCH = 5_000
Record = Mapping[str, Any]


def require_output(out: Path, source: Path | str = "") -> None:
    """Refuse an output of an unknown kind, and one that takes the place of its input. Raises UsageError."""
    if out.suffix.lower() not in TABLE_SUFFIXES:
        raise UsageError(f"{out.name} is no {', '.join(TABLE_SUFFIXES)} file", hint="-o decided.csv")
    if out.is_dir():
        raise UsageError(f"{out} is a folder", hint="-o FOLDER/decided.csv; for --watch a folder is right")
    if source and Path(source).resolve() == out.resolve():
        raise UsageError(f"{out} is the input, and would be overwritten", hint="-o decided.csv")


def output_columns(flow: Workflow, columns: Sequence[str]) -> list[str]:
    """Return the output's columns, in order."""
    made = [name for step in flow.steps for name, _ in step_columns(step)]
    return [c for c in columns if c not in made and c not in FLOW_COLUMNS] + made + list(FLOW_COLUMNS)


def step_columns(step: Any) -> list[tuple[str, Kind]]:
    """Return the columns of a step with their kinds: of an object one a property."""
    kind: Kind = step.kind
    if isinstance(step, Extract | Lookup) and kind.fields:
        return [(f"{step.name}.{field}", of) for field, of in kind.fields.items()]
    return [(step.name, kind)]


def output_row(flow: Workflow, record: Record, given: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Return a row of the output, values as they are; `given` is the input where the record does not hold it in its types."""
    row = dict(record["input"] if given is None else given)
    for step in flow.steps:
        value = record["values"].get(step.name)
        for name, _ in step_columns(step):
            field = name.partition(".")[2]
            row[name] = (value or {}).get(field) if field else _shown(step, value)
    row["flow_status"], row["flow_decision"] = record["status"], record["decision"]
    row["flow_confidence"], row["flow_reason"] = record["confidence"], record["reason"]
    return row


def _shown(step: Any, value: Any) -> Any:
    if isinstance(step, Retrieve):
        return "; ".join(f"{p['document']}, page {p['page']}" if p["page"] else p["document"] for p in value or ())
    return value


def write_output(out: Path, flow: Workflow, table: Input, records: Iterable[Record]) -> None:
    """Write the output file of a run, which alone writes it: what a killed one had begun to write is removed."""
    for begun in out.parent.glob(f".{glob.escape(out.name)}.*.partial"):
        begun.unlink(missing_ok=True)
    rows = (output_row(flow, record, given) for record, given in _with_input(table, records))
    columns = output_columns(flow, table.columns)
    _WRITERS[out.suffix.lower()](out, flow, table, columns, rows)


def _with_input(table: Input, records: Iterable[Record]) -> Iterator[tuple[Record, Mapping[str, Any]]]:
    """Yield records, in the order of their rows, with the input's cells as they came: JSON has fewer types than Parquet."""
    cells = enumerate(table.read(), 1)
    for record in records:
        number, (given, _) = next(cells)
        while number < record["row"]:
            number, (given, _) = next(cells)
        yield record, given


def _write_csv(out: Path, flow: Workflow, table: Input, columns: list[str], rows: Iterator[dict[str, Any]]) -> None:
    """Write a table. A text of a model that begins like a formula gets an apostrophe: no spreadsheet runs it."""
    with replaced(out) as path, path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, delimiter="\t" if out.suffix.lower() == ".tsv" else ",", lineterminator="\n")
        writer.writerow(columns)
        given = set(table.columns)
        for row in rows:
            writer.writerow([_cell(row.get(name), made=name not in given) for name in columns])


def _cell(value: Any, *, made: bool) -> str:
    if value is None:
        return ""
    if isinstance(value, str):
        return guarded(value) if made else value
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value) if isinstance(value, int | float) else json.dumps(value, ensure_ascii=False, default=str)


def _write_jsonl(out: Path, flow: Workflow, table: Input, columns: list[str], rows: Iterator[dict[str, Any]]) -> None:
    with replaced(out) as path, path.open("w", encoding="utf-8") as file:
        for row in rows:
            file.write(json.dumps({name: row.get(name) for name in columns}, ensure_ascii=False, default=str) + "\n")


def _write_parquet(out: Path, flow: Workflow, table: Input, columns: list[str], rows: Iterator[dict[str, Any]]) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    schema = _arrow_schema(flow, table, columns)
    own = set(table.schema.names) if table.schema is not None else set()
    with replaced(out) as path, pq.ParquetWriter(path, schema) as writer:
        for batch in _batches(rows, _BATCH):
            arrays = [
                pa.array([_typed(row.get(f.name), f, f.name in own) for row in batch], type=f.type) for f in schema
            ]
            writer.write_table(pa.Table.from_arrays(arrays, schema=schema))


def _arrow_schema(flow: Workflow, table: Input, columns: list[str]) -> Any:
    """Return Arrow's types: those of a Parquet input, else texts; of steps by their kinds."""
    import pyarrow as pa

    of_kind = {"number": pa.float64(), "boolean": pa.bool_()}
    made = {name: of_kind.get(kind.name, pa.string()) for step in flow.steps for name, kind in step_columns(step)}
    given = {f.name: f.type for f in table.schema} if table.schema is not None else {}
    known = given | made | {"flow_confidence": pa.float64()}
    return pa.schema([(name, known.get(name, pa.string())) for name in columns])


def _typed(value: Any, field: Any, as_it_came: bool) -> Any:
    import pyarrow as pa

    if value is None or as_it_came:
        return value
    if field.type == pa.string():
        return value if isinstance(value, str) else _cell(value, made=False)
    if field.type == pa.bool_():
        return value if isinstance(value, bool) else None
    return float(value) if isinstance(value, int | float) else None


def _batches(rows: Iterator[dict[str, Any]], size: int) -> Iterator[list[dict[str, Any]]]:
    batch: list[dict[str, Any]] = []
    for row in rows:
        batch.append(row)
        if len(batch) == size:
            yield batch
            batch = []
    if batch:
        yield batch


_WRITERS: dict[str, Callable[[Path, Workflow, Input, list[str], Iterator[dict[str, Any]]], None]] = {
    ".csv": _write_csv,
    ".tsv": _write_csv,
    ".jsonl": _write_jsonl,
    ".parquet": _write_parquet,
}
