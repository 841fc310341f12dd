"""Questions that sound like the documents and have no answer in them: a name or a figure put in another's place."""

from __future__ import annotations

import dataclasses
import random
import re
from collections import defaultdict
from collections.abc import Sequence

from doyen.examples.generating.facts import Fact
from doyen.records import Chunk
from doyen.words import telling_words, words

_NAME = re.compile(r"(?<=[a-zà-ÿ,] )[A-ZÀ-ÖØ-Þ][\w'’-]+(?: [A-ZÀ-ÖØ-Þ][\w'’-]+)*")
_LABEL = re.compile(r"\b[A-Z]{1,5}[-–]\d[\w-]*")  # noqa: RUF001
_LEAST_LETTERS = 4
_ENOUGH = 0.6  # of a question's other telling words beside the new name in one passage: it may be answered there


class Absent:
    """Makes unanswerable questions of answerable ones by putting names of other documents into them."""

    def __init__(self, facts: Sequence[Fact], passages: Sequence[Chunk]) -> None:
        self._passages = [set(words(chunk.indexed)) for chunk in passages]
        self._with: dict[str, list[int]] = defaultdict(list)
        for i, own in enumerate(self._passages):
            for word in own:
                self._with[word].append(i)
        self._names: list[tuple[str, str]] = sorted(
            {(name, f.document) for f in facts if f.rule != "table" for q in f.questions for name in _names(q)}
        )

    def make(self, facts: Sequence[Fact], count: int, seed: int) -> list[Fact]:
        """Return up to `count` facts without an answer, of as many different facts."""
        draw = random.Random(seed)
        made: list[Fact] = []
        seen = {question for fact in facts for question in fact.questions}
        pool = [f for f in facts if f.answerable and f.kind != "yesno" and f.rule not in ("heading", "definition")]
        draw.shuffle(pool)
        for fact in pool:
            if len(made) >= count:
                break
            question = self._changed(fact, draw)
            if question and question not in seen:
                seen.add(question)
                changed = dataclasses.replace(fact, questions=(question,), answer="", rule="absent", answerable=False)
                made.append(changed)
        return made

    def _changed(self, fact: Fact, draw: random.Random) -> str:
        question = fact.questions[0]
        if labels := _LABEL.findall(question):
            return self._with_other_label(question, draw.choice(labels), draw)
        own = [name for name in _names(question) if name in fact.evidence]  # not a column's header
        if not own or not self._names:
            return ""
        old = draw.choice(own)
        for _ in range(5):
            new, document = draw.choice(self._names)
            if document == fact.document or len(new.split()) != len(old.split()) or new in question:
                continue
            changed = question.replace(old, new, 1)
            if not self._answered(changed, new):
                return changed
        return ""

    def _with_other_label(self, question: str, label: str, draw: random.Random) -> str:
        """Put a label of the same form into a question ("FS-13" → "FS-57") that stands nowhere."""
        for _ in range(10):
            digits = iter(str(draw.randint(0, 9)) for _ in label)
            new = re.sub(r"\d", lambda _: next(digits), label)  # noqa: B023
            if not all(any(w in own for own in self._passages) for w in words(new)):
                return question.replace(label, new)
        return ""

    def _answered(self, question: str, name: str) -> bool:
        """Whether a passage has the new name and most of the question's other telling words."""
        named = words(name)
        others = [w for w in telling_words(question) if w not in named]
        having = set(self._with.get(named[0], ())).intersection(*(self._with.get(w, ()) for w in named[1:]))
        return not others or any(sum(w in self._passages[i] for w in others) >= _ENOUGH * len(others) for i in having)


def _names(question: str) -> list[str]:
    return [name for name in _NAME.findall(question) if len(name) >= _LEAST_LETTERS and not name.isupper()]
