"""Passages and training questions → pairs of a query and the passage that it should find. Knows no model and no torch.

Without any question, documents supply queries themselves: titles and headings (for the text below them), sentences (for
the rest of their passage: the inverse cloze task, Lee et al. 2019, arXiv 1906.00300), and the passage's most telling
words. Queries never repeat what is shown of their passage but for the telling words.
"""

from __future__ import annotations

import hashlib
import math
import random
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from doyen.chunking.cutting import SECTION_SEPARATOR
from doyen.records import Chunk, Question
from doyen.words import words

KINDS = ("title", "heading", "sentence", "words", "question")
LEAST_PAIRS = 20
_SENTENCE = re.compile(r"[^.!?。！？।\n]+(?:[.!?。！？।]+|\n|$)")
_SENTENCE_WORDS = (6, 40)
_LEAST_LEFT_CHARACTERS = 120
_LEAST_PASSAGE_CHARACTERS = 80
_TELLING = (3, 6)
_TELLING_FROM = 10
_HELD_OUT_SHARE = 0.15
_STOPPING_SHARE = 0.05


@dataclass(frozen=True, slots=True)
class Pair:
    """A query and the text of the passage `chunk` (its place among the chunks) that it should find.

    `text` is what the passage is shown as: without what the query was taken from.
    """

    query: str
    text: str
    chunk: int
    document: str
    kind: str


def make_pairs(
    chunks: Sequence[Chunk], questions: Sequence[Question] = (), *, a_document: int = 6, seed: int = 7
) -> list[Pair]:
    """Return at most `a_document` pairs of each document, and one for each gold passage of a question.

    A question's gold page without a chunk is left out; of a document without pages, the chunk that shares most of the
    telling words with the question and its answers is taken.
    """
    shares = _Shares(chunks)
    found: list[Pair] = []
    for document, places in _by_document(chunks).items():
        rng = random.Random(f"{seed} {document}")
        own = [pair for place in places for pair in _of_passage(chunks, place, shares, rng)]
        own += _of_titles(chunks, places, shares, rng)
        found += _spread(own, a_document, rng)
    return found + _of_questions(chunks, questions, shares)


def is_held_out(document: str) -> bool:
    """Whether a document is for measuring only; always the same answer."""
    return _place(document) < _HELD_OUT_SHARE


def is_for_stopping(document: str) -> bool:
    """Whether a held-out document says when to stop training, and is not part of the final measure."""
    return _place(document) < _STOPPING_SHARE


def _place(document: str) -> float:
    return int(hashlib.sha256(document.encode()).hexdigest()[:8], 16) / 2**32


def _by_document(chunks: Sequence[Chunk]) -> dict[str, list[int]]:
    found: dict[str, list[int]] = {}
    for place, chunk in enumerate(chunks):
        found.setdefault(chunk.document, []).append(place)
    return found


class _Shares:
    """How rare each word is: the logarithm of (chunks / chunks with the word)."""

    def __init__(self, chunks: Sequence[Chunk]) -> None:
        self._count = len(chunks)
        self._with: Counter[str] = Counter()
        for chunk in chunks:
            self._with.update(set(words(chunk.indexed)))
        titles = {chunk.document: _title(chunk) for chunk in chunks}
        self.titles = Counter(titles.values())

    def rarity(self, word: str) -> float:
        return math.log(self._count / self._with[word]) if self._with[word] else 0.0

    def telling(self, text: str, most: int) -> list[str]:
        """Return the words that tell a text from others: by frequency there times rarity; once-only words are noise."""
        counts = Counter(w for w in words(text) if self._with[w] > 1 and (len(w) > 2 or w > "\u3000"))
        return sorted(counts, key=lambda w: -(1 + math.log(counts[w])) * self.rarity(w))[:most]


def body(chunk: Chunk) -> str:
    """Return a chunk's text without the lines that repeat its context (headings)."""
    own = {tuple(words(part)) for part in re.split(rf"{SECTION_SEPARATOR}|\n", chunk.context)}
    lines = [line for line in chunk.text.split("\n") if tuple(words(line)) not in own or not line.strip()]
    return "\n".join(lines).strip()


def _title(chunk: Chunk) -> str:
    return chunk.context.split("\n", 1)[0].split(SECTION_SEPARATOR, 1)[0].strip()


def _of_titles(chunks: Sequence[Chunk], places: Sequence[int], shares: _Shares, rng: random.Random) -> list[Pair]:
    """Pair a document's own title with some of its passages, without their context."""
    title = _title(chunks[places[0]])
    if not title or shares.titles[title] > 1:
        return []
    shown = {p: text for p in places if len(text := body(chunks[p])) >= _LEAST_PASSAGE_CHARACTERS}
    some = rng.sample(list(shown), min(2, len(shown)))
    return [Pair(title, shown[p], p, chunks[p].document, "title") for p in some]


def _of_passage(chunks: Sequence[Chunk], place: int, shares: _Shares, rng: random.Random) -> list[Pair]:
    """Make one pair of each kind that a passage allows."""
    chunk, text = chunks[place], body(chunks[place])
    if len(text) < _LEAST_PASSAGE_CHARACTERS:
        return []
    found: list[tuple[str, str, str]] = []
    levels = [part.strip() for part in chunk.context.split("\n", 1)[0].split(SECTION_SEPARATOR) if part.strip()]
    if len(levels) > 1:
        found.append((f"{levels[0]} {levels[-1]}", text, "heading"))
    if sentence := _one_sentence(text, rng):
        start, end = sentence
        left = " ".join((text[:start] + " " + text[end:]).split())
        shown = f"{chunk.context}\n{left}" if chunk.context and rng.random() < 0.5 else left
        found.append((text[start:end].strip(), shown, "sentence"))
    telling = shares.telling(chunk.indexed, _TELLING_FROM)
    if len(telling) >= _TELLING[0]:
        chosen = rng.sample(telling, min(len(telling), rng.randint(*_TELLING)))
        found.append((" ".join(chosen), chunk.indexed, "words"))
    return [Pair(query, shown, place, chunk.document, kind) for query, shown, kind in found]


def _one_sentence(text: str, rng: random.Random) -> tuple[int, int] | None:
    low, high = _SENTENCE_WORDS
    spans = [m.span() for m in _SENTENCE.finditer(text)]
    fit = [
        (start, end)
        for start, end in spans
        if low <= len(words(text[start:end])) <= high and len(text) - (end - start) >= _LEAST_LEFT_CHARACTERS
    ]
    return rng.choice(fit) if fit else None


def _spread(pairs: Sequence[Pair], most: int, rng: random.Random) -> list[Pair]:
    """Take at most `most` pairs, the kinds in turn."""
    kinds = {kind: [p for p in pairs if p.kind == kind] for kind in KINDS}
    for own in kinds.values():
        rng.shuffle(own)
    taken: list[Pair] = []
    while len(taken) < most and any(kinds.values()):
        for own in kinds.values():
            if own and len(taken) < most:
                taken.append(own.pop())
    return taken


def _of_questions(chunks: Sequence[Chunk], questions: Iterable[Question], shares: _Shares) -> list[Pair]:
    places = _by_document(chunks)
    found = []
    for question in questions:
        for gold in question.gold:
            own = [p for p in places.get(gold.document, ()) if gold.page is None or gold.page in chunks[p].pages]
            if own:
                sought = set(words(" ".join((question.question, *question.answers))))
                best = max(own, key=lambda p: sum(shares.rarity(w) for w in sought & set(words(chunks[p].text))))
                found.append(Pair(question.question, chunks[best].indexed, best, gold.document, "question"))
    return found
