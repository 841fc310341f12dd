"""A copy of the chunks' vectors in files that are mapped into memory, beside the table, which stays the truth.

`vectors/manifest.json` names the files of one snapshot and the state of the table that it shows. Rows are known by their
address; a fragment of the table never changes and its number is never given again, so an address that is still in the
table has the vector that stands here. Whoever finds no snapshot, or a broken one, scans the table.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from doyen.index.joint_scan import JointScan
from doyen.index.scanning import (
    Floats,
    Places,
    best,
    codes_of,
    cosines_at,
    near_codes,
    nearest_of_many,
)

FOLDER = "vectors"
FRAGMENT_ROWS = 2**32  # a row's address is its fragment's number times this, plus its place in there
EXACT_ROWS = 2**17
"""Up to here every vector is scored; beyond, the best by code."""
RECALL_SOUGHT = 0.99
_RECALL_LEAST_RESCORED = 1000
_MOST_RESCORED = 64_000
_QUERIES = 100
FORMAT = 2
GONE = -1
"""In place of a document's number: the table has that row no more."""
PARTS: dict[str, Any] = {"rows": "<u8", "documents": "<i4", "starts": "<i8", "vectors": "<f2", "codes": "<u8"}


@dataclass(frozen=True, slots=True)
class Recall:
    """How many of the 10 nearest the codes find, of `queries` sampled vectors, when there were `rows` of them."""

    value: float
    rescored: int
    queries: int
    rows: int


@dataclass(eq=False)
class VectorMatrix:
    """One snapshot. `rows` `(n,)` addresses ascending; `vectors` `(n, dim) float16`; `codes` `(words, n)` or None."""

    id: str
    version: int
    newest_fragment: int
    names: list[str]
    rows: NDArray[np.uint64]
    documents: NDArray[np.int32]
    starts: NDArray[np.int64]
    vectors: NDArray[np.float16]
    codes: NDArray[np.uint64] | None = None
    projected: Floats | None = None
    recall: Recall | None = None
    gone: int = 0
    path: Path = Path()
    _alive: NDArray[np.bool_] | None = field(init=False, repr=False)
    _scan: JointScan = field(init=False, repr=False)

    def __post_init__(self) -> None:
        self._alive = self.documents != GONE if self.gone else None
        self._scan = JointScan(self.vectors)  # it reads nothing before the first search

    def nearest(
        self, query: Floats, limit: int, mask: NDArray[np.bool_] | None = None, rescored: int | None = None
    ) -> tuple[Places, Floats]:
        """Return the places of the `limit` rows nearest to a unit query `(dim,)` and their cosines, best first."""
        if self.codes is None:
            return self.nearest_many([query], [limit], [mask])[0]
        assert self.projected is not None
        query = np.ascontiguousarray(query, dtype=np.float32)
        wanted = rescored or max(self.recall.rescored if self.recall else _RECALL_LEAST_RESCORED, 20 * limit)
        near = near_codes(self.codes, codes_of(query[None], self.projected)[0], wanted, self._living(mask))
        scores = cosines_at(self.vectors, query, near)
        top = best(scores, limit)
        return near[top], scores[top]

    def nearest_many(
        self, queries: Sequence[Floats], limits: Sequence[int], masks: Sequence[NDArray[np.bool_] | None]
    ) -> list[tuple[Places, Floats]]:
        """Return what `nearest` does of several queries; where every vector is scored they are read once for all."""
        if self.codes is not None:
            return [self.nearest(*one) for one in zip(queries, limits, masks, strict=True)]
        asked = [np.ascontiguousarray(query, dtype=np.float32) for query in queries]
        return self._scan.nearest_many(asked, limits, [self._living(mask) for mask in masks])

    def _living(self, mask: NDArray[np.bool_] | None) -> NDArray[np.bool_] | None:
        """Return the mask without the rows that are gone."""
        if self._alive is None:
            return mask
        return self._alive if mask is None else mask & self._alive

    def places_of(self, rows: NDArray[np.uint64]) -> tuple[NDArray[np.bool_], Places]:
        """Return which row addresses are here, and where (0 for the others)."""
        if not len(self.rows):
            return np.zeros(len(rows), dtype=np.bool_), np.zeros(len(rows), dtype=np.intp)
        places = np.searchsorted(self.rows, rows).clip(max=len(self.rows) - 1)
        return self.rows[places] == rows, places

    def measured(self, rng: np.random.Generator) -> Recall:
        """Measure recall@10 of the codes against the exact search, scoring more of them until it is ≥ RECALL_SOUGHT.

        Half of the queries are stored vectors, their own rows left out; half are moved to a cosine of about 0.7 from one,
        as far as a question is from a passage.
        """
        rows = np.flatnonzero(self.documents != GONE)
        sample = np.sort(rng.choice(rows, size=min(_QUERIES, len(rows)), replace=False))
        own = self.vectors[sample].astype(np.float32)
        noise = rng.standard_normal(own.shape).astype(np.float32)
        noise /= np.linalg.norm(noise, axis=1, keepdims=True)
        own[1::2] += noise[1::2]
        own /= np.linalg.norm(own, axis=1, keepdims=True).clip(1e-9)
        truth = nearest_of_many(self.vectors, own, 11)
        rescored = _RECALL_LEAST_RESCORED
        while True:
            shares = [
                self._share(wanted, query, int(place), rescored)
                for wanted, query, place in zip(truth, own, sample, strict=True)
            ]
            value = float(min(np.mean(shares[::2]), np.mean(shares[1::2])))
            if value >= RECALL_SOUGHT or rescored >= min(_MOST_RESCORED, len(self.vectors)):
                return Recall(round(value, 4), rescored, len(own), len(self.vectors))
            rescored *= 2

    def _share(self, wanted: Places, query: Floats, own: int, rescored: int) -> float:
        """Return the share of the 10 nearest other than row `own` that are found; of equally near ones any will do."""
        wanted = wanted[(wanted != own) & (self.documents[wanted] != GONE)][:10]
        if not len(wanted):
            return 1.0
        least = float((self.vectors[wanted].astype(np.float32) * query).sum(axis=1).min()) - 1e-5
        places, scores = self.nearest(query, len(wanted) + 1, rescored=rescored)
        return int((scores[places != own][: len(wanted)] >= least).sum()) / max(len(wanted), 1)


