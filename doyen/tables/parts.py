"""A question against a table → what it names: columns, values, calculations, bounds, the group; which column a calculation is of.

Decides nothing about the answer: planning.py does.
"""

from __future__ import annotations

import re
import weakref
from dataclasses import replace

from doyen.tables.asked import Asked, name_parts
from doyen.tables.conditions import conditions
from doyen.tables.derived import derived_column
from doyen.tables.loading import Column, LoadedTable
from doyen.tables.mentions import (
    CORE,
    ColumnMention,
    KnownValues,
    column_mentions,
    known_values,
    unnamed_columns,
    value_mentions,
)
from doyen.tables.operations import UNCOLUMNED, Kind, Operation, operations
from doyen.tables.plans import Group

_GROUP = re.compile(
    r"(?:for each|for every|per|by|in each|of each|within each|grouped by|broken down by|each|every|for the different)\s+"
    r"(?:the |unique |different |type of |value of )?$",
    re.IGNORECASE,
)
_PER_PERIOD = re.compile(
    r"(?:for each|for every|per|by|in each|each|every)\s+(year|month|quarter|day|week)\b", re.IGNORECASE
)
_SETTING = re.compile(
    r"(?:across|over|throughout)\s+(?:all |the |different |various )*(?:\w+ (?:and|,) )?$", re.IGNORECASE
)
_IN_A = re.compile(r"\bin (?:a|any|one|the)(?: single)?\s+$", re.IGNORECASE)

_known: weakref.WeakKeyDictionary[LoadedTable, KnownValues] = weakref.WeakKeyDictionary()


def known_of(table: LoadedTable) -> KnownValues:
    """Return the values of a table's text columns, gathered once."""
    if table not in _known:
        _known[table] = known_values(table.columns)
    return _known[table]


class Parts:
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

    def asks(self, *kinds: Kind) -> Operation | None:
        """Return the first calculation of some kinds that is asked for."""
        return next((o for o in self.operations if o.kind in kinds), None)

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

    def targets(self, kind: Kind, operation: Operation) -> list[ColumnMention]:
        """Return the columns that a calculation may be of: not those that group, nor those that only set a bound."""
        own = [m for m in self.mentions if self.group is None or m.column.name != self.group.column.name]
        bounds = frozenset(n for c in self.conditions for n in c.words)
        free = [m for m in own if not m.words <= bounds]
        if any(m.quoted for m in free) and kind not in ("max", "min", "distinct"):
            free = [m for m in free if m.quoted]
        if kind in ("distinct", "mode", "missing", "missing_share"):
            return free or own
        free = [self.as_number(m) for m in free if not self.is_setting(m)]
        return [m for m in free if m.column.is_number or m.column.kind == "boolean"] or (
            [m for m in free if m.column.is_moment] if kind in ("min", "max", "range") else []
        )

    def is_setting(self, mention: ColumnMention) -> bool:
        """Whether a column only says over what is looked: across all countries and years, in a single year."""
        before = self.asked.text[: self.asked.words[mention.first].start]
        wide = _SETTING.search(before) is not None
        return wide or (mention.column.kind == "integer" and _IN_A.search(before) is not None and not mention.quoted)

    def as_number(self, mention: ColumnMention) -> ColumnMention:
        """Return a mention of a text column as one of its variant in numbers: No. of cases ~ No. of cases_median."""
        if mention.column.kind != "text":
            return mention
        parts = name_parts(mention.column.name)
        variants = [c for c in self.columns if c.is_number and name_parts(c.name)[: len(parts)] == parts]
        return replace(mention, column=min(variants, key=lambda c: len(name_parts(c.name)))) if variants else mention

    def columns_of(self, operation: Operation) -> list[Column]:
        """Return the columns that a calculation is of: those named after it, else the one before it."""
        targets = self.targets(operation.kind, operation)
        if operation.kind == "distinct":
            after = [m for m in targets if m.first > operation.first]
            return [(after or targets)[0].column] if targets else []
        if not targets:
            return []
        sure = [m for m in targets if m.score >= 0.8] or targets
        others = [o for o in self.operations if o.kind not in UNCOLUMNED and o.first > operation.first]
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
