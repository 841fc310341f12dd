"""A question and a table → a plan: what to calculate of which columns, for which rows, in which groups.

Deterministic: names and values of the table are looked for in the question (mentions.py), then calculations and bounds. A
plan says how much of the question it accounts for; doyen/tables/routing.py decides whether that is enough.
"""

from __future__ import annotations

import re
import weakref
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from doyen.tables.accounting import coverage, misses
from doyen.tables.asked import Asked, name_parts, stem
from doyen.tables.bounds import Condition
from doyen.tables.conditions import conditions
from doyen.tables.derived import derived_column
from doyen.tables.loading import Column, LoadedTable
from doyen.tables.mentions import (
    CORE,
    ColumnMention,
    KnownValues,
    column_mentions,
    is_open,
    known_values,
    unnamed_columns,
    value_mentions,
)
from doyen.tables.operations import STRONG, Kind, Operation, operations

_GROUP = re.compile(
    r"(?:for each|for every|per|by|in each|of each|within each|grouped by|broken down by|each|every|for the different)\s+"
    r"(?:the |unique |different |type of |value of )?$",
    re.IGNORECASE,
)
_PER_PERIOD = re.compile(
    r"(?:for each|for every|per|by|in each|each|every)\s+(year|month|quarter|day|week)\b", re.IGNORECASE
)
_ARG = re.compile(
    r"(?:^|[.,?!]\s*|\band\s+|\bif so,? )(?:which|who|what|whose|find|identify|name|list|give)\b(?: (?:is|are|the|of|has|have))*",
    re.IGNORECASE,
)
_TOP = re.compile(
    r"(?:top|bottom|first|highest|lowest|largest|smallest)\s+(\d{1,3}|two|three|four|five|six|seven|eight|nine|ten)\b",
    re.IGNORECASE,
)
_LIST = re.compile(r"^\s*(?:please )?(?:list|show|which|what are|who are|give me)\b", re.IGNORECASE)
_SETTING = re.compile(
    r"(?:across|over|throughout)\s+(?:all |the |different |various )*(?:\w+ (?:and|,) )?$", re.IGNORECASE
)
_IN_A = re.compile(r"\bin (?:a|any|one|the)(?: single)?\s+$", re.IGNORECASE)
_COUNTABLE = frozenset(("count", "share", "sum"))
_MOST = frozenset(("most", "fewest", "least"))


@dataclass(frozen=True, slots=True)
class Measure:
    """One calculation: a kind and its columns (two of a correlation; none of a count of rows)."""

    kind: Kind
    columns: tuple[Column, ...] = ()
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Group:
    """What rows are grouped by: a column, or a part (`year`, `month`, …) of a date column."""

    column: Column
    part: str = ""


@dataclass(frozen=True, slots=True)
class Plan:
    """What a question asks of a table. `coverage` is the share of its telling words that the plan accounts for.

    `sureness` is that of the least sure column that is calculated with; `is_strong` where calculations are asked for that
    are asked of tables only. `extreme` +1: the rows or groups of the highest value, -1: the lowest; `arg` what is wanted of
    them. `among` bounds the rows that a share is of. `shown` are the columns that a question about single rows asks for.
    """

    table: LoadedTable
    measures: tuple[Measure, ...] = ()
    conditions: tuple[Condition, ...] = ()
    among: tuple[Condition, ...] = ()
    group: Group | None = None
    extreme: int = 0
    arg: Column | None = None
    limit: int = 1
    shown: tuple[Column, ...] = ()
    coverage: float = 0.0
    sureness: float = 0.0
    is_strong: bool = False
    is_named: bool = False
    unexplained: tuple[str, ...] = field(default=())


def plan(asked: Asked, table: LoadedTable) -> Plan | None:
    """Return what a question asks of a table; None where no calculation and no row of it fits."""
    return _Planner(asked, table).plan()


_known: weakref.WeakKeyDictionary[LoadedTable, KnownValues] = weakref.WeakKeyDictionary()


def known_of(table: LoadedTable) -> KnownValues:
    """Return the values of a table's text columns, gathered once."""
    if table not in _known:
        _known[table] = known_values(table.columns)
    return _known[table]


