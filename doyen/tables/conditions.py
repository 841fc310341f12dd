"""A question's bounds on rows: values, comparisons, dates → conditions in SQL with the words that say them.

Enters: the question with its mentions. Leaves: Conditions. Values are written into the SQL as literals, quoted.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from doyen.tables.asked import ORDINALS, SCALES, Asked, name_parts
from doyen.tables.bounds import Condition, literal
from doyen.tables.dates import date_conditions
from doyen.tables.executing import quoted
from doyen.tables.loading import Column
from doyen.tables.mentions import ColumnMention, ValueMention

_N = r"([$€£]? ?[-+]?\d[\d,]*(?:\.\d+)?(?: ?(?:k|bn|thousand|million|billion))?)(?![\w-]|\.\d)"
_COMPARISONS: tuple[tuple[str, str], ...] = (
    (">=", rf"(?:at least|no (?:less|fewer|lower) than|not (?:less|under|below)(?: than)?|minimum of|>=|≥|from) {_N}"),
    ("<=", rf"(?:at most|no more than|not (?:more|over|above)(?: than)?|up to|maximum of|<=|≤) {_N}"),
    (
        ">",
        rf"(?:(?:more|greater|higher|larger|bigger|older|longer|later|heavier|taller) than|over|above|exceed(?:s|ing|ed)?|>) {_N}",
    ),
    (
        "<",
        rf"(?:(?:less|fewer|lower|smaller|younger|shorter|earlier|lighter|cheaper) than|under|below|<) {_N}",
    ),
    (">=", rf"{_N} (?:and|or) (?:more|above|over|older|higher|greater|up)"),
    ("<=", rf"{_N} (?:and|or) (?:less|below|under|younger|lower|fewer)"),
)
_BETWEEN = re.compile(rf"(?:between|from|range of) {_N} (?:and|to) {_N}", re.IGNORECASE)
_EQUAL = re.compile(rf"(?:values? )?(?:of|=|==|is|are|was|equals?|equal to|being|:) {_N}", re.IGNORECASE)
_AMOUNTS = frozenset(
    "amount amounts value sum total paid cost costs price claimed revenue sales charge charges".split()
)
_NEGATION = re.compile(
    r"(?:not|never|except|excluding|other than|without|non|n't)\s*-?\s*(?:the |in |a |from )?$", re.IGNORECASE
)
_WHO = re.compile(
    r"(?:who|that|which|were|was|are|is|have|has|had)(?: (not|never|didn't|did not|do not|don't))?(?: been)?\s+$",
    re.IGNORECASE,
)


def conditions(
    asked: Asked,
    columns: Sequence[Column],
    mentions: Sequence[ColumnMention],
    values: Sequence[ValueMention],
) -> list[Condition]:
    """Return all bounds that a question sets."""
    found = [_of_value(asked, v) for v in values]
    used = frozenset(n for c in found for n in c.words)
    used |= frozenset(n for m in mentions if m.score >= 0.95 for n in m.words)
    for one in (
        *date_conditions(asked, columns, mentions, used),
        *_numbers(asked, columns, mentions),
        *_ordinals(asked, mentions),
        *_truths(asked, mentions),
    ):
        if not one.words & frozenset(n for c in found for n in c.words):
            found.append(one)
    return found


def _of_value(asked: Asked, mention: ValueMention) -> Condition:
    negation = _NEGATION.search(asked.text[: asked.words[min(mention.words)].start])
    negated = negation is not None
    name, texts = quoted(mention.column.name), [literal(v) for v in mention.values]
    if len(texts) == 1:
        sql = f"{name} {'<>' if negated else '='} {texts[0]}"
    else:
        sql = f"{name} {'NOT IN' if negated else 'IN'} ({', '.join(texts)})"
    said = f"{mention.column.name} is {'not ' if negated else ''}{mention.values[0]}"
    words = mention.words | (asked.at(*negation.span()) if negation else frozenset())
    return Condition(mention.column.name, sql, words, said, is_one_of=not negated)


# ---- numbers


def _numbers(asked: Asked, columns: Sequence[Column], mentions: Sequence[ColumnMention]) -> list[Condition]:
    numeric = [m for m in mentions if m.column.is_number]
    found: list[Condition] = []
    taken: list[tuple[int, int]] = []
    for match in _BETWEEN.finditer(asked.text):
        if column := _nearest(asked, match, numeric, columns):
            low, high = sorted((_value(match[1]), _value(match[2])))
            sql = f"{quoted(column.name)} BETWEEN {literal(low)} AND {literal(high)}"
            said = f"{column.name} is between {literal(low)} and {literal(high)}"
            found.append(Condition(column.name, sql, asked.at(*match.span()), said))
            taken.append(match.span())
    for operator, pattern in _COMPARISONS:
        for match in re.finditer(rf"(?<!\w){pattern}", asked.text, re.IGNORECASE):
            if any(match.start() < b and a < match.end() for a, b in taken):
                continue
            if column := _nearest(asked, match, numeric, columns):
                value = literal(_value(match[1]))
                said = f"{column.name} {operator} {value}"
                sql = f"{quoted(column.name)} {operator} {value}"
                found.append(Condition(column.name, sql, asked.at(*match.span()), said))
                taken.append(match.span())
    for match in _EQUAL.finditer(asked.text):
        if any(match.start() < b and a < match.end() for a, b in taken):
            continue
        words = asked.at(*match.span())
        number = frozenset(n for n in words if asked.words[n].number is not None)
        before = [m for m in numeric if words and 0 <= min(words) - m.last <= 1]
        if before and number:
            column, value = before[-1].column, literal(_value(match[1]))
            said = f"{column.name} is {value}"
            sql = f"{quoted(column.name)} = {value}"
            found.append(Condition(column.name, sql, words, said, is_one_of=True))
    return found


def _value(text: str) -> float:
    found = re.match(r"[$€£]? ?([-+]?\d[\d,]*(?:\.\d+)?) ?(\w*)", text.strip())
    assert found is not None
    return float(found[1].replace(",", "")) * SCALES.get(found[2].lower(), 1.0)


def _nearest(
    asked: Asked, match: re.Match[str], numeric: Sequence[ColumnMention], columns: Sequence[Column]
) -> Column | None:
    """Return the number column that a comparison is about: named before it, else after, else the only amount there is."""
    words = asked.at(*match.span())
    if not words:
        return None
    if re.search(r"\b(older|younger)\b", match[0].lower()):
        ages = [c for c in columns if c.is_number and "age" in c.name.lower().replace("_", " ").split()]
        return ages[0] if ages else None
    before = [m for m in numeric if m.last < min(words) and min(words) - m.last <= 5]
    after = [m for m in numeric if m.first > max(words) and m.first - max(words) <= 3]
    if after and (not before or after[0].first - max(words) <= min(words) - before[-1].last):
        return after[0].column
    if before:
        return before[-1].column
    return _amount(columns)


def _amount(columns: Sequence[Column]) -> Column | None:
    """Return the one column of amounts that `over 10,000` can mean: by its unit, or else by its name."""
    numbers = [c for c in columns if c.is_number]
    measured = [c for c in numbers if c.unit not in ("", "%")]
    called = [c for c in measured or numbers if _AMOUNTS.intersection(name_parts(c.name))]
    return next((own[0] for own in (measured, called) if len(own) == 1), None)


def _ordinals(asked: Asked, mentions: Sequence[ColumnMention]) -> list[Condition]:
    """`first class`, `class 1`: an ordinal before a column of whole numbers, or a number right after one."""
    found = []
    for mention in mentions:
        column = mention.column
        if column.kind != "integer" or column.high is None or column.high - (column.low or 0) > 20:
            continue
        n = mention.first - 1
        value: float | None = ORDINALS.get(asked.words[n].lower) if n >= 0 else None
        words = frozenset((n,))
        after = mention.last + 1
        if value is None and after < len(asked.words) and asked.words[after].number is not None:
            gap = asked.text[asked.words[mention.last].end : asked.words[after].start]
            value, words = (
                (asked.words[after].number, frozenset((after,))) if gap.strip() in ("", '"', "'") else (None, words)
            )
        if value is not None and column.low <= value <= column.high:
            text = literal(float(value))
            sql, said = f"{quoted(column.name)} = {text}", f"{column.name} is {text}"
            found.append(Condition(column.name, sql, words | mention.words, said, is_one_of=True))
    return found


def _truths(asked: Asked, mentions: Sequence[ColumnMention]) -> list[Condition]:
    """`passengers who survived`: a column of 0 and 1, or of truth values, after `who`, `that were` and the like."""
    found = []
    for mention in mentions:
        column = mention.column
        is_truth = column.kind == "boolean" or (column.kind == "integer" and (column.low, column.high) == (0, 1))
        is_yes = column.kind == "text" and {v.lower() for v in column.values} in ({"yes", "no"}, {"y", "n"})
        who = _WHO.search(asked.text[: asked.words[mention.first].start])
        if who is None or not (is_truth or is_yes):
            continue
        wanted = who[1] is None
        if is_yes:
            wish = "y" if wanted else "n"
            value = next(v for v in column.values if v.lower().startswith(wish))
        else:
            value = ("true" if wanted else "false") if column.kind == "boolean" else str(int(wanted))
        text = literal(value) if is_yes else value
        sql = f"{quoted(column.name)} = {text}"
        words = mention.words | asked.at(*who.span())
        found.append(Condition(column.name, sql, words, f"{column.name} is {value}", is_one_of=True))
    return found
