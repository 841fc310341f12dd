"""A question and a table → a plan: what to calculate of which columns, for which rows, in which groups.

Deterministic: what the question names of the table (parts.py) is put together in the first way that fits. A plan says how
much of the question it accounts for; doyen/tables/routing.py decides whether that is enough.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace

from doyen.tables.accounting import coverage, misses
from doyen.tables.asked import Asked, name_parts, stem
from doyen.tables.bounds import Condition
from doyen.tables.loading import Column, LoadedTable
from doyen.tables.mentions import CORE, ColumnMention, is_open
from doyen.tables.operations import STRONG, UNCOLUMNED
from doyen.tables.parts import Parts
from doyen.tables.plans import Group, Measure, Plan

_ARG = re.compile(
    r"(?:^|[.,?!]\s*|\band\s+|\bif so,? )(?:which|who|what|whose|find|identify|name|list|give)\b(?: (?:is|are|the|of|has|have))*",
    re.IGNORECASE,
)
_TOP = re.compile(
    r"(?:top|bottom|first|highest|lowest|largest|smallest)\s+(\d{1,3}|two|three|four|five|six|seven|eight|nine|ten)\b",
    re.IGNORECASE,
)
_LIST = re.compile(r"^\s*(?:please )?(?:list|show|which|what are|who are|give me)\b", re.IGNORECASE)
_MOST = frozenset(("most", "fewest", "least"))
_OTHER = re.compile(r"^\s*(?:who|whom|whose|when|where|why)\b", re.IGNORECASE)
"""How questions begin that no calculation alone answers."""


def plan(asked: Asked, table: LoadedTable) -> Plan | None:
    """Return what a question asks of a table; None where no calculation and no row of it fits."""
    p = Parts(asked, table)
    found = _of_operations(p) or _lookup(p)
    if found is None:
        return None
    if _OTHER.search(asked.text) and found.arg is None and not found.shown:
        return None
    explained = _explained(p, found)
    if misses(p.asked, explained):
        return None
    covered, left = coverage(p.asked, explained)
    if _counts_others(p, found, left):
        covered /= 2
    used = [m for m in p.mentions if any(m.column in measure.columns for measure in found.measures)]
    if any(is_open(p.asked, m, p.columns) for m in used):
        return None
    sureness = min((m.score for m in used), default=0.6 if found.conditions else 0.0)
    if not found.measures:
        sureness = min((m.score for m in p.mentions if m.column in found.shown), default=0.0)
    if len(found.measures) > 1 and len(found.measures) == len(p.columns):
        sureness = 1.0  # all columns are asked about
    counts = bool(found.measures) and not any(m.columns for m in found.measures)
    return replace(
        found,
        coverage=covered,
        sureness=1.0 if counts else sureness,
        is_strong=p.asks("mode") is not None or any(m.kind in STRONG for m in found.measures),
        is_named=_names_table(p),
    )


def _of(p: Parts, measures: Sequence[Measure], *, group: Group | None = None, **more: object) -> Plan:
    return Plan(p.table, tuple(measures), tuple(p.conditions), group=group or p.group, **more)  # type: ignore[arg-type]


def _is_countable(column: Column) -> bool:
    """Whether a column holds numbers of things, as `accidents` does and `age` does not."""
    last = (name_parts(column.name) or [""])[-1]
    return column.kind == "integer" and last.endswith("s") and not last.endswith("ss")


def _of_operations(p: Parts) -> Plan | None:
    if p.asks("corr", "strongest"):
        return _correlation(p)
    for make in (_missing, _extreme, _share, _statistics, _counting):
        if make is _counting and any(o.kind in STRONG for o in p.operations):
            return None  # a number of rows is no answer to it
        if (found := make(p)) is not None:
            return found
    return None


def _correlation(p: Parts) -> Plan | None:
    operation = p.asks("corr", "strongest")
    if operation is None:
        return None
    targets = list(dict.fromkeys(m.column for m in p.targets("corr", operation)))
    if operation.kind == "strongest" and targets:
        return _of(p, [Measure("strongest", (targets[0],))])
    return _of(p, [Measure("corr", tuple(targets[:2]))]) if len(targets) >= 2 else None


def _missing(p: Parts) -> Plan | None:
    wanted = [o for o in p.operations if o.kind in ("missing", "missing_share")]
    if not wanted:
        return None
    named = list(dict.fromkeys(m.column for m in p.targets("missing", wanted[0])))
    kind = "missing_share" if any(o.kind == "missing_share" for o in wanted) else "missing"
    whole = not named or re.search(
        r"(which|what|each|every|any) (?:\w+ )?columns?\b|columns? (?:has|have|contain)",
        p.asked.text,
        re.IGNORECASE,
    )
    columns = p.columns if whole and not any(m.quoted for m in p.mentions) else tuple(named)
    best = p.asks("max", "min") if len(columns) > 1 else None
    sign = 0 if best is None else 1 if best.kind == "max" else -1
    return _of(p, [Measure(kind, (column,)) for column in columns], extreme=sign)


def _extreme(p: Parts) -> Plan | None:
    """Which X has the highest Y, the highest mean of Y, the most rows; the top 5 X by Y."""
    operation = p.asks("max", "min")
    argument = _argument(p)
    if operation is None or argument is None:
        return None
    sign = 1 if operation.kind == "max" else -1
    inner = p.asks("mean", "median", "sum", "std", "count", "missing", "distinct")
    targets = [m.column for m in p.targets("max", operation) if m.column.name != argument.name]
    top = _TOP.search(p.asked.text)
    limit = _number(p, top[1]) if top else 1
    if inner is not None and targets and inner.kind not in ("count",):
        measures = [Measure(inner.kind, (targets[0],))]
        return _of(p, measures, group=Group(argument), extreme=sign, arg=argument, limit=limit)
    if targets and _is_countable(targets[0]) and operation.detail in _MOST and not argument.is_key:
        measures = [Measure("sum", (targets[0],))]  # the most accidents: of all its rows together
        return _of(p, measures, group=Group(argument), extreme=sign, arg=argument, limit=limit)
    if targets:
        return _of(p, [Measure(operation.kind, (targets[0],))], extreme=sign, arg=argument, limit=limit)
    if operation.detail in _MOST or p.asks("count") is not None:
        return _of(p, [Measure("count")], group=Group(argument), extreme=sign, arg=argument, limit=limit)
    return None


def _number(p: Parts, text: str) -> int:
    word = next((w for w in p.asked.words if w.lower == text.lower() and w.number is not None), None)
    return max(1, min(100, int(word.number))) if word is not None and word.number is not None else 1


def _argument(p: Parts) -> Column | None:
    """Return the column that `which X` asks for."""
    for match in _ARG.finditer(p.asked.text):
        after = [m for m in p.mentions if p.asked.words[m.first].start >= match.end()]
        if not after:
            continue
        gap = p.asked.text[match.end() : p.asked.words[after[0].first].start].split()
        superlative = next((o for o in p.operations if o.kind in ("max", "min") and o.first < after[0].first), None)
        if len(gap) <= 3 and superlative is None and not after[0].column.kind == "number":
            return after[0].column
    if re.search(r"\bwho\b", p.asked.text, re.IGNORECASE):
        return next((c for c in p.columns if c.kind == "text" and "name" in name_parts(c.name)), None)
    return None


def _share(p: Parts) -> Plan | None:
    if p.asks("share") is None or not p.conditions:
        return None
    if any(o.kind in STRONG or o.kind in ("max", "min") for o in p.operations):
        return None
    parts = _share_of(p)
    return Plan(p.table, (Measure("share"),), parts[0], among=parts[1]) if parts else None


def _share_of(p: Parts) -> tuple[tuple[Condition, ...], tuple[Condition, ...]] | None:
    """Return the bounds of the rows that are counted, and of those that they are a share of; None where that is open.

    A date says of which rows; of two other bounds the first: diesel vehicles that are active.
    """
    dated = {c.name for c in p.columns if c.is_moment or "year" in name_parts(c.name)}
    others = sorted((c for c in p.conditions if c.column not in dated), key=lambda c: min(c.words))
    dates = tuple(c for c in p.conditions if c.column in dated)
    if len({c.column for c in others}) <= 1:
        return (tuple(others), dates) if others else (dates, ())
    if len(others) != 2:
        return None
    first, last = others
    between = p.asked.text[p.asked.words[max(first.words)].end : p.asked.words[min(last.words)].start]
    joined = re.match(r"\s*(?:,|and\b|or\b)", between)
    return None if joined else ((last,), (first, *dates))


def _statistics(p: Parts) -> Plan | None:
    """One or several calculations, each of the columns named after it up to the next, or of those named before."""
    wanted = [o for o in p.operations if o.kind not in UNCOLUMNED]
    totals = [o for o in p.operations if o.kind == "sum"]
    measures: list[Measure] = []
    for operation in wanted:
        for column in p.columns_of(operation):
            if not any(m.kind == operation.kind and m.columns == (column,) for m in measures):
                measures.append(Measure(operation.kind, (column,), operation.detail))
    if [m.kind for m in measures] == [
        "mode"
    ] and p.group is None:  # as a count: values that are as frequent are all named
        column = measures[0].columns[0]
        return _of(p, [Measure("count")], group=Group(column), extreme=1, arg=column)
    if not measures and totals:
        columns = p.columns_of(totals[0])
        measures = [Measure("sum", (column,)) for column in columns]
    return _of(p, measures) if measures else None


def _counting(p: Parts) -> Plan | None:
    operation = p.asks("count", "sum")
    if operation is None or sum(o.kind == "count" for o in p.operations) > 1:
        return None
    before_values = [m for m in p.mentions if m.column.name not in p.filtering]
    numbers = [m for m in before_values if m.column.is_number and (p.group is None or m.column != p.group.column)]
    if numbers and operation.kind == "sum":
        return _of(p, [Measure("sum", (numbers[0].column,))])
    head = next((m for m in before_values if 0 < m.first - max(operation.words) <= 2), None)
    if head is not None and head.column.kind == "text" and p.group is None and not p.conditions:
        return _of(p, [Measure("distinct", (head.column,))])
    if head is None or not head.column.is_number:
        return _of(p, [Measure("count")])
    if any(c.is_key and c.name in p.filtering for c in p.columns):
        return Plan(p.table, (), tuple(p.conditions), shown=(head.column,))  # how many items has order 6?
    return _of(p, [Measure("sum", (head.column,))]) if _is_countable(head.column) else None


def _lookup(p: Parts) -> Plan | None:
    """What is the Y of the row named X: columns asked for, rows told by values."""
    if not p.conditions or p.operations:
        return None  # to calculate is more than to look up
    named = [m for m in p.mentions if m.column.name not in p.filtering]
    sure = [m for m in named if m.score >= CORE or m.quoted]
    shown = [m.column for m in sure or named]
    if not shown and not _LIST.search(p.asked.text):
        return None
    return Plan(p.table, (), tuple(p.conditions), shown=tuple(dict.fromkeys(shown)))


def _explained(p: Parts, found: Plan) -> set[int]:
    words = {n for m in p.mentions if _is_used(p, m, found) for n in m.words}
    words |= {n for o in p.operations for n in o.words}
    words |= {n for c in p.conditions for n in c.words}
    names = {stem(p) for p in name_parts(p.table.table.name)} | {stem(p) for p in name_parts(p.table.table.title)}
    names |= {stem(p) for c in p.columns if c.is_key for p in name_parts(c.name)}  # order_no: its rows are orders
    words |= {n for n, w in enumerate(p.asked.words) if w.stem in names}
    words |= p.made.made if p.made else frozenset()
    if found.group and found.group.part:
        words |= {n for n, w in enumerate(p.asked.words) if w.lower.startswith(found.group.part)}
    if found.limit > 1 and (top := _TOP.search(p.asked.text)):
        words |= p.asked.at(*top.span())
    return words


def _is_used(p: Parts, mention: ColumnMention, found: Plan) -> bool:
    """Whether a plan does something with a column that is named, or it only says over what is looked."""
    used = {c.name for m in found.measures for c in m.columns} | {c.name for c in found.shown} | p.filtering
    used |= {found.group.column.name} if found.group else set()
    used |= {found.arg.name} if found.arg else set()
    return not used.isdisjoint((mention.column.name, p.as_number(mention).column.name)) or p.is_setting(mention)


def _counts_others(p: Parts, found: Plan, left: Sequence[int]) -> bool:
    """Whether rows are counted and the question asks for the number of something else: how many complaints?"""
    counting = next((o for o in p.operations if o.kind in ("count", "sum")), None)
    if counting is None or not any(m.kind == "count" for m in found.measures):
        return False
    after = [n for n in range(max(counting.words) + 1, len(p.asked.words)) if not p.asked.words[n].is_stop]
    return bool(after) and after[0] in left


def _names_table(p: Parts) -> bool:
    """Whether the question speaks of a table, a column, a data set, or names one by its quoted name."""
    text = p.asked.text.lower()
    return bool(re.search(r"\b(data ?set|columns?|table|rows?|records?|csv|spreadsheet)\b", text)) or any(
        m.quoted for m in p.mentions
    )
