"""What an ingest left on disk → bytes of a document, of a passage, of a character; and of a store without any content."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from doyen.capacity.rates import STORED, Line, fit_line, vector_bytes

PLACES = {"page texts": "page texts", "chunk texts": "chunks", "full-text index": "full-text index"}
"""Where a part that is planned lies in the store (`store_bytes`)."""
_SPREAD = 0.1


@dataclass(frozen=True, slots=True)
class Stored:
    """What a store holds: bytes by part, documents, vectors, characters."""

    bytes: dict[str, int]
    documents: int
    chunks: int
    characters: int


def store_bytes(expert: Path, state: Path | None = None) -> dict[str, int]:
    """Return part → bytes on disk of an expert's index and originals; what is in a database counts for nothing."""
    index = state or expert / "index"
    text_index = sum(_size(p) for p in index.glob("*.lance/_indices"))
    return {
        "originals": _size(expert / "originals"),
        "page texts": _size(index / "documents.lance"),
        "chunks": _size(index / "chunks.lance") + _size(index / "summaries.lance") - text_index,
        "full-text index": text_index,
        "vector index": _size(index / "vectors"),
        "versions": _size(index / "versions.lance"),
    }


def _size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def stored_lines(small: Stored, notes: Stored, whole: Stored, dim: int) -> dict[str, Line]:
    """Return what is stored of a document or passage, and of a character: by a file, by notes, by the whole sample.

    What each store has beside its content counts in all three, so in no difference.
    """
    found = {}
    for part, names in STORED.items():
        rows = []
        for one in (notes, whole):
            counts = [getattr(one, name) - getattr(small, name) for name in names]
            rows.append([*counts, content_bytes(one, part, dim) - content_bytes(small, part, dim)])
        found[part] = _line_through(np.array(rows, dtype=np.float64))
    return found


def store_start(small: Stored, lines: Mapping[str, Line], dim: int) -> dict[str, float]:
    """Return part → bytes that a store has beside its content: what one of a single file has more than the lines say."""
    return {
        part: max(0.0, content_bytes(small, part, dim) - planned_bytes(small, part, line))
        for part, line in lines.items()
    }


def content_bytes(one: Stored, part: str, dim: int) -> float:
    """Return the bytes of a part, without the vectors in it."""
    vectors = vector_bytes(dim) * one.chunks if part == "chunk texts" else 0
    return float(one.bytes[PLACES[part]] - vectors)


def planned_bytes(one: Stored, part: str, line: Line) -> float:
    """Return the bytes of a part, without the vectors in it, by a line."""
    return line(*(getattr(one, name) for name in STORED[part]))


def _line_through(rows: NDArray[np.float64]) -> Line:
    """Return the line through two rows of counts and cost; where a part of it is below 0, the better of the single parts."""
    (first, second), cost = (rows[:, 0], rows[:, 1]), rows[:, 2]
    if abs(determinant := first[0] * second[1] - first[1] * second[0]) > 0:
        base = (cost[0] * second[1] - cost[1] * second[0]) / determinant
        more = (first[0] * cost[1] - first[1] * cost[0]) / determinant
        if base >= 0 and more >= 0:
            return Line(float(base), float(more), _SPREAD)
    return replace(fit_line(first.tolist(), second.tolist(), cost.clip(min=0).tolist()), spread=_SPREAD)
