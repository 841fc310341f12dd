import pytest

from doyen.records import Chunk, Hit
from doyen.workflows.checks import faults_of_value, numbers_of
from doyen.workflows.definition import Check, Limit
from doyen.workflows.expressions import parse_expression
from doyen.workflows.templates import parse_template

PASSAGES = (Hit(Chunk("a.md", 0, 30, "The deductible is 1,200 euros."), 1.0), Hit(Chunk("b.md", 0, 5, "Hail."), 0.5))


def check(value, shown=PASSAGES, **fields):
    values = {
        "letter": value,
        "wording": PASSAGES,
        "text": "On 3 May hail broke 2 panes, 850.50 euros.",
        "amount": 850.5,
    }
    return faults_of_value(Check(name="c", of="letter", **fields), values, shown)


@pytest.mark.parametrize(
    ("text", "numbers"),
    [
        ("1,200 and 1.200 and 1200 and 1 200", ["1200"] * 4),
        ("1,234,567.50", ["1234567.5"]),
        ("1.234,5", ["1234.5"]),
        ("850.50 and 850,5", ["850.5"] * 2),
        ("007 and 0 and 12%", ["7", "0", "12"]),
        ("3.141 5", ["3141", "5"]),
        ("HP-0042, 2026-03-01", ["42", "2026", "3", "1"]),
        ("no numbers", []),
    ],
)
def test_numbers_in_any_spelling(text, numbers):
    assert numbers_of(text) == numbers


def test_numbers_have_evidence():
    of = ("text", "wording", "amount")
    assert check("Of 850,50 euros we deduct 1200 [1] for 2 panes.", numbers_in=of) == []
    assert check("We pay 351 and 90 euros [2].", numbers_in=of) == ["numbers without evidence: 351, 90"]
    assert check("Passage 1 says so.", numbers_in=("wording",)) == ["numbers without evidence: 1"]


def test_quotes_stand_in_the_passages_word_for_word():
    def quoted(*texts, **options):
        return check({"amount": "1,200", "of": None}, quotes=tuple(map(parse_template, texts)), **options)

    assert quoted("the  Deductible is\n{letter.amount} euros") == quoted("Hail.") == []
    assert quoted("is {letter.amount} euro and") == ["'is 1,200 euro and' stands in no passage"]
    assert quoted("{letter.of}: never said") == []  # nothing is quoted
    assert quoted("200 euros.") == ["'200 euros.' stands in no passage"]  # that is of 1,200
    assert quoted("euros. Hail") == ["'euros. hail' stands in no passage"]  # that is of two passages
    assert check({"of": ""}, quotes=(parse_template("{letter.of} euros"),)) == ["'euros' stands in no passage"]
    assert quoted("never said", shown=None) == []  # an arm without passages


def test_citations():
    assert check("It is so [1], and so [1, 2].", citations=True) == []
    assert check("It is so.", citations=True) == ["it names no passage"]
    assert check("It is so [4].", citations=True) == ["it names passages that it was not shown: 4"]
    assert check("It is so.", shown=None, citations=True) == []  # an arm without passages


def test_words_and_texts():
    assert check("Dear sir, we pay.", least_words=3, most_words=5, contains=("PAY",), never=("fraud",)) == []
    found = check("Fraud.", least_words=3, contains=("pay",), never=("fraud",))
    assert found == ["1 words, at least 3 are asked for", "'pay' is missing", "'fraud' stands in it"]


def test_schema_and_limits():
    schema = {"type": "object", "properties": {"n": {"maximum": 5}}}
    assert check({"n": 7}, schema=schema) == ["not valid by the schema: 7 is greater than the maximum of 5"]
    limit = Limit(parse_expression("amount <= 800"), "over the limit")
    assert check("x", require=(limit,)) == ["over the limit"]
