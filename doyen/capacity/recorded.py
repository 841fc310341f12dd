"""What an expert's own ingests and comparisons recorded: what its documents are like, and are stored in; prompts and answers."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

from doyen.capacity.rates import STAGES, Rates, Shape
from doyen.capacity.stored import Stored, content_bytes, planned_bytes, store_bytes
from doyen.capacity.wanted import pages_of
from doyen.config import Settings
from doyen.errors import StoreError
from doyen.index.places import LancePlace
from doyen.ingesting.opening import index_place
from doyen.ingesting.timing import recorded_ingests

_FEWEST_DOCUMENTS, _FEWEST_ANSWERS = 20, 20
_MOST_ANSWERS = 500


def recorded_shape(expert: Path, settings: Settings, rates: Rates) -> Shape | None:
    """Return what the expert's indexed documents are like; None where they are fewer than twenty.

    A document has a summary at least; how many bytes its file had is not recorded: as many as the sample's a character.
    """
    try:
        documents = index_place(expert, settings).open().documents()
    except StoreError:
        return None
    characters = sum(d.characters for d in documents)
    if len(documents) < _FEWEST_DOCUMENTS or not characters:
        return None
    count, sampled = len(documents), rates.shape
    pages = sum(pages_of(d.pages, d.characters) for d in documents)
    return Shape(
        documents=count,
        bytes=sampled.bytes / sampled.characters * characters / count,
        characters=characters / count,
        chunks=sum(d.chunks + 1 for d in documents) / count,
        pages=pages / count,
        paged=sampled.paged,
    )


def with_recorded_store(rates: Rates, expert: Path, settings: Settings, shape: Shape) -> Rates:
    """Return the rates with the bytes that the expert's own store has, where it lies in a folder: `shape` is of all of it.

    Short texts, and other scripts, take more bytes a character than those that were measured. Files of the former state, which
    lie there for ten minutes after an ingest, count.
    """
    place = index_place(expert, settings)
    if not isinstance(place, LancePlace):
        return rates
    count = shape.documents
    chunks, characters = round(shape.chunks * count), round(shape.characters * count)
    own = Stored(store_bytes(expert, place.state), count, chunks, characters)
    stored = {}
    for part, line in rates.stored.items():
        planned = planned_bytes(own, part, line)
        real = content_bytes(own, part, rates.dim) - rates.store_start[part]
        times = real / planned if planned > 0 and real > 0 else 1.0
        stored[part] = replace(line, base=line.base * times, more=line.more * times)
    note = f"what {count:,} documents take is as in the expert's own store"
    return replace(rates, stored=stored, notes=[*rates.notes, note])


def with_recorded_answers(rates: Rates, expert: Path, arm: str) -> Rates:
    """Return the rates with the prompts' and answers' lengths of the expert's newest comparison, if that has enough of them."""
    if rates.engine is None:
        return rates
    for path in sorted(
        expert.glob(f"comparisons/*/answers.{arm}.jsonl"), key=lambda p: p.stat().st_mtime, reverse=True
    ):
        rows = [row for row in _rows(path) if row.get("prompt_tokens", 0) > 0 and row.get("completion_tokens", 0) > 0]
        if len(rows) >= _FEWEST_ANSWERS:
            rows = rows[:: max(1, len(rows) // _MOST_ANSWERS)]
            engine = replace(
                rates.engine,
                prompt_tokens=[int(row["prompt_tokens"]) for row in rows],
                answer_tokens=[int(row["completion_tokens"]) for row in rows],
            )
            note = f"prompts and answers are as long as the {len(rows)} of the expert's comparison {path.parent.name}"
            return replace(rates, engine=engine, notes=[*rates.notes, note])
    return rates


def largest_ingest(expert: Path, settings: Settings, rates: Rates, shape: Shape | None) -> str:
    """Say what the expert's largest ingest took, and what it should have taken by these rates; "" where none is recorded."""
    rows = [row for row in recorded_ingests(index_place(expert, settings).state) if not row.get("interrupted")]
    row = max(rows, key=lambda r: r.get("chunks", 0) - r.get("reused", 0), default=None)
    if row is None or shape is None or not (embedded := row.get("chunks", 0) - row.get("reused", 0)):
        return ""
    documents = row.get("new", 0) + row.get("changed", 0)
    characters = shape.characters / shape.chunks * embedded
    tokens = rates.shape.tokens / rates.shape.characters * characters
    counts = {"documents": documents, "characters": characters, "chunks": embedded, "tokens": tokens}
    work = sum(line(counts[STAGES[name][0]], counts.get(STAGES[name][1], 0.0)) for name, line in rates.stages.items())
    planned = work / (rates.cores * rates.busy) + rates.start_s
    return f"the expert's largest ingest took {row['seconds']:.0f} s for {embedded:,} passages; by these rates {planned:.0f} s"


def _rows(path: Path) -> list[dict[str, Any]]:
    found = []
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            row = json.loads(line)
        except ValueError:
            continue
        if isinstance(row, dict):
            found.append(row)
    return found
