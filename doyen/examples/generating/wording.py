"""The expert's own language model words questions for answers that the rules have chosen. Batched; greedy, so repeatable."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from doyen.examples.generating.asking import question_in, wording_messages
from doyen.examples.generating.facts import Fact, fact_of
from doyen.examples.generating.rules import RuleGenerator, sentence_and_span
from doyen.examples.generating.spans import AnswerSpan
from doyen.models.engine import Engine
from doyen.records import Chunk, Kind
from doyen.words import holds, telling_words, words

_QUESTION_TOKENS = 40
_A_PASSAGE = 3
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
        for (chunk, place, sentence, span), completion in zip(wanted, written, strict=True):
            answer = sentence[span.start : span.end]
            question = question_in(completion.text)
            if question and is_about(question, answer, chunk):
                kind: Kind = "number" if span.kind in ("number", "money", "share") else "span"
                found.append(fact_of(chunk, place, [question], answer, kind=kind, rule="model"))
        return found


def is_about(question: str, answer: str, chunk: Chunk) -> bool:
    """Whether a model's question is about the passage, does not give its answer away and is none of the prompt's own."""
    have = set(words(chunk.indexed))
    telling = telling_words(question)
    shared = sum(w in have for w in telling)
    return not holds(question, answer) and shared >= max(2, _SHARED * len(telling))
