"""Examples that say the same, or nearly: repeated, contradictory, or too near to what is held out. Knows no file.

Nearness is the Jaccard index of word sets, found exactly by prefix filtering (Bayardo, Ma and Srikant 2007): two sets that
are near enough share one of their few rarest words, so that only these are looked up.
"""

from __future__ import annotations

import math
import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from doyen.prompts import parse_answer, question_of
from doyen.records import Example, Question
from doyen.retrieval.function_words import FUNCTION_WORDS
from doyen.words import clip, words

NEAR_DUPLICATE = 0.85
"""Of the words of two questions: from here on they are one."""
_PARAPHRASE = 2 / 3
"""Of their telling words, where the shorter question says nothing else and the answers are the same."""
_FUNCTION_WORDS = frozenset().union(*FUNCTION_WORDS.values())
_CASE_WORDS = 16
_MARK = re.compile(r"\[\d[\d,\s]*\]")


@dataclass(frozen=True, slots=True)
class Doubles:
    """Places of examples: `repeated` maps an example to the first one that is the same; `contradictory` groups examples
    that answer one prompt differently (repeated ones left out).
    """

    repeated: dict[int, int] = field(default_factory=dict)
    contradictory: list[list[int]] = field(default_factory=list)

    @property
    def contradicting(self) -> int:
        """The number of examples that contradict another."""
        return sum(map(len, self.contradictory))


def find_doubles(examples: Sequence[Example]) -> Doubles:
    """Find examples that are repeated, and those that answer the same prompt in other words.

    A prompt is the same regardless of letter case and white space; in answers, citation marks and punctuation do not count.
    """
    found = Doubles()
    seen: dict[tuple[str, ...], int] = {}
    prompts: dict[tuple[str, ...], list[int]] = defaultdict(list)
    for i, example in enumerate(examples):
        texts = [f"{m['role']}\0{m['content'].strip()}" for m in example.messages]
        first = seen.setdefault(tuple(texts), i)
        if first != i:
            found.repeated[i] = first
        else:
            prompts[tuple(" ".join(text.casefold().split()) for text in texts[:-1])].append(i)
    for group in prompts.values():
        answers = {" ".join(words(_MARK.sub("", examples[i].messages[-1]["content"]))) for i in group}
        if len(answers) > 1:
            found.contradictory.append(group)
    return found


def contradictions(examples: Sequence[Example], doubles: Doubles, most: int = 3) -> list[str]:
    """Return the first contradictory cases as text: the question and its answers."""
    cases = []
    for group in doubles.contradictory[:most]:
        answers = dict.fromkeys(clip(examples[i].messages[-1]["content"], _CASE_WORDS) for i in group)
        asked = clip(question_of(examples[group[0]].messages), _CASE_WORDS)
        cases.append(f"'{asked}' → {' / '.join(repr(a) for a in list(answers)[:3])}")
    return cases


@dataclass(frozen=True, slots=True)
class Asked:
    """A question as it is compared: its words, and all right answers' words (none where they tell nothing)."""

    text: str
    all: frozenset[str]
    telling: frozenset[str]
    numbers: frozenset[str]
    answers: frozenset[str]

    @classmethod
    def of(cls, item: Example | Question) -> Asked:
        """Return what an example or a question asks; of a chat with several turns, all that the user says."""
        if isinstance(item, Question):
            return cls.made(item.question, item.answers if item.answerable else ())
        turns = [m["content"] for m in item.messages if m["role"] == "user"]
        answer = parse_answer(item.messages[-1]["content"], 0)
        return cls.made(
            question_of(item.messages) if len(turns) == 1 else "\n".join(turns),
            () if answer.refused else (answer.text,),
        )

    @classmethod
    def made(cls, text: str, answers: Sequence[str]) -> Asked:
        """Return a question with its answers."""
        found = frozenset(words(text))
        said = frozenset(" ".join(words(a)) for a in answers) - {"", "yes", "no", "maybe"}
        numbers = frozenset(w for w in found if any(c.isdigit() for c in w))
        return cls(text, found, found - _FUNCTION_WORDS or found, numbers, said)


def near_questions(left: Sequence[Asked], right: Sequence[Asked]) -> dict[int, int]:
    """Return for each place in `left` that is nearly equal to some of `right` the first such place.

    Nearly equal are questions with the same numbers that share 85% of their words; or that have the same answer, where the
    telling words of one are those of the other and at most half as many more.
    """
    pairs = near_sets([a.all for a in left], [b.all for b in right], NEAR_DUPLICATE)
    found = [(i, j) for i, j in pairs if left[i].numbers == right[j].numbers]
    by_answer: dict[str, tuple[list[int], list[int]]] = defaultdict(lambda: ([], []))
    for side, asked in enumerate((left, right)):
        for place, a in enumerate(asked):
            for answer in a.answers:
                by_answer[answer][side].append(place)
    for ours, theirs in by_answer.values():
        near = near_sets([left[i].telling for i in ours], [right[j].telling for j in theirs], _PARAPHRASE)
        found += [(ours[i], theirs[j]) for i, j in near if _paraphrases(left[ours[i]], right[theirs[j]])]
    first: dict[int, int] = {}
    for i, j in sorted(found):
        first.setdefault(i, j)
    return first


def _paraphrases(a: Asked, b: Asked) -> bool:
    return a.numbers == b.numbers and (a.telling <= b.telling or b.telling <= a.telling)


def near_sets(
    left: Sequence[frozenset[str]], right: Sequence[frozenset[str]], least: float
) -> Iterator[tuple[int, int]]:
    """Yield the places (in `left`, in `right`) of all pairs of sets whose Jaccard index is at least `least` > 0."""
    counts = Counter(word for side in (left, right) for found in side for word in found)

    def rarest(found: frozenset[str]) -> list[str]:
        most = len(found) - math.ceil(least * len(found) - 1e-9) + 1
        return sorted(found, key=lambda word: (counts[word], word))[:most] if found else []

    holders: dict[str, list[int]] = defaultdict(list)
    for j, found in enumerate(right):
        for word in rarest(found):
            holders[word].append(j)
    for i, found in enumerate(left):
        for j in sorted({j for word in rarest(found) for j in holders.get(word, ())}):
            shared = len(found & right[j])
            if shared >= least * (len(found) + len(right[j]) - shared) - 1e-9:
                yield i, j
