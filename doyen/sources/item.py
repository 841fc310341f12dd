"""An item: one thing of a source that can be read — a file, a web page, a database row."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Protocol
from urllib.parse import quote

_UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f\u0085\u2028\u2029\ud800-\udfff]")


@dataclass(frozen=True, slots=True)
class Item:
    """One thing to index. `id` is the document's id, `source` its absolute path or URI, `root` the source it belongs to.

    `name` is a file name whose suffix picks the reader. `read` returns the bytes; it may raise DocumentError or OSError
    for this item alone. `stamp` is a cheap mark of the version (entity tag, change time): where it equals the one that
    was indexed the item is unchanged and not read; "" where only the content tells. `size` is in bytes, 0 where only
    reading tells.
    """

    id: str
    source: str
    root: str
    name: str
    read: Callable[[], bytes]
    stamp: str = ""
    modified_at: float = 0.0
    labels: tuple[str, ...] = ()
    size: int = 0


class Source(Protocol):
    """A folder, a file, a web site or a database. `items` is called once and consumed as a stream."""

    root: str
    """What identifies the source: the folder's absolute path, or the URI without credentials."""
    spec: str
    """What opens the source again: the path, or the URI without credentials (those have to be given once more)."""
    complete: bool
    """Whether `items` ran to its end and listed all there is, so that what `covers` and was not listed is gone."""
    skipped: list[str]
    """What was passed over because no reader takes it; known after the iteration."""
    warnings: list[str]
    """What the user should know of the source (a table without a key, a limit reached); known after the iteration."""

    def items(self) -> Iterator[Item]:
        """Yield the items in a stable order.

        Raises:
            DocumentError: the source does not exist, cannot be reached, or holds nothing that can be read; or, later,
                it can be reached no more (what was yielded stays valid, `complete` stays False).
            UsageError: an option names what the source does not have (a table, a column).
        """
        ...

    def covers(self, source: str) -> bool:
        """Return whether the thing with this `Item.source` is one that `items` would list if it still exists."""
        ...


def printable(name: str) -> str:
    """Return a path for use in an id: control characters and bytes that are no UTF-8 become `%XX`."""
    return _UNPRINTABLE.sub(lambda m: quote(m[0].encode("utf-8", "surrogateescape"), safe=""), name)
