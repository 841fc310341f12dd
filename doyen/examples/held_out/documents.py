"""An expert's documents → those that questions for comparing may be made from: what no example and no adapter stands on.

Enters: the index, examples and adapters. Leaves: ids of documents. `doyen examples build` keeps them out of training from
then on.
"""

from __future__ import annotations

import random
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

from doyen.adapters import list_adapters, read_adapter
from doyen.errors import DoyenError, UsageError
from doyen.examples.importing import documents_of, read_questions
from doyen.index.store import Index
from doyen.lineage import read_lineage

HOLD_OUT = 0.25
"""Share of the documents held out where nothing was trained yet."""


@dataclass(frozen=True, slots=True)
class HeldOut:
    """Documents to ask about. `seen`: they were trained on all the same; `untrained`: not yet, but until now `doyen
    examples build` took them.
    """

    documents: tuple[str, ...]
    seen: bool = False
    untrained: bool = False


def trained_documents(expert: Path) -> set[str]:
    """Return the documents that the newest adapter, the built examples or imported training questions stand on."""
    found: set[str] = set()
    folder = expert / "examples"
    for name in ("train.jsonl", "validation.jsonl"):
        found |= {s["document"] for row in read_lineage(folder / name) or () for s in row["source"] or ()}
    if (folder / "questions.jsonl").exists():
        found |= documents_of([q for q in read_questions(folder / "questions.jsonl") if q.split != "test"])
    return found | adapter_documents(expert)


def adapter_documents(expert: Path, adapter: str = "") -> set[str]:
    """Return the documents that an adapter ('': the newest) was trained on; none where there is no such adapter."""
    folders = [f for f in list_adapters(expert) if adapter in ("", f.name)]
    try:
        return {s["document"] for s in read_adapter(folders[-1]).sources} if folders else set()
    except DoyenError:
        return set()


def hold_out(expert: Path, index: Index, *, share: float | None = None, seen: bool = False, seed: int = 7) -> HeldOut:
    """Choose the documents to make questions from.

    Those that nothing was trained on; with a `share`, and where nothing was trained at all (25%), a seeded sample, which
    the next `doyen examples build` leaves out. With `seen`, all documents, trained on or not.

    Raises:
        UsageError: every document was trained on, or there is but one.
    """
    known = sorted(d.id for d in index.documents())
    if seen:
        return HeldOut(tuple(known), seen=True)
    groups = _groups(known, index)
    trained = trained_documents(expert) & set(known)
    if share is None and trained:
        free = [group for group in groups if trained.isdisjoint(group)]
        if not free:
            raise UsageError(
                f"all {len(known)} documents were trained on: questions about them would measure memory",
                hint="doyen examples questions --hold-out 0.25 keeps some out of the next doyen examples build and doyen "
                "finetune; with --seen it asks about trained ones, and the report says so",
            )
        return HeldOut(tuple(sorted(d for group in free for d in group)))
    if len(groups) < 2:
        raise UsageError(
            f"{len(known)} document{'s' * (len(known) != 1)} cannot be divided into those to train on and those to ask about",
            hint="doyen examples questions --seen asks about trained ones, and the report says so; or ingest more documents",
        )
    chosen = _sample(groups, trained, HOLD_OUT if share is None else share, seed)
    return HeldOut(tuple(sorted(chosen)), untrained=bool(trained & set(chosen)))


def _groups(known: Sequence[str], index: Index) -> list[list[str]]:
    """Return the documents, near-duplicates together: one of a pair would tell what is held out with the other."""
    here = set(known)
    copies = [[d for d in group.documents if d in here] for group in index.near_duplicates()]
    grouped = {d for group in copies for d in group}
    return sorted([group for group in copies if group] + [[d] for d in known if d not in grouped])


def _sample(groups: list[list[str]], trained: Collection[str], share: float, seed: int) -> list[str]:
    """Return about `share` of all documents, at least one and not all; groups that were not `trained` on come first."""
    order = list(groups)
    random.Random(seed).shuffle(order)
    order.sort(key=lambda group: any(d in trained for d in group))
    wanted = share * sum(map(len, groups))
    chosen: list[str] = []
    for group in order[:-1]:
        if chosen and len(chosen) + len(group) / 2 > wanted:
            break
        chosen += group
    return chosen
