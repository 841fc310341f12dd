"""One item's bytes → its documents cut into chunks, and their summaries: what a worker process does.

Enters: a `ParseTask`. Leaves: a `Parsed`, or the reason of the failure. Knows no sources, no embedder, no store.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from doyen.chunking import chunk_document
from doyen.documents.reading import ReadResult, read_documents
from doyen.embedding.tokens import TokenCounter
from doyen.errors import DocumentError
from doyen.index.duplicates import sketch
from doyen.parsing.limits import Limits
from doyen.parsing.worker import TaskFailedError
from doyen.records import Chunk, Document, Summary
from doyen.summarising import summarise


@dataclass(frozen=True, slots=True)
class ParseTask:
    """An item with its bytes; `sha256` is of the bytes."""

    id: str
    name: str
    source: str
    root: str
    data: bytes = field(repr=False)
    sha256: str
    stamp: str = ""
    modified_at: float = 0.0
    labels: tuple[str, ...] = ()

    @property
    def size(self) -> int:
        """Bytes of the item."""
        return len(self.data)


@dataclass(frozen=True, slots=True)
class Parsed:
    """What an item holds: (document, chunks, sketch, summaries) each; failures and warnings are pairs (document id, reason)."""

    documents: list[tuple[Document, list[Chunk], bytes, list[Summary]]]
    failures: list[tuple[str, str]]
    warnings: list[tuple[str, str]]


@dataclass(frozen=True, slots=True)
class Parser:
    """The function of the workers: `parser(task)`; what all tasks share travels with it once."""

    counter: TokenCounter
    max_tokens: int
    limits: Limits
    passwords: Sequence[str] = ()

    def __call__(self, task: ParseTask) -> Parsed:
        """Read and chunk an item. Raises TaskFailedError with a one-line reason."""
        return self.cut(self.read(task))

    def read(self, task: ParseTask) -> ReadResult:
        """Read an item. Raises TaskFailedError with a one-line reason."""
        try:
            read = read_documents(
                task.data,
                task.name,
                task.id,
                source=task.source,
                modified_at=task.modified_at,
                labels=task.labels,
                passwords=self.passwords,
            )
        except DocumentError as error:
            if isinstance(error.__cause__, MemoryError):
                raise error.__cause__ from None
            raise TaskFailedError(str(error)) from error
        too_much = self.limits.too_much(sum(len(document.text) for document in read.documents))
        if too_much:
            raise TaskFailedError(f"{task.name} {too_much}")
        return read

    def cut(self, read: ReadResult) -> Parsed:
        """Chunk what was read."""
        return Parsed([self._parts(document) for document in read.documents], list(read.failures), list(read.warnings))

    def _parts(self, document: Document) -> tuple[Document, list[Chunk], bytes, list[Summary]]:
        chunks = chunk_document(document, self.counter, max_tokens=self.max_tokens)
        return document, chunks, sketch(document.text), summarise(document, chunks)
