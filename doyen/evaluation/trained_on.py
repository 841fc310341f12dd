"""An adapter's records × the index as it is now → what the training saw of a question's documents. Asks no model."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from doyen.adapters import adapter_folder, read_adapter
from doyen.index.rows import IndexedDocument
from doyen.lineage import LINEAGE_FILE, read_lineage
from doyen.records import Question

IN_TRAINING, CHANGED, UNSEEN = "in the training", "changed since the training", "not in the training"
FEW_EXAMPLES = 2  # up to so many training examples on a place make it a rare one


@dataclass(frozen=True, slots=True)
class TrainedOn:
    """What the adapter was trained on: document → hashes of the versions, and how many examples stand on each place.

    `now` are the hashes of today's documents. `places` counts examples by (document, page) and by (document, None).
    """

    versions: Mapping[str, set[str]]
    now: Mapping[str, str]
    places: Mapping[tuple[str, int | None], int] = field(default_factory=dict)

    def freshness(self, question: Question) -> str | None:
        """Say whether the training saw a question's gold documents as they are now; None without gold.

        A question with a changed document counts as changed, else one with a document that was not trained on (added later,
        or without examples) as unseen.
        """
        documents = {gold.document for gold in question.gold}
        if not documents:
            return None
        seen = documents & self.versions.keys()
        if any(self.now.get(document) not in self.versions[document] for document in seen):
            return CHANGED
        return IN_TRAINING if seen == documents else UNSEEN

    def examples(self, question: Question) -> int | None:
        """Return how many training examples stand on the gold's places (pages, where it has them); None without gold."""
        if not question.gold:
            return None
        return sum(self.places.get(place, 0) for place in {(gold.document, gold.page) for gold in question.gold})


def trained_on(expert: Path, adapter: str, documents: Iterable[IndexedDocument]) -> TrainedOn:
    """Read what an adapter ('' for the newest) was trained on, by its manifest and its lineage where that is kept.

    Raises: UsageError, ExpertError: there is no such adapter, or its manifest is broken.
    """
    folder = adapter_folder(expert, adapter)
    versions: dict[str, set[str]] = defaultdict(set)
    for source in read_adapter(folder).sources:
        versions[source["document"]].add(source["sha256"])
    places: Counter[tuple[str, int | None]] = Counter()
    for row in read_lineage(folder / LINEAGE_FILE) or ():
        spans = row["source"] or ()
        for span in spans:
            versions[span["document"]].add(span["sha256"])
        pages = {(span["document"], span.get("page")) for span in spans}
        places.update(pages | {(document, None) for document, _ in pages})
    return TrainedOn(dict(versions), {d.id: d.sha256 for d in documents}, places)
