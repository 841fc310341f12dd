"""Dates in a question (a day, a month, a quarter, a year; since, until, between) → conditions on a date or year column."""

from __future__ import annotations

import datetime
import re
from collections.abc import Sequence

from doyen.tables.asked import ORDINALS, Asked
from doyen.tables.bounds import Condition, literal
from doyen.tables.executing import quoted
from doyen.tables.loading import Column
from doyen.tables.mentions import ColumnMention

_MONTHS = {m: n for n, m in enumerate("jan feb mar apr may jun jul aug sep oct nov dec".split(), start=1)}
_MONTH = r"(jan(?:uary)?|feb(?:ruary)?|mar(?:ch)?|apr(?:il)?|may|june?|july?|aug(?:ust)?|sept?(?:ember)?|oct(?:ober)?|nov(?:ember)?|dec(?:ember)?)"
_DAY = re.compile(
    rf"(\d{{4}})-(\d\d)-(\d\d)|(\d{{1,2}})(?:st|nd|rd|th)?(?: of)? {_MONTH},? (\d{{4}})|{_MONTH} (\d{{1,2}})(?:st|nd|rd|th)?,? (\d{{4}})",
    re.IGNORECASE,
)
_MONTH_YEAR = re.compile(rf"(?<!\w){_MONTH}(?:,? (?:of )?((?:19|20)\d\d))?(?!\w)", re.IGNORECASE)
_QUARTER = re.compile(r"(?:q([1-4])|(first|second|third|fourth) quarter)(?: of)?(?:,? ((?:19|20)\d\d))?", re.IGNORECASE)
_YEAR = re.compile(r"(?<![\w.-])((?:19|20)\d\d)(?![\w-]|\.\d)")
_SINCE = re.compile(r"(?:since|after|from|later than|starting(?: in)?)\s+(?:the )?(?:year )?$", re.IGNORECASE)
_UNTIL = re.compile(r"(?:before|until|till|by|earlier than|up to|prior to)\s+(?:the )?(?:year )?$", re.IGNORECASE)
_BETWEEN = re.compile(r"(?:between|from)\s+(?:the )?$", re.IGNORECASE)
_JOINED = re.compile(r"(?:\s+(?:and|or|to|until|through)|,)\s+(?:the )?", re.IGNORECASE)
_Part = tuple[re.Match[str], frozenset[int], re.Pattern[str]]


def date_conditions(
    asked: Asked, columns: Sequence[Column], mentions: Sequence[ColumnMention], used: frozenset[int]
) -> list[Condition]:
    """Return the bounds that dates set, by words that are not `used` otherwise."""
    column = _date_column(columns, mentions)
    year = _year_column(columns, mentions)
    found: list[Condition] = []
    taken: set[int] = set(used)
    moments: list[tuple[re.Match[str], datetime.date, datetime.date]] = []
    parts: list[_Part] = []
    for pattern in (_DAY, _QUARTER, _MONTH_YEAR, _YEAR):
        for match in pattern.finditer(asked.text):
            words = asked.at(*match.span())
            if not words or words & taken or not _is_date(asked, match, pattern):
                continue
            taken |= words
            period = _period(match, pattern) or _with_the_year_of_the_next(asked, match, pattern)
            if pattern is _YEAR and year is not None:
                found.append(_year_condition(asked, match, words, year))
            elif column is not None and period is None:
                parts.append((match, words, pattern))
            elif column is not None and period is not None:
                moments.append((match, *period))
    if column is None:
        return found
    found += _part_conditions(asked, column, parts)
    return found + _period_conditions(asked, column, sorted(moments, key=lambda m: m[0].start()))


def _is_date(asked: Asked, match: re.Match[str], pattern: re.Pattern[str]) -> bool:
    """Whether a match is a date: `may` alone is a verb in small letters."""
    if pattern is _MONTH_YEAR and match[0].lower() in ("may", "mar", "sep", "dec", "march", "jan"):
        return match[0][0].isupper() and bool(
            re.search(
                r"(?:in|of|during|for|since|until|and|or|to|from|between|before|after|by)\s+$",
                asked.text[: match.start()],
                re.IGNORECASE,
            )
        )
    return True


def _date_column(columns: Sequence[Column], mentions: Sequence[ColumnMention]) -> Column | None:
    named = [m.column for m in mentions if m.column.is_moment]
    return next(iter(named or [c for c in columns if c.is_moment]), None)


