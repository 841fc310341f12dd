"""Expressions of rules and conditions: parsed, checked by types before a run, evaluated on a row's values.

simpleeval computes them; what it is given is a tree of the nodes named here alone, plain values, and operators of bounded cost.
No attribute of Python is ever looked up: `facts.amount` is one name.
"""

from __future__ import annotations

import ast
import datetime
import keyword
import math
import operator
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from doyen.workflows.faults import RowFault, near

MOST_CHARACTERS = 2_000
MOST_DEPTH = 40
MOST_DIGITS = 400
CONFIDENCE = "confidence"
CONSTANTS = {"null": None, "true": True, "false": False}

_NODES = (
    ast.Expression, ast.BoolOp, ast.And, ast.Or, ast.UnaryOp, ast.Not, ast.USub, ast.UAdd, ast.BinOp, ast.Add, ast.Sub, ast.Mult,
    ast.Div, ast.FloorDiv, ast.Mod, ast.Compare, ast.Eq, ast.NotEq, ast.Lt, ast.LtE, ast.Gt, ast.GtE, ast.In, ast.NotIn,
    ast.IfExp, ast.Call, ast.Name, ast.Load, ast.Attribute, ast.Constant, ast.List, ast.Tuple,
)  # fmt: skip


class ExpressionFault(Exception):
    """An expression is wrong whatever the row; the message says what."""


@dataclass(frozen=True, slots=True)
class Expression:
    """A parsed expression. `paths` are the dotted names that it reads, `sure_of` the steps whose confidence it asks for."""

    text: str
    tree: ast.expr = field(compare=False, repr=False)
    paths: tuple[str, ...] = ()
    sure_of: tuple[str, ...] = ()

    def evaluate(self, values: Mapping[str, Any], confidences: Mapping[str, float] | None = None) -> Any:
        """Return its value on a row. Raises RowFault where that cannot be computed."""
        from simpleeval import EvalWithCompoundTypes

        known = confidences or {}

        def value_of(node: ast.Name) -> Any:
            if node.id in CONSTANTS:
                return CONSTANTS[node.id]
            kind, _, step = node.id.partition(":")
            return known.get(step) if kind == CONFIDENCE and step else resolve(node.id, values)

        evaluator = EvalWithCompoundTypes(operators=OPERATORS, functions=dict(_CALLABLE), names=value_of)
        try:
            return evaluator.eval(self.text, previously_parsed=self.tree)
        except ZeroDivisionError:
            raise RowFault(f"{self.text!r} divides by zero") from None
        except RowFault as error:
            raise RowFault(f"{self.text!r}: {error}{self._nulls(values)}") from None
        except Exception as error:  # the edge: whatever a row's values make of an expression is a fault of that row
            raise RowFault(f"{self.text!r} cannot be computed ({error}){self._nulls(values)}") from None

    def _nulls(self, values: Mapping[str, Any]) -> str:
        empty = [path for path in self.paths if _or_none(path, values) is None]
        return f"; without a value: {', '.join(empty)}" if empty else ""


