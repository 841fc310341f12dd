"""Search in the summaries table: how near documents are to a question by their summaries, and the summaries themselves.

Enters: a question's vector, ids of documents. Leaves: cosines, summaries. The vectors of the whole documents' summaries are
held in memory, 2 bytes a number, and read anew when the table has changed. Knows no fusion.
"""

from __future__ import annotations

import threading
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from doyen.index.rows import SUMMARY_COLUMNS, matrix, summary_from
from doyen.index.scanning import Floats, best, cosines_at
from doyen.index.tables import Tables, rows_of, rows_with
from doyen.records import Summary


@dataclass(frozen=True, eq=False, slots=True)
class _Held:
    """The vectors `(n, dim) float16` of one state of the table; `places` has the row of each document."""

    state: tuple[int, ...]
    documents: list[str]
    places: dict[str, int]
    vectors: NDArray[np.float16]


class SummarySearch:
    """The summaries of one store, from any number of threads."""

    def __init__(self) -> None:
        self._held: _Held | None = None
        self._lock = threading.Lock()

    def nearness(self, tables: Tables, vector: Floats, documents: Collection[str]) -> dict[str, float]:
        """Return document → cosine of its summary to a unit vector `(dim,)`, of those that have one."""
        held = self._current(tables)
        known = [document for document in dict.fromkeys(documents) if document in held.places]
        places = np.array([held.places[document] for document in known], dtype=np.intp)
        scores = cosines_at(held.vectors, np.asarray(vector, dtype=np.float32), places)
        return dict(zip(known, scores.tolist(), strict=True))

    def nearest(
        self, tables: Tables, vector: Floats, limit: int, among: Collection[str] | None = None
    ) -> dict[str, float]:
        """Return the `limit` documents of nearest summary with their cosines, best first; `among` leaves others out."""
        held = self._current(tables)
        scores = cosines_at(held.vectors, np.asarray(vector, dtype=np.float32))
        if among is not None:
            scores[[document not in among for document in held.documents]] = -np.inf
        top = [place for place in best(scores, limit).tolist() if np.isfinite(scores[place])]
        return {held.documents[place]: float(scores[place]) for place in top}

    def of(self, tables: Tables, documents: Sequence[str]) -> dict[str, list[Summary]]:
        """Return the summaries of documents, the whole document's first."""
        rows = list(
            rows_with(tables.summaries, (*SUMMARY_COLUMNS, "revision"), "document", list(dict.fromkeys(documents)))
        )
        if tables.unfinished:
            rows = [row for row, alive in zip(rows, _alive(tables, rows), strict=True) if alive]
        found: dict[str, list[Summary]] = {}
        for row in sorted(rows, key=lambda row: (row["section"] is not None, row["start"])):
            found.setdefault(row["document"], []).append(summary_from(row))
        return found

    def _current(self, tables: Tables) -> _Held:
        unfinished = tables.unfinished
        state = (id(tables), int(tables.summaries.version), int(tables.documents.version) if unfinished else -1)
        with self._lock:
            if self._held is None or self._held.state != state:
                self._held = _read(tables, state, unfinished)
            return self._held


def _read(tables: Tables, state: tuple[int, ...], unfinished: bool) -> _Held:
    parts = [np.empty((0, tables.dim), dtype=np.float16)]
    rows: list[dict[str, Any]] = []
    for batch in rows_of(tables.summaries, ("document", "revision", "vector"), "section IS NULL"):
        parts.append(matrix(batch["vector"], tables.dim).astype(np.float16))
        rows += batch.select(["document", "revision"]).to_pylist()
    vectors = np.concatenate(parts)
    if unfinished:
        alive = _alive(tables, rows)
        rows, vectors = [row for row, kept in zip(rows, alive, strict=True) if kept], vectors[alive]
    documents = [row["document"] for row in rows]
    return _Held(state, documents, {document: place for place, document in enumerate(documents)}, vectors)


def _alive(tables: Tables, rows: Sequence[dict[str, Any]]) -> list[bool]:
    """Say which rows are their document's current ones: during a write, and after an interrupted one."""
    ids = sorted({row["document"] for row in rows})
    revisions = {r["id"]: r["revision"] for r in rows_with(tables.documents, ("id", "revision"), "id", ids)}
    return [revisions.get(row["document"]) == row["revision"] for row in rows]
