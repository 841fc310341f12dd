"""A number answer and its known answers → right or wrong with their units in mind, and whether the unit was named.

`metrics.number_match` decides over the numbers; here a unit that contradicts makes a number wrong, and one of the same kind
is converted (2 hours, 120 minutes). A unit that is left out, or is not in the table, changes nothing.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass

from doyen.evaluation.metrics import SCALES, TOLERANCE, Number, find_numbers, number_match

_QUALIFIERS = frozenset("working calendar business consecutive full whole us metric".split())
_TOKEN = re.compile(r"°\s?[CF]\b|[%$€£¥₹]|[^\W\d_]+")


@dataclass(frozen=True, slots=True)
class Unit:
    """What is counted, and how many of its smallest unit it makes."""

    kind: str
    factor: float = 1.0


def _table(rows: dict[tuple[str, float], str]) -> dict[str, Unit]:
    return {name: Unit(kind, factor) for (kind, factor), names in rows.items() for name in names.split()}


# Months differ in days, so they are a kind of their own. "m" and "pound" mean several things and are left out.
UNITS = _table(
    {
        ("time", 1): "second seconds sec secs s sekunde sekunden segundos secondes",
        ("time", 60): "minute minutes min mins minuten minutos",
        ("time", 3600): "hour hours hr hrs h stunde stunden hora horas heure heures",
        ("time", 86400): "day days tag tage tagen día días jour jours",
        ("time", 604800): "week weeks woche wochen semana semanas semaine semaines",
        ("months", 1): "month months monat monate monaten mes meses mois",
        ("months", 12): "year years jahr jahre jahren año años an ans année années",
        ("length", 1): "mm millimetre millimetres millimeter millimeters",
        ("length", 10): "cm centimetre centimetres centimeter centimeters",
        ("length", 1000): "metre metres meter meters",
        ("length", 1e6): "km kilometre kilometres kilometer kilometers",
        ("length", 25.4): "inch inches",
        ("length", 304.8): "foot feet ft",
        ("length", 1609344): "mile miles",
        ("mass", 1): "g gram grams gramm",
        ("mass", 1000): "kg kilogram kilograms kilogramm kilo kilos",
        ("mass", 1e6): "tonne tonnes tonnen",
        ("data", 1): "kb",
        ("data", 1e3): "mb",
        ("data", 1e6): "gb",
        ("data", 1e9): "tb",
        ("percent", 1): "% percent percentage pct prozent",
        ("US dollars", 1): "$ usd dollar dollars",
        ("euros", 1): "€ eur euro euros",
        ("pounds sterling", 1): "£ gbp",
        ("yen", 1): "¥ jpy yen",
        ("rupees", 1): "₹ inr rupee rupees",
        ("francs", 1): "chf franken",
        ("degrees C", 1): "°c celsius",
        ("degrees F", 1): "°f fahrenheit",
    }
)


def number_score(answer: str, golds: Sequence[str]) -> tuple[float, float | None]:
    """Return (1.0 where the answer's number is right, whether its unit is named).

    The second is 1.0 where a right number stands with the known answer's unit, or one of its kind, 0.0 where it stands
    without; None where the number is wrong or no known answer has a unit.
    """
    given = _first(answer, any(number.year for gold in golds for number, _ in _quantities(gold)[:1]))
    right, named = 0.0, None
    for gold in golds:
        wanted = next(iter(_quantities(gold)), None)
        if not _agrees(answer, gold, given, wanted):
            continue
        right = 1.0
        if wanted and wanted[1]:
            named = max(named or 0.0, float(given is not None and given[1] is not None))
    return right, named


Quantity = tuple[Number, Unit | None]


def _agrees(answer: str, gold: str, given: Quantity | None, wanted: Quantity | None) -> bool:
    if given and wanted and given[1] and wanted[1] and given[1] != wanted[1]:
        (a, unit_a), (b, unit_b) = given, wanted
        assert unit_a and unit_b
        if unit_a.kind != unit_b.kind:
            return False
        goal = b.full() * unit_b.factor
        return abs(a.full() * unit_a.factor - goal) <= TOLERANCE * abs(goal)
    return number_match(answer, [gold]) == 1.0


def _first(text: str, year_wanted: bool) -> Quantity | None:
    """Return the quantity of an answer that counts: its first, years passed over unless one is wanted."""
    found = _quantities(text)
    kept = found if year_wanted else [q for q in found if not q[0].year] or found
    return next(iter(kept), None)


def _quantities(text: str) -> list[Quantity]:
    clean, found = find_numbers(text)
    return [(number, _unit(clean, match)) for number, match in found]


def _unit(text: str, match: re.Match[str]) -> Unit | None:
    if match["currency"]:
        return UNITS[match["currency"][-1]]
    if match["percent"] or match["outer_percent"]:
        return UNITS["%"]
    tail = text[match.end("digits") : match.end("digits") + 40]
    for word in _TOKEN.findall(re.split(r"[,;:()]|\.\s|\d", tail, maxsplit=1)[0])[:3]:
        name = unicodedata.normalize("NFC", word.lower()).replace(" ", "")
        if name in UNITS:
            return UNITS[name]
        if name not in SCALES and name not in _QUALIFIERS:
            break
    before = re.search(r"\b(USD|EUR|GBP|JPY|CHF|INR)\s*$", text[: match.start("digits")])
    return UNITS[before[1].lower()] if before else None
