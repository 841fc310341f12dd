"""Filters on what is known of a document (`folder=contracts`, `date>=2026-01-01`, `author=Ito`) → the documents that meet them.

Enters: filters as a user writes them, the documents' rows. Leaves: a set of document ids, which the search takes. Knows no
chunk and no vector.
"""

from __future__ import annotations

import datetime
import fnmatch
import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import PurePosixPath
from typing import Any, TypeAlias

from doyen.errors import UsageError
from doyen.index.rows import one_of, quote

OPERATORS = ("!=", ">=", "<=", "=")
FIELDS = ("folder", "type", "date", "language", "title")
FILTER_COLUMNS = ("id", "media_type", "language", "modified_at", "title", "metadata")
_METADATA = "metadata."
_FILTER = re.compile(r"\s*([^=!<>]+?)\s*(!=|>=|<=|=)\s*(.*?)\s*", re.DOTALL)
_DATE = re.compile(r"(\d{4})(?:-(\d{1,2}))?(?:-(\d{1,2}))?")
_MOST_NAMED = 500  # ids in a condition: LanceDB's parser slows down with the square of their number
_SHOWN = 40


@dataclass(frozen=True, slots=True)
class Filter:
    """One condition: `field` as in FIELDS or a metadata name, `operator` as in OPERATORS, `value` with `*` and `?`."""

    field: str
    operator: str
    value: str

    @classmethod
    def parse(cls, text: str) -> Filter:
        """Read `KEY=VALUE`, `KEY!=VALUE`, `KEY>=VALUE` or `KEY<=VALUE`. Raises UsageError."""
        found = _FILTER.fullmatch(text)
        if found is None or not found[3]:
            raise UsageError(
                f"the filter '{text}' is not KEY=VALUE",
                hint=f"operators: {' '.join(OPERATORS)}; fields: {_names(FIELDS)}",
            )
        return cls(found[1], found[2], found[3])


@dataclass(frozen=True, eq=False)
class DocumentSet:
    """Documents that a search is held to."""

    ids: frozenset[str]

    @cached_property
    def condition(self) -> str | None:
        """The SQL condition over chunks, None where it would name too many."""
        if not self.ids:
            return "false"
        return one_of("document", sorted(self.ids)) if len(self.ids) <= _MOST_NAMED else None


@dataclass(frozen=True, slots=True)
class Visible:
    """What may be shown to someone with some labels: documents without any, and those that share one with `labels`.

    With `documents`, of these only. The store tests it within its query.
    """

    labels: frozenset[str]
    documents: DocumentSet | None = None

    @property
    def condition(self) -> str:
        """The SQL condition in LanceDB."""
        free = "(labels IS NULL OR array_length(labels) = 0 OR array_length(labels) IS NULL"
        if not self.labels:
            return f"{free})"
        return f"{free} OR array_has_any(labels, [{', '.join(map(quote, sorted(self.labels)))}]))"

    def shows(self, labels: Sequence[str]) -> bool:
        """Whether something with these labels may be shown."""
        return not labels or not self.labels.isdisjoint(labels)


Where: TypeAlias = str | DocumentSet | Visible
"""What a search is held to: a SQL condition over the chunks table, documents, or what someone may see."""


def parts_of(where: Where | None) -> tuple[DocumentSet | None, str | None]:
    """Return the documents and the SQL condition in LanceDB that a search is held to."""
    if isinstance(where, Visible):
        return where.documents, where.condition
    return (None, where) if where is None or isinstance(where, str) else (where, None)


Filters: TypeAlias = Mapping[str, str] | Sequence[str | Filter]


def parse_filters(filters: Filters) -> list[Filter]:
    """Return filters that were given as texts, as a mapping field → value (equal), or parsed. Raises UsageError."""
    if isinstance(filters, str):
        raise UsageError(f"filters are a list or a mapping, not the text '{filters}'", hint='["folder=contracts"]')
    if isinstance(filters, Mapping):
        return [Filter(name, "=", str(value)) for name, value in filters.items()]
    return [Filter.parse(f) if isinstance(f, str) else f for f in filters]


def documents_that_meet(filters: Sequence[Filter], rows: Iterable[dict[str, Any]]) -> DocumentSet:
    """Return the documents that meet all filters; `rows` have FILTER_COLUMNS.

    Raises:
        UsageError: no document has such a field, or a date is none.
    """
    tests = [(f, _field_of(f), _test(f)) for f in filters]
    known: dict[str, str] = {}
    found: list[str] = []
    met: set[str] = set()
    for row in rows:
        row = row | {"metadata": _metadata(row, known)}
        met.update(row["metadata"])
        if all(_meets(f, _values(field, row), test) for f, field, test in tests):
            found.append(row["id"])
    unknown = [f.field for f, field, _ in tests if field not in FIELDS and field.removeprefix(_METADATA) not in met]
    if unknown:
        raise UsageError(
            f"no document has a field '{unknown[0]}' to filter by",
            hint=f"the known ones are {_names([*FIELDS, *(_shown(known[key]) for key in sorted(met))])}",
        )
    return DocumentSet(frozenset(found))