def parts_of_snapshot(state: dict[str, Any]) -> list[str]:
    """Return the endings of the files of a snapshot, from its manifest."""
    return ["rows", "documents", "starts", "vectors", "names.json", *(("codes", "npy") if state["code_words"] else ())]


def open_matrix(folder: Path, dim: int, snapshot: str = "manifest") -> VectorMatrix | None:
    """Map the newest snapshot in an index folder, or the one named; None where there is none, or one that is not whole."""
    folder = folder / FOLDER
    try:
        state = json.loads((folder / f"{snapshot}.json").read_text(encoding="utf-8"))
        count, words = int(state["rows"]), int(state["code_words"])
        if state["format"] != FORMAT or state["dim"] != dim or not count:
            return None
        name = folder / state["id"]
        shapes = {"rows": (count,), "documents": (count,), "starts": (count,), "vectors": (count, dim)}
        parts = {part: _mapped(name.with_suffix(f".{part}"), part, shape) for part, shape in shapes.items()}
        names = json.loads(name.with_suffix(".names.json").read_text(encoding="utf-8"))
        codes = _mapped(name.with_suffix(".codes"), "codes", (words, count)) if words else None
        projected = np.load(name.with_suffix(".npy")) if words else None
        recall = Recall(**state["recall"]) if state["recall"] else None
        return VectorMatrix(
            state["id"],
            state["version"],
            state["newest_fragment"],
            names,
            **parts,
            codes=codes,
            projected=projected,
            recall=recall,
            gone=int(state["gone"]),
            path=name,
        )
    except (OSError, ValueError, TypeError, KeyError):
        return None


def _mapped(path: Path, part: str, shape: tuple[int, ...]) -> Any:
    dtype = np.dtype(PARTS[part])
    size, wanted = path.stat().st_size, dtype.itemsize * int(np.prod(shape))
    if size < wanted or (size > wanted and part != "vectors"):  # to vectors, a later snapshot may have been appended
        raise ValueError(f"{path.name} has another length than its manifest says")
    return np.memmap(path, dtype=dtype, mode="r", shape=shape)


class MatrixFolder:
    """The newest snapshot of an index folder, mapped once and again when another process has made a newer one."""

    def __init__(self, folder: Path, dim: int, only: Callable[[], str | None] | None = None) -> None:
        """Take `only`, which returns the one snapshot to be shown, once it is in the folder."""
        self._folder, self._dim, self._only = folder, dim, only
        self._lock = threading.Lock()
        self._seen: tuple[int, int, int] | None = None
        self._matrix: VectorMatrix | None = None

    def current(self) -> VectorMatrix | None:
        """Return the snapshot that the folder has now, or the only one."""
        if self._only is not None:
            return self._the_only()
        try:
            stat = (self._folder / FOLDER / "manifest.json").stat()
            seen = (stat.st_ino, stat.st_mtime_ns, stat.st_size)
        except OSError:
            seen = None
        with self._lock:
            if seen != self._seen:
                self._matrix = open_matrix(self._folder, self._dim) if seen else None
                self._seen = seen
            return self._matrix

    def _the_only(self) -> VectorMatrix | None:
        with self._lock:
            if self._matrix is None and self._only is not None and (snapshot := self._only()) is not None:
                self._matrix = open_matrix(self._folder, self._dim, snapshot)
            return self._matrix
