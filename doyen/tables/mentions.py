"""A question and a table's columns → which columns and values the question names, and by which words.

Names are compared letter by letter without their separators, by stems, and by beginnings (`pclass` ~ passenger class).
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

from doyen.tables.asked import STOPWORDS, Asked, Word, name_parts, stem, tokens
from doyen.tables.loading import Column

_LONGEST = 9
EXACT, CORE, ABBREVIATED, LOOSE, PARTIAL = 1.0, 0.95, 0.85, 0.8, 0.45
_CORE_BONUS, _INITIALLED = 0.4, 0.75
_LINKING = frozenset("no num nr number of the in at and".split())
"""What a name may lack and still be meant: `No. of cases` ~ cases; without `total` or `rate` it may be another."""
_IDENTIFYING = frozenset("id ids key code uuid guid index serial".split())
_EMPTY = frozenset(
    "no num nr number of the in at total value values date name id code rate count amount per and".split()
)
_CALCULATING = frozenset(
    stem(w)
    for w in (
        *"average mean median sum total count number many highest lowest largest smallest maximum minimum max min most".split(),
        *"least standard deviation correlation coefficient percentage percent share missing unique distinct range top".split(),
        *"variance skewness distribution year month day column value row record dataset table data high low rate".split(),
    )
)
_BEING = frozenset("is are was were be been being not".split())
_UNNAMED = re.compile(r"unnamed: ?(\d+)", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class ColumnMention:
    """A column that words (by their numbers) name; `score` 0 to 1 says how surely."""

    column: Column
    words: frozenset[int]
    score: float
    quoted: bool = False

    @property
    def first(self) -> int:
        """The number of its first word."""
        return min(self.words)

    @property
    def last(self) -> int:
        """The number of its last word."""
        return max(self.words)


@dataclass(frozen=True, slots=True)
class ValueMention:
    """Values of a column that words name, as they stand in the cells."""

    column: Column
    values: tuple[str, ...]
    words: frozenset[int]


def column_mentions(asked: Asked, columns: Sequence[Column]) -> list[ColumnMention]:
    """Return the columns that a question names, in its order, each of its words used once."""
    found = [m for column in columns for m in _mentions_of(asked, column)]
    found.sort(key=lambda m: (-m.quoted, -m.score, -len(m.words), len(m.column.name)))
    chosen: list[ColumnMention] = []
    used: set[int] = set()
    for mention in found:
        if not mention.words & used:
            chosen.append(mention)
            used |= mention.words
    return sorted(chosen, key=lambda m: m.first)


def _mentions_of(asked: Asked, column: Column) -> list[ColumnMention]:
    parts, outside, core = _named_by(column.name)
    if not parts:
        return []
    found = [m for n in range(len(asked.words)) if (m := _literal(asked, n, column, parts, outside, core))]
    if not found:
        found += _abbreviated(asked, column, core)
    if not found and (partial := _partial(asked, column, core)):
        found.append(partial)
    return found


@lru_cache(maxsize=10_000)
def _named_by(name: str) -> tuple[list[str], list[str], list[str]]:
    """Return the words of a name: all of them, those outside brackets, and of these the telling ones."""
    parts = name_parts(name)
    outside = name_parts(re.sub(r"\([^)]*\)|\[[^\]]*\]", " ", name)) or parts
    return parts, outside, [p for p in outside if p not in _EMPTY] or outside


def _literal(
    asked: Asked, n: int, column: Column, parts: Sequence[str], outside: Sequence[str], core: Sequence[str]
) -> ColumnMention | None:
    """Return the mention that begins with a word and has all of the name, or of its core."""
    wanted = [("".join(parts), EXACT), ("".join(outside), EXACT)]
    stems = "".join(map(stem, core))
    first = asked.words[n]
    if not (stems.startswith(first.stem) or any(text.startswith(first.lower) for text, _ in wanted)):
        return None
    dropped = [p for p in outside if p not in core]
    reduced = PARTIAL if _IDENTIFYING & set(dropped) else CORE if _LINKING.issuperset(dropped) else LOOSE
    best: ColumnMention | None = None
    raw = own = ""
    for end in range(n, min(n + _LONGEST, len(asked.words))):
        word = asked.words[end]
        raw, own = raw + word.lower, own + word.stem
        words = frozenset(range(n, end + 1))
        score = next((score for text, score in wanted if text == raw), 0.0)
        score = score or (reduced if own == stems and not word.is_stop else 0.0)
        if score and _is_telling(asked, words, raw, column):
            best = ColumnMention(column, words, score, _is_quoted(asked, words))
        if len(raw) > len(wanted[0][0]) + 4:
            break
    return best


def _is_telling(asked: Asked, words: frozenset[int], raw: str, column: Column) -> bool:
    """Whether words are more than a stop word that happens to be a name, such as `a` or `all`."""
    first = asked.words[min(words)]
    if _is_quoted(asked, words):
        return True
    if len(raw) == 1:
        return first.text == column.name.strip() and first.text.isupper() and first.text not in "AI"
    return raw not in STOPWORDS or first.text == column.name.strip() != first.lower


def _is_quoted(asked: Asked, words: frozenset[int]) -> bool:
    return any(asked.at(*span) == words for span in asked.quoted)


def _abbreviated(asked: Asked, column: Column, core: Sequence[str]) -> list[ColumnMention]:
    """Return mentions of a name made of the beginnings of words that follow one another: `gdppercap`, `MedInc`."""
    name = "".join(core)
    if not 4 <= len(name) <= 24:
        return []
    found = [
        ColumnMention(column, frozenset((n,)), _INITIALLED)
        for n, word in enumerate(asked.words)
        if len(word.lower) >= 5 and len(core) == 1 and name[1:] == word.lower
    ]
    for n in range(len(asked.words)):
        end = _spelt_by(asked.words, n, name)
        if end - n >= 2:
            found.append(ColumnMention(column, frozenset(range(n, end)), ABBREVIATED))
    return found


def _spelt_by(words: Sequence[Word], n: int, name: str) -> int:
    """Return after which word a name is spelt by the beginnings of words from the n-th on; n where it is not."""
    states = {(n, 0)}
    longest = 0
    while states and longest < 6:
        longest += 1
        after = set()
        for at, done in states:
            if at >= len(words):
                continue
            word = words[at].lower
            for size in range(1, min(len(word), len(name) - done) + 1):
                if name[done + size - 1] != word[size - 1]:
                    break
                if done + size == len(name):
                    return at + 1 if size >= 3 or size == len(word) else n
                if size >= 3 or size == len(word) or done == 0:
                    after.add((at + 1, done + size))
        states = after
    return n


def _partial(asked: Asked, column: Column, core: Sequence[str]) -> ColumnMention | None:
    """Return the mention by some of a name's words, near to one another."""
    places: dict[int, int] = {}
    for part_number, part in enumerate(core):
        for n, word in enumerate(asked.words):
            if n not in places and not word.is_stop and _alike(part, word):
                places[n] = part_number
                break
    if _IDENTIFYING & set(name_parts(column.name)):
        return None
    telling = [n for n in places if asked.words[n].stem not in _CALCULATING and core[places[n]] not in _EMPTY]
    if not telling:
        return None
    anchor = telling[0]
    words = frozenset(n for n in places if abs(n - anchor) <= len(core) + 3)
    share = len({places[n] for n in words}) / len(core)
    exact = sum(asked.words[n].stem == stem(core[places[n]]) for n in words) / len(words)
    return ColumnMention(column, words, PARTIAL + _CORE_BONUS * share * (0.6 + 0.4 * exact))


