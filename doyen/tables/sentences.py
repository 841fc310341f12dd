"""A plan and its rows → the answer in words: the value first, then what it is of; or `@name[value]` where that is asked for.

Knows no SQL. Numbers are rounded as the question asks, else to what can be read.
"""

from __future__ import annotations

import datetime
import decimal
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from doyen.tables.asked import Asked
from doyen.tables.bounds import in_words
from doyen.tables.loading import Column
from doyen.tables.plans import Plan, name_of

_DECIMALS = re.compile(r"(\d|one|two|three|four|five|six|no|zero)[- ](?:decimal|digits? after)", re.IGNORECASE)
_SPELT = {w: n for n, w in enumerate("zero one two three four five six".split())} | {"no": 0}
_WHOLE = re.compile(r"(?:nearest|to (?:an?|the)) (?:whole number|integer|whole)", re.IGNORECASE)
_SHOWN_ROWS, _SHOWN_GROUPS, _SHOWN_CELLS = 10, 50, 8
_ALPHA = 0.05


@dataclass(frozen=True, slots=True)
class Value:
    """One value of an answer: `kind` and `columns` say of what, `group` of which rows."""

    value: Any
    kind: str
    columns: tuple[Column, ...] = ()
    group: Any = None


def decimals_asked(asked: Asked) -> int | None:
    """Return to how many decimal places the question wants numbers; None where it does not say."""
    for text in (asked.text, asked.instructions):
        if found := _DECIMALS.search(text):
            return int(found[1]) if found[1].isdigit() else _SPELT[found[1].lower()]
        if _WHOLE.search(text):
            return 0
    return None


