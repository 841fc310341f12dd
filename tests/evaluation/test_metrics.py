import pytest
from hypothesis import given
from hypothesis import strategies as st

from doyen.evaluation.metrics import (
    containment,
    exact_match,
    normalise,
    number_match,
    read_numbers,
    rouge_l,
    token_f1,
    tokenise,
    yesno_verdict,
)

texts = st.text(max_size=60) | st.sampled_from(["the cat sat", "丹佛野马队", "१५७७ रुपये", "1,577.5%", ""])


@given(texts, texts)
def test_f1_and_rouge_are_symmetric_shares(a, b):
    for metric in (token_f1, rouge_l):
        assert metric(a, b) == pytest.approx(metric(b, a))
        assert 0 <= metric(a, b) <= 1
    assert rouge_l(a, b) <= token_f1(a, b) + 1e-12


@given(texts)
def test_identical_answers_are_right(a):
    assert token_f1(a, a) == rouge_l(a, a) == exact_match(a, a) == 1
    assert containment(a, a) == float(bool(tokenise(a)))


@given(texts, texts)
def test_containing_all_of_the_gold(a, b):
    if tokenise(b):
        assert containment(f"{a} \n {b}", b) == 1


@given(texts, texts)
def test_no_metric_fails_on_any_text(a, b):
    assert number_match(a, [b]) in (0, 1)
    assert yesno_verdict(a) in ("yes", "no", "maybe", None)


@pytest.mark.parametrize(
    ("text", "language", "normal"),
    [
        ("The  Cat, sat!", "en", "cat sat"),
        ("El gato", "es", "gato"),
        ("$1,577,000.50", "en", "1577000.50"),
        ("१५७७ रुपये।", "hi", "1577 रुपये"),
        ("cafe\u0301", "en", "café"),
        ("65.4 %.", "en", "65.4 %"),
    ],
)
def test_normalise(text, language, normal):
    assert normalise(text, language) == normal


def test_chinese_is_read_by_character():
    assert token_f1("是丹佛野马队。", "丹佛野马队", "zh") == pytest.approx(10 / 11)
    assert containment("是丹佛野马队。", "丹佛野马队", "zh") == 1


def test_containment_is_of_words():
    assert containment("a category", "cat") == 0
    assert containment("the cat", "cat") == 1


def test_rouge_l_keeps_the_order():
    assert rouge_l("b1 x1 c1 d1", "b1 y1 c1 d1") == pytest.approx(0.75)
    assert rouge_l("two one", "one two") == 0.5


@pytest.mark.parametrize(
    ("answer", "gold"),
    [
        ("$1,577 million", "$1577.00"),
        ("$1.577 billion", "$1577.00"),
        ("FY2018 capex was $1,577 [1].", "$1577.00"),
        ("3M's capex was $1,577 million", "$1577.00"),
        ("As of June 30, 2023: 1,577", "1577"),
        ("On page 60, 1577", "1577"),
        ("see [3] and [report.pdf:12]: 42", "42"),
        ("(12.6) million", "-12.6 million"),
        ("\u221212.6 million", "-12.6 million"),
        ("0.654", "65.4%"),
        ("65.4 percent", "65.4%"),
        ("0.5 billion", "500 million"),
        ("1,000,000,000", "1 billion"),
        ("200 ms", "200ms"),
        ("in 2019", "2019"),
        ("100.9", "100"),
    ],
)
def test_numbers_that_match(answer, gold):
    assert number_match(answer, [gold]) == 1


@pytest.mark.parametrize(
    ("answer", "gold"),
    [
        ("$1,677 million", "$1577.00"),
        ("12.6 million", "-12.6 million"),
        ("6.54%", "65.4%"),
        ("500 thousand", "500 million"),
        ("It grew from 5 to 9", "9"),
        ("101.1", "100"),
        ("none", "5"),
        ("", "5"),
    ],
)
def test_numbers_that_do_not(answer, gold):
    assert number_match(answer, [gold]) == 0


def test_any_gold_number_will_do():
    assert number_match("it is 7", ["5", "7"]) == 1
    assert number_match("it is 6", ["5", "7"]) == 0


def test_range_is_not_negative():
    assert [number.value for number in read_numbers("between 5-10 units")] == [5]


@pytest.mark.parametrize(
    ("text", "verdict"),
    [
        ("No. For the other one yes", "no"),
        ("The answer is: Yes, it does", "yes"),
        ("हाँ, है", "yes"),
        ("perhaps", "maybe"),
        ("I cannot say", None),
    ],
)
def test_verdict(text, verdict):
    assert yesno_verdict(text) == verdict


def test_verdict_without_maybe():
    assert yesno_verdict("maybe yes", maybe=False) == "yes"