def is_open(asked: Asked, mention: ColumnMention, columns: Sequence[Column]) -> bool:
    """Whether words that are a part of a column's name are a part of another's too: which premium?"""
    if mention.quoted or mention.score >= _INITIALLED:
        return False
    said = {asked.words[n].stem for n in mention.words}
    others = [c for c in columns if c.is_number and c.name != mention.column.name]
    return any(said <= set(map(stem, name_parts(c.name))) for c in others)


def _alike(part: str, word: Word) -> bool:
    if stem(part) == word.stem:
        return True
    short, long = sorted((part, word.lower), key=len)
    return len(short) >= 3 and long.startswith(short) and (len(short) >= 4 or len(part) == len(short))


KnownValues = Mapping[str, Sequence[tuple[Column, str]]]
"""The stems of a value's words → the columns that have such a value, with the value as it stands there."""


def value_mentions(
    asked: Asked, known: KnownValues, taken: Sequence[ColumnMention], name: str = "", *, counting: bool = False
) -> list[ValueMention]:
    """Return the values of text columns that a question names; none within words that surely name a column.

    Where rows are counted, a word after a form of `be` is a value first: how many claims were paid?

    A single word of the table's own `name`, or after `per` and `each`, names a kind of row and no value.
    """
    kinds = frozenset(map(stem, name_parts(name)))
    sure = frozenset(n for m in taken if m.score >= CORE or m.quoted for n in m.words)
    found: list[ValueMention] = []
    used: set[int] = set()
    for size in range(_LONGEST, 0, -1):
        for n in range(len(asked.words) - size + 1):
            words = frozenset(range(n, n + size))
            names = words <= sure and not (counting and size == 1 and _is_predicate(asked, n))
            if words & used or names or (size == 1 and _is_kind(asked, n, kinds)):
                continue
            options = known.get(" ".join(asked.words[i].stem for i in sorted(words)), ())
            mention = _best_value(asked, words, options, taken)
            if mention is not None:
                found.append(mention)
                used |= words
    return sorted(found, key=lambda m: min(m.words))