def _metadata(row: dict[str, Any], known: dict[str, str]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for name, value in json.loads(row["metadata"] or "[]"):
        known.setdefault(name.casefold(), name)
        found.setdefault(name.casefold(), []).append(value)
    return found


def _shown(name: str) -> str:
    return _METADATA + name if name.casefold() in FIELDS else name


def _names(fields: Sequence[str]) -> str:
    more = f" and {len(fields) - _SHOWN} more" if len(fields) > _SHOWN else ""
    return ", ".join(fields[:_SHOWN]) + more


def _field_of(one: Filter) -> str:
    """Return a field of FIELDS, or the folded name of a metadata field (`metadata.date` is one, too)."""
    name = one.field.casefold()
    if name in FIELDS:
        return name
    bare = name.removeprefix(_METADATA)
    return f"{_METADATA}{bare}" if bare in FIELDS else bare


def _values(field: str, row: dict[str, Any]) -> list[Any]:
    """Return what a document has in a field; several where it stands for several, none where it lacks it."""
    if field == "folder":
        return [str(PurePosixPath(row["id"]).parent)]
    if field == "type":
        suffix = PurePosixPath(row["id"]).suffix.removeprefix(".")
        return [row["media_type"], row["media_type"].rpartition("/")[2], *([suffix] if suffix else [])]
    if field == "date":
        return [row["modified_at"]] if row["modified_at"] else []
    if field in FIELDS:
        return [row[field]] if row[field] else []
    values: list[str] = row["metadata"].get(field.removeprefix(_METADATA), [])
    return values


def _meets(one: Filter, values: Sequence[Any], test: Callable[[Any], bool]) -> bool:
    if one.operator == "!=":
        return not any(test(value) for value in values)
    return any(test(value) for value in values)


def _test(one: Filter) -> Callable[[Any], bool]:
    """Return the test of one value; that of `!=` is the test of `=`."""
    field, wanted = _field_of(one), one.value.casefold()
    if field == "date":
        start, end = _period(one)
        if one.operator == ">=":
            return lambda moment: bool(moment >= start)
        if one.operator == "<=":
            return lambda moment: bool(moment < end)
        return lambda moment: bool(start <= moment < end)
    if one.operator in (">=", "<="):
        return _order(one)
    if field == "folder":
        wanted = wanted.strip("/") or "*"
        below = re.compile(fnmatch.translate(wanted)), re.compile(fnmatch.translate(f"{wanted}/*"))
        return lambda folder: any(pattern.fullmatch(folder.casefold()) for pattern in below)
    if field == "type":
        wanted = wanted.removeprefix(".")
    pattern = re.compile(fnmatch.translate(wanted))
    return lambda value: pattern.fullmatch(str(value).casefold()) is not None


def _order(one: Filter) -> Callable[[Any], bool]:
    """Return the test of ≥ or ≤: by number where both are numbers, else by text (dates as 2026-01-31 sort so)."""
    least = one.operator == ">="
    number = _number(one.value)

    def test(value: str) -> bool:
        own = _number(value)
        if number is not None and own is not None:
            return own >= number if least else own <= number
        return value.casefold() >= one.value.casefold() if least else value.casefold() <= one.value.casefold()

    return test


def _number(text: str) -> float | None:
    try:
        return float(text.replace(",", ""))
    except ValueError:
        return None


def _period(one: Filter) -> tuple[float, float]:
    """Return the first moment of a day, month or year and the first after it (UTC), in seconds since the epoch."""
    found = _DATE.fullmatch(one.value)
    try:
        if found is None:
            raise ValueError
        year, month, day = (int(part) if part else None for part in found.groups())
        start = datetime.datetime(year or 0, month or 1, day or 1, tzinfo=datetime.UTC)
        if day:
            end = start + datetime.timedelta(days=1)
        elif month:
            end = start.replace(year=start.year + month // 12, month=month % 12 + 1)
        else:
            end = start.replace(year=start.year + 1)
    except (ValueError, OverflowError):
        raise UsageError(
            f"'{one.value}' in the filter {one.field}{one.operator}{one.value} is no date",
            hint="date>=2026-01-31, date=2026",
        ) from None
    return start.timestamp(), end.timestamp()
