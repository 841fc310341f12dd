"""Training examples ↔ the document versions that they stand on: which of them are stale.

Enters: examples, an index. Leaves: `lineage.jsonl` beside an adapter, and lists of stale examples. An example is stale
where a source document is gone, or where its current text no longer holds what the example was made from.
"""

from __future__ import annotations

import dataclasses
import json
from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from doyen.config import write_atomic
from doyen.errors import StoreError
from doyen.index.store import Index
from doyen.records import Example

LINEAGE_FILE = "lineage.jsonl"
DOCUMENT_TEXT = "document text"
"""The variant of lineage rows that stand for a document whose whole text was read."""


def write_lineage(folder: Path, examples: Iterable[Example]) -> None:
    """Write one line for each example that an adapter was trained on: its question, variant and source spans."""
    lines = [
        json.dumps(
            {
                "question_id": example.question_id,
                "variant": example.variant,
                "source": [dataclasses.asdict(span) for span in example.source],
            },
            ensure_ascii=False,
        )
        for example in examples
    ]
    write_atomic(folder / LINEAGE_FILE, "".join(line + "\n" for line in lines))


def read_lineage(path: Path) -> list[dict[str, Any]] | None:
    """Read a lineage file, or an examples file (its lines say the same and more). None if there is none."""
    if not path.exists():
        return None
    with path.open(encoding="utf-8") as lines:
        rows = [json.loads(line) for line in lines if line.strip()]
    return [{key: row.get(key) for key in ("question_id", "variant", "source")} for row in rows]


def stale_examples(rows: Sequence[dict[str, Any]], index: Index | None, known: dict[str, str]) -> list[dict[str, Any]]:
    """Return the stale examples: `line` in the file (from 1), question, variant, `documents` that changed, `reason`.

    `known` maps the ids of all documents to their hashes. Where the version that an example was made from is not kept any
    more, a changed hash counts as stale.
    """
    spans: dict[tuple[str, str], dict[tuple[int, int], list[int]]] = defaultdict(lambda: defaultdict(list))
    for number, row in enumerate(rows):
        for span in row["source"] or ():
            spans[span["document"], span["sha256"]][span["start"], span["end"]].append(number)
    found: dict[int, dict[str, str]] = defaultdict(dict)
    for (document, sha256), places in sorted(spans.items()):
        if known.get(document) == sha256:
            continue
        lost = set(places) if document not in known else _lost(index, document, sha256, places)
        for place in lost:
            for number in places[place]:
                found[number][document] = "gone" if document not in known else "changed"
    return [
        {
            "line": number + 1,
            "question_id": rows[number]["question_id"],
            "variant": rows[number]["variant"],
            "documents": sorted(reasons),
            "reason": "gone" if "gone" in reasons.values() else "changed",
        }
        for number, reasons in sorted(found.items())
    ]


def _lost(index: Index | None, document: str, sha256: str, places: Iterable[tuple[int, int]]) -> set[tuple[int, int]]:
    """Return the spans of an old version whose text the current one does not hold; spaces do not count."""
    if index is None:
        return set(places)
    try:
        old = index.text(document, sha256)[0]
        now = _spaced(index.text(document)[0])
    except StoreError:
        return set(places)
    return {(start, end) for start, end in places if _spaced(old[start:end]) not in now}


def _spaced(text: str) -> str:
    return " ".join(text.split())
