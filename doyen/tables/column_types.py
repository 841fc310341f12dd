"""Cells (texts) → a typed Arrow column: whole numbers, numbers (with a unit), dates, truth values, else text.

A column has a type only where every filled cell fits it: a code with leading zeros stays text. Knows no SQL.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from doyen.documents.tables import NUMBER, number_of

Kind = Literal["integer", "number", "date", "timestamp", "boolean", "text"]
_MISSING = frozenset(("", "na", "n/a", "#n/a", "nan", "null", "none", "nil", "-", "--", "?"))
_MISSING_TEXTS = frozenset(("", "NA", "N/A", "#N/A", "n/a", "NaN", "nan", "NULL", "null", "None", "<NA>", "#NA"))
"""In a column of text, what pandas takes for no value too: `none` or `-` may be a value there."""
_WHOLE = re.compile(r"[-+]?(0|[1-9]\d{0,17})")
_FLOAT = re.compile(r"[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?")
_LEADING_ZERO = re.compile(r"[-+]?0\d+")
_PHONE = re.compile(r"\d[\d ]* \d")
_CURRENCY = re.compile(r"[$€£¥]")
_NUMBER = r"[-+]?[\d][\d,.']*"
_BEFORE = re.compile(rf"([A-Za-z]{{1,4}}\.?) ({_NUMBER})")
_AFTER = re.compile(
    rf"({_NUMBER})(?: ?(%|°[CF]|[kMGT]i?B|[kcm]?m[²2³3]?|[km]?g|[mh]?l|k?Wh?|km/h|ms|min|s|h)| ([A-Za-z]{{1,12}}\.?))"
)
"""A number with its unit: `EUR 5,359`, `12 kg`, `45kW`; a code such as `F1` has no space in it."""
_DATE_FORMATS = (
    *("%Y-%m-%d", "%Y/%m/%d", "%d.%m.%Y", "%m/%d/%Y", "%d/%m/%Y", "%d-%m-%Y", "%m/%d/%y", "%d/%m/%y"),
    *("%d-%b-%Y", "%d-%b-%y", "%d %b %Y", "%d %B %Y", "%B %d, %Y", "%b %d, %Y"),
)
_TIMES = (" %H:%M:%S", "T%H:%M:%S", " %H:%M", "T%H:%M", " %I:%M:%S %p", " %I:%M %p")
_HAS_DATE = re.compile(r"\d{1,4}[-/. ]\w{1,9}[-/., ]|[A-Za-z]{3,9} \d{1,2}, \d{4}")
_FRACTION = re.compile(r"(\d\d:\d\d:\d\d)\.\d+")
_ZONE = re.compile(r"(\d\d:\d\d(:\d\d)?(\.\d+)?)(Z|[+-]\d\d:?\d\d)$")


@dataclass(frozen=True, slots=True)
class TypedColumn:
    """An Arrow array with its kind; `unit` is what stood at every number of it (`%`, `$`), else ""."""

    kind: Kind
    array: Any
    unit: str = ""


def typed(cells: Sequence[str | None]) -> TypedColumn:
    """Return a column in the narrowest type that all its filled cells have."""
    import pyarrow as pa

    filled = [c for c in cells if c is not None and c.strip().lower() not in _MISSING]
    if filled:
        for kind in (_as_boolean, _as_whole, _as_number, _as_marked_number, _as_date):
            if (found := kind(cells, filled)) is not None:
                return found
    return TypedColumn("text", pa.array([None if c is None or c in _MISSING_TEXTS else c for c in cells], pa.string()))


def is_missing(cell: str | None) -> bool:
    """Whether a cell says that there is no value."""
    return cell is None or cell.strip().lower() in _MISSING


def _mapped(cells: Sequence[str | None], convert: Callable[[str], Any]) -> list[Any]:
    return [None if is_missing(c) else convert(c or "") for c in cells]


def _as_boolean(cells: Sequence[str | None], filled: Sequence[str]) -> TypedColumn | None:
    import pyarrow as pa

    if not {c.lower() for c in filled} <= {"true", "false"}:
        return None
    return TypedColumn("boolean", pa.array(_mapped(cells, lambda c: c.lower() == "true"), pa.bool_()))


def _as_whole(cells: Sequence[str | None], filled: Sequence[str]) -> TypedColumn | None:
    import pyarrow as pa

    if not all(map(_WHOLE.fullmatch, filled)):
        return None
    return TypedColumn("integer", pa.array(_mapped(cells, int), pa.int64()))


def _as_number(cells: Sequence[str | None], filled: Sequence[str]) -> TypedColumn | None:
    import pyarrow as pa

    if not all(map(_FLOAT.fullmatch, filled)) or any(map(_LEADING_ZERO.fullmatch, filled)):
        return None
    return TypedColumn("number", pa.array(_mapped(cells, float), pa.float64()))


def _as_marked_number(cells: Sequence[str | None], filled: Sequence[str]) -> TypedColumn | None:
    """Numbers with thousands marks, a currency or a percent sign."""
    import pyarrow as pa

    if not all(map(NUMBER.fullmatch, filled)):
        return _as_measured(cells, filled)
    if any(_LEADING_ZERO.match(c) or (" " in c and _PHONE.fullmatch(c)) or c.count("-") > 1 for c in filled):
        return None
    numbers = pa.array(_mapped(cells, number_of), pa.float64())
    return TypedColumn("number", numbers, _unit(filled))


def _as_measured(cells: Sequence[str | None], filled: Sequence[str]) -> TypedColumn | None:
    """Numbers that all have the same unit before or after them."""
    import pyarrow as pa

    before = [_BEFORE.fullmatch(c) for c in filled]
    if all(before):
        units, place = {m[1] for m in before if m}, 2
        pattern = _BEFORE
    else:
        after = [_AFTER.fullmatch(c) for c in filled]
        if not all(after):
            return None
        units, place = {m[2] or m[3] for m in after if m}, 1
        pattern = _AFTER
    if len(units) != 1:
        return None

    def number(cell: str) -> float:
        found = pattern.fullmatch(cell)
        return number_of(found[place]) if found else 0.0

    return TypedColumn("number", pa.array(_mapped(cells, number), pa.float64()), units.pop())


def _unit(filled: Sequence[str]) -> str:
    if all(c.rstrip(") ").endswith("%") for c in filled):
        return "%"
    signs = Counter(m[0] for c in filled if (m := _CURRENCY.search(c)))
    return signs.most_common(1)[0][0] if signs.total() == len(filled) and len(signs) == 1 else ""


def _as_date(cells: Sequence[str | None], filled: Sequence[str]) -> TypedColumn | None:
    import pyarrow as pa
    import pyarrow.compute as pc

    if not all(map(_HAS_DATE.match, filled[:50])):
        return None
    texts = pa.array(_mapped(cells, lambda c: _ZONE.sub(r"\1", _FRACTION.sub(r"\1", c.strip()))), pa.string())
    sample = pa.array([_ZONE.sub(r"\1", _FRACTION.sub(r"\1", c.strip())) for c in filled[:50]], pa.string())
    for date in _DATE_FORMATS:
        for time in ("", *_TIMES):
            if pc.strptime(sample, date + time, "s", error_is_null=True).null_count:
                continue
            parsed = pc.strptime(texts, date + time, "s", error_is_null=True)
            if parsed.null_count == texts.null_count and _plausible(parsed):
                if time:
                    return TypedColumn("timestamp", parsed)
                return TypedColumn("date", parsed.cast(pa.date32()))
    return None


def _plausible(moments: Any) -> bool:
    """Whether years lie between 1000 and 2999: strptime takes `%Y` of two digits for the first century."""
    import pyarrow.compute as pc

    bounds = pc.min_max(pc.year(moments)).as_py()
    return bool(1000 <= bounds["min"] and bounds["max"] < 3000)
