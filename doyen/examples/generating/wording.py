"""The expert's own language model words questions for answers that the rules have chosen. Batched; greedy, so repeatable.

A question stays if its words fit the kind of the answer, and if the model, shown the passage, finds that answer again
(round-trip consistency: Alberti et al. 2019, arXiv 1906.05416). Of a very small model, few do.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

from doyen.examples.generating.asking import question_in, wording_messages
from doyen.examples.generating.facts import Fact, fact_of
from doyen.examples.generating.rules import RuleGenerator, sentence_and_span
from doyen.examples.generating.spans import AnswerSpan, SpanKind
from doyen.models.engine import Engine
from doyen.prompts import parse_answer, passages_messages
from doyen.records import Chunk, Hit, Kind
from doyen.words import holds, telling_words, words

_QUESTION_TOKENS = 40
_ANSWER_TOKENS = 32
_A_PASSAGE = 3
_LONGER, _MORE = 2, 6  # words: an answer that only holds what was sought among much else finds nothing
_AMOUNT = re.compile(
    r"\b(?:how (?:many|much|long|often|old|far|large|big|high)|number|percentage|share|amount|population|price|cost)\b",
    re.IGNORECASE,
)
_DATE = re.compile(r"\b(?:when|year|date|day|month|how long)\b", re.IGNORECASE)
_NAMED = re.compile(r"\b(?:who|whom|whose|which|where|what)\b", re.IGNORECASE)
_WHY = re.compile(r"\b(?:why|purpose|difference|reason|how does|how do)\b", re.IGNORECASE)
_FITTING: dict[SpanKind, re.Pattern[str]] = {
    **dict.fromkeys(("number", "money", "share"), _AMOUNT),
    **dict.fromkeys(("year", "date", "time"), _DATE),
    **dict.fromkeys(("name", "term"), _NAMED),
    "reason": _WHY,
}  # fmt: skip
_SHARED = 0.5  # of a question's telling words that must stand in the passage


class ModelGenerator:
    """The rules' facts, and others of spans that no rule can ask for, with questions worded by the model."""

    name = "model"

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._rules = RuleGenerator()

    def generate(self, passages: Sequence[Chunk], progress: Callable[[int], None] | None = None) -> list[Fact]:
        """Return the facts found; see `doyen.examples.generating.facts.Generator`."""
        found = self._rules.generate(passages)
        asked = {(f.document, f.start, f.answer.casefold()) for f in found}
        wanted: list[tuple[Chunk, tuple[int, int], str, AnswerSpan]] = []
        for chunk in passages:
            own = [
                (chunk, place, sentence, span)
                for place, sentence, span in sentence_and_span(chunk)
                if (chunk.document, chunk.start + place[0], sentence[span.start : span.end].casefold()) not in asked
                and span.kind not in ("reason", "time")
            ]
            wanted += own[:: max(1, len(own) // _A_PASSAGE)][:_A_PASSAGE]
        prompts = [wording_messages(sentence, sentence[span.start : span.end]) for _, _, sentence, span in wanted]
        written = self._engine.generate(prompts, max_tokens=_QUESTION_TOKENS, progress=progress)
        made: list[tuple[Chunk, Fact]] = []
        for (chunk, place, sentence, span), completion in zip(wanted, written, strict=True):
            answer = sentence[span.start : span.end]
            question = question_in(completion.text)
            if question and is_about(question, answer, chunk) and fits(question, span.kind):
                kind: Kind = "number" if span.kind in ("number", "money", "share") else "span"
                made.append((chunk, fact_of(chunk, place, [question], answer, kind=kind, rule="model")))
        return found + self._found_again(made)

    def _found_again(self, made: Sequence[tuple[Chunk, Fact]]) -> list[Fact]:
        """Return the facts whose answer the model finds in the passage when asked."""
        prompts = [passages_messages(fact.questions[0], [Hit(chunk, 1.0)]) for chunk, fact in made]
        answered = self._engine.generate(prompts, max_tokens=_ANSWER_TOKENS)
        kept = []
        for (_, fact), completion in zip(made, answered, strict=True):
            text = parse_answer(completion.text, 1).text
            if holds(text, fact.answer) and len(words(text)) <= _LONGER * len(words(fact.answer)) + _MORE:
                kept.append(fact)
        return kept


def fits(question: str, kind: SpanKind) -> bool:
    """Whether an English question asks for this kind of answer; of other languages, yes."""
    if not re.match(r"(?:what|when|who|which|where|how|why|in|on|at)\b", question, re.IGNORECASE):
        return True
    return bool(_FITTING[kind].search(question)) and not (kind != "reason" and _WHY.search(question))


def is_about(question: str, answer: str, chunk: Chunk) -> bool:
    """Whether a model's question is about the passage, does not give its answer away and is none of the prompt's own."""
    have = set(words(chunk.indexed))
    telling = telling_words(question)
    shared = sum(w in have for w in telling)
    return not holds(question, answer) and shared >= max(2, _SHARED * len(telling))
