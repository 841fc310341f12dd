"""What of the hits a model is shown: whether the gold and the answer's words are in it, by single chunks and joined neighbours.

Enters: questions and their hits. Leaves: figures with intervals and the paired difference. Knows no model.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from doyen.evaluation.metrics import tokenise
from doyen.evaluation.retrieval_ablation import differences
from doyen.evaluation.retrieval_scores import gold_grades, has_gold_pages, means, units_of
from doyen.records import Hit, Question
from doyen.retrieval.hybrid import Retriever


def evidence_shown(
    questions: Sequence[Question], hits: Sequence[Sequence[Hit]], retriever: Retriever, count: int, *, seed: int
) -> dict[str, Any]:
    """Return, of `count` passages a question, the figures `single`, `joined` and their paired `differences`.

    `gold`: whether a gold page (document, where gold has no pages) is among them; `tokens`: of their text, in the
    embedder's; `answer`: whether a gold answer of a `span` stands in one of them word for word, over such questions only.
    """
    shown = {
        "single": [list(found[:count]) for found in hits],
        "joined": [retriever.passages(found, count) for found in hits],
    }
    result: dict[str, Any] = {"passages": count}
    spans = [i for i, q in enumerate(questions) if q.kind == "span" and q.answers]
    rows = {
        name: (
            [_gold(q, passages, retriever) for q, passages in zip(questions, variant, strict=True)],
            [_answer(questions[i], variant[i]) for i in spans],
        )
        for name, variant in shown.items()
    }
    for name, (gold, answer) in rows.items():
        figures = means(gold, seed=seed) | means(answer, seed=seed)
        result[name] = {figure: interval.as_dict() for figure, interval in figures.items()}
    found = differences(rows["single"][0], rows["joined"][0], seed=seed)
    found |= differences(rows["single"][1], rows["joined"][1], seed=seed) if spans else {}
    return result | {"differences": found}


def _gold(question: Question, passages: Sequence[Hit], retriever: Retriever) -> dict[str, float]:
    grades = gold_grades(question)
    units = units_of(passages, paged=has_gold_pages(question))
    size = sum(retriever.embedder.counter.count(hit.chunk.text) for hit in passages)
    return {"gold": float(any(grades.get(unit, 0) for unit in units)), "tokens": float(size)}


def _answer(question: Question, passages: Sequence[Hit]) -> dict[str, float]:
    texts = [f" {' '.join(tokenise(hit.chunk.text, question.language))} " for hit in passages]
    wanted = [f" {' '.join(tokenise(answer, question.language))} " for answer in question.answers]
    return {"answer": float(any(answer.strip() and answer in text for answer in wanted for text in texts))}
