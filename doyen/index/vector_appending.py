"""A snapshot of vectors (vector_matrix.py) brought up to date by what came and went since, without a second pass over the rest.

New rows have higher addresses than all older ones, so their vectors are appended to the file, which both snapshots share; rows
that the table has no more are marked. Beyond the bounds below the snapshot is written anew (vector_writing.py).
"""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from doyen.index.scanning import codes_of
from doyen.index.vector_matrix import FRAGMENT_ROWS, GONE, PARTS, VectorMatrix

MOST_GONE = 0.1
"""Share of rows that are scanned for nothing, above which the snapshot is written anew."""
MOST_ADDED = 0.5
"""Share of rows that came since it was last written as a whole, above which it is written anew."""
MOST_FRESH = 131_072
"""New rows that are held in memory at once, above which the snapshot is written anew, batch by batch."""
_ROWS_AT_ONCE = 8192


def append_rows(path: Path, table: Any, dim: int, before: VectorMatrix, state: dict[str, Any]) -> dict[str, Any] | None:
    """Write the parts of a new snapshot, but for its codes; return what its manifest says of rows, None beyond the bounds.

    `state` is the manifest of `before`. Takes 40 bytes of memory a row, and what is new of the vectors twice.
    """
    rows = addresses(table)
    alive, fresh = np.isin(before.rows, rows), rows[~np.isin(rows, before.rows)]
    whole = int(state["segments"][0][1])
    gone, added = 1 - float(alive.mean()), (len(before.rows) + len(fresh) - whole) / whole
    if gone > MOST_GONE or added > MOST_ADDED or len(fresh) > MOST_FRESH or (len(fresh) and fresh[0] < before.rows[-1]):
        return None
    columns, names, vectors = _fresh(table, int(before.rows[-1]), before.names, dim)
    if not np.array_equal(columns["rows"], fresh):
        return None  # written to meanwhile
    documents = np.where(alive, before.documents, GONE).astype(np.int32)
    own = before.path.with_suffix(".vectors")
    if not _shared(own, path.with_suffix(".vectors"), len(before.rows) * dim * 2, vectors):
        return None
    both: dict[str, tuple[NDArray[Any], NDArray[Any]]] = {
        "rows": (before.rows, columns["rows"]),
        "documents": (documents, columns["documents"]),
    }
    both |= {"starts": (before.starts, columns["starts"])}
    for part, pieces in both.items():
        _write(path.with_suffix(f".{part}"), np.concatenate(pieces).astype(PARTS[part]).tobytes())
    _write(path.with_suffix(".names.json"), json.dumps(names, ensure_ascii=False).encode())
    count = len(before.rows) + len(fresh)
    segments = [*state["segments"], [path.name, len(fresh)]] if len(fresh) else state["segments"]
    newest = max(int(before.newest_fragment), int(rows[-1]) // FRAGMENT_ROWS if len(rows) else 0)
    return {"rows": count, "newest_fragment": newest, "segments": segments, "gone": int((documents == GONE).sum())}


def append_codes(path: Path, dim: int, before: VectorMatrix, count: int) -> int:
    """Write the codes of a snapshot whose first rows are those of `before`; return how many words a code has."""
    assert before.codes is not None and before.projected is not None
    words, old = len(before.codes), before.codes.shape[1]
    vectors = np.memmap(path.with_suffix(".vectors"), dtype=PARTS["vectors"], mode="r", shape=(count, dim))
    codes = np.memmap(path.with_suffix(".codes"), dtype=PARTS["codes"], mode="w+", shape=(words, count))
    codes[:, :old] = before.codes
    for start in range(old, count, _ROWS_AT_ONCE):
        part = vectors[start : start + _ROWS_AT_ONCE].astype(np.float32)
        codes[:, start : start + len(part)] = codes_of(part, before.projected).T
    codes.flush()
    np.save(path.with_suffix(".npy"), before.projected)
    return words


def addresses(table: Any) -> NDArray[np.uint64]:
    """Return the addresses of all rows, ascending."""
    batches = table.search().select(["start"]).with_row_id(True).limit(None).to_batches(_ROWS_AT_ONCE)
    return np.sort(np.concatenate([np.empty(0, np.uint64), *(batch["_rowid"].to_numpy() for batch in batches)]))


def _fresh(table: Any, last: int, names: list[str], dim: int) -> tuple[dict[str, Any], list[str], NDArray[np.float16]]:
    """Return columns and vectors of the rows after an address, in order of address, and the names with theirs."""
    query = (
        table.search().where(f"_rowaddr > {last}").select(["vector", "document", "start"]).with_row_id(True).limit(None)
    )
    found = query.to_arrow()
    order = np.argsort(found["_rowid"].to_numpy())
    numbers = {name: place for place, name in enumerate(names)}
    places = [numbers.setdefault(name, len(numbers)) for name in found["document"].to_pylist()]
    columns = {"rows": found["_rowid"].to_numpy(), "starts": found["start"].to_numpy()}
    columns |= {"documents": np.array(places, dtype=np.int32)}
    flat = np.concatenate(
        [np.empty(0, np.float16), *(c.flatten().to_numpy(zero_copy_only=False) for c in found["vector"].chunks)]
    )
    vectors = np.ascontiguousarray(flat.reshape(-1, dim)[order], dtype=PARTS["vectors"])
    return {part: column[order] for part, column in columns.items()}, list(numbers), vectors


def _shared(old: Path, new: Path, length: int, vectors: NDArray[np.float16]) -> bool:
    """Append vectors to a file, of which the first bytes are the older snapshot's, under a second name."""
    try:
        os.link(old, new)
    except OSError:
        shutil.copyfile(old, new)
    try:
        with new.open("r+b") as file:
            file.truncate(length)  # of an interruption: nobody maps what comes after
            file.seek(length)
            file.write(vectors.data)
            file.flush()
            os.fsync(file.fileno())
    except OSError:  # Windows: mapped
        new.unlink(missing_ok=True)
        return False
    return True


def _write(path: Path, data: bytes) -> None:
    with path.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
