"""Parquet → rows of cells, then a table (see tables.py). Reads batch by batch; knows nothing of folders of files."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from doyen.documents.extracted import Extracted, TextWriter
from doyen.documents.tables import MAX_ROWS, write_table
from doyen.errors import DocumentError

_BATCH_ROWS = 2_000
_MAX_COLUMNS = 2_000


def read_parquet(data: bytes, path: Path) -> Extracted:
    """Read a table; the key of a row is its number from 1. Columns of bytes are left out.

    Raises DocumentError where the file is damaged or has no rows.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(pa.BufferReader(data)) as file:
            names = [field.name for field in file.schema_arrow if not _is_binary(field.type)][:_MAX_COLUMNS]
            total = file.metadata.num_rows
            if not total or not names:
                raise DocumentError(f"{path.name} has no rows")
            writer = TextWriter()
            clean = [" ".join(name.split()) or f"column {n}" for n, name in enumerate(names, start=1)]
            warnings = write_table(writer, path.stem, clean, _rows(file, names), total=total)
    except (pa.ArrowException, OSError, ValueError, OverflowError) as error:
        raise DocumentError(
            f"{path.name} is not a readable Parquet file (damaged, cut off or encrypted)", hint="fetch the file again"
        ) from error
    return writer.extracted(warnings=tuple(warnings))


def _is_binary(kind: Any) -> bool:
    import pyarrow.types as types

    return bool(types.is_binary(kind) or types.is_large_binary(kind) or types.is_fixed_size_binary(kind))


def _rows(file: Any, names: list[str]) -> Iterator[list[str]]:
    rows = 0
    for batch in file.iter_batches(batch_size=_BATCH_ROWS, columns=names, use_threads=False):
        columns = [[_text(value) for value in column.to_pylist()] for column in batch.columns]
        yield from map(list, zip(*columns, strict=True))
        rows += batch.num_rows
        if rows > MAX_ROWS:
            return


def _text(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, float):
        return str(int(value)) if value.is_integer() and abs(value) < 1e15 else f"{value:.15g}"
    if isinstance(value, list):
        return ", ".join(_text(item) for item in value)
    if isinstance(value, dict):
        return ", ".join(f"{name}: {_text(item)}" for name, item in value.items())
    return " ".join(str(value).split())
