"""Questions × hits → retrieval scores a question, and their means with intervals.

A ranking is one of units: (document, page) where the gold has pages, else documents. Knows neither who found the hits nor
how.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Literal

from doyen.evaluation.statistics import Interval, bootstrap_mean
from doyen.records import Hit, Question

RANKS = (1, 3, 5, 10)
DEPTH = 10  # of MRR and nDCG
Unit = tuple[str, int | None]
Level = Literal["gold", "document", "page"]
"""What counts as found. gold: the page where a question's gold has pages, else the document."""


def has_gold_pages(question: Question) -> bool:
    """Whether the gold of a question names pages."""
    return any(source.page for source in question.gold)


def gold_grades(question: Question, level: Level = "gold") -> dict[Unit, float]:
    """Return gold unit → grade; empty without gold, without a grade above 0, and at page level without gold pages.

    A document's grade is that of its best page.
    """
    paged = has_gold_pages(question)
    if level == "page" and not paged:
        return {}
    grades: dict[Unit, float] = {}
    for source in question.gold:
        unit = (source.document, source.page if paged and level != "document" else None)
        grades[unit] = max(source.grade, grades.get(unit, 0))
    return grades if any(grades.values()) else {}


def units_of(hits: Iterable[Hit], *, paged: bool) -> list[Unit]:
    """Return the distinct units of hits in their order; a chunk over several pages counts as that many in a row."""
    found: dict[Unit, None] = {}
    for hit in hits:
        pages: tuple[int | None, ...] = (hit.chunk.pages or (None,)) if paged else (None,)
        found |= dict.fromkeys((hit.chunk.document, page) for page in pages)
    return list(found)


def score_hits(question: Question, hits: Sequence[Hit], *, level: Level = "gold", k: int = 10) -> dict[str, float]:
    """Return hit@1, 3, 5, 10 and k, recall@k, mrr and ndcg@10 of one question's hits; empty without gold at this level.

    hit@k: whether a gold unit is among the first k units. recall@k: the share of the gold units among them. mrr:
    1 / rank of the first gold unit, 0 after rank 10. ndcg@10: Järvelin & Kekäläinen 2002 with the gain 2^grade - 1
    (Burges et al. 2005), against the best order of the gold units.
    """
    grades = gold_grades(question, level)
    if not grades:
        return {}
    units = units_of(hits, paged=level != "document" and has_gold_pages(question))
    gains = [grades.get(unit, 0) for unit in units]
    rank = next((i for i, gain in enumerate(gains, 1) if gain), math.inf)
    scores = {f"hit@{n}": float(rank <= n) for n in sorted({*RANKS, k})}
    scores[f"recall@{k}"] = sum(gain > 0 for gain in gains[:k]) / len(grades)
    scores["mrr"] = 1 / rank if rank <= DEPTH else 0.0
    scores[f"ndcg@{DEPTH}"] = _dcg(gains) / _dcg(sorted(grades.values(), reverse=True))
    return scores


def _dcg(grades: Sequence[float]) -> float:
    return math.fsum((2**grade - 1) / math.log2(i + 2) for i, grade in enumerate(grades[:DEPTH]))


def means(rows: Sequence[dict[str, float]], *, seed: int = 0) -> dict[str, Interval]:
    """Return the mean of each figure of some questions' scores with its interval; empty without any."""
    return {name: bootstrap_mean([row[name] for row in rows], seed=seed) for name in (rows[0] if rows else {})}


def summarise_hits(
    questions: Sequence[Question], hits: Sequence[Sequence[Hit]], *, level: Level = "gold", k: int = 10, seed: int = 0
) -> dict[str, Interval]:
    """Return the retrieval scores with intervals over the questions that have gold at this level; empty without any."""
    rows = [score_hits(q, found, level=level, k=k) for q, found in zip(questions, hits, strict=True)]
    return means([row for row in rows if row], seed=seed)
