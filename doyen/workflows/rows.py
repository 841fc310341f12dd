"""One row on its way through a flow: its values so far, what each step did, and where it ends."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from doyen.records import Hit

DONE, REVIEW, FAILED = "done", "review", "failed"
Value = Any
"""None, text, number, boolean, list, object; of a retrieve step a tuple of hits."""


@dataclass(slots=True)
class Row:
    """A row; `given` is the input as it came, `values` the columns and steps by name, `sure` each model step's own probability.

    `failed` says why it goes no further, `reasons` why a person is to look.
    """

    number: int
    id: str
    given: dict[str, Any]
    values: dict[str, Value] = field(default_factory=dict)
    sure: dict[str, float] = field(default_factory=dict)
    trail: list[dict[str, Any]] = field(default_factory=list)
    reasons: list[str] = field(default_factory=list)
    because: str = ""
    failed: str = ""
    tokens: tuple[int, int] = (0, 0)
    confidence: float | None = None
    calibrated: bool = False

    @property
    def status(self) -> str:
        """Where it stands: done, review or failed."""
        return FAILED if self.failed else REVIEW if self.reasons else DONE

    @property
    def reason(self) -> str:
        """Why it failed or goes to a person; else what the deciding rule says."""
        return self.failed or "; ".join(self.reasons) or self.because

    def fail(self, step: str, why: str) -> None:
        """Let it go no further."""
        self.failed = f"[{step}] {why}" if step else why

    def spend(self, sent: int, written: int) -> None:
        """Count tokens."""
        self.tokens = self.tokens[0] + sent, self.tokens[1] + written


def place_of(hit: Hit) -> dict[str, Any]:
    """Return where a passage stands, with the version of its document."""
    chunk = hit.chunk
    return {
        "document": chunk.document,
        "version": chunk.version,
        "sha256": chunk.sha256,
        "page": chunk.page,
        "start": chunk.start,
        "end": chunk.end,
    }


def documents_of(record: Mapping[str, Any]) -> list[str]:
    """Return the documents that a row's trail shows: those of passages, and those whose tables were looked up."""
    shown = {place["document"] for step in record["steps"] for place in step.get("passages", ())}
    return sorted(shown | {document for step in record["steps"] for document in step.get("documents", ())})


def plain(value: Value) -> Any:
    """Return a value as JSON has it: of passages their places."""
    if isinstance(value, tuple) and all(isinstance(hit, Hit) for hit in value):
        return [place_of(hit) for hit in value]
    return value
