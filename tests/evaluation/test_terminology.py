import pytest

from doyen.errors import ConfigError
from doyen.evaluation.terminology import Term, read_glossary, terminology

GLOSSARY = [
    Term("sum insured", "what is paid at most", ("sum", "coverage limit")),
    Term("policyholder", forbidden=("customer",)),
]


def write(tmp_path, text):
    path = tmp_path / "glossary.csv"
    path.write_text(text, encoding="utf-8")
    return path


def test_a_glossary_is_read_with_its_forbidden_words(tmp_path):
    path = write(tmp_path, 'Term,forbidden,definition\n sum insured ,"sum; coverage limit ;",most\npolicyholder,,\n')
    assert read_glossary(path) == [Term("sum insured", "most", ("sum", "coverage limit")), Term("policyholder")]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("word,meaning\na,b\n", "columns word, meaning"),
        ("", "columns none"),
        ("term,forbidden\nleave,\n,holiday\nLeave,\n", "line 3: no term; line 4: 'Leave' stands on line 2 already"),
    ],
)
def test_broken_glossaries_are_refused_with_their_lines(text, reason, tmp_path):
    with pytest.raises(ConfigError, match=reason):
        read_glossary(write(tmp_path, text))


def test_a_missing_glossary_is_named(tmp_path):
    with pytest.raises(ConfigError, match="there is no glossary"):
        read_glossary(tmp_path / "none.csv")


@pytest.mark.parametrize(
    ("answer", "right", "forbidden"),
    [
        ("The sums insured go to the policyholders.", 2, ()),
        ("The sum goes to the policyholder.", 1, ("sum",)),
        ("The sum insured, that is the coverage limit, goes to the customer.", 0, ("coverage limit", "customer")),
        ("Nothing of the kind.", 0, ()),
    ],
)
def test_terms_are_right_without_their_forbidden_words(answer, right, forbidden):
    found = terminology(answer, ["The policyholder gets the sum insured"], GLOSSARY)
    assert found.expected == ("sum insured", "policyholder")
    assert len(found.right) == right and found.forbidden == forbidden


def test_only_terms_of_the_known_answers_are_expected():
    assert terminology("sum insured", ["27 days"], GLOSSARY).expected == ()
    assert terminology("a customer", [], GLOSSARY).forbidden == ("customer",)
