"""A question's bounds on rows: values, comparisons, dates → conditions in SQL with the words that say them.

Enters: the question with its mentions. Leaves: Conditions. Values are written into the SQL as literals, quoted.
"""

from __future__ import annotations

import datetime
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from doyen.tables.asked import ORDINALS, Asked, name_parts
from doyen.tables.executing import quoted
from doyen.tables.loading import Column
from doyen.tables.mentions import ColumnMention, ValueMention

_MONTHS = {m: n for n, m in enumerate("jan feb mar apr may jun jul aug sep oct nov dec".split(), start=1)}
_MONTH = r"(jan(?:uary)?|feb(?:ruary)?|mar(?:ch)?|apr(?:il)?|may|june?|july?|aug(?:ust)?|sept?(?:ember)?|oct(?:ober)?|nov(?:ember)?|dec(?:ember)?)"
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
_DAY = re.compile(
    rf"(\d{{4}})-(\d\d)-(\d\d)|(\d{{1,2}})(?:st|nd|rd|th)?(?: of)? {_MONTH},? (\d{{4}})|{_MONTH} (\d{{1,2}})(?:st|nd|rd|th)?,? (\d{{4}})",
    re.IGNORECASE,
)
_MONTH_YEAR = re.compile(rf"(?<!\w){_MONTH}(?:,? (?:of )?((?:19|20)\d\d))?(?!\w)", re.IGNORECASE)
_QUARTER = re.compile(r"(?:q([1-4])|(first|second|third|fourth) quarter)(?: of)?(?:,? ((?:19|20)\d\d))?", re.IGNORECASE)
_YEAR = re.compile(r"(?<![\w.-])((?:19|20)\d\d)(?![\w-]|\.\d)")
_SINCE = re.compile(r"(?:since|after|from|later than|starting(?: in)?)\s+(?:the )?(?:year )?$", re.IGNORECASE)
_UNTIL = re.compile(r"(?:before|until|till|by|earlier than|up to|prior to)\s+(?:the )?(?:year )?$", re.IGNORECASE)
_AMOUNTS = frozenset("amount amounts value sum total paid cost costs price claimed revenue sales charge charges".split())
_NEGATION = re.compile(r"(?:not|never|except|excluding|other than|without|non|n't)\s*-?\s*(?:the |in |a |from )?$", re.IGNORECASE)
_TRUTHS = {frozenset((0, 1)), frozenset((0,)), frozenset((1,))}
_WHO = re.compile(r"(?:who|that|which|were|was|are|is|have|has|had)(?: (not|never|didn't|did not|do not|don't))?(?: been)?\s+$", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Condition:
    """A bound on rows: SQL, the words that say it, and how it reads in English."""

    column: str
    sql: str
    words: frozenset[int]
    said: str


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
        *_dates(asked, columns, mentions, used),
        *_numbers(asked, columns, mentions),
        *_ordinals(asked, mentions),
        *_truths(asked, mentions),
    ):
        if not one.words & frozenset(n for c in found for n in c.words):
            found.append(one)
    return found


def literal(value: Any) -> str:
    """Return a value as SQL has it."""
    if isinstance(value, str):
        return "'" + value.replace("'", "''") + "'"
    if isinstance(value, datetime.datetime):
        return f"TIMESTAMP '{value.isoformat(' ')}'"
    if isinstance(value, datetime.date):
        return f"DATE '{value.isoformat()}'"
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)


def _of_value(asked: Asked, mention: ValueMention) -> Condition:
    start = asked.words[min(mention.words)].start
    negated = _NEGATION.search(asked.text[:start]) is not None
    name, texts = quoted(mention.column.name), [literal(v) for v in mention.values]
    if len(texts) == 1:
        sql = f"{name} {'<>' if negated else '='} {texts[0]}"
    else:
        sql = f"{name} {'NOT IN' if negated else 'IN'} ({', '.join(texts)})"
    said = f"{mention.column.name} is {'not ' if negated else ''}{mention.values[0]}"
    return Condition(mention.column.name, sql, mention.words, said)