def parse_expression(text: str) -> Expression:
    """Parse an expression. Raises ExpressionFault for what is none, or holds what expressions may not."""
    if len(text) > MOST_CHARACTERS:
        raise ExpressionFault(f"an expression has at most {MOST_CHARACTERS:,} characters, this one {len(text):,}")
    try:
        tree = ast.parse(text.strip(), mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        reason = error.msg if isinstance(error, SyntaxError) else "it is nested too deeply"
        fields = [f for f in re.findall(r"\.([A-Za-z]+)", text) if keyword.iskeyword(f)]
        reason = f"a field cannot be called '{fields[0]}' here" if fields else reason
        raise ExpressionFault(f"{text!r} is no expression ({reason})") from None
    _refuse_deep(tree)
    for node in ast.walk(tree):
        _refuse(node, text)
    names = _Names()
    flat = names.visit(tree)
    return Expression(text, flat, tuple(dict.fromkeys(names.paths)), tuple(dict.fromkeys(names.sure_of)))


def resolve(path: str, values: Mapping[str, Any]) -> Any:
    """Return the value of a dotted name. A field of null, or one that an object has not, is null. Raises RowFault."""
    name, *fields = path.split(".")
    if name not in values:
        raise RowFault(f"there is no value '{name}'")
    value = values[name]
    for one in fields:
        if value is not None and not isinstance(value, Mapping):
            raise RowFault(f"{name} is no object, and has no '{one}'")
        value = None if value is None else value.get(one)
    return value


def _or_none(path: str, values: Mapping[str, Any]) -> Any:
    try:
        return resolve(path, values)
    except RowFault:
        return None


def _refuse_deep(tree: ast.AST) -> None:
    level, nodes = 0, [tree]
    while nodes:
        level += 1
        if level > MOST_DEPTH:
            raise ExpressionFault(f"an expression is nested at most {MOST_DEPTH} deep")
        nodes = [child for node in nodes for child in ast.iter_child_nodes(node)]


def _refuse(node: ast.AST, text: str) -> None:
    if not isinstance(node, _NODES):
        raise ExpressionFault(f"{text!r}: {type(node).__name__.lower()} is not part of expressions")
    if isinstance(node, ast.Attribute) and not isinstance(node.value, ast.Name | ast.Attribute):
        raise ExpressionFault(f"{text!r}: a field stands behind a name")
    if isinstance(node, ast.Constant):
        if not isinstance(node.value, str | int | float | bool | None):
            raise ExpressionFault(f"{text!r}: {node.value!r} is no value of expressions")
        if isinstance(node.value, int | float) and abs(node.value) > 1e15:
            raise ExpressionFault(f"{text!r}: numbers are at most 1e15")
    if isinstance(node, ast.Call):
        if not isinstance(node.func, ast.Name) or node.func.id not in (*FUNCTIONS, CONFIDENCE):
            named = node.func.id if isinstance(node.func, ast.Name) else "this"
            raise ExpressionFault(f"{text!r}: {named} is no function of expressions{near(named, FUNCTIONS)}")
        if node.keywords or any(isinstance(a, ast.Starred) for a in node.args):
            raise ExpressionFault(f"{text!r}: arguments have no names")
        if node.func.id == CONFIDENCE and not (len(node.args) == 1 and isinstance(node.args[0], ast.Name)):
            raise ExpressionFault(f"{text!r}: confidence takes the name of a step")


class _Names(ast.NodeTransformer):
    """Makes one name of `a.b.c`, and one of `confidence(a)`; notes what is read."""

    def __init__(self) -> None:
        self.paths: list[str] = []
        self.sure_of: list[str] = []

    def visit_Attribute(self, node: ast.Attribute) -> ast.AST:
        parts: list[str] = []
        inner: ast.expr = node
        while isinstance(inner, ast.Attribute):
            parts.append(inner.attr)
            inner = inner.value
        assert isinstance(inner, ast.Name)
        return self._read(".".join([inner.id, *reversed(parts)]), node)

    def visit_Name(self, node: ast.Name) -> ast.AST:
        return node if node.id in CONSTANTS else self._read(node.id, node)

    def visit_Call(self, node: ast.Call) -> ast.AST:
        assert isinstance(node.func, ast.Name)
        if node.func.id == CONFIDENCE:
            assert isinstance(node.args[0], ast.Name)
            self.sure_of.append(node.args[0].id)
            return ast.copy_location(ast.Name(f"{CONFIDENCE}:{node.args[0].id}", ast.Load()), node)
        node.args = [self.visit(a) for a in node.args]
        return node

    def _read(self, path: str, node: ast.AST) -> ast.AST:
        self.paths.append(path)
        return ast.copy_location(ast.Name(path, ast.Load()), node)


# ---- operators and functions of bounded cost


def _number(value: Any) -> float | int:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise RowFault(f"a number is needed, not {_named(value)}")
    if isinstance(value, int) and value.bit_length() > 4 * MOST_DIGITS:
        raise RowFault("a number is too large")
    return value


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise RowFault(f"a text is needed, not {_named(value)}")
    return value


def _named(value: Any) -> str:
    return "null" if value is None else f"a {type(value).__name__}"


def _arithmetic(of: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Any]:
    def compute(a: Any, b: Any) -> Any:
        return of(_number(a), _number(b))

    return compute


def _plus(a: Any, b: Any) -> Any:
    if isinstance(a, str) and isinstance(b, str):
        if len(a) + len(b) > 1_000_000:
            raise RowFault("a text is too long")
        return a + b
    return _number(a) + _number(b)


def _ordered(of: Callable[[Any, Any], bool]) -> Callable[[Any, Any], bool]:
    def compare(a: Any, b: Any) -> bool:
        return of(a, b) if isinstance(a, str) and isinstance(b, str) else of(_number(a), _number(b))

    return compare


def _in(a: Any, b: Any) -> bool:
    if isinstance(b, list | tuple):
        return a in b
    return _text(a) in _text(b)


OPERATORS: dict[type, Callable[..., Any]] = {
    ast.Add: _plus,
    ast.Sub: _arithmetic(operator.sub),
    ast.Mult: _arithmetic(operator.mul),
    ast.Div: _arithmetic(operator.truediv),
    ast.FloorDiv: _arithmetic(operator.floordiv),
    ast.Mod: _arithmetic(operator.mod),
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
    ast.Lt: _ordered(operator.lt),
    ast.LtE: _ordered(operator.le),
    ast.Gt: _ordered(operator.gt),
    ast.GtE: _ordered(operator.ge),
    ast.In: _in,
    ast.NotIn: lambda a, b: not _in(a, b),
    ast.Not: operator.not_,
    ast.USub: lambda a: -_number(a),
    ast.UAdd: _number,
}


def _rounded(value: Any, digits: Any = 0) -> Any:
    if not isinstance(digits, int) or not 0 <= digits <= 12:
        raise RowFault("round takes 0 to 12 digits")
    return round(_number(value), digits) if digits else round(_number(value))


def _as_number(value: Any) -> float | int:
    if isinstance(value, int | float) and not isinstance(value, bool):
        return _number(value)
    try:
        found = float(_text(value).strip()) if len(_text(value)) <= 40 else math.nan
    except ValueError:
        found = math.nan
    if not math.isfinite(found):
        raise RowFault(f"{str(value)[:40]!r} is no number")
    return int(found) if found.is_integer() and abs(found) < 1e15 else found


def _date(value: Any) -> datetime.date:
    try:
        return datetime.date.fromisoformat(_text(value).strip()[:10])
    except ValueError:
        raise RowFault(f"{str(value)[:40]!r} is no date (YYYY-MM-DD)") from None


def _length(value: Any) -> int:
    if isinstance(value, str | list | tuple):
        return len(value)
    raise RowFault(f"len takes a text or a list, not {_named(value)}")


@dataclass(frozen=True, slots=True)
class Function:
    """A function of expressions: what computes it, the kinds of its arguments ("any": each), that of its value.

    With `most` None it takes any number of arguments of its last kind.
    """

    of: Callable[..., Any]
    arguments: tuple[str, ...]
    gives: str
    least: int
    most: int | None


FUNCTIONS: dict[str, Function] = {
    "abs": Function(lambda x: abs(_number(x)), ("number",), "number", 1, 1),
    "round": Function(_rounded, ("number", "number"), "number", 1, 2),
    "min": Function(lambda *x: min(map(_number, x)), ("number",), "number", 1, None),
    "max": Function(lambda *x: max(map(_number, x)), ("number",), "number", 1, None),
    "len": Function(_length, ("any",), "number", 1, 1),
    "count": Function(lambda x: len(x or ()), ("list",), "number", 1, 1),
    "lower": Function(lambda x: _text(x).lower(), ("text",), "text", 1, 1),
    "upper": Function(lambda x: _text(x).upper(), ("text",), "text", 1, 1),
    "strip": Function(lambda x: _text(x).strip(), ("text",), "text", 1, 1),
    "contains": Function(lambda x, y: _text(y) in _text(x), ("text", "text"), "boolean", 2, 2),
    "starts": Function(lambda x, y: _text(x).startswith(_text(y)), ("text", "text"), "boolean", 2, 2),
    "number": Function(_as_number, ("any",), "number", 1, 1),
    "missing": Function(lambda x: x is None or x == "", ("any",), "boolean", 1, 1),
    "days_between": Function(lambda a, b: (_date(b) - _date(a)).days, ("text", "text"), "number", 2, 2),
}
_CALLABLE = {name: function.of for name, function in FUNCTIONS.items()}
