"""Questions and answers → scores with the figures that need the expert: similarity, faithfulness to quotes, terminology, a judge.

Enters: all answers of a comparison, so that texts are embedded and read together. Leaves: a function that scores one answer.
Asks the language model nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from doyen.config import Settings
from doyen.embedding import Embedder
from doyen.embedding.cost import estimate_cost
from doyen.evaluation.answer_similarity import nearest_cosines
from doyen.evaluation.entailment import ENTAILED, Entailer, open_entailer
from doyen.evaluation.faithfulness import quote_support, sentences
from doyen.evaluation.judging import Judge
from doyen.evaluation.scoring import Score, score_answer
from doyen.evaluation.terminology import Term, read_glossary, terminology
from doyen.index.store import Index
from doyen.records import Answer, Chunk, Citation, Question, shows_passages

Pair = tuple[Question, Answer]


class FurtherScores:
    """Scores answers; `prepare` measures beforehand what is measured of many at once."""

    def __init__(
        self,
        index: Index,
        embedder: Embedder,
        *,
        glossary: Sequence[Term] = (),
        entailer: Entailer | None = None,
    ) -> None:
        """Take what measures; without a glossary and an entailer their figures are left out."""
        self.judge: Judge | None = None
        self._index, self._embedder, self._glossary, self._entailer = index, embedder, glossary, entailer
        self._chunks: dict[str, list[Chunk]] = {}
        self._found: dict[tuple[Any, ...], dict[str, float]] = {}

    @classmethod
    def open(cls, folder: Path, settings: Settings, index: Index, embedder: Embedder) -> FurtherScores:
        """Open what the settings of [evaluation] name.

        Raises: ConfigError for a glossary that cannot be read, ModelError for a model that is not here.
        """
        names = settings.evaluation
        return cls(
            index,
            embedder,
            glossary=read_glossary(folder / names.glossary) if names.glossary else (),
            entailer=open_entailer(names.entailment) if names.entailment else None,
        )

    def prepare(self, pairs: Sequence[Pair]) -> None:
        """Measure the answers."""
        waiting = {_key(q, a): (q, a) for q, a in pairs}
        new = [pair for key, pair in waiting.items() if key not in self._found]
        self._found |= {_key(q, a): {} for q, a in new}
        documents = {c.document for _, a in new for c in a.citations} - self._chunks.keys()
        self._chunks |= {document: [] for document in documents}
        for chunk in self._index.chunks_of(sorted(documents)) if documents else ():
            self._chunks[chunk.document].append(chunk)
        self._similarities(new)
        for question, answer in new:
            found = self._found[_key(question, answer)]
            found |= self._support(question, answer) | self._terms(question, answer)
        if self._entailer is not None:
            self._entailment([pair for pair in new if _reads(pair[1])], self._entailer)

    def __call__(self, question: Question, answer: Answer) -> Score:
        """Return the score of one answer with what was measured of it."""
        figures: dict[str, Any] = dict(self._found.get(_key(question, answer), {}))
        if self.judge is not None:
            figures["judged"] = self.judge.verdict(question, answer)
        return replace(score_answer(question, answer), **figures)

    def told_before(self, questions: Sequence[Question], runs: int) -> str:
        """Return what is to be known before answers of so many runs are sent to an embedder's API; "" where none are."""
        long = [q for q in questions if _is_long(q)]
        known = [text for q in long for text in q.answers]
        estimate = estimate_cost(self._embedder, known)
        if estimate is None or not long:
            return ""
        # Answers are not written yet: taken to be as long as the known ones of each question are on average.
        answers = runs * sum(_mean([self._embedder.counter.count(t) for t in q.answers]) for q in long)
        whole = replace(estimate, tokens=estimate.tokens + round(answers))
        return f"the arms' answers to {len(long)} long questions are compared with the known ones by their vectors: {whole}"

    def _similarities(self, pairs: Sequence[Pair]) -> None:
        long = [(q, a) for q, a in pairs if _is_long(q)]
        given = [(q, a) for q, a in long if a.answered]
        cosines = nearest_cosines(self._embedder, [a.text for _, a in given], [q.answers for q, _ in given])
        for q, a in long:
            self._found[_key(q, a)]["embedding_similarity"] = 0.0
        for (q, a), cosine in zip(given, cosines, strict=True):
            self._found[_key(q, a)]["embedding_similarity"] = cosine

    def _support(self, question: Question, answer: Answer) -> dict[str, float]:
        found = quote_support(answer.text, self.cited(answer), question.language) if _reads(answer) else None
        return {} if found is None else {"quote_support": found.share, "quotes_supported": found.supported}

    def _terms(self, question: Question, answer: Answer) -> dict[str, float]:
        if not self._glossary:
            return {}
        known = question.answers if question.answerable else ()
        found = terminology(answer.text if answer.answered else "", known, self._glossary, question.language)
        figures = {"forbidden_terms": float(bool(found.forbidden))} if answer.answered else {}
        return figures | ({"terms_right": len(found.right) / len(found.expected)} if found.expected else {})

    def _entailment(self, pairs: Sequence[Pair], entailer: Entailer) -> None:
        rows = [(_key(q, a), "\n".join(self.cited(a)), q, s) for q, a in pairs for s in sentences(a.text)]
        asked = [row for row in rows if row[1]]
        # A short answer is no statement alone: with its question it is one.
        hypotheses = [f"{q.question} {sentence}" for _, _, q, sentence in asked]
        chances = entailer.entails([premise for _, premise, _, _ in asked], hypotheses) if asked else ()
        verdicts: dict[tuple[Any, ...], list[float]] = {key: [] for key, *_ in rows}
        for (key, *_), chance in zip(asked, chances, strict=True):
            verdicts[key].append(float(chance >= ENTAILED))
        for key, each in verdicts.items():
            self._found[key]["quotes_entailed"] = sum(each) / len(each) if each else 0.0

    def cited(self, answer: Answer) -> list[str]:
        """Return the passages that an answer cites, with their headings; the quote alone where the passage is gone."""
        return list(dict.fromkeys(text for citation in answer.citations for text in self._passages(citation)))

    def _passages(self, citation: Citation) -> list[str]:
        own = self._chunks.get(citation.document, ())
        overlapping = [
            c for c in own if c.sha256 == citation.sha256 and c.start < citation.end and citation.start < c.end
        ]
        return [c.indexed for c in overlapping] or [citation.quote]


def _mean(values: Sequence[int]) -> float:
    return sum(values) / len(values)


def _key(question: Question, answer: Answer) -> tuple[Any, ...]:
    return question.id, answer.arm, answer.text, answer.answered, answer.citations


def _is_long(question: Question) -> bool:
    return question.kind == "long" and question.answerable and bool(question.answers)


def _reads(answer: Answer) -> bool:
    return answer.answered and shows_passages(answer.arm)
