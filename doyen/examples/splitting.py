"""Splits by document, and the check that nothing of the test set is trained on. Knows no model."""

from __future__ import annotations

import dataclasses
import random
import re
from collections.abc import Sequence

from doyen.examples.doubles import NEAR_DUPLICATE, near_sets
from doyen.records import GoldSource, Question

_WORD = re.compile(r"\w+", re.UNICODE)
SPAN_CHARACTERS = 3000  # of a document without pages: what is taken for a page where the evidence's place is known


def split_by_document(
    questions: Sequence[Question],
    *,
    share: float,
    seed: int,
    name: str = "test",
    rest: str = "train",
    pages: bool = False,
) -> list[Question]:
    """Mark about `share` of the questions as `name` and the others as `rest`, so that no gold document is on both sides.

    Documents that share a question go together; with `pages`, pages do, and one document may be on both sides.
    Questions without gold are drawn one by one, the same share of them.
    """
    rng = random.Random(seed)
    chosen: set[str] = set()
    for stratum in ([q for q in questions if q.gold], [q for q in questions if not q.gold]):
        groups = _groups(stratum, pages)
        rng.shuffle(groups)
        wanted, taken = share * len(stratum), 0
        for group in groups:
            if taken + len(group) / 2 <= wanted:
                chosen |= {q.id for q in group}
                taken += len(group)
    return [dataclasses.replace(q, split=name if q.id in chosen else rest) for q in questions]


def _groups(questions: Sequence[Question], pages: bool) -> list[list[Question]]:
    """Group questions whose gold documents, or pages, are connected (union-find)."""
    parent: dict[str, str] = {}

    def find(x: str) -> str:
        while parent.setdefault(x, x) != x:
            x = parent[x]
        return x

    def place(gold: GoldSource) -> str:
        if pages and gold.page is None and gold.start is not None:
            return f"{gold.document}\0{gold.start // SPAN_CHARACTERS}-"
        return f"{gold.document}\0{gold.page}" if pages and gold.page else gold.document

    for q in questions:
        for g in q.gold[1:]:
            parent[find(place(g))] = find(place(q.gold[0]))
    groups: dict[str, list[Question]] = {}
    for q in questions:
        key = find(place(q.gold[0])) if q.gold else f"\0{q.id}"
        groups.setdefault(key, []).append(q)
    return [groups[key] for key in sorted(groups)]


def overlapping(train: Sequence[Question], test: Sequence[Question]) -> list[tuple[Question, Question]]:
    """Return pairs (train, test) of equal or nearly equal questions: Jaccard of their word sets ≥ NEAR_DUPLICATE.

    Numbers count: "limit of tariff 12" and "limit of tariff 13" are different questions.
    """
    sides = [[frozenset(_WORD.findall(q.question.casefold())) for q in side] for side in (train, test)]
    numbers = [[{w for w in found if any(c.isdigit() for c in w)} for found in side] for side in sides]
    first: dict[int, int] = {}
    for i, j in near_sets(sides[0], sides[1], NEAR_DUPLICATE):
        if numbers[0][i] == numbers[1][j]:
            first.setdefault(i, j)
    return [(train[i], test[j]) for i, j in first.items()]
