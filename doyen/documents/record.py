"""A database row (`.record`: JSON of table, key, title and columns) → one `name: value` line a column.

Knows no database; doyen/sources/database/rows.py writes what is read here.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from doyen.documents.extracted import Extracted, one_line
from doyen.documents.plain import clean_text
from doyen.errors import DocumentError

MAX_METADATA_CHARS = 200


def read_record(data: bytes, path: Path) -> Extracted:
    """Read a row; its title is that of the record, else `table key`; metadata are the columns, long values clipped.

    Raises DocumentError where the bytes are no record, or no column has a value.
    """
    try:
        record: Any = json.loads(data)
        table, key, columns = str(record["table"]), str(record["key"]), dict(record["columns"])
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise DocumentError(f"{path.name} is not a database record") from error
    values = {str(name): _text(value) for name, value in columns.items()}
    values = {name: value for name, value in values.items() if value}
    if not values:
        raise DocumentError(f"the row {key} of {table} has no values")
    text = "\n".join(f"{name}: {value}" for name, value in values.items())
    title = one_line(str(record.get("title") or "")) or one_line(f"{table} {key}")
    return Extracted(text, title, metadata=tuple((name, value[:MAX_METADATA_CHARS]) for name, value in values.items()))


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return clean_text(str(value)).replace("\f", "\n").strip() if value is not None else ""
