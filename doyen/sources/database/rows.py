"""A row's values → the bytes of its record: UTF-8 JSON that is the same whenever the values are. Knows no database."""

from __future__ import annotations

import datetime
import decimal
import json
import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

TITLES = ("title", "name", "subject", "headline", "label", "designation", "titel", "bezeichnung", "betreff")
_MAX_TITLE_CHARS = 200
_UNSAFE = re.compile(r"[%/,\x00-\x1f\x7f\u0085\u2028\u2029\ud800-\udfff]")


def record_bytes(table: str, key: str, columns: Mapping[str, Any]) -> bytes:
    """Return a row as the JSON that documents/record.py reads; columns without a value are left out."""
    values = {name: plain(value) for name, value in columns.items() if value is not None}
    row = {"table": table, "key": key, "title": title_of(values), "columns": values}
    return json.dumps(row, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "replace")


def plain(value: Any) -> str | int | float | bool:
    """Return a database value as JSON has it: ISO dates (UTC where they have a zone), decimals digit for digit."""
    if isinstance(value, bool | int | str):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    if isinstance(value, bytes | bytearray | memoryview):
        return f"({len(bytes(value))} bytes)"
    if isinstance(value, decimal.Decimal):
        return format(value, "f")
    if isinstance(value, datetime.datetime):
        return (value.astimezone(datetime.UTC) if value.tzinfo else value).isoformat(" ")
    if isinstance(value, datetime.date | datetime.time):
        return value.isoformat()
    if isinstance(value, set | frozenset):
        return ", ".join(sorted(map(str, value)))
    if isinstance(value, dict | list | tuple):
        return json.dumps(value, ensure_ascii=False, sort_keys=True, default=str)
    return str(value)


def title_of(values: Mapping[str, Any]) -> str:
    """Return the value of the first column that is named like a title, or ""."""
    lowered: dict[str, str] = {}
    for name in values:
        lowered.setdefault(name.lower(), name)
    exact = [lowered[title] for title in TITLES if title in lowered]
    ending = [name for name in values if name.lower().endswith(tuple("_" + title for title in TITLES))]
    for name in (*exact, *ending):
        if isinstance(values[name], str) and values[name].strip():
            return " ".join(values[name].split())[:_MAX_TITLE_CHARS].rstrip()
    return ""


def key_text(values: Sequence[Any]) -> str:
    """Return a key as part of an id, different for different keys: `17`, `2024,DE`; `/ , %` and controls as `%XX`."""
    return ",".join(_key_part(value) for value in values)


def _key_part(value: Any) -> str:
    text = bytes(value).hex() if isinstance(value, bytes | bytearray | memoryview) else str(plain(value))
    escaped = _UNSAFE.sub(lambda m: "".join(f"%{b:02X}" for b in m[0].encode("utf-8", "surrogatepass")), text)
    return escaped.replace(".", "%2E") if escaped in (".", "..") else escaped or "%"
