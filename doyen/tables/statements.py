"""A plan → SQL: the statement that answers, and the one that gives the rows which it reads.

Every name is quoted, every value a literal; the guard checks the result all the same.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from doyen.tables.bounds import merged
from doyen.tables.executing import quoted
from doyen.tables.loading import Column
from doyen.tables.plans import Group, Measure, Plan, name_of

_SIMPLE = {
    "mean": "avg({c})",
    "median": "median({c})",
    "std": "stddev_samp({c})",
    "var": "var_samp({c})",
    "min": "min({c})",
    "max": "max({c})",
    "sum": "sum({c})",
    "distinct": "count(DISTINCT {c})",
    "mode": "mode({c})",
    "skew": "skewness({c})",
    "kurtosis": "kurtosis({c})",
    "range": "max({c}) - min({c})",
    "missing": "count(*) - count({c})",
    "missing_share": "100.0 * (count(*) - count({c})) / count(*)",
}


@dataclass(frozen=True, slots=True)
class Statements:
    """`sql` answers; `rows_sql` gives `rowid` of the rows that it reads, in their order."""

    sql: str
    rows_sql: str


def statements(plan: Plan, *, population: bool = False, threshold: float | None = None) -> Statements:
    """Return the SQL of a plan; `population`: variances divide by n.

    Outliers lie over 1.5 interquartile ranges outside the quartiles, or with a `threshold` at that many deviations.
    """
    table = quoted(plan.table.table.sql_name)
    bounds = merged(plan.conditions)
    where = _where(bounds)
    if plan.measures and plan.measures[0].kind == "share":
        return _share(plan, table)
    if not plan.measures:
        return _lookup(plan, table, where)
    if plan.measures[0].kind == "strongest":
        return _strongest(plan, table, where)
    if plan.extreme and plan.group is None and plan.arg is not None:
        return _extreme_rows(plan, table, bounds)
    pairs = [(_expression(m, table, where, population, threshold), name_of(m.kind, m.columns)) for m in plan.measures]
    listed = ", ".join(f"{expression} AS {quoted(label)}" for expression, label in pairs)
    if plan.group is None:
        return Statements(f"SELECT {listed} FROM {table}{where}", f"SELECT rowid FROM {table}{where}")
    key = _key(plan.group)
    name = quoted(plan.group.part or plan.group.column.name)
    filled = _where([*bounds, f"{quoted(plan.group.column.name)} IS NOT NULL"])
    sql = f"SELECT {key} AS {name}, {listed} FROM {table}{filled} GROUP BY 1"
    if plan.extreme:  # by rank, not LIMIT: groups with the same value are all named
        order = f"{pairs[0][0]} {'DESC' if plan.extreme > 0 else 'ASC'} NULLS LAST"
        sql += f" QUALIFY rank() OVER (ORDER BY {order}) <= {plan.limit} ORDER BY {order}, 1"
    else:
        sql += " ORDER BY 1"
    return Statements(sql, f"SELECT rowid FROM {table}{filled}")


def _where(bounds: Sequence[str]) -> str:
    return f" WHERE {' AND '.join(bounds)}" if bounds else ""


def _key(group: Group) -> str:
    name = quoted(group.column.name)
    return f"{group.part}({name})" if group.part else name


def _number(column: Column) -> str:
    """Return a column as something to calculate with; truth values count as 0 and 1."""
    name = _name(column)
    return f"CAST({name} AS INTEGER)" if column.kind == "boolean" else name


def _name(column: Column) -> str:
    return column.sql or quoted(column.name)


def _expression(measure: Measure, table: str, where: str, population: bool, threshold: float | None) -> str:
    kind = measure.kind
    if kind == "count":
        return "count(*)"
    names = [_number(c) for c in measure.columns]
    if kind == "corr":
        return f"corr({names[0]}, {names[1]})"
    if kind == "quantile":
        return f"quantile_cont({names[0]}, {_quantile(measure.detail)})"
    if kind == "normal":
        return _jarque_bera(names[0])
    if kind == "outliers":
        return _outliers(names[0], f" FROM {table}{where})", threshold, population)
    if kind in ("std", "var") and population:
        return f"{'stddev_pop' if kind == 'std' else 'var_pop'}({names[0]})"
    name = _name(measure.columns[0]) if kind in ("distinct", "mode", "missing", "missing_share") else names[0]
    return _SIMPLE[kind].format(c=name)


def _outliers(name: str, source: str, threshold: float | None, population: bool) -> str:
    if threshold is not None:
        deviation = f"(SELECT {'stddev_pop' if population else 'stddev_samp'}({name}){source}"
        return f"count(*) FILTER (WHERE abs({name} - (SELECT avg({name}){source}) > {threshold:g} * {deviation})"
    low, high = (f"(SELECT quantile_cont({name}, {q}){source}" for q in (0.25, 0.75))
    reach = f"1.5 * ({high} - {low})"
    return f"count(*) FILTER (WHERE {name} < {low} - {reach} OR {name} > {high} + {reach})"


def _quantile(detail: str) -> str:
    digits = "".join(c for c in detail if c.isdigit())
    if digits:
        return f"{int(digits) / 100:g}"
    return "0.25" if "lower" in detail or "first" in detail else "0.75"


def _jarque_bera(name: str) -> str:
    """Return the p-value of the test of Jarque and Bera (1987): chi-squared with two degrees of freedom."""
    statistic = f"count({name}) / 6.0 * (skewness({name}) ** 2 + kurtosis({name}) ** 2 / 4)"
    return f"exp(-({statistic}) / 2)"


def _share(plan: Plan, table: str) -> Statements:
    bounds, where = " AND ".join(merged(plan.conditions)), _where(merged(plan.among))
    sql = f'SELECT 100.0 * count(*) FILTER (WHERE {bounds}) / count(*) AS "percentage" FROM {table}{where}'
    return Statements(sql, f"SELECT rowid FROM {table}{where}")


def _lookup(plan: Plan, table: str, where: str) -> Statements:
    shown = ", ".join(quoted(c.name) for c in plan.shown) or "*"
    sql = f"SELECT {shown} FROM {table}{where}"
    return Statements(sql, f"SELECT rowid FROM {table}{where}")


def _extreme_rows(plan: Plan, table: str, bounds: Sequence[str]) -> Statements:
    column = plan.measures[0].columns[0]
    name, argument = _name(column), quoted(plan.arg.name if plan.arg else column.name)
    where = _where([*bounds, f"{name} IS NOT NULL"])
    order = f"{name} {'DESC' if plan.extreme > 0 else 'ASC'}"
    last = f" QUALIFY rank() OVER (ORDER BY {order}) <= {plan.limit} ORDER BY {order}, rowid"
    sql = f"SELECT {argument}, {name} FROM {table}{where}{last}"
    return Statements(sql, f"SELECT rowid FROM {table}{where}{last}")


def _strongest(plan: Plan, table: str, where: str) -> Statements:
    target = plan.measures[0].columns[0]
    others = [c for c in plan.table.columns if c.is_number and c.name != target.name]
    parts = [
        f"SELECT '{c.name.replace(chr(39), chr(39) * 2)}' AS \"column\", corr({quoted(target.name)}, {quoted(c.name)}) AS r FROM {table}{where}"
        for c in others
    ]
    union = " UNION ALL ".join(parts)
    sql = f'SELECT "column", r FROM ({union}) WHERE NOT isnan(r) ORDER BY abs(r) DESC LIMIT 1'
    return Statements(sql, f"SELECT rowid FROM {table}{where}")