def _year_column(columns: Sequence[Column], mentions: Sequence[ColumnMention]) -> Column | None:
    def is_year(c: Column) -> bool:
        return c.kind == "integer" and c.low is not None and 1500 <= c.low and c.high <= 2200

    named = [m.column for m in mentions if is_year(m.column)]
    own = named or [
        c for c in columns if is_year(c) and ("year" in c.name.lower() or c.name.lower() in ("time", "date"))
    ]
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


def _with_the_year_of_the_next(
    asked: Asked, match: re.Match[str], pattern: re.Pattern[str]
) -> tuple[datetime.date, datetime.date] | None:
    """Return the period of a month that is joined with one of a year: March in `March and April 2024`."""
    if pattern is not _MONTH_YEAR or (joined := _JOINED.match(asked.text, match.end())) is None:
        return None
    after = _MONTH_YEAR.match(asked.text, joined.end())
    return _months(int(after[2]), _MONTHS[match[1][:3].lower()], 1) if after and after[2] else None


def _part_conditions(asked: Asked, column: Column, parts: Sequence[_Part]) -> list[Condition]:
    """Return the bounds of months and quarters of any year; from one to another where the question says so."""
    found: list[Condition] = []
    rest = list(parts)
    while rest:
        match, words, pattern = rest.pop(0)
        part, first = _part(match, pattern)
        before, name = asked.text[: match.start()], f"{part}({quoted(column.name)})"
        sign, how = _side(before)
        sql, said = f"{name} {sign} {first}", f"{column.name} is {how} {match[0]}"
        joined = rest and _BETWEEN.search(before) and _JOINED.match(asked.text, match.end())
        if joined and joined.end() == rest[0][0].start() and pattern is rest[0][2]:
            other, more, _ = rest.pop(0)
            words |= more
            last = _part(other, pattern)[1]
            sql = f"{name} BETWEEN {first} AND {last}" if first <= last else f"({name} >= {first} OR {name} <= {last})"
            sign, said = "=", f"{column.name} is in {match[0]} to {other[0]}"
        found.append(Condition(column.name, sql, words, said, part, is_one_of=sign == "="))
    return found


def _side(before: str) -> tuple[str, str]:
    """Return how a bound compares, by what stands before its month, quarter or year, and how that reads."""
    if re.search(r"after\s+(?:the )?(?:year )?$", before, re.IGNORECASE):
        return ">", "after"
    if _SINCE.search(before):
        return ">=", "from"
    if re.search(r"(?:until|till|up to)\s+(?:the )?(?:year )?$", before, re.IGNORECASE):
        return "<=", "until"
    return ("<", "before") if _UNTIL.search(before) else ("=", "in")


def _part(match: re.Match[str], pattern: re.Pattern[str]) -> tuple[str, int]:
    return ("quarter", _quarter(match)) if pattern is _QUARTER else ("month", _MONTHS[match[1][:3].lower()])


def _year_condition(asked: Asked, match: re.Match[str], words: frozenset[int], column: Column) -> Condition:
    operator, _ = _side(asked.text[: match.start()])
    sql = f"{quoted(column.name)} {operator} {match[1]}"
    return Condition(column.name, sql, words, f"{column.name} {operator} {match[1]}", is_one_of=operator == "=")


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
        between = _BETWEEN.search(before)
        if (
            between
            and rest
            and re.fullmatch(r"\s+(?:and|to|until|through)\s+(?:the )?", asked.text[match.end() : rest[0][0].start()])
        ):
            other, _, end = rest.pop(0)
            words |= asked.at(*other.span())
        elif re.search(r"after\s+(?:the )?$", before, re.IGNORECASE):
            found.append(
                Condition(column.name, f"{name} >= {literal(end)}", words, f"{column.name} is after {match[0]}")
            )
            continue
        elif _SINCE.search(before):
            found.append(
                Condition(column.name, f"{name} >= {literal(start)}", words, f"{column.name} is from {match[0]} on")
            )
            continue
        elif _UNTIL.search(before):
            found.append(
                Condition(column.name, f"{name} < {literal(start)}", words, f"{column.name} is before {match[0]}")
            )
            continue
        sql = f"({name} >= {literal(start)} AND {name} < {literal(end)})"
        last = end - datetime.timedelta(days=1)
        said = f"{column.name} is from {start} to {last}"
        found.append(Condition(column.name, sql, words, said, is_one_of=True))
    return found