def _is_countable(column: Column) -> bool:
    """Whether a column holds numbers of things, as `accidents` does and `age` does not."""
    last = (name_parts(column.name) or [""])[-1]
    return column.kind == "integer" and last.endswith("s") and not last.endswith("ss")


class _Planner:
    """The parts of one question against one table."""

    def __init__(self, asked: Asked, table: LoadedTable) -> None:
        self.asked, self.table, self.columns = asked, table, table.columns
        unnamed = unnamed_columns(asked, self.columns)
        self.made = made = derived_column(asked, self.columns)
        taken = frozenset(n for m in unnamed for n in m.words)
        if made is not None:
            unnamed = [*unnamed, *made.mentions]
            taken |= made.made.union(*(m.words for m in made.mentions))
        found = [m for m in column_mentions(asked, self.columns) if not m.words & taken]
        self.mentions = sorted([*unnamed, *found], key=lambda m: m.first)
        counting = any(o.kind in ("count", "share") for o in operations(asked, frozenset()))
        self.values = value_mentions(asked, known_of(table), self.mentions, table.table.name, counting=counting)
        self.values = [v for v in self.values if made is None or not v.words & made.made]
        named = frozenset(n for v in self.values for n in v.words)
        self.mentions = [m for m in self.mentions if m.score >= CORE or m.quoted or not m.words & named]
        sure = [m for m in self.mentions if m.quoted or (m.score >= CORE and len(m.words) > 1)]
        named |= made.made if made else frozenset()
        self.operations = operations(asked, named | frozenset(n for m in sure for n in m.words))
        self.conditions = conditions(asked, self.columns, self.mentions, self.values)
        self._trim()
        self.group = self._group()

    def _trim(self) -> None:
        """Take from mentions what only the words of a calculation, or a condition, carry."""
        calculating = frozenset(n for o in self.operations for n in o.words)
        self.mentions = [m for m in self.mentions if not m.words <= calculating]
        self.filtering = {c.column for c in self.conditions}

    # ---- groups and roles

    def _group(self) -> Group | None:
        period = _PER_PERIOD.search(self.asked.text)
        moment = next((c for c in self.columns if c.is_moment), None)
        for mention in self.mentions:
            before = self.asked.text[: self.asked.words[mention.first].start].rstrip("\"'“‘ ") + " "
            if _GROUP.search(before) and not mention.column.is_key and not self._is_per_name(mention):
                return Group(mention.column)
        if period and moment is not None:
            return Group(moment, period[1].lower())
        return None

    def _is_per_name(self, mention: ColumnMention) -> bool:
        """Whether `per` belongs to a name (GDP per capita), or says what a row is."""
        column = mention.column
        if mention.score < CORE and column.distinct > column.filled / 2:
            return True  # per hotel: rows are hotels, and hotel_name is no group
        return column.kind == "number" or (column.is_number and column.distinct > 50)

    def _targets(self, kind: Kind, operation: Operation) -> list[ColumnMention]:
        """Return the columns that a calculation may be of: not those that group, nor those that only set a bound."""
        own = [m for m in self.mentions if self.group is None or m.column.name != self.group.column.name]
        bounds = frozenset(n for c in self.conditions for n in c.words)
        free = [m for m in own if not m.words <= bounds]
        if any(m.quoted for m in free) and kind not in ("max", "min", "distinct"):
            free = [m for m in free if m.quoted]
        if kind in ("distinct", "mode", "missing", "missing_share"):
            return free or own
        free = [self._as_number(m) for m in free if not self._is_setting(m)]
        return [m for m in free if m.column.is_number or m.column.kind == "boolean"] or (
            [m for m in free if m.column.is_moment] if kind in ("min", "max", "range") else []
        )

    def _is_setting(self, mention: ColumnMention) -> bool:
        """Whether a column only says over what is looked: across all countries and years, in a single year."""
        before = self.asked.text[: self.asked.words[mention.first].start]
        wide = _SETTING.search(before) is not None
        return wide or (mention.column.kind == "integer" and _IN_A.search(before) is not None and not mention.quoted)

    def _as_number(self, mention: ColumnMention) -> ColumnMention:
        """Return a mention of a text column as one of its variant in numbers: No. of cases ~ No. of cases_median."""
        if mention.column.kind != "text":
            return mention
        parts = name_parts(mention.column.name)
        variants = [c for c in self.columns if c.is_number and name_parts(c.name)[: len(parts)] == parts]
        return replace(mention, column=min(variants, key=lambda c: len(name_parts(c.name)))) if variants else mention

    # ---- the plan

    def plan(self) -> Plan | None:
        found = self._of_operations() or self._lookup()
        if found is None:
            return None
        explained = self._explained(found)
        if misses(self.asked, explained):
            return None
        covered, left = coverage(self.asked, explained)
        if self._counts_others(found, left):
            covered /= 2
        used = [m for m in self.mentions if any(m.column in measure.columns for measure in found.measures)]
        if any(is_open(self.asked, m, self.columns) for m in used):
            return None
        sureness = min((m.score for m in used), default=0.6 if found.conditions else 0.0)
        if not found.measures:
            sureness = min((m.score for m in self.mentions if m.column in found.shown), default=0.0)
        if len(found.measures) > 1 and len(found.measures) == len(self.columns):
            sureness = 1.0  # all columns are asked about
        counts = bool(found.measures) and not any(m.columns for m in found.measures)
        return replace(
            found,
            coverage=covered,
            sureness=1.0 if counts else sureness,
            is_strong=any(m.kind in STRONG for m in found.measures),
            is_named=self._names_table(),
            unexplained=tuple(self.asked.words[n].text for n in left),
        )

    def _explained(self, found: Plan) -> set[int]:
        words = {n for m in self.mentions if self._is_used(m, found) for n in m.words}
        words |= {n for o in self.operations for n in o.words}
        words |= {n for c in self.conditions for n in c.words}
        names = {stem(p) for p in name_parts(self.table.table.name)} | {
            stem(p) for p in name_parts(self.table.table.title)
        }
        names |= {
            stem(p) for c in self.columns if c.is_key for p in name_parts(c.name)
        }  # order_no: its rows are orders
        words |= {n for n, w in enumerate(self.asked.words) if w.stem in names}
        words |= self.made.made if self.made else frozenset()
        if found.group and found.group.part:
            words |= {n for n, w in enumerate(self.asked.words) if w.lower.startswith(found.group.part)}
        if found.limit > 1 and (top := _TOP.search(self.asked.text)):
            words |= self.asked.at(*top.span())
        return words

    def _is_used(self, mention: ColumnMention, found: Plan) -> bool:
        """Whether a plan does something with a column that is named, or it only says over what is looked."""
        used = {c.name for m in found.measures for c in m.columns} | {c.name for c in found.shown} | self.filtering
        used |= {found.group.column.name} if found.group else set()
        used |= {found.arg.name} if found.arg else set()
        return not used.isdisjoint((mention.column.name, self._as_number(mention).column.name)) or self._is_setting(
            mention
        )

    def _counts_others(self, found: Plan, left: Sequence[int]) -> bool:
        """Whether rows are counted and the question asks for the number of something else: how many complaints?"""
        counting = next((o for o in self.operations if o.kind in ("count", "sum")), None)
        if counting is None or not any(m.kind == "count" for m in found.measures):
            return False
        after = [n for n in range(max(counting.words) + 1, len(self.asked.words)) if not self.asked.words[n].is_stop]
        return bool(after) and after[0] in left

    def _names_table(self) -> bool:
        """Whether the question speaks of a table, a column, a data set, or names one by its quoted name."""
        text = self.asked.text.lower()
        return bool(re.search(r"\b(data ?set|columns?|table|rows?|records?|csv|spreadsheet)\b", text)) or any(
            m.quoted for m in self.mentions
        )

    def _of_operations(self) -> Plan | None:
        if self._asks("corr", "strongest"):
            return self._correlation()
        for make in (self._missing, self._extreme, self._share, self._statistics, self._counting):
            if make == self._counting and any(o.kind in STRONG for o in self.operations):
                return None  # a number of rows is no answer to it
            if (found := make()) is not None:
                return found
        return None

    def _plan(self, measures: Sequence[Measure], **more: object) -> Plan:
        return Plan(self.table, tuple(measures), tuple(self.conditions), group=self.group, **more)  # type: ignore[arg-type]

    def _asks(self, *kinds: Kind) -> Operation | None:
        return next((o for o in self.operations if o.kind in kinds), None)

    def _correlation(self) -> Plan | None:
        operation = self._asks("corr", "strongest")
        if operation is None:
            return None
        targets = list(dict.fromkeys(m.column for m in self._targets("corr", operation)))
        if operation.kind == "strongest" and targets:
            return self._plan([Measure("strongest", (targets[0],))])
        return self._plan([Measure("corr", tuple(targets[:2]))]) if len(targets) >= 2 else None

    def _missing(self) -> Plan | None:
        wanted = [o for o in self.operations if o.kind in ("missing", "missing_share")]
        if not wanted:
            return None
        named = list(dict.fromkeys(m.column for m in self._targets("missing", wanted[0])))
        kind = "missing_share" if any(o.kind == "missing_share" for o in wanted) else "missing"
        whole = not named or re.search(
            r"(which|what|each|every|any) (?:\w+ )?columns?\b|columns? (?:has|have|contain)",
            self.asked.text,
            re.IGNORECASE,
        )
        columns = self.columns if whole and not any(m.quoted for m in self.mentions) else tuple(named)
        best = self._asks("max", "min") if len(columns) > 1 else None
        sign = 0 if best is None else 1 if best.kind == "max" else -1
        return self._plan([Measure(kind, (column,)) for column in columns], extreme=sign)

    def _extreme(self) -> Plan | None:
        """Which X has the highest Y, the highest mean of Y, the most rows; the top 5 X by Y."""
        operation = self._asks("max", "min")
        argument = self._argument()
        if operation is None or argument is None:
            return None
        sign = 1 if operation.kind == "max" else -1
        inner = self._asks("mean", "median", "sum", "std", "count", "missing", "distinct")
        targets = [m.column for m in self._targets("max", operation) if m.column.name != argument.name]
        top = _TOP.search(self.asked.text)
        limit = self._number(top[1]) if top else 1
        if inner is not None and targets and inner.kind not in ("count",):
            self.group = Group(argument)
            return self._plan([Measure(inner.kind, (targets[0],))], extreme=sign, arg=argument, limit=limit)
        if targets and _is_countable(targets[0]) and operation.detail in _MOST and not argument.is_key:
            self.group = Group(argument)  # the most accidents: of all its rows together
            return self._plan([Measure("sum", (targets[0],))], extreme=sign, arg=argument, limit=limit)
        if targets:
            return self._plan([Measure(operation.kind, (targets[0],))], extreme=sign, arg=argument, limit=limit)
        if operation.detail in _MOST or self._asks("count") is not None:
            self.group = Group(argument)
            return self._plan([Measure("count")], extreme=sign, arg=argument, limit=limit)
        return None

    def _number(self, text: str) -> int:
        word = next((w for w in self.asked.words if w.lower == text.lower() and w.number is not None), None)
        return max(1, min(100, int(word.number))) if word is not None and word.number is not None else 1

    def _argument(self) -> Column | None:
        """Return the column that `which X` asks for."""
        for match in _ARG.finditer(self.asked.text):
            after = [m for m in self.mentions if self.asked.words[m.first].start >= match.end()]
            if not after:
                continue
            gap = self.asked.text[match.end() : self.asked.words[after[0].first].start].split()
            superlative = next(
                (o for o in self.operations if o.kind in ("max", "min") and o.first < after[0].first), None
            )
            if len(gap) <= 3 and superlative is None and not after[0].column.kind == "number":
                return after[0].column
        if re.search(r"\bwho\b", self.asked.text, re.IGNORECASE):
            return next((c for c in self.columns if c.kind == "text" and "name" in name_parts(c.name)), None)
        return None

    def _share(self) -> Plan | None:
        operation = self._asks("share")
        if operation is None or not self.conditions or any(o.kind in STRONG for o in self.operations):
            return None
        parts = self._share_of()
        return Plan(self.table, (Measure("share"),), parts[0], among=parts[1]) if parts else None

    def _share_of(self) -> tuple[tuple[Condition, ...], tuple[Condition, ...]] | None:
        """Return the bounds of the rows that are counted, and of those that they are a share of; None where that is open.

        A date says of which rows; of two other bounds the first: diesel vehicles that are active.
        """
        dated = {c.name for c in self.columns if c.is_moment or "year" in name_parts(c.name)}
        others = sorted((c for c in self.conditions if c.column not in dated), key=lambda c: min(c.words))
        dates = tuple(c for c in self.conditions if c.column in dated)
        if len({c.column for c in others}) <= 1:
            return (tuple(others), dates) if others else (dates, ())
        if len(others) != 2:
            return None
        first, last = others
        between = self.asked.text[self.asked.words[max(first.words)].end : self.asked.words[min(last.words)].start]
        joined = re.match(r"\s*(?:,|and\b|or\b)", between)
        return None if joined else ((last,), (first, *dates))

    def _statistics(self) -> Plan | None:
        """One or several calculations, each of the columns named after it up to the next, or of those named before."""
        wanted = [o for o in self.operations if o.kind not in _COUNTABLE]
        totals = [o for o in self.operations if o.kind == "sum"]
        measures: list[Measure] = []
        for operation in wanted:
            for column in self._columns_of(operation):
                if not any(m.kind == operation.kind and m.columns == (column,) for m in measures):
                    measures.append(Measure(operation.kind, (column,), operation.detail))
        if not measures and totals:
            columns = self._columns_of(totals[0])
            measures = [Measure("sum", (column,)) for column in columns]
        return self._plan(measures) if measures else None

    def _columns_of(self, operation: Operation) -> list[Column]:
        targets = self._targets(operation.kind, operation)
        if operation.kind == "distinct":
            after = [m for m in targets if m.first > operation.first]
            return [(after or targets)[0].column] if targets else []
        if not targets:
            return []
        sure = [m for m in targets if m.score >= 0.8] or targets
        others = [o for o in self.operations if o.kind not in _COUNTABLE and o.first > operation.first]
        until = min(
            (o.first for o in others if any(m.first < o.first and m.first > operation.first for m in sure)),
            default=10**6,
        )
        own = [m for m in sure if operation.first < m.first < until]
        chosen = own or [m for m in sure if m.first < operation.first][-1:] or sure[:1]
        if len(chosen) > 1:
            joined = self.asked.text[self.asked.words[chosen[0].last].end : self.asked.words[chosen[1].first].start]
            if not re.fullmatch(r"[\s\"'”’,]*(?:and|,|or|as well as|columns?|values?)[\w\s\"'“‘,]{0,20}", joined):
                chosen = chosen[:1]
        return list(dict.fromkeys(m.column for m in chosen))

    def _counting(self) -> Plan | None:
        operation = self._asks("count", "sum")
        if operation is None:
            return None
        before_values = [m for m in self.mentions if m.column.name not in self.filtering]
        numbers = [
            m for m in before_values if m.column.is_number and (self.group is None or m.column != self.group.column)
        ]
        if numbers and operation.kind == "sum":
            return self._plan([Measure("sum", (numbers[0].column,))])
        head = next((m for m in before_values if 0 < m.first - max(operation.words) <= 2), None)
        if head is not None and head.column.kind == "text" and self.group is None and not self.conditions:
            return self._plan([Measure("distinct", (head.column,))])
        if head is None or not head.column.is_number:
            return self._plan([Measure("count")])
        if any(c.is_key and c.name in self.filtering for c in self.columns):
            return Plan(self.table, (), tuple(self.conditions), shown=(head.column,))  # how many items has order 6?
        return self._plan([Measure("sum", (head.column,))]) if _is_countable(head.column) else None

    def _lookup(self) -> Plan | None:
        """What is the Y of the row named X: columns asked for, rows told by values."""
        if not self.conditions or self.operations:
            return None  # to calculate is more than to look up
        named = [m for m in self.mentions if m.column.name not in self.filtering]
        sure = [m for m in named if m.score >= CORE or m.quoted]
        shown = [m.column for m in sure or named]
        if not shown and not _LIST.search(self.asked.text):
            return None
        return Plan(self.table, (), tuple(self.conditions), shown=tuple(dict.fromkeys(shown)))
