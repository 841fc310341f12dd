"""The chunks table → a snapshot of its vectors (vector_matrix.py), written beside it in one pass.

Knows the files of a snapshot and the columns of a chunk; it searches nothing.
"""

from __future__ import annotations

import json
import os
import secrets
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from doyen.config import write_atomic
from doyen.index.scanning import codes_of, projection
from doyen.index.vector_appending import addresses, append_codes, append_rows
from doyen.index.vector_matrix import (
    EXACT_ROWS,
    FOLDER,
    FORMAT,
    FRAGMENT_ROWS,
    PARTS,
    Recall,
    VectorMatrix,
    open_matrix,
)

_ROWS_AT_ONCE = 8192
_SLICE_ROWS = 131_072
_GROWTH = 1.2
"""Recall is measured again when the rows have become this many times more, or fewer."""


def write_snapshot(
    folder: Path, table: Any, dim: int, *, exact_rows: int = EXACT_ROWS, anew: bool = False
) -> VectorMatrix | None:
    """Write a snapshot of the chunks table as it is now and drop the older ones; return it, None of an empty table.

    What came and went since the last one is added to it, up to the bounds of vector_appending.py; `anew`: in any case as a
    whole, so that no vector of a deleted row is left. Takes 40 bytes of memory a row. Above `exact_rows` it gets codes,
    whose recall is measured.
    """
    version = int(table.version)
    before = open_matrix(folder, dim)
    if before is not None and before.version == version and not (anew and before.gone):
        return before
    place = folder / FOLDER
    place.mkdir(parents=True, exist_ok=True)
    name = secrets.token_hex(8)
    added = None
    if before is not None and not anew and table.count_rows():
        added = append_rows(place / name, table, dim, before, _manifest(place))
    if added is not None:
        count, state = int(added["rows"]), added
    else:
        _drop(place, name)
        count, state = _write_rows(place / name, table, dim)
        state |= {"segments": [[name, count]], "gone": 0}
    if count:
        state |= {"format": FORMAT, "id": name, "dim": dim, "rows": count, "version": version}
        state |= {"code_words": 0, "recall": None}
        if count > exact_rows:
            goes_on = added is not None and before is not None and before.codes is not None
            written = append_codes(place / name, dim, before, count) if goes_on and before else None
            state["code_words"] = written or _write_codes(place / name, count, dim, before)
        _publish(place, state)
        if state["code_words"]:
            _note_recall(folder, dim, state, before)
    else:
        (place / "manifest.json").unlink(missing_ok=True)
    _drop_others(place, name if count else "")
    return open_matrix(folder, dim)