def shown(value: Any, decimals: int | None = None, unit: str = "", *, thousands: bool = True) -> str:
    """Return a value as text: numbers with their unit, dates as ISO 8601, nothing as `no value`."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return "no value"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, decimal.Decimal):
        value = float(value)
    if isinstance(value, datetime.datetime):
        return value.date().isoformat() if value.time() == datetime.time() else value.isoformat(" ")
    if isinstance(value, datetime.date):
        return value.isoformat()
    if not isinstance(value, int | float):
        return str(value)
    return _with_unit(_number(value, decimals, thousands), unit)


def _number(value: float, decimals: int | None, thousands: bool) -> str:
    mark = "," if thousands else ""
    if isinstance(value, int):
        return f"{value:{mark}d}"
    if math.isinf(value):
        return "infinite"
    if decimals is not None:
        return f"{value:{mark}.{decimals}f}"
    if value.is_integer() and abs(value) < 1e15:
        return f"{int(value):{mark}d}"
    digits = 2 if abs(value) >= 1 else min(12, 3 - math.floor(math.log10(abs(value))))
    return f"{value:{mark}.{digits}f}"


def _with_unit(number: str, unit: str) -> str:
    if not unit:
        return number
    if unit in "$€£¥":
        return f"{unit}{number}"
    if unit in "%°":
        return f"{number}{unit}"
    return f"{unit} {number}" if unit.isupper() and len(unit) == 3 else f"{number} {unit}"


def values_of(plan: Plan, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> list[Value]:
    """Return the values of a result with what each is of."""
    found: list[Value] = []
    if _is_of_columns(plan):
        return _of_columns(plan, rows[0])
    for row in rows:
        if not plan.measures:
            found += [Value(v, "cell", (_column(plan, c),)) for c, v in zip(columns, row, strict=True)]
        elif plan.measures[0].kind == "strongest":
            found += [Value(row[0], "arg"), Value(row[1], "corr", plan.measures[0].columns)]
        elif plan.extreme and plan.arg is not None:
            found += [Value(row[0], "arg", (plan.arg,))]
            found += [Value(v, m.kind, m.columns, row[0]) for m, v in zip(plan.measures, row[1:], strict=False)]
        else:
            key, rest = (row[0], row[1:]) if plan.group else (None, row)
            found += [Value(v, m.kind, m.columns, key) for m, v in zip(plan.measures, rest, strict=True)]
    return found


def _is_of_columns(plan: Plan) -> bool:
    """Whether several columns are asked about by how much of them is missing."""
    return plan.group is None and len(plan.measures) > 1 and all(m.kind.startswith("missing") for m in plan.measures)


def _of_columns(plan: Plan, row: Sequence[Any]) -> list[Value]:
    """Return the columns of which something is missing, most first, or the one that is asked for."""
    pairs = [(m.columns[0], m.kind, v) for m, v in zip(plan.measures, row, strict=True) if v or plan.extreme < 0]
    pairs.sort(key=lambda pair: pair[2], reverse=plan.extreme >= 0)
    if plan.extreme:
        pairs = pairs[:1]
    found = [Value(", ".join(c.name for c, _, _ in pairs) or "none", "arg")]
    return found + [Value(v, kind, (c,)) for c, kind, v in pairs]


def _column(plan: Plan, name: str) -> Column:
    return next((c for c in plan.table.columns if c.name == name), Column(name, "text"))


def unit_of(value: Value) -> str:
    """Return the unit of a value: that of its column, where the calculation keeps it."""
    if value.kind in ("share", "missing_share"):
        return "%"
    keeps = value.kind in ("mean", "median", "std", "min", "max", "sum", "range", "mode", "quantile", "cell")
    return value.columns[0].unit if keeps and value.columns else ""


def sentence(
    plan: Plan,
    columns: Sequence[str],
    rows: Sequence[Sequence[Any]],
    decimals: int | None,
    *,
    truncated: bool = False,
) -> str:
    """Return the answer in words; `truncated`: there are more rows than these."""
    if not rows:
        return f"No row of {plan.table.table.name} fits{_bounds(plan)}."
    values = values_of(plan, columns, rows)
    if not plan.measures:
        return _looked_up(plan, columns, rows, decimals, truncated)
    if plan.measures[0].kind == "strongest":
        return f"{values[0].value} (correlation {shown(values[1].value, decimals)} with {plan.measures[0].columns[0].name})"
    if plan.extreme and plan.arg is not None:
        return _extremes(plan, values, decimals, truncated)
    if plan.group is not None:
        return _groups(plan, values, decimals, truncated)
    if _is_of_columns(plan):
        return (
            "; ".join(f"{v.columns[0].name}: {_said(v, decimals)}" for v in values[1:][:_SHOWN_GROUPS])
            or "No column has missing values."
        )
    parts = [_said(value, decimals) for value in values]
    bounds = _bounds(plan)
    if len(parts) == 1:
        what = _of(values[0])
        about = f"{what}{bounds}".strip()
        return f"{parts[0]} ({about})" if about else parts[0]
    listed = "; ".join(f"{_of(v)}: {p}" for v, p in zip(values, parts, strict=True))
    return listed + (f" ({bounds.strip()})" if bounds else "")


def _said(value: Value, decimals: int | None) -> str:
    if value.kind == "normal":
        if value.value is None:
            return "no value"
        verdict = "not normally distributed" if value.value < _ALPHA else "normally distributed"
        return f"{verdict}, p = {value.value:.4f} by the test of Jarque and Bera"
    return shown(value.value, None if isinstance(value.value, int) else decimals, unit_of(value))


def _of(value: Value) -> str:
    return name_of(value.kind, value.columns)


def _bounds(plan: Plan) -> str:
    among = f", of those where {in_words(plan.among)}" if plan.among else ""
    return f" where {in_words(plan.conditions)}{among}" if plan.conditions else ""


def _looked_up(
    plan: Plan, columns: Sequence[str], rows: Sequence[Sequence[Any]], decimals: int | None, truncated: bool
) -> str:
    units = {c.name: c.unit for c in plan.table.columns}
    if len(columns) == 1:
        found = list(dict.fromkeys(shown(row[0], decimals, units.get(columns[0], "")) for row in rows))
        return _listed(found, ", ", _SHOWN_ROWS, truncated)
    lines = [
        ", ".join(
            f"{c}: {shown(v, decimals, units.get(c, ''))}"
            for c, v in list(zip(columns, row, strict=True))[:_SHOWN_CELLS]
        )
        for row in rows
    ]
    return _listed(lines, "\n", _SHOWN_ROWS, truncated)


def _listed(parts: Sequence[str], between: str, most: int, truncated: bool) -> str:
    """Return the first parts, and how many more there are."""
    left = len(parts) - most
    more = "" if left <= 0 and not truncated else " and more" if truncated else f" and {left} more"
    return between.join(parts[:most]) + more


def _extremes(plan: Plan, values: Sequence[Value], decimals: int | None, truncated: bool) -> str:
    pairs = list(zip(values[::2], values[1::2], strict=False))
    what = _of(pairs[0][1]) if plan.group is not None else pairs[0][1].columns[0].name
    parts = [f"{shown(a.value)} ({what}: {_said(v, decimals)})" for a, v in pairs]
    return _listed(parts, "; ", _SHOWN_ROWS, truncated)


def _groups(plan: Plan, values: Sequence[Value], decimals: int | None, truncated: bool) -> str:
    by_group: dict[Any, list[Value]] = {}
    for value in values:
        by_group.setdefault(value.group, []).append(value)
    several = len(plan.measures) > 1
    lines = []
    for key, own in by_group.items():
        said = ", ".join(f"{_of(v)} {_said(v, decimals)}" if several else _said(v, decimals) for v in own)
        lines.append(f"{shown(key, thousands=False)}: {said}")
    head = "" if several else f"{_of(values[0])}{_bounds(plan)} — "
    return head + _listed(lines, "; ", _SHOWN_GROUPS, truncated)
