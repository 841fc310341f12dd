import pytest

from doyen.evaluation.faithfulness import content, quote_support, sentences

PASSAGE = "Leave policy\nThe guild grants 1,577 members 27.5 days of paid leave a year, whatever their rank."


@pytest.mark.parametrize(
    ("answer", "share", "supported"),
    [
        ("27.5 days", 1, 1),
        ("28 days", 0.5, 0),  # a number that is not there makes it unsupported
        ("The guild granted paid leave to 1577 members.", 1, 1),  # inflections and thousand commas
        ("Free lunches and parking for everybody", 0, 0),
        ("27.5 days of leave. Parking spaces are free.", 0.5, 0.5),
    ],
)
def test_sentences_are_looked_up_in_the_cited_passages(answer, share, supported):
    found = quote_support(answer, [PASSAGE])
    assert (found.share, found.supported) == (pytest.approx(share), supported)


def test_without_a_passage_nothing_is_supported():
    found = quote_support("27.5 days", [])
    assert (found.share, found.supported) == (0, 0)


@pytest.mark.parametrize("answer", ["Yes.", "no", "", "It is."])
def test_what_cannot_be_looked_up_is_not_measured(answer):
    assert quote_support(answer, [PASSAGE]) is None


def test_a_verdict_is_left_out_of_what_must_be_found():
    assert quote_support("Yes, 27.5 days.", [PASSAGE]).share == 1


def test_citation_marks_are_no_text():
    assert sentences("It opens at six. [1] It closes late.") == ["It opens at six.", "It closes late."]
    assert content("Costs 5% of 1,000 in 2020")[1] == {"5", "1000", "2020"}
