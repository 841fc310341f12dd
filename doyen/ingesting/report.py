"""What an ingest did, and how it tells about its progress."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from doyen.index.duplicates import DuplicateGroup

Progress = Callable[[str, int, int], None]
"""Called with (stage, done, total); `total` grows where a source does not know its size beforehand."""


@dataclass(slots=True)
class IngestReport:
    """What an ingest did.

    The lists hold document ids; `failed` pairs of (file, reason), `warnings` of (document, remark),
    `duplicates` groups of documents that are nearly the same, with a new or changed one among them. `reused` of the
    `chunks` were not embedded again.
    """

    new: list[str] = field(default_factory=list)
    changed: list[str] = field(default_factory=list)
    unchanged: list[str] = field(default_factory=list)
    moved: list[str] = field(default_factory=list)
    removed: list[str] = field(default_factory=list)
    relabelled: list[str] = field(default_factory=list)
    """Unchanged ones that others may see now."""
    failed: list[tuple[str, str]] = field(default_factory=list)
    warnings: list[tuple[str, str]] = field(default_factory=list)
    duplicates: list[DuplicateGroup] = field(default_factory=list)
    unsupported: list[str] = field(default_factory=list)
    chunks: int = 0
    reused: int = 0
    seconds: float = 0.0
    interrupted: bool = False

    @property
    def written(self) -> bool:
        """Whether the store was changed."""
        return bool(self.new or self.changed or self.moved or self.removed or self.relabelled)
