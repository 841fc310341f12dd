"""What a planted corpus holds: documents before and after the changes, questions of both splits. Draws nothing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

Row = dict[str, Any]
"""One line of a questions file (docs/reference/files.md)."""


@dataclass(frozen=True, slots=True)
class Corpus:
    """Path → Markdown as it is trained on (`before`) and as it is asked about (`after`), and the questions.

    The gold of a training question stands in `before`, that of a test question in `after`.
    """

    before: dict[str, str]
    after: dict[str, str]
    questions: list[Row]

    def changed(self) -> list[str]:
        """Return the documents that differ after the training, the new ones among them."""
        return sorted(path for path, text in self.after.items() if self.before.get(path) != text)

    def split(self, name: str) -> list[Row]:
        """Return the questions of one split."""
        return [row for row in self.questions if row["split"] == name]


def gold(path: str, text: str, evidence: str) -> Row:
    """Return where `evidence` stands in a document's text. Raises ValueError where it does not, or twice."""
    if text.count(evidence) != 1:
        raise ValueError(f"{evidence!r} stands {text.count(evidence)} times in {path}")
    start = text.index(evidence)
    return {"document": path, "page": None, "start": start, "end": start + len(evidence)}


def question(
    split: str,
    number: int,
    text: str,
    answer: str,
    *,
    kind: str = "span",
    sources: Sequence[Row] = (),
    former: Sequence[str] = (),
) -> Row:
    """Return one line of a questions file."""
    row: Row = {"id": f"{split}-{number:03d}", "question": text, "answers": [answer], "kind": kind}
    row |= {"gold": list(sources), "split": split, "answerable": True, "tags": []}
    return row | ({"former_answers": list(former)} if former else {})
