"""What a constraint may be, and what is said of one that cannot be met; no model is needed."""

import re

import pytest

from doyen.errors import UsageError
from doyen.models.constraints import Choices, JsonSchema, Regex, constraint_key, require_possible
from doyen.models.endings import endings, shortest_match

BAD = {
    "anyOf is empty": {"enum": []},
    "minLength": {"type": "string", "minLength": 5, "maxLength": 2},
    "minimum (5) is greater than maximum (2)": {"type": "integer", "minimum": 5, "maximum": 2},
    "'n' is unsatisfiable": {"type": "object", "properties": {"n": {"type": "array", "items": False, "minItems": 1}}, "required": ["n"]},
    "'a' is unsatisfiable": {"type": "object", "properties": {"a": False}, "required": ["a"]},
    "uniqueItems": {"type": "array", "items": {"type": "integer"}, "uniqueItems": True},
    "if, then": {"if": {"type": "string"}, "then": {"minLength": 2}},
    "oneOf": {"oneOf": [{"type": "integer"}, {"type": "number"}]},
    "foo": {"type": "foo"},
    "nope": {"$ref": "#/nope"},
    "look-ahead": {"type": "string", "pattern": "a(?=b)"},
    "ipv9": {"type": "string", "format": "ipv9"},
    "not JSON": {"const": float("nan")},
    "an object": ["a"],
}  # fmt: skip


@pytest.mark.parametrize("said", BAD)
def test_a_schema_that_cannot_be_met_is_explained(said):
    with pytest.raises(UsageError, match=re.escape(said)) as caught:
        require_possible(JsonSchema(BAD[said]))
    assert "<state>" not in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("pattern", "said"), [("(a", "unclosed group"), ("a(?=b)", "look-around"), (r"(a)\1", "backref")]
)
def test_a_broken_expression_is_explained(pattern, said):
    with pytest.raises(UsageError, match=said):
        require_possible(Regex(pattern))


@pytest.mark.parametrize(
    ("options", "said"),
    [((), "empty"), (("a", "b", "a"), "twice: 'a'"), (("a", " "), "blank"), ("yes", "list of texts")],
)
def test_choices_among_which_nothing_can_be_chosen_are_refused(options, said):
    with pytest.raises(UsageError, match=said):
        require_possible(Choices(options))


@pytest.mark.parametrize(
    "schema",
    [
        {"allOf": [{"properties": {"a": {"type": "string"}}, "type": "object"}, {"required": ["b"]}]},
        {"type": "object", "properties": {"a": {"type": "string"}}, "required": ["z"]},  # z is open to anything
        {"type": "string", "minLength": 500},
        {"enum": [{"type": "string"}, {"properties": []}]},  # values that look like schemas
    ],
)
def test_bounds_of_our_own_make_no_schema_impossible(schema):
    require_possible(JsonSchema(schema))


def test_a_schema_cannot_switch_its_own_checks_off():
    with pytest.raises(UsageError, match="uniqueItems"):
        require_possible(JsonSchema({"x-guidance": {"lenient": True}, "type": "array", "uniqueItems": True}))


def test_keys_differ_where_the_constraint_does():
    keys = [constraint_key(c) for c in (None, Regex("a"), Choices(("a",)), JsonSchema({"const": "a"}), JsonSchema({}))]
    assert len(set(keys)) == 5
    assert constraint_key(Regex("a")) == keys[1]


@pytest.mark.parametrize(
    "pattern",
    [
        r"^[A-Z]{2}-[0-9]{3}$", "(red|green|blå)", r"\d{4}", "(0|1)*11", r"[^\"a0]{1,8}", r"v\d+\.\d+", "...", "a?b+c*", "[^a]",
        r"\w\s\W", "x{2}|yyy", r"(?:ab){2,}", r"[\d_]x", "",
    ],
)  # fmt: skip
def test_the_short_match_of_an_expression_matches_it(pattern):
    assert re.fullmatch(pattern, shortest_match(pattern))


def test_an_expression_that_python_does_not_know_gives_no_suggestion():
    assert shortest_match(r"\p{L}+") == ""


def test_endings_are_those_of_all_expressions_of_a_schema():
    schema = {"properties": {"a": {"pattern": "ab"}, "b": {"items": {"format": "ipv6"}}}}
    assert endings(JsonSchema(schema)) == ["1", "b", ":1", "ab", "::1"]