def _manifest(place: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((place / "manifest.json").read_text(encoding="utf-8"))
    return found


def _drop(place: Path, name: str) -> None:
    """Take away the parts of a snapshot that was begun."""
    for path in place.glob(f"{name}.*"):
        path.unlink()


def _write_rows(path: Path, table: Any, dim: int) -> tuple[int, dict[str, Any]]:
    """Write addresses, documents, starts and vectors in order of address; return their number and the newest fragment."""
    numbers: dict[str, int] = {}
    parts: dict[str, list[NDArray[Any]]] = {"rows": [], "documents": [], "starts": []}
    with ExitStack() as files:
        vectors = files.enter_context(path.with_suffix(".vectors").open("wb"))
        for batch in _batches(table):
            flat = batch["vector"].flatten().to_numpy(zero_copy_only=False)
            vectors.write(np.ascontiguousarray(flat, dtype=PARTS["vectors"]).data)
            parts["rows"].append(batch["_rowid"].to_numpy())
            own = batch["document"].to_pylist()
            codes = [numbers.setdefault(document, len(numbers)) for document in own]
            parts["documents"].append(np.array(codes, dtype=np.int32))
            parts["starts"].append(batch["start"].to_numpy())
        _sync(vectors)
    if not numbers:
        path.with_suffix(".vectors").unlink()
        return 0, {}
    columns = {part: np.concatenate(found) for part, found in parts.items()}
    if not (np.diff(columns["rows"].astype(np.int64)) > 0).all():
        _sort(path, columns, dim)
    for part, column in columns.items():
        with path.with_suffix(f".{part}").open("wb") as file:
            file.write(np.ascontiguousarray(column, dtype=PARTS[part]).data)
            _sync(file)
    with path.with_suffix(".names.json").open("w", encoding="utf-8") as file:
        json.dump(list(numbers), file, ensure_ascii=False)
        _sync(file)
    return len(columns["rows"]), {"newest_fragment": int(columns["rows"][-1]) // FRAGMENT_ROWS}


def _batches(table: Any) -> Iterator[Any]:
    """Yield all rows, _SLICE_ROWS of them a query: of a whole table Lance reads more ahead than is written meanwhile."""
    rows = addresses(table)
    for start in range(0, len(rows), _SLICE_ROWS):
        first, last = rows[start], rows[min(start + _SLICE_ROWS, len(rows)) - 1]
        query = table.search().where(f"_rowaddr >= {first} AND _rowaddr <= {last}")
        query = query.select(["vector", "document", "start"]).with_row_id(True).limit(None)
        yield from query.to_batches(_ROWS_AT_ONCE)


def _sort(path: Path, columns: dict[str, NDArray[Any]], dim: int) -> None:
    """Bring columns and vectors into the order of address; the table gives fragments in the order of their making."""
    order = np.argsort(columns["rows"])
    for part in columns:
        columns[part] = columns[part][order]
    source = np.memmap(path.with_suffix(".vectors"), dtype=PARTS["vectors"], mode="r", shape=(len(order), dim))
    with path.with_suffix(".sorted").open("wb") as file:
        for start in range(0, len(order), _ROWS_AT_ONCE):
            file.write(np.ascontiguousarray(source[order[start : start + _ROWS_AT_ONCE]]).data)
        _sync(file)
    del source
    path.with_suffix(".sorted").replace(path.with_suffix(".vectors"))


def _write_codes(path: Path, count: int, dim: int, before: VectorMatrix | None) -> int:
    """Write the codes of the vectors, a row for each of their words; return how many words a code has."""
    projected = projection(dim) if before is None or before.projected is None else before.projected
    vectors = np.memmap(path.with_suffix(".vectors"), dtype=PARTS["vectors"], mode="r", shape=(count, dim))
    words = int(projected.shape[1]) // 64
    codes = np.memmap(path.with_suffix(".codes"), dtype=PARTS["codes"], mode="w+", shape=(words, count))
    for start in range(0, count, _ROWS_AT_ONCE):
        part = vectors[start : start + _ROWS_AT_ONCE].astype(np.float32)
        codes[:, start : start + len(part)] = codes_of(part, projected).T
    codes.flush()
    np.save(path.with_suffix(".npy"), projected)
    return words


def _note_recall(folder: Path, dim: int, state: dict[str, Any], before: VectorMatrix | None) -> None:
    """Keep what was measured, or measure anew where the table has grown or shrunk by a fifth since."""
    known: Recall | None = before.recall if before is not None else None
    if known is None or not known.rows / _GROWTH < state["rows"] < known.rows * _GROWTH:
        written = open_matrix(folder, dim)
        if written is None:
            return
        known = written.measured(np.random.default_rng(state["rows"]))
    _publish(folder / FOLDER, state | {"recall": asdict(known)})


def _publish(place: Path, state: dict[str, Any]) -> None:
    write_atomic(place / "manifest.json", json.dumps(state, indent=1))


def _drop_others(place: Path, name: str) -> None:
    """Take away the files of other snapshots; a process that has them open goes on with them."""
    for path in place.iterdir():
        if path.name != "manifest.json" and path.name.split(".")[0] != name:
            try:
                path.unlink()
            except OSError:  # Windows: still mapped; the next snapshot takes it away
                continue


def _sync(file: Any) -> None:
    file.flush()
    os.fsync(file.fileno())
