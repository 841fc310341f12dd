"""A statement → itself, if it only reads the tables it may read; else a TableError.

The statement is parsed by DuckDB itself (json_serialize_sql), so that what is checked is what is run. All is refused that
is not named below: kinds of statement, of table, of expression, functions, types. Knows no data.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator
from typing import Any

from doyen.errors import TableError

_NODES = frozenset(("SELECT_NODE", "SET_OPERATION_NODE", "CTE_NODE"))
_TABLES = frozenset(("BASE_TABLE", "JOIN", "SUBQUERY", "EMPTY", "EXPRESSION_LIST"))
_CLASSES = frozenset(
    (
        *("COLUMN_REF", "CONSTANT", "FUNCTION", "COMPARISON", "CONJUNCTION", "OPERATOR", "CASE", "CAST", "BETWEEN"),
        *("SUBQUERY", "WINDOW", "STAR", "PARAMETER", "TYPE"),
    )
)
_MODIFIERS = frozenset(("ORDER_MODIFIER", "LIMIT_MODIFIER", "LIMIT_PERCENT_MODIFIER", "DISTINCT_MODIFIER"))
_ORDERS = frozenset(("ORDER_DEFAULT", "ASCENDING", "DESCENDING"))
_OPERATORS = frozenset(
    (
        *("OPERATOR_NOT", "OPERATOR_IS_NULL", "OPERATOR_IS_NOT_NULL", "COMPARE_IN", "COMPARE_NOT_IN"),
        *("OPERATOR_COALESCE", "OPERATOR_NULLIF", "OPERATOR_TRY"),
    )
)
_TYPES = frozenset(
    (
        *("varchar", "text", "string", "char", "bpchar", "boolean", "bool", "tinyint", "smallint", "integer", "int"),
        *("int4", "int8", "bigint", "hugeint", "float", "float4", "float8", "real", "double", "decimal", "numeric"),
        *("date", "time", "timestamp", "datetime", "interval"),
    )
)
_AGGREGATES = (
    "count count_star count_if countif sum avg mean min max median mode stddev stddev_samp stddev_pop variance var_samp"
    " var_pop corr covar_pop covar_samp regr_slope regr_intercept regr_r2 regr_count skewness kurtosis kurtosis_pop"
    " quantile_cont quantile_disc quantile approx_count_distinct bool_and bool_or arg_min arg_max argmin argmax max_by"
    " min_by first last any_value sum_no_overflow fsum kahan_sum favg product sem mad entropy"
)
_WINDOWS = (
    "row_number rank dense_rank percent_rank cume_dist ntile lag lead first_value last_value nth_value window_aggregate"
)
_SCALARS = (
    "+ - * / // % ** ^ || ~~ !~~ ~~* !~~* abs ceil ceiling floor round trunc sign sqrt cbrt exp ln log log10 log2 pow power"
    " mod greatest least isnan isfinite isinf add subtract multiply divide lower upper lcase ucase length strlen len trim"
    " ltrim rtrim substring substr left right replace contains starts_with prefix suffix ends_with instr strpos position"
    " concat concat_ws reverse like_escape not_like_escape ilike_escape not_ilike_escape split_part nullif coalesce ifnull"
    " if regexp_matches regexp_full_match regexp_extract strip_accents jaccard year month day quarter week weekday dayofweek"
    " isodow dayofyear hour minute second monthname dayname date_part datepart date_trunc datetrunc date_diff datediff"
    " date_sub datesub date_add last_day make_date strftime strptime try_strptime epoch century decade to_years to_months"
    " to_weeks to_days to_hours to_minutes to_seconds today current_date"
)
FUNCTIONS = frozenset(f"{_AGGREGATES} {_WINDOWS} {_SCALARS}".split())
"""What a statement may call: nothing here makes a value much larger than what goes in."""
_HINT = "only SELECT over the tables that `doyen tables` lists, with common functions"


def require_reading(statement: str, tables: Collection[str], connection: Any) -> dict[str, Any]:
    """Return the statement's tree if it is one SELECT over `tables` (names in lower case) with allowed parts.

    `connection` is any DuckDB connection; nothing is run on it but the parser. Raises TableError that names the part.
    """
    if "\x00" in statement:
        raise TableError("the statement holds a NUL character", hint=_HINT)
    try:
        found = connection.execute("SELECT json_serialize_sql(CAST(? AS VARCHAR))", [statement]).fetchone()[0]
    except Exception as error:  # the edge: DuckDB has errors of its own for what its parser does not take
        raise TableError(f"the statement cannot be parsed: {_short(error)}", hint=_HINT) from None
    try:
        tree: dict[str, Any] = json.loads(found)
    except RecursionError:
        raise TableError("the statement is nested too deeply", hint=_HINT) from None
    if tree.get("error"):
        raise TableError(f"the statement is refused: {tree.get('error_message', 'not a SELECT')}", hint=_HINT)
    if len(tree["statements"]) != 1:
        raise TableError(f"{len(tree['statements'])} statements; one is taken", hint=_HINT)
    _check(tree["statements"][0]["node"], frozenset(tables))
    return tree


def table_names(tree: Any) -> set[str]:
    """Return the names in lower case of what a checked statement reads, common table expressions included."""
    return {str(d["table_name"]).lower() for d in _dicts(tree) if d.get("type") == "BASE_TABLE"}


def _check(tree: Any, tables: frozenset[str]) -> None:
    names = tables | {str(entry["key"]).lower() for d in _dicts(tree) for entry in _cte_entries(d)}
    for part in _dicts(tree):
        kind, class_ = part.get("type"), part.get("class")
        if class_ is not None:
            _check_expression(part, str(class_), str(kind))
        elif isinstance(kind, str):
            _check_clause(part, kind, names)
        if part.get("sample"):
            raise TableError("TABLESAMPLE is refused: an answer must be the same each time", hint=_HINT)


def _cte_entries(part: dict[str, Any]) -> list[dict[str, Any]]:
    ctes = part.get("cte_map")
    return list(ctes.get("map", ())) if isinstance(ctes, dict) else []


def _check_clause(part: dict[str, Any], kind: str, names: frozenset[str]) -> None:
    if kind not in _NODES | _TABLES | _MODIFIERS and kind not in _ORDERS:
        raise TableError(f"{kind.replace('_', ' ').lower()} is refused", hint=_HINT)
    if kind != "BASE_TABLE":
        return
    path = part.get("qualified_name", {}).get("path") or [part.get("table_name")]
    if part.get("catalog_name") or part.get("schema_name") or len(path) != 1 or part.get("at_clause"):
        raise TableError(f"'{'.'.join(map(str, path))}': a table is named without schema or database", hint=_HINT)
    if str(part.get("table_name")).lower() not in names or str(path[0]).lower() not in names:
        raise TableError(f"there is no table '{str(path[0])[:80]}'", hint="doyen tables lists them")


def _check_expression(part: dict[str, Any], class_: str, kind: str) -> None:
    if class_ not in _CLASSES:
        raise TableError(f"{kind.replace('_', ' ').lower()} is refused", hint=_HINT)
    if class_ in ("FUNCTION", "WINDOW"):
        name = str(part.get("function_name", "")).lower()
        path = part.get("qualified_name", {}).get("path") or [name]
        if part.get("schema") or part.get("catalog") or len(path) != 1 or str(path[0]).lower() != name:
            raise TableError(f"the function {'.'.join(map(str, path))} is refused", hint=_HINT)
        if name not in FUNCTIONS and not (class_ == "WINDOW" and not name):
            raise TableError(f"the function {name[:60]} is refused", hint=_HINT)
    if class_ == "OPERATOR" and kind not in _OPERATORS:
        raise TableError(f"{kind.replace('_', ' ').lower()} is refused", hint=_HINT)
    if class_ == "TYPE" and str(part.get("type_name", "")).lower() not in _TYPES:
        raise TableError(f"the type {str(part.get('type_name'))[:60]} is refused", hint=_HINT)
    if class_ == "STAR" and (part.get("columns") or part.get("expr") or part.get("replace_list")):
        raise TableError("COLUMNS(…) and REPLACE are refused", hint=_HINT)


def _dicts(tree: Any) -> Iterator[dict[str, Any]]:
    """Yield every object of a tree, not recursive: a statement may nest deeply."""
    stack = [tree]
    while stack:
        item = stack.pop()
        if isinstance(item, dict):
            yield item
            stack.extend(item.values())
        elif isinstance(item, list):
            stack.extend(item)


def _short(error: Exception) -> str:
    return " ".join(str(error).split())[:200]