def _is_predicate(asked: Asked, n: int) -> bool:
    before = asked.words[n - 1].lower if n else ""
    return before in _BEING and not _is_quoted(asked, frozenset((n,)))


def _is_kind(asked: Asked, n: int, kinds: frozenset[str]) -> bool:
    word = asked.words[n]
    after_each = n > 0 and asked.words[n - 1].lower in ("per", "each", "every")
    return (after_each or word.stem in kinds) and not _is_quoted(asked, frozenset((n,)))


def known_values(columns: Sequence[Column]) -> KnownValues:
    """Return the values of text columns by the stems of their words."""
    known: dict[str, list[tuple[Column, str]]] = {}
    for column in columns:
        for value in column.values:
            if len(value) <= 80 and (parts := tokens(value)) and len(parts) <= _LONGEST:
                known.setdefault(" ".join(map(stem, parts)), []).append((column, value))
    return known


def _best_value(
    asked: Asked,
    words: frozenset[int],
    options: Sequence[tuple[Column, str]],
    taken: Sequence[ColumnMention],
) -> ValueMention | None:
    if not options:
        return None
    near = {m.column.name for m in taken if _gap(m.words, words) <= 2}
    only = asked.words[min(words)]
    if len(words) == 1 and not _is_quoted(asked, words):
        options = [o for o in options if _stands_alone(only, o[1]) or o[0].name in near]
        if only.is_stop or only.stem in _CALCULATING or only.number is not None:
            options = [o for o in options if o[0].name in near and o[1] == only.text]
    if not options:
        return None
    column = min((o[0] for o in options), key=lambda c: (c.name not in near, len(c.values)))
    return ValueMention(column, tuple(value for own, value in options if own.name == column.name), words)


def _stands_alone(word: Word, value: str) -> bool:
    """Whether a single word is enough to name a value: one of a letter or two only in the value's own capitals."""
    return len(word.lower) > 2 or (word.text == value and value.isupper() and word.text not in ("A", "I"))


def _gap(a: frozenset[int], b: frozenset[int]) -> int:
    return max(min(b) - max(a), min(a) - max(b), 0)


def unnamed_columns(asked: Asked, columns: Sequence[Column]) -> list[ColumnMention]:
    """Return the columns without a name that a question calls as pandas does: `Unnamed: 8`."""
    found = []
    for match in _UNNAMED.finditer(asked.text):
        name = f"column {int(match[1]) + 1}"
        own = next((c for c in columns if c.name == name), None)
        if own is not None and (words := asked.at(*match.span())):
            found.append(ColumnMention(own, words, EXACT, quoted=True))
    return found
