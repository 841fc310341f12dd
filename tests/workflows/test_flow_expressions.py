import time

import pytest

from doyen.workflows.checking_kinds import kind_of
from doyen.workflows.expressions import ExpressionFault, parse_expression
from doyen.workflows.faults import RowFault
from doyen.workflows.kinds import ANY, BOOLEAN, LIST, NUMBER, TEXT, Kind, kind_of_schema
from doyen.workflows.templates import parse_template

VALUES = {
    "a": 4,
    "t": "Hail at Orrel",
    "n": None,
    "f": {"amount": 12, "begin": "2026-03-01", "keys": 3},
    "p": (),
    "c": "yes",
}
KINDS = {
    "a": NUMBER, "t": TEXT, "n": ANY, "p": LIST, "c": Kind("text", ("yes", "no")),
    "f": Kind("object", fields={"amount": NUMBER, "begin": TEXT, "keys": NUMBER}),
}  # fmt: skip


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("a > 3 and f.amount <= 12", True),
        ("f.keys + 1", 4),
        ("n == null", True),
        ("f.missing == null", True),
        ("not (a == 4) or t == ''", False),
        ("c in ['yes', 'no']", True),
        ("'Orrel' in t", True),
        ("7 // 2 + 7 % 2", 4),
        ("'big' if a > 3 else 'small'", "big"),
        ("contains(lower(t), 'hail')", True),
        ("days_between(f.begin, '2026-03-15')", 14),
        ("count(p) == 0 and missing(n)", True),
        ("number(' 12 ') * 2", 24),
        ("round(2.567, 2) + max(1, 2, -3)", 4.57),
        ("1 < a < 5", True),
        ("confidence(c) < 0.6", True),
    ],
)
def test_values(text, value):
    assert parse_expression(text).evaluate(VALUES, {"c": 0.5}) == pytest.approx(value)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a / (a - 4)", "divides by zero"),
        ("a % 0", "divides by zero"),
        ("n > 3", "without a value: n"),
        ("f.missing + 1", "without a value: f.missing"),
        ("t > 3", "a number is needed"),
        ("number(t)", "is no number"),
        ("days_between(t, t)", "is no date"),
        ("nothing == 1", "there is no value 'nothing'"),
        ("confidence(x) > 1", "a number is needed"),
    ],
)
def test_faults_of_a_row(text, said):
    with pytest.raises(RowFault, match=said):
        parse_expression(text).evaluate(VALUES)


@pytest.mark.parametrize(
    "text",
    [
        "__import__('os')", "open('/etc/passwd')", "().__class__", "t.__class__.__bases__[0]", "[x for x in t]", "lambda: 1", "2 ** 9",
        "a << 3", "f['amount']", "eval('1')", "t.format(a)", "f'{a}'", "(a := 3)", "min(*p)", "round(1, digits=3)", "a; a", "import os",
        "1 if a", "b'x'", "1e400", "10000000000000000000", "...", "a @ a", "~a", "a is a", "confidence('c')", "{'a': 1}", "print(a)",
        "(" * 300 + ")" * 300, "-" * 1500 + "1", "a" * 3000, "", "await a", "yield", "*a",
    ],
)  # fmt: skip
def test_what_is_no_expression(text):
    with pytest.raises(ExpressionFault):
        parse_expression(text)


def test_attributes_of_python_are_only_names_of_fields():
    assert parse_expression("t.upper == null").paths == ("t.upper",)
    with pytest.raises(RowFault, match="t is no object"):
        parse_expression("t.upper == null").evaluate(VALUES)
    assert parse_expression("f.items == null").evaluate(VALUES) is True


@pytest.mark.parametrize(
    "text",
    [
        "'%999999999d' % a",
        "'x' * 999999999",
        "round(a, 999999999)",
        "9999999 * " * 150 + "9999999",
        "t + " * 400 + "t",
        "max(t)",
    ],
)
def test_cost_is_bounded(text):
    begun = time.perf_counter()
    try:
        parse_expression(text).evaluate(VALUES | {"t": "y" * 100_000})
    except (RowFault, ExpressionFault):
        pass
    assert time.perf_counter() - begun < 5


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a > 'x'", "compares a number with a text"),
        ("a == 'x'", "they are never equal"),
        ("c == 'yess'", "did you mean 'yes'?"),
        ("c in ['yes', 'maybe']", "'maybe' is no choice"),
        ("a and c == 'yes'", "and takes a boolean, and 'a' is a number"),
        ("not t", "not takes a boolean"),
        ("t - 1", "arithmetic takes a number"),
        ("t + 1", "adds a text and a number"),
        ("lower(a)", "lower takes a text"),
        ("lower()", "lower takes 1 to 1 arguments, not 0"),
        ("f.amuont > 1", "did you mean 'amount'?"),
        ("t.length > 1", "'t' is a text, and has no field 'length'"),
        ("z > 1", "'z' is no input column or earlier step"),
        ("1 in 2", "in takes a list or a text"),
    ],
)
def test_faults_by_types(text, said):
    assert said in "; ".join(kind_of(parse_expression(text), KINDS)[1])


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("a > 1 and n == 3", BOOLEAN),
        ("t + t", TEXT),
        ("a if true else 2", NUMBER),
        ("n", ANY),
        ("null if c == 'no' else a", NUMBER),
    ],
)
def test_kinds(text, kind):
    found, faults = kind_of(parse_expression(text), KINDS)
    assert (found.name, faults) == (kind.name, [])


def test_kinds_of_schemas():
    of = kind_of_schema(
        {
            "type": "object",
            "properties": {"a": {"type": ["integer", "null"]}, "b": {"enum": ["x", "y", None]}, "c": {"anyOf": []}},
        }
    )
    assert (of.fields["a"].name, of.fields["b"].choices, of.fields["c"].name) == ("number", ("x", "y"), "any")


def test_templates():
    template = parse_template("{{{a}}} {f.amount}: {n} {t}")
    assert template.paths == ("a", "f.amount", "n", "t")
    assert template.fill(VALUES) == "{4} 12: none Hail at Orrel"
    assert template.fill(VALUES, {"t": 4}) == "{4} 12: none Hail …"
    with pytest.raises(ExpressionFault):
        parse_template("{a!r}")