def merged(found: Sequence[Condition]) -> list[str]:
    """Return the conditions' SQL: several equal-conditions on one column are alternatives, all others hold together."""
    by_column: dict[str, list[str]] = {}
    for one in found:
        by_column.setdefault(one.column, []).append(one.sql)
    parts: list[str] = []
    for own in by_column.values():
        own = list(dict.fromkeys(own))
        equal = [sql for sql in own if re.search(r"\" (=|IN) ", sql)]
        parts += [f"({' OR '.join(equal)})"] if len(equal) > 1 else equal
        parts += [sql for sql in own if sql not in equal]
    return parts


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
            found.append(Condition(column.name, f"{quoted(column.name)} = {value}", words, said))
    return found


def _value(text: str) -> float:
    scales = {"k": 1e3, "thousand": 1e3, "million": 1e6, "billion": 1e9, "bn": 1e9}
    found = re.match(r"[$€£]? ?([-+]?\d[\d,]*(?:\.\d+)?) ?(\w*)", text.strip())
    assert found is not None
    return float(found[1].replace(",", "")) * scales.get(found[2].lower(), 1.0)


def _nearest(
    asked: Asked, match: re.Match[str], numeric: Sequence[ColumnMention], columns: Sequence[Column]
) -> Column | None:
    """Return the number column that a comparison is about: named before it, else after, else the only amount there is."""
    words = asked.at(*match.span())
    if not words:
        return None
    if re.search(r"\b(older|younger)\b", match[0].lower()):
        ages = [c for c in columns if c.is_number and "age" in c.name.lower().replace("_", " ").split()]
        if ages:
            return ages[0]
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
        value = ORDINALS.get(asked.words[n].lower) if n >= 0 else None
        words = frozenset((n,))
        after = mention.last + 1
        if value is None and after < len(asked.words) and asked.words[after].number is not None:
            gap = asked.text[asked.words[mention.last].end : asked.words[after].start]
            value, words = (asked.words[after].number, frozenset((after,))) if gap.strip() in ("", '"', "'") else (None, words)
        if value is not None and column.low <= value <= column.high:
            text = literal(float(value))
            sql = f"{quoted(column.name)} = {text}"
            found.append(Condition(column.name, sql, words | mention.words, f"{column.name} is {text}"))
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
        found.append(Condition(column.name, sql, mention.words, f"{column.name} is {value}"))
    return found


# ---- dates


def _dates(
    asked: Asked, columns: Sequence[Column], mentions: Sequence[ColumnMention], used: frozenset[int]
) -> list[Condition]:
    column = _date_column(columns, mentions)
    year = _year_column(columns, mentions)
    found: list[Condition] = []
    taken: set[int] = set(used)
    moments: list[tuple[re.Match[str], datetime.date, datetime.date]] = []
    for pattern in (_DAY, _QUARTER, _MONTH_YEAR, _YEAR):
        for match in pattern.finditer(asked.text):
            words = asked.at(*match.span())
            if not words or words & taken or not _is_date(asked, match, pattern):
                continue
            taken |= words
            period = _period(match, pattern)
            if pattern is _YEAR and year is not None:
                found.append(_year_condition(asked, match, words, year))
            elif column is not None and period is None:
                found.append(_part_condition(match, words, pattern, column))
            elif column is not None and period is not None:
                moments.append((match, *period))
    return found + (_period_conditions(asked, column, sorted(moments, key=lambda m: m[0].start())) if column else [])


def _is_date(asked: Asked, match: re.Match[str], pattern: re.Pattern[str]) -> bool:
    """Whether a match is a date: `may` alone is a verb in small letters."""
    if pattern is _MONTH_YEAR and match[0].lower() in ("may", "mar", "sep", "dec", "march", "jan"):
        return match[0][0].isupper() and bool(re.search(r"(?:in|of|during|for|since|until|and|or|to|from)\s+$", asked.text[: match.start()], re.IGNORECASE))
    return True


def _date_column(columns: Sequence[Column], mentions: Sequence[ColumnMention]) -> Column | None:
    named = [m.column for m in mentions if m.column.is_moment]
    return (named or [c for c in columns if c.is_moment] or [None])[0]


