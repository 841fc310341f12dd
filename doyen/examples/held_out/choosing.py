"""Facts → those to compare on: checked once more, no two alike, kinds and documents in turn. Knows no file and no index."""

from __future__ import annotations

import dataclasses
import random
import re
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Sequence

from doyen.examples.doubles import Asked, near_questions
from doyen.examples.generating.facts import Fact
from doyen.examples.generating.filters import in_turn
from doyen.words import telling_words, words

_FIGURE = re.compile(r"\d+(?:[.,]\d+)*")


def verdicts_stand(facts: Iterable[Fact], left_out: Counter[str]) -> list[Fact]:
    """Drop statements of the rules whose yes or no their evidence does not bear out, by their figures and words.

    A yes needs every figure of the question in the evidence, a no one that is not there.
    """
    kept = []
    for fact in facts:
        if fact.rule == "verdict":
            have = set(_FIGURE.findall(fact.evidence))
            asked = _FIGURE.findall(fact.questions[0])
            if all(figure in have for figure in asked) is not (fact.answer == "yes"):
                left_out["yes or no not borne out by the evidence"] += 1
                continue
        kept.append(fact)
    return kept


def unlike(facts: Sequence[Fact], others: Sequence[Asked], left_out: Counter[str]) -> list[Fact]:
    """Drop facts that ask nearly what one of `others` asks, or what an earlier fact asks."""
    asked = [Asked.made(f.questions[0], (f.answer,) if f.answerable else ()) for f in facts]
    known = near_questions(asked, others)
    first = near_questions(asked, asked)
    alike = {i for i, j in first.items() if j != i} - set(known)
    left_out["nearly equal to a question that is known"] += len(known)
    left_out["nearly equal to another of them"] += len(alike)
    return [f for i, f in enumerate(facts) if i not in known and i not in alike]


def own_words(fact: Fact) -> Fact:
    """Keep of a fact's phrasings the one that shares the fewest words with its evidence."""
    have = set(words(fact.evidence))

    def shared(question: str) -> float:
        asked = telling_words(question)
        return sum(w in have for w in asked) / max(1, len(asked))

    return dataclasses.replace(fact, questions=(min(fact.questions, key=shared),))


def evenly(facts: Sequence[Fact], count: int, seed: int, barred: Collection[str] = ()) -> list[Fact]:
    """Return up to `count` facts: kinds in turn as far as there are any, documents in turn within each, rules likewise.

    As many are answered by yes as by no, but for one. Facts whose row id is `barred` (rejected before) are left out.
    """
    draw = random.Random(seed)
    queues: dict[str, dict[str, list[Fact]]] = defaultdict(lambda: defaultdict(list))
    for fact in facts:
        if fact.row_id(fact.questions[0]) not in barred:
            queues[_kind(fact)][fact.document].append(fact)
    for own in queues.values():
        for document, found in own.items():
            own[document] = in_turn(found, draw)
    order = {d: draw.random() for d in sorted({f.document for f in facts})}
    served: Counter[str] = Counter()
    taken: Counter[str] = Counter()
    chosen: list[Fact] = []
    while len(chosen) < count:
        possible = [kind for kind, own in queues.items() if any(own.values()) and _even(kind, taken)]
        if not possible:
            break
        kind = min(possible, key=lambda k: (taken[k] + (taken[_OTHER[k]] if k in _OTHER else 0), taken[k], k))
        document = min((d for d, found in queues[kind].items() if found), key=lambda d: (served[d], order[d]))
        chosen.append(queues[kind][document].pop(0))
        served[document] += 1
        taken[kind] += 1
    return chosen


_OTHER = {"yes": "no", "no": "yes"}


def _kind(fact: Fact) -> str:
    return fact.answer if fact.kind == "yesno" and fact.answer in _OTHER else fact.kind


def _even(kind: str, taken: Counter[str]) -> bool:
    return kind not in _OTHER or taken[kind] <= taken[_OTHER[kind]]
