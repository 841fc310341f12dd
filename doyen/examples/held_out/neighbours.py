"""Questions that the documents do not answer: about texts of other organisations, checked against the whole index.

Enters: chunks of another expert, or the texts in neighbours.jsonl (written for this project, all invented). Leaves: facts
that are not answerable here.
"""

from __future__ import annotations

import dataclasses
import json
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources
from itertools import zip_longest
from pathlib import Path

from doyen.config import load_settings
from doyen.examples.generating.facts import Fact
from doyen.examples.generating.filters import clean, without_doubles
from doyen.examples.generating.rules import RuleGenerator
from doyen.ingesting import open_index
from doyen.records import Chunk
from doyen.retrieval.hybrid import Retriever
from doyen.retrieval.terms import question_terms, stems_of
from doyen.words import holds

NEIGHBOUR = "neighbour"
_ANSWERED = 0.7
"""Share of a question's terms in one passage from which on it may be answered there."""
_NEAR_ANSWER = 0.5
"""The same where the passage holds the answer too."""
_SEARCHED = 20


class Silence:
    """Tells whether an index says nothing about a question: by the terms of all its passages, and by its own search."""

    def __init__(self, passages: Sequence[Chunk], retriever: Retriever) -> None:
        self._texts = [chunk.indexed for chunk in passages]
        self._terms = [stems_of(chunk.indexed.replace("_", " "), chunk.language or "en") for chunk in passages]
        self._with: dict[str, list[int]] = defaultdict(list)
        for i, own in enumerate(self._terms):
            for term in own:
                self._with[term].append(i)
        self._retriever = retriever

    def silent(self, facts: Sequence[Fact]) -> list[tuple[Fact, float]]:
        """Return the facts that the index neither holds nor answers otherwise, each with its nearest passage's cosine.

        Kept is a fact whose question has a term that stands nowhere in the index, no passage of which has most of the
        question's terms, or its answer with half of them; and whose answer stands in none of the 20 passages found.
        """
        asked = [f for f in facts if not self._answered(f)]
        if not asked:
            return []
        found = self._retriever.search_many([f.questions[0] for f in asked], _SEARCHED)
        return [
            (fact, max((h.similarity for h in hits), default=0.0))
            for fact, hits in zip(asked, found, strict=True)
            if not any(holds(h.chunk.indexed, fact.answer) for h in hits)
        ]

    def _answered(self, fact: Fact) -> bool:
        """Whether a fact's question may be answered here: all its terms are known, or a passage has too many of them."""
        asked = question_terms(fact.questions[0]).stems
        if all(term in self._with for term in asked):
            return True
        shared = Counter(i for term in asked for i in self._with.get(term, ()))
        for i, count in shared.items():
            share = count / len(asked)
            if share >= _ANSWERED or (share >= _NEAR_ANSWER and holds(self._texts[i], fact.answer)):
                return True
        return False


@dataclass(frozen=True, slots=True)
class Neighbours:
    """Texts that are not in the index: passages, and whole texts by document."""

    passages: Sequence[Chunk]
    text_of: Callable[[str], str]


@cache
def bundled() -> Neighbours:
    """Return doyen's own texts: rules and facts of invented organisations, in seven languages."""
    text = resources.files("doyen.examples.held_out").joinpath("neighbours.jsonl").read_text("utf-8")
    rows = [json.loads(line) for line in text.splitlines()]
    chunks = [Chunk(r["title"], 0, len(r["text"]), r["text"], context=r["title"], language=r["language"]) for r in rows]
    return Neighbours(chunks, {r["title"]: r["text"] for r in rows}.__getitem__)


def of_expert(expert: Path) -> Neighbours:
    """Return the documents of another expert. Raises ConfigError, ExpertError or StoreError if it has none."""
    index = open_index(expert, load_settings(expert))
    documents = [d.id for d in index.documents()]
    return Neighbours(index.chunks_of(documents), lambda document: index.text(document)[0])


def unanswerable(
    neighbours: Neighbours, own: Sequence[Chunk], retriever: Retriever, count: int, languages: Collection[str]
) -> list[Fact]:
    """Return up to `count` facts of the neighbours that the index, whose passages are `own`, says nothing about.

    Those whose question is nearest to the index come first, as they are the hardest to refuse; documents take turns.
    Only questions in `languages`, and none to be answered by yes or no.
    """
    if not count:
        return []
    facts = RuleGenerator().generate([c for c in neighbours.passages if (c.language or "en") in languages])
    facts = [f for f in facts if f.kind != "yesno" and f.rule not in ("heading", "table")]
    facts = without_doubles(clean(facts, neighbours.text_of, Counter()), Counter())
    queues: dict[str, list[tuple[float, Fact]]] = defaultdict(list)
    for fact, near in Silence(own, retriever).silent(facts):
        queues[fact.document].append((near, fact))
    for queue in queues.values():
        queue.sort(key=lambda pair: (-pair[0], pair[1].questions))
    rounds = zip_longest(*queues.values())
    ranked = [sorted(filter(None, row), key=lambda pair: (-pair[0], pair[1].questions)) for row in rounds]
    chosen = [fact for row in ranked for _, fact in row][:count]
    return [
        dataclasses.replace(f, questions=f.questions[:1], answer="", rule=NEIGHBOUR, answerable=False) for f in chosen
    ]
