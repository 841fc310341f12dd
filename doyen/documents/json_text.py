"""JSON and JSONL → `name: value` lines with dotted names for what is nested; objects of a list are Records.

A single object that is no list of rows reads like a document: its nested parts become sections.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from doyen.documents.extracted import Extracted, TextWriter, one_line
from doyen.documents.plain import clean_text, decode_text
from doyen.documents.tables import MAX_ROWS, MAX_TABLE_CHARS, describe_columns
from doyen.errors import DocumentError

_TITLES = ("title", "name", "headline", "subject")
_MAX_LEVEL = 6
_MAX_LEAVES = 5_000_000
_SUMMARY_RECORDS = 2_000
_MAX_FIELDS = 200

Pair = tuple[str, str]


def read_json(data: bytes, path: Path) -> Extracted:
    """Read a JSON file; a file of one object a line is read as JSONL, whatever its suffix."""
    text = _text(data, path.name)
    try:
        value = _parse(text)
    except json.JSONDecodeError as error:
        if error.msg == "Extra data" and text.lstrip().startswith(("{", "[")):
            return _read_lines(text, path)
        place = f"line {error.lineno}, column {error.colno}"
        raise DocumentError(f"{path.name} is not valid JSON: {error.msg} ({place})") from error
    except (RecursionError, ValueError) as error:
        raise DocumentError(f"{path.name} is nested too deeply, or holds a number beyond reason") from error
    writer = TextWriter()
    title = _title(value)
    records = _records(value)
    if records is None:
        _write_document(writer, value)
        return writer.extracted(title)
    rest = {key: item for key, item in value.items() if item is not records[1]} if isinstance(value, dict) else {}
    _write_pairs(writer, list(_leaves(rest)) if records[0] != "*" else [])
    name = records[0].strip("*") or path.stem
    return writer.extracted(title, warnings=_write_records(writer, name, records[1]))


def read_jsonl(data: bytes, path: Path) -> Extracted:
    """Read a file of one JSON value a line; every line is a Record, broken lines are counted in a warning."""
    return _read_lines(_text(data, path.name), path)


def _text(data: bytes, name: str) -> str:
    return clean_text(decode_text(data, name)).replace("\f", "")


def _parse(text: str) -> Any:
    return json.loads(text, parse_float=str, parse_int=str)  # numbers stay as they are written


def _read_lines(text: str, path: Path) -> Extracted:
    values: list[Any] = []
    broken: list[int] = []
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        try:
            values.append(_parse(line))
        except (ValueError, RecursionError):
            broken.append(number)
    if not values or len(broken) > len(values):
        raise DocumentError(f"{path.name} is not valid JSON: {len(broken)} of its lines cannot be read")
    writer = TextWriter()
    warnings = _write_records(writer, path.stem, values)
    if broken:
        lines = ", ".join(map(str, broken[:5])) + (" …" if len(broken) > 5 else "")
        warnings = (*warnings, f"{len(broken)} lines are not valid JSON: {lines}")
    return writer.extracted(warnings=warnings)


def _records(value: Any) -> tuple[str, Any] | None:
    """Return the name and the rows of a value that is a table: a list of objects, alone or as the main field.

    An object whose fields are objects of one shape is a table by key, under the name '*'.
    """
    if _is_rows(value):
        return "", value
    if not isinstance(value, dict):
        return None
    lists = [(key, item) for key, item in value.items() if _is_rows(item)]
    nested = [item for item in value.values() if isinstance(item, dict | list)]
    if len(lists) == 1 and len(nested) <= 2:
        return one_line(lists[0][0]), lists[0][1]
    return ("*", value) if _is_keyed(value) else None


def _is_rows(value: Any) -> bool:
    return isinstance(value, list) and len(value) > 0 and all(isinstance(item, dict) for item in value)


def _is_keyed(value: Mapping[str, Any]) -> bool:
    items = list(value.values())
    if len(items) < 3 or not all(isinstance(item, dict) and item for item in items):
        return False
    shape = set(items[0])
    return all(len(shape & set(item)) * 2 >= max(len(shape), len(item)) for item in items)


def _write_records(writer: TextWriter, name: str, rows: Sequence[Any] | Mapping[str, Any]) -> tuple[str, ...]:
    """Write every row as a block of lines; return what was left out, as warnings."""
    keyed = rows.items() if isinstance(rows, Mapping) else ((str(n), row) for n, row in enumerate(rows, start=1))
    sample = list(rows.values() if isinstance(rows, Mapping) else rows)[:_SUMMARY_RECORDS]
    if len(rows) > 1:
        writer.block(_summary(name, sample, len(rows)))
    limit = writer.length + MAX_TABLE_CHARS
    for done, (key, row) in enumerate(keyed):
        if done == MAX_ROWS or writer.length > limit:
            return (f"only the first {done} of {len(rows)} records were read",)
        lines = [_line(name, value) for name, value in _leaves(row)]
        lines = [line for line in lines if line]
        writer.record(
            one_line(key), "\n".join([one_line(key), *lines] if isinstance(rows, Mapping) else lines), tight=False
        )
    return ()


def _summary(name: str, sample: Sequence[Any], total: int) -> str:
    columns: dict[str, list[str]] = {}
    for row in sample:
        for field, value in _leaves(row):
            if field in columns or len(columns) < _MAX_FIELDS:
                columns.setdefault(field, []).append(one_line(value))
    names = [field for field in columns if field]
    height = max((len(columns[field]) for field in names), default=0)
    rows = [[columns[f][n] if n < len(columns[f]) else "" for f in names] for n in range(height)]
    return f"Records {name}: fields {describe_columns(names, rows)}; {total} records"


def _leaves(value: Any) -> Iterator[Pair]:
    """Yield the dotted name and the text of every value; a list of plain values is one text. Not recursive."""
    stack: list[tuple[str, Any]] = [("", value)]
    left = _MAX_LEAVES
    while stack and left:
        name, item = stack.pop()
        left -= 1
        prefix = f"{name}." if name else ""
        if isinstance(item, dict):
            stack.extend((f"{prefix}{one_line(key)}", inner) for key, inner in reversed(item.items()))
        elif isinstance(item, list) and any(isinstance(inner, dict | list) for inner in item):
            stack.extend((f"{prefix}{n}", item[n - 1]) for n in range(len(item), 0, -1))
        elif isinstance(item, list):
            yield name, ", ".join(filter(None, map(_scalar, item)))
        else:
            yield name, _scalar(item)


def _scalar(value: Any) -> str:
    if value is None:
        return ""
    return ("true" if value else "false") if isinstance(value, bool) else str(value).strip()


def _line(name: str, value: str) -> str:
    return (f"{name}: {value}" if name else value) if value else ""


def _write_pairs(writer: TextWriter, pairs: Sequence[Pair]) -> None:
    for index, (name, value) in enumerate(pairs):
        writer.block(_line(name, value), tight=index > 0)


def _write_document(writer: TextWriter, value: Any) -> None:
    """Write nested objects as sections under their names, down to the level where headings end."""
    stack: list[tuple[str, Any, int]] = [("", value, 0)]
    while stack:
        name, item, level = stack.pop()
        if not isinstance(item, dict) or level > _MAX_LEVEL:
            if name:
                writer.heading(name, level)
            _write_pairs(writer, list(_leaves(item)))
            continue
        if name:
            writer.heading(_heading(name, item), level)
        plain = {key: inner for key, inner in item.items() if not _is_section(inner)}
        _write_pairs(writer, list(_leaves(plain)))
        sections = [(one_line(key), inner, level + 1) for key, inner in item.items() if _is_section(inner)]
        stack.extend(reversed(sections))


def _is_section(value: Any) -> bool:
    if isinstance(value, dict):
        return any(isinstance(item, dict | list) for item in value.values()) or len(value) > 3
    return isinstance(value, list) and any(isinstance(item, dict) for item in value)


def _heading(name: str, item: Mapping[str, Any]) -> str:
    title = _title(item)
    return f"{name}: {title}" if title and title != name else name


def _title(value: Any) -> str:
    if not isinstance(value, dict):
        return ""
    found = (value.get(key) for key in _TITLES)
    return next((one_line(item) for item in found if isinstance(item, str) and 2 < len(item.strip()) <= 200), "")