def _year_column(columns: Sequence[Column], mentions: Sequence[ColumnMention]) -> Column | None:
    def is_year(c: Column) -> bool:
        return c.kind == "integer" and c.low is not None and 1500 <= c.low and c.high <= 2200

    named = [m.column for m in mentions if is_year(m.column)]
    own = named or [c for c in columns if is_year(c) and ("year" in c.name.lower() or c.name.lower() in ("time", "date"))]
    return own[0] if own else None


def _period(match: re.Match[str], pattern: re.Pattern[str]) -> tuple[datetime.date, datetime.date] | None:
    """Return the first day of a period and the first day after it; None where it names no year."""
    try:
        if pattern is _DAY:
            day = _day(match)
            return day, day + datetime.timedelta(days=1)
        if pattern is _YEAR:
            return datetime.date(int(match[1]), 1, 1), datetime.date(int(match[1]) + 1, 1, 1)
        if pattern is _QUARTER:
            return None if match[3] is None else _months(int(match[3]), 3 * _quarter(match) - 2, 3)
        return None if match[2] is None else _months(int(match[2]), _MONTHS[match[1][:3].lower()], 1)
    except ValueError:
        return None


def _day(match: re.Match[str]) -> datetime.date:
    if match[1]:
        return datetime.date(int(match[1]), int(match[2]), int(match[3]))
    if match[4]:
        return datetime.date(int(match[6]), _MONTHS[match[5][:3].lower()], int(match[4]))
    return datetime.date(int(match[9]), _MONTHS[match[7][:3].lower()], int(match[8]))


def _quarter(match: re.Match[str]) -> int:
    return int(match[1]) if match[1] else ORDINALS[match[2].lower()]


def _months(year: int, month: int, count: int) -> tuple[datetime.date, datetime.date]:
    end = month + count
    return datetime.date(year, month, 1), datetime.date(year + (end > 12), end - 12 if end > 12 else end, 1)


def _part_condition(match: re.Match[str], words: frozenset[int], pattern: re.Pattern[str], column: Column) -> Condition:
    part, value = ("quarter", _quarter(match)) if pattern is _QUARTER else ("month", _MONTHS[match[1][:3].lower()])
    sql = f"{part}({quoted(column.name)}) = {value}"
    return Condition(f"{column.name}:{part}", sql, words, f"{column.name} is in {match[0]}")


def _year_condition(asked: Asked, match: re.Match[str], words: frozenset[int], column: Column) -> Condition:
    before = asked.text[: match.start()]
    operator = ">" if re.search(r"after\s+(the )?(year )?$", before) else ">=" if _SINCE.search(before) else "="
    operator = "<=" if re.search(r"(until|till|up to)\s+$", before) else "<" if _UNTIL.search(before) else operator
    sql = f"{quoted(column.name)} {operator} {match[1]}"
    return Condition(column.name, sql, words, f"{column.name} {operator} {match[1]}")


def _period_conditions(
    asked: Asked, column: Column, moments: Sequence[tuple[re.Match[str], datetime.date, datetime.date]]
) -> list[Condition]:
    name = quoted(column.name)
    found: list[Condition] = []
    rest = list(moments)
    while rest:
        match, start, end = rest.pop(0)
        words = asked.at(*match.span())
        before = asked.text[: match.start()]
        between = re.search(r"(?:between|from)\s+(?:the )?$", before, re.IGNORECASE)
        if between and rest and re.fullmatch(r"\s+(?:and|to|until|through)\s+(?:the )?", asked.text[match.end() : rest[0][0].start()]):
            other, _, end = rest.pop(0)
            words |= asked.at(*other.span())
        elif re.search(r"after\s+(?:the )?$", before, re.IGNORECASE):
            found.append(Condition(column.name, f"{name} >= {literal(end)}", words, f"{column.name} is after {match[0]}"))
            continue
        elif _SINCE.search(before):
            found.append(Condition(column.name, f"{name} >= {literal(start)}", words, f"{column.name} is from {match[0]} on"))
            continue
        elif _UNTIL.search(before):
            found.append(Condition(column.name, f"{name} < {literal(start)}", words, f"{column.name} is before {match[0]}"))
            continue
        sql = f"({name} >= {literal(start)} AND {name} < {literal(end)})"
        last = end - datetime.timedelta(days=1)
        found.append(Condition(column.name, sql, words, f"{column.name} is from {start} to {last}"))
    return found
