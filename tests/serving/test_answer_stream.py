"""A text as it grows: what is shown is never taken back, and is the answer in the end."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from doyen.prompts import UNKNOWN, parse_answer
from doyen.serving.answer_stream import AnswerStream, cut_at


def shown(text, size=1, answer=None, **options):
    """Feed a raw text in pieces, then the answer that code makes of it; return the pieces shown."""
    pieces = []
    stream = AnswerStream(pieces.append, **options)
    for start in range(0, len(text), size):
        stream.feed(text[start : start + size])
    parsed = parse_answer(text, 9)
    stream.finish(answer if answer is not None else UNKNOWN if parsed.refused else parsed.text)
    return pieces


@pytest.mark.parametrize(
    "raw",
    [
        "27 days [1]",
        "The answer is: 27 days [1, 2].",
        "The guild grants 27 days of annual leave to deck crew, and as many to all who work in the lock house [1].",
        "Yes [1]: the lock\nopens [2] at 06:30 .",
        "Three of them:\n\n- a\n- b",
        "One paragraph.\n\nAnother one.",
        "see [annex] and [12 of it",
    ],
)
@pytest.mark.parametrize("size", [1, 3, 50])
def test_the_pieces_are_the_answer(raw, size):
    assert "".join(shown(raw, size)) == parse_answer(raw, 9).text


@pytest.mark.parametrize(
    "raw", ["Not in the documents.", "I cannot tell from this.", "The passage does not say it.", ""]
)
def test_of_a_refusal_nothing_is_shown_but_the_sentence_for_it(raw):
    assert shown(raw) == [UNKNOWN]


def test_what_begins_like_an_answer_is_shown_at_once():
    pieces = []
    stream = AnswerStream(pieces.append)
    stream.feed("EUR 3,500")
    assert pieces == ["EUR 3,500"] and stream.begun


def test_an_answer_that_went_wrong_is_followed_by_what_stands_in_its_place():
    assert "".join(shown("1.1.1.1.1", answer="I cannot tell.")) == "1.1.1.1.1\n\nI cannot tell."


def test_raw_text_is_shown_as_it_is():
    assert "".join(shown('{"a": "[1] The answer is: "}', raw=True, answer='{"a": "[1] The answer is: "}')).startswith(
        "{"
    )


@given(st.text("ab[1] .\n", max_size=60), st.lists(st.text("ab1", min_size=1, max_size=3), max_size=3))
def test_nothing_is_taken_back_and_nothing_behind_a_stop_is_shown(raw, stops):
    pieces = "".join(shown(raw, 2, answer="a b", stops=stops))
    assert not any(stop in pieces for stop in stops)
    whole = "".join(shown(raw, len(raw) or 1, raw=True, answer=raw, stops=stops))
    assert whole == cut_at(raw, stops)[0]
