"""An expert's settings → its index: where it is, opening it to read, and holding it to write.

Knows no sources. What LanceDB raises where it cannot write leaves here as a StoreError.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from doyen.config import Settings
from doyen.errors import StoreError
from doyen.index.joined import only_read
from doyen.index.places import JoinedPlace, place_of
from doyen.index.store import Index, Place
from doyen.index.tables import storage_fault


def index_place(expert: Path, settings: Settings) -> Place:
    """Return where the expert's index is, or will be. Raises StoreError for a URI that this version cannot use."""
    return place_of(settings.store.uri, expert)


def writing_experts(expert: Path, settings: Settings) -> list[Path]:
    """Return the experts that write what this one reads: itself, or those whose indexes it joins."""
    place = index_place(expert, settings)
    return place.experts if isinstance(place, JoinedPlace) else [expert]


def index_places(expert: Path, settings: Settings) -> dict[str, Place]:
    """Return where the expert's index is, by ""; of one that joins others, theirs by their names."""
    place = index_place(expert, settings)
    return place.places if isinstance(place, JoinedPlace) else {"": place}


def require_own(place: Place) -> None:
    """Refuse to write through an index that is other experts'. Raises StoreError."""
    if isinstance(place, JoinedPlace):
        raise only_read(f"the index {place.name}")


def open_index(expert: Path, settings: Settings) -> Index:
    """Open the expert's index; a missing one is a StoreError that names the command."""
    return index_place(expert, settings).open()


@contextmanager
def writing_store() -> Iterator[None]:
    """Turn what LanceDB raises where it cannot write (OSError, RuntimeError) into a StoreError."""
    try:
        yield
    except (OSError, RuntimeError) as error:
        hint = "free disk space, then run the same command again: it goes on"
        raise storage_fault(error) or StoreError(f"cannot write the index: {error}", hint=hint) from error
