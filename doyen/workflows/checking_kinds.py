"""Expressions → the kind of their value, and what can never be right in them. Nothing is evaluated."""

from __future__ import annotations

import ast
from collections.abc import Callable, Mapping

from doyen.workflows.expressions import CONFIDENCE, CONSTANTS, FUNCTIONS, Expression
from doyen.workflows.faults import near
from doyen.workflows.kinds import ANY, BOOLEAN, LIST, NULL, NUMBER, TEXT, Kind

_ORDERED = (ast.Lt, ast.LtE, ast.Gt, ast.GtE)


def kind_of(expression: Expression, kinds: Mapping[str, Kind]) -> tuple[Kind, list[str]]:
    """Return the kind of an expression over names of these kinds, and its faults in words."""
    checker = _Checker(kinds)
    return checker.kind(expression.tree), checker.faults


def kind_of_path(path: str, kinds: Mapping[str, Kind]) -> tuple[Kind, str]:
    """Return the kind of a dotted name, and what is wrong with it ("": nothing)."""
    name, *fields = path.split(".")
    if name not in kinds:
        return ANY, f"'{name}' is no input column or earlier step{near(name, kinds)}"
    found, said = kinds[name], name
    for one in fields:
        if found.name == "any" or (found.name == "object" and found.fields is None):
            return ANY, ""
        if found.name != "object" or found.fields is None:
            return ANY, f"'{said}' is a {found.name}, and has no field '{one}'"
        if one not in found.fields:
            return ANY, f"'{said}' has no field '{one}'{near(one, found.fields)}"
        found, said = found.fields[one], f"{said}.{one}"
    return found, ""


class _Checker:
    def __init__(self, kinds: Mapping[str, Kind]) -> None:
        self._kinds = kinds
        self.faults: list[str] = []

    def kind(self, node: ast.expr) -> Kind:
        of: Callable[..., Kind] = _OF[type(node)]
        return of(self, node)

    def _constant(self, node: ast.Constant) -> Kind:
        if isinstance(node.value, bool):
            return BOOLEAN
        if isinstance(node.value, str):
            return Kind("text", (node.value,))
        return NULL if node.value is None else NUMBER

    def _name(self, node: ast.Name) -> Kind:
        if node.id in CONSTANTS:
            return NULL if CONSTANTS[node.id] is None else BOOLEAN
        if node.id.startswith(f"{CONFIDENCE}:"):
            return NUMBER
        found, fault = kind_of_path(node.id, self._kinds)
        self.faults += [fault] if fault else []
        return found

    def _needs(self, node: ast.expr, wanted: str, why: str) -> None:
        found = self.kind(node)
        if wanted not in ("any", found.name) and found.name != "any":
            self.faults.append(f"{why} takes a {wanted}, and '{_said(node)}' is a {found.name}")

    def _bool(self, node: ast.BoolOp) -> Kind:
        for value in node.values:
            self._needs(value, "boolean", "and" if isinstance(node.op, ast.And) else "or")
        return BOOLEAN

    def _unary(self, node: ast.UnaryOp) -> Kind:
        negates = isinstance(node.op, ast.Not)
        self._needs(node.operand, "boolean" if negates else "number", "not" if negates else "a sign")
        return BOOLEAN if negates else NUMBER

    def _binary(self, node: ast.BinOp) -> Kind:
        if isinstance(node.op, ast.Add):
            left, right = self.kind(node.left), self.kind(node.right)
            names = {left.name, right.name} - {"any"}
            if names == {"text"}:
                return TEXT
            if names - {"number"}:
                self.faults.append(f"'{_said(node)}' adds a {left.name} and a {right.name}")
            return NUMBER if names else ANY
        for side in (node.left, node.right):
            self._needs(side, "number", "arithmetic")
        return NUMBER

    def _compare(self, node: ast.Compare) -> Kind:
        sides = [node.left, *node.comparators]
        kinds = [self.kind(side) for side in sides]
        for i, op in enumerate(node.ops):
            self._compared(node, op, sides[i : i + 2], kinds[i : i + 2])
        return BOOLEAN

    def _compared(self, node: ast.Compare, op: ast.cmpop, sides: list[ast.expr], kinds: list[Kind]) -> None:
        left, right = kinds
        if isinstance(op, ast.In | ast.NotIn):
            if right.name not in ("list", "text", "any"):
                self.faults.append(f"'{_said(node)}': in takes a list or a text, not a {right.name}")
            elif isinstance(sides[1], ast.List | ast.Tuple):
                for item in sides[1].elts:
                    self._equal(node, left, self.kind(item))
        elif isinstance(op, _ORDERED):
            names = {left.name, right.name} - {"any"}
            if len(names) > 1 or names - {"text", "number"}:
                self.faults.append(f"'{_said(node)}' compares a {left.name} with a {right.name}")
        else:
            self._equal(node, left, right)

    def _equal(self, node: ast.Compare, left: Kind, right: Kind) -> None:
        names = {left.name, right.name} - {"any", "null"}
        if len(names) > 1:
            self.faults.append(f"'{_said(node)}' compares a {left.name} with a {right.name}: they are never equal")
        for known, other in ((left, right), (right, left)):
            if len(known.choices) > 1 and len(other.choices) == 1 and other.choices[0] not in known.choices:
                said = near(other.choices[0], known.choices)
                self.faults.append(f"'{_said(node)}' is never equal: '{other.choices[0]}' is no choice{said}")

    def _if(self, node: ast.IfExp) -> Kind:
        self._needs(node.test, "boolean", "if")
        first, second = self.kind(node.body), self.kind(node.orelse)
        if first.name != second.name:
            return first if second.name == "null" else second if first.name == "null" else ANY
        return Kind(first.name, tuple(dict.fromkeys((*first.choices, *second.choices)))) if first.choices else first

    def _call(self, node: ast.Call) -> Kind:
        assert isinstance(node.func, ast.Name)
        name, function = node.func.id, FUNCTIONS[node.func.id]
        given = len(node.args)
        if given < function.least or (function.most is not None and given > function.most):
            self.faults.append(
                f"{name} takes {function.least} to {function.most or 'any number of'} arguments, not {given}"
            )
            return Kind(function.gives)
        for i, argument in enumerate(node.args):
            self._needs(argument, function.arguments[min(i, len(function.arguments) - 1)], name)
        return Kind(function.gives)

    def _list(self, node: ast.List | ast.Tuple) -> Kind:
        for item in node.elts:
            self.kind(item)
        return LIST


def _said(node: ast.expr) -> str:
    return ast.unparse(node)


_OF: dict[type, Callable[..., Kind]] = {
    ast.Constant: _Checker._constant,
    ast.Name: _Checker._name,
    ast.BoolOp: _Checker._bool,
    ast.UnaryOp: _Checker._unary,
    ast.BinOp: _Checker._binary,
    ast.Compare: _Checker._compare,
    ast.IfExp: _Checker._if,
    ast.Call: _Checker._call,
    ast.List: _Checker._list,
    ast.Tuple: _Checker._list,
}
