"""A question that wants its answer as `@name[value]` → which value stands under which name.

Some data sets and forms ask so. Names are compared with the calculation and the column of each value.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from doyen.tables.asked import Asked, name_parts, stem
from doyen.tables.sentences import Value, shown

_SLOT = re.compile(r"@([\w.%-]+)\s*\[")
_KINDS = {
    "mean": "mean average avg",
    "median": "median",
    "std": "std sd stddev deviation dev",
    "var": "variance var",
    "min": "min minimum lowest smallest",
    "max": "max maximum highest largest",
    "sum": "sum total",
    "count": "count number total",
    "distinct": "unique distinct different count number",
    "corr": "correlation corr coefficient r",
    "missing": "missing null count number values nan",
    "missing_share": "missing percentage percent",
    "share": "percentage percent share",
    "skew": "skewness skew",
    "kurtosis": "kurtosis",
    "range": "range",
    "mode": "mode",
    "outliers": "outlier outliers count number",
    "normal": "normal normality is distribution status result test",
    "arg": "name with",
}
_NO = re.compile(r"\b(?:no|not|non|false|isn't|doesn't)\b|^n$|abnormal|skewed", re.IGNORECASE)
_PLACEHOLDER = re.compile(r"value|result|answer|response|status|decision|conclusion|string", re.IGNORECASE)
_OPTION = re.compile(r"[\"'“]([\w -]{1,40})[\"'”]")


def slots(asked: Asked) -> list[str]:
    """Return the names under which a question wants its values, in order; none where it asks in no such form."""
    return list(dict.fromkeys(_SLOT.findall(f"{asked.text} {asked.instructions}")))


def named_answer(asked: Asked, values: Sequence[Value], decimals: int | None) -> str:
    """Return `@name[value] …` for the names that a value fits; "" where none does."""
    names = slots(asked)
    left = list(values)
    found: dict[str, str] = {}
    scored = sorted(
        ((_fit(name, value), -n, -m) for n, name in enumerate(names) for m, value in enumerate(left)), reverse=True
    )
    taken: set[int] = set()
    for score, n, m in scored:
        name = names[-n]
        if score <= 0 or name in found or -m in taken:
            continue
        found[name] = _text(asked, left[-m], decimals)
        taken.add(-m)
    rest_names, rest = [n for n in names if n not in found], [v for m, v in enumerate(left) if m not in taken]
    if len(rest_names) == 1 and len(rest) == 1:
        found[rest_names[0]] = _text(asked, rest[0], decimals)
    return " ".join(f"@{name}[{found[name]}]" for name in names if name in found)


def _fit(name: str, value: Value) -> float:
    parts = {stem(p) for p in name_parts(name)}
    kinds = {stem(w) for w in _KINDS.get(value.kind, value.kind).split()}
    others = {stem(w) for kind, text in _KINDS.items() if kind != value.kind for w in text.split()} - kinds
    columns = {stem(p) for c in value.columns for p in name_parts(c.name)}
    groups = {stem(p) for p in name_parts(str(value.group))} if value.group is not None else set()
    if value.kind == "arg" and parts & columns:
        return 6.0
    score = 2.0 * len(parts & kinds) + 1.0 * len(parts & columns) + 1.5 * len(parts & groups)
    return (
        score - 1.0 * len((parts & others) - columns) - (0.1 if value.group is not None and not parts & groups else 0)
    )


def _text(asked: Asked, value: Value, decimals: int | None) -> str:
    if value.kind == "normal" and isinstance(value.value, float):
        return _option(asked, value.value >= 0.05)
    number = value.value
    return shown(number, None if isinstance(number, int) else decimals, thousands=False)


def _option(asked: Asked, holds: bool) -> str:
    """Return the word for yes or no that the question offers."""
    names = {name.lower() for name in slots(asked)}
    offered = [o for o in _OPTION.findall(asked.instructions) if len(o.split()) <= 4 and o.lower() not in names]
    offered = [o for o in offered if not _PLACEHOLDER.search(o)]
    no = [o for o in offered if _NO.search(o)]
    yes = [o for o in offered if o not in no and re.search(r"yes|true|normal|^y$", o, re.IGNORECASE)]
    chosen = yes if holds else no
    return chosen[0] if chosen else ("yes" if holds else "no")
