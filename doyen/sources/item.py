"""An item: one thing of a source that can be read — a file, a web page, a database row."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Item:
    """One thing to index. `id` is the document's id, `source` its absolute path or URI, `root` the source it belongs to.

    `name` is a file name whose suffix picks the reader. `read` returns the bytes; it may raise DocumentError or OSError
    for this item alone. `stamp` is a cheap mark of the version (entity tag, change time): where it equals the one that
    was indexed the item is unchanged and not read; "" where only the content tells.
    """

    id: str
    source: str
    root: str
    name: str
    read: Callable[[], bytes]
    stamp: str = ""
    modified_at: float = 0.0
    labels: tuple[str, ...] = ()


class Source(Protocol):
    """A folder, a file, a web site or a database."""

    root: str
    """What identifies the source: the folder's absolute path, or the URI without credentials."""
    complete: bool
    """Whether `items` lists all there is, so that what it does not list is gone; known after the iteration."""
    skipped: list[str]
    """What was passed over because no reader takes it; known after the iteration."""

    def items(self) -> Iterator[Item]:
        """Yield the items in a stable order.

        Raises:
            DocumentError: the source does not exist, cannot be reached, or holds nothing that can be read.
        """
        ...
