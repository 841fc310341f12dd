"""A batch of documents against what a store has of their items: what is replaced, changed, gone, kept, and version numbers.

Both stores write by this. Enters: entries, rows of the documents table. Leaves: ids. Knows no table.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from doyen.index.rows import IndexEntry

HEAD_COLUMNS = ("id", "item", "sha256", "version")
Heads = Mapping[str, Mapping[str, Any]]
"""Document → its row, of HEAD_COLUMNS."""


@dataclass(frozen=True, slots=True)
class Batch:
    """Documents to be written, with all documents of their items."""

    entries: Sequence[IndexEntry]
    by_id: dict[str, IndexEntry]

    @classmethod
    def of(
        cls, entries: Sequence[IndexEntry], vectors: NDArray[np.float32], summary_vectors: NDArray[np.float32]
    ) -> Batch:
        """Take entries with the vectors of their chunks and summaries. Raises ValueError where these do not fit."""
        chunks, summaries = sum(len(e.chunks) for e in entries), sum(len(e.summaries) for e in entries)
        if len(vectors) != chunks or len(summary_vectors) != summaries:
            raise ValueError(
                f"{chunks} chunks and {summaries} summaries, but {len(vectors)} and {len(summary_vectors)} vectors: "
                "their length differs"
            )
        by_id = {entry.document.id: entry for entry in entries}
        if len(by_id) != len(entries):
            raise ValueError("a document stands twice in one batch")
        return cls(entries, by_id)

    @property
    def items(self) -> list[str]:
        """The ids of the items."""
        return sorted({entry.item or entry.document.id for entry in self.entries})

    def marks(self) -> dict[str, tuple[str, str]]:
        """Return item → its hash and stamp."""
        return {e.item or e.document.id: (e.item_sha256 or e.document.sha256, e.stamp) for e in self.entries}

    def against(self, old: Heads, keep: Collection[str]) -> Replaced:
        """Return what becomes of the documents `old` that a store has; those of the items in `keep` stay."""
        kept = {i for i in keep if i in old and i not in self.by_id}
        replaced = [i for i in old if i in self.by_id]
        changed = [i for i in replaced if old[i]["sha256"] != self.by_id[i].document.sha256]
        gone = [i for i in old if i not in self.by_id and i not in kept]
        return Replaced(sorted(kept), gone, replaced, changed)

    def versions(self, old: Heads, retired: Callable[[list[str]], Iterable[Mapping[str, Any]]]) -> dict[str, int]:
        """Number the documents: the same hash keeps its number, other content gets the next that was never used.

        `retired` returns the rows (id, version) of the retired versions of some documents.
        """
        last = {i: int(old[i]["version"]) if i in old else 0 for i in self.by_id}
        same = {i for i in self.by_id if i in old and old[i]["sha256"] == self.by_id[i].document.sha256}
        for row in retired([i for i in self.by_id if i not in same]):
            last[row["id"]] = max(last[row["id"]], row["version"])
        return {i: last[i] + (i not in same) for i in self.by_id}


@dataclass(frozen=True, slots=True)
class Replaced:
    """Ids of documents of a store; `changed` are those of `replaced` that get another content."""

    kept: list[str]
    gone: list[str]
    replaced: list[str]
    changed: list[str]
