"""Facts → those worth training on, balanced over documents and rules, with the reasons for what was left out."""

from __future__ import annotations

import dataclasses
import random
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterable, Sequence

from doyen.examples.generating.facts import Fact, is_verbatim
from doyen.examples.generating.structure import title_of
from doyen.examples.splitting import overlapping
from doyen.models.engine import Engine
from doyen.prompts import closed_book_messages, parse_answer
from doyen.records import Chunk, Question
from doyen.words import holds, telling_words, words

SHARES = {"verdict": 0.1, "heading": 0.08, "table": 0.35, "definition": 0.3}
"""Most of all questions that may come of a rule, unless others are too few."""
_QUESTION_WORDS = (3, 30)
_LONGEST_ANSWER = 220  # characters
_LONGEST_EVIDENCE = 700
_CLOSED_TOKENS = 24
_RARE = 0.02  # of the passages: a question needs a word that few have, or the document's title is put before it
_VAGUE = re.compile(
    r"\b(?:this|that|these|those|above|below|following|former|latter|such|aforementioned) (?:passage|document|text|section|page"
    r"|table|figure|sentence)|\baccording to the (?:passage|text|document|sentence)|\b(?:he|she|they|him|them|his|their)\b",
    re.IGNORECASE,
)


def clean(facts: Iterable[Fact], text_of: Callable[[str], str], left_out: Counter[str]) -> list[Fact]:
    """Return the facts that pass the checks that need no model; `left_out` counts the others by reason."""
    kept = []
    for fact in facts:
        reason = _fault(fact, text_of)
        asked = tuple(q for q in dict.fromkeys(fact.questions) if not _question_fault(q, fact))
        if not reason and not asked:
            reason = _question_fault(fact.questions[0], fact) if fact.questions else "without a question"
        if reason:
            left_out[reason] += 1
        else:
            kept.append(dataclasses.replace(fact, questions=asked))
    return kept


def _fault(fact: Fact, text_of: Callable[[str], str]) -> str:
    if not is_verbatim(fact, text_of(fact.document)):
        return "answer or evidence not verbatim in the document"
    if len(fact.answer) > _LONGEST_ANSWER or len(fact.evidence) > _LONGEST_EVIDENCE:
        return "answer or evidence too long"
    if fact.answerable and not re.search(r"\w", fact.answer):
        return "answer without a word"
    return ""


def _question_fault(question: str, fact: Fact) -> str:
    low, high = _QUESTION_WORDS
    if not low <= len(words(question)) <= high:
        return "question too short or too long"
    if fact.answerable and fact.kind != "yesno" and holds(question, fact.answer):
        return "answer stands in the question"
    if _VAGUE.search(question):
        return "question not understandable alone"
    if question.count("(") != question.count(")") or ",," in question or not telling_words(question):
        return "question broken"
    return ""


def without_doubles(facts: Sequence[Fact], left_out: Counter[str]) -> list[Fact]:
    """Drop facts that are asked the same way as an earlier one, and those of passages that say the same twice.

    The same question with two different answers is ambiguous: neither stays.
    """
    answers: dict[tuple[str, ...], set[str]] = defaultdict(set)
    for fact in facts:
        answers[_key(fact.questions[0])].add(fact.answer.casefold())
    seen: set[tuple[str, ...]] = set()
    said: set[tuple[tuple[str, ...], str]] = set()
    kept = []
    for fact in facts:
        key, told = _key(fact.questions[0]), (tuple(words(fact.evidence)), fact.answer)
        if len(answers[key]) > 1:
            left_out["same question, different answers"] += 1
        elif key in seen or told in said:
            left_out["double"] += 1
        else:
            kept.append(fact)
        seen.add(key)
        said.add(told)
    return kept


def _key(question: str) -> tuple[str, ...]:
    return tuple(sorted(set(words(question))))


