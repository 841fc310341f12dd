"""Who may use an adapter: whoever may see all documents that it was trained on.

Enters: an adapter's manifest, the index. Leaves: sets of labels. What was noted when it was trained and what the documents
say now both count, so that neither a removed document nor a new label opens anything.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from doyen.adapters import AdapterManifest
from doyen.config import Settings
from doyen.errors import StoreError
from doyen.index.filtering import Visible
from doyen.index.store import Index
from doyen.ingesting import open_index


@dataclass(frozen=True, slots=True)
class Needed:
    """What someone has to be able to see; `unknown` are documents of which nothing says any more who may see them."""

    label_sets: frozenset[tuple[str, ...]]
    unknown: frozenset[str] = frozenset()

    def allows(self, visible: Visible | None, *, labels_used: bool) -> bool:
        """Whether someone may use the adapter; with documents unknown, where labels are used, only who sees all may."""
        if visible is None:
            return True
        return all(map(visible.shows, self.label_sets)) and not (self.unknown and labels_used)


def needed_for(manifest: AdapterManifest, index: Index | None) -> Needed:
    """Return what has to be seen to use an adapter."""
    documents = sorted({source["document"] for source in manifest.sources})
    now = index.labels_of(documents) if index is not None and documents else {}
    noted = {tuple(labels) for labels in manifest.labels or ()}
    unknown = frozenset[str]() if manifest.labels is not None else frozenset(documents) - set(now)
    return Needed(frozenset(noted.union(*now.values())), unknown)


def noted_labels(expert: Path, settings: Settings, sources: Sequence[dict[str, str]]) -> list[list[str]] | None:
    """Return the different sets of labels of the documents that an adapter is trained on, for its manifest.

    None where one of them is not known: its examples were made elsewhere, or it was removed.
    """
    documents = sorted({source["document"] for source in sources})
    found: dict[str, set[tuple[str, ...]]] = {}
    with contextlib.suppress(StoreError):
        found = open_index(expert, settings).labels_of(documents) if documents else {}
    if set(documents) - set(found):
        return None
    return [list(labels) for labels in sorted(set().union(*found.values()))]
