"""What the sources no longer hold → retired from the index. Reads the documents' rows as a stream."""

from __future__ import annotations

from collections import Counter
from collections.abc import Container, Iterator, Sequence
from pathlib import Path

from doyen.index.store import Index
from doyen.sources import Source


def vanished(
    index: Index, sources: Sequence[Source], seen: Container[str], taken_over: Counter[str], *, prune: bool
) -> Iterator[str]:
    """Yield the ids of documents that are gone.

    They are what a wholly listed source covers and did not list; with `prune` also what none of the sources covers; and
    what is left of a folder that no longer exists, when the larger part of it was found again elsewhere (it was moved).
    """
    left: dict[str, list[str]] = {}
    for document in index.iter_documents():
        if document.item in seen:
            continue
        covering = [source for source in sources if source.covers(document.source)]
        if any(source.complete for source in covering) or (prune and not covering):
            yield document.id
        elif taken_over[document.root]:
            left.setdefault(document.root, []).append(document.id)
    for root, documents in left.items():
        if taken_over[root] >= len(documents) and "://" not in root and not Path(root).exists():
            yield from documents


def take_out(
    index: Index, sources: Sequence[Source], seen: Container[str], taken_over: Counter[str], *, prune: bool
) -> list[str]:
    """Retire what is gone; return the ids."""
    gone = sorted(vanished(index, sources, seen, taken_over, prune=prune))
    if gone:
        index.retire(gone)
    return gone