def without_near(facts: Sequence[Fact], others: Sequence[Question], left_out: Counter[str], reason: str) -> list[Fact]:
    """Drop facts that ask nearly what one of the other questions asks."""
    asked = [Question(str(i), f.questions[0]) for i, f in enumerate(facts)]
    near = {int(a.id) for a, _ in overlapping(asked, others)}
    left_out[reason] += len(near)
    return [f for i, f in enumerate(facts) if i not in near]


def named(facts: Sequence[Fact], passages: Sequence[Chunk]) -> list[Fact]:
    """Put the document's title before questions that could be asked of many documents."""
    counts: Counter[str] = Counter(w for chunk in passages for w in set(words(chunk.text)))
    rare = max(2, _RARE * len(passages))
    titles = {chunk.document: title_of(chunk) for chunk in passages}
    return [_named(fact, titles.get(fact.document, ""), counts, rare) for fact in facts]


def _named(fact: Fact, title: str, counts: Counter[str], rare: float) -> Fact:
    if not title or len(title.split()) > 10 or fact.rule == "heading":
        return fact
    asked = []
    for question in fact.questions:
        told = [w for w in telling_words(question) if counts[w] <= rare]
        has_title = any(w in set(telling_words(title)) for w in telling_words(question))
        asked.append(question if told or has_title else f"{title}: {question[:1].lower()}{question[1:]}")
    return dataclasses.replace(fact, questions=tuple(asked))


def not_from_nothing(
    facts: Sequence[Fact], engine: Engine, left_out: Counter[str], progress: Callable[[int], None] | None = None
) -> list[Fact]:
    """Drop what the model answers without any document: it is known already, or given away by the question."""
    asked = [f for f in facts if f.answerable and f.kind != "yesno"]
    prompts = [closed_book_messages(f.questions[0]) for f in asked]
    written = engine.generate(prompts, max_tokens=_CLOSED_TOKENS, progress=progress)
    known = {
        id(f)
        for f, c in zip(asked, written, strict=True)
        if words(f.answer) and words(parse_answer(c.text, 0).text) == words(f.answer)
    }
    left_out["answered without the documents"] += len(known)
    return [f for f in facts if id(f) not in known]


def balanced(facts: Sequence[Fact], count: int, phrasings: int, seed: int, taken: Collection[str] = ()) -> list[Fact]:
    """Return facts with at most `count` questions in all, documents and rules in turn; `taken` holds documents served before.

    No rule gets more than its share (SHARES), and yes and no are asked equally often.
    """
    draw = random.Random(seed)
    room = {rule: max(1, int(share * count)) for rule, share in SHARES.items()}
    verdicts = {"yes": room["verdict"] // 2, "no": room["verdict"] - room["verdict"] // 2}
    queues: dict[str, list[Fact]] = defaultdict(list)
    for fact in facts:
        queues[fact.document].append(fact)
    for document, own in queues.items():
        queues[document] = in_turn(own, draw)
    order = sorted(queues, key=lambda d: (d in taken, draw.random()))
    kept: list[Fact] = []
    left = count
    while left > 0 and any(queues.values()):
        for document in order:
            while queues[document] and left > 0:
                fact = queues[document].pop(0)
                if fact.rule == "verdict" and verdicts.get(fact.answer, 0) <= 0:
                    continue
                if room.get(fact.rule, left) <= 0:
                    continue
                asked = fact.questions[: min(phrasings, left)]
                kept.append(dataclasses.replace(fact, questions=asked))
                left -= len(asked)
                if fact.rule in room:
                    room[fact.rule] -= len(asked)
                if fact.rule == "verdict":
                    verdicts[fact.answer] -= len(asked)
                break
    return kept


def in_turn(facts: Sequence[Fact], draw: random.Random) -> list[Fact]:
    """Return a document's facts so that each rule comes up early."""
    by_rule: dict[str, list[Fact]] = defaultdict(list)
    for fact in facts:
        by_rule[fact.rule].append(fact)
    rules = list(by_rule)
    for own in by_rule.values():
        draw.shuffle(own)
    draw.shuffle(rules)
    return [
        by_rule[r][i] for i in range(max(map(len, by_rule.values()), default=0)) for r in rules if i < len(by_rule[r])
    ]
