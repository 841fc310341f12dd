"""The wording around a question, and reading the model's text."""

import pytest

from doyen.prompts import (
    REFUSAL,
    UNKNOWN,
    Shot,
    answer_text,
    closed_book_messages,
    parse_answer,
    passages_messages,
)
from doyen.records import Chunk, Hit


def hit(text, context=""):
    return Hit(Chunk("d.txt", 0, len(text), text, context=context), 1.0)


@pytest.mark.parametrize(
    ("text", "stuck"),
    [
        ("1.1.1.1.1\n1.1.1.1.2\n1.1.1.1.3\n1.1.1.1.4\n1.1.1.1.5", True),
        ("The tow is paid up to the tow is paid up to the tow is paid up to the tow is paid up to the tow [1]", True),
        ("no no no", False),
        ("You may let a room to guests for up to 14 days a year, and the room must have a door that locks.", False),
        ("租客可以在一年内最多十四天出租房间，房间的门必须能够上锁，而且要事先告知保险公司。", False),
    ],
)
def test_an_answer_that_only_repeats_itself_is_none(text, stuck):
    parsed = parse_answer(text, 3)
    assert (parsed.stuck, parsed.refused) == (stuck, stuck)


def test_closed_book_shows_the_question_and_no_passage():
    system, user = closed_book_messages("Who pays?")
    assert (system["role"], user["role"]) == ("system", "user")
    assert user["content"] == "Question: Who pays?"
    assert REFUSAL in system["content"]
    assert "passage" not in system["content"]


def test_passages_are_numbered_from_one_with_their_context_before_the_question():
    system, user = passages_messages("Who pays?", [hit("The tenant."), hit("The owner.", "Lease › Costs")])
    assert user["content"] == "[1] The tenant.\n\n[2] Lease › Costs\nThe owner.\n\nQuestion: Who pays?"
    assert "[1]" in system["content"] and REFUSAL in system["content"]


def test_worked_examples_stand_between_system_and_question():
    shot = Shot("When?", (hit("In May."),), answer_text("In May", 1))
    messages = passages_messages("Who pays?", [hit("The tenant.")], [shot])
    assert [m["role"] for m in messages] == ["system", "user", "assistant", "user"]
    assert messages[1]["content"] == "[1] In May.\n\nQuestion: When?"
    assert messages[2]["content"] == "In May [1]"


def test_a_training_target_reads_back_as_answer_and_passage():
    parsed = parse_answer(answer_text("EUR 700", 2), 3)
    assert (parsed.text, parsed.cited, parsed.refused) == ("EUR 700", (2,), False)
    assert answer_text("EUR 700", None) == "EUR 700"


@pytest.mark.parametrize(
    ("text", "passages", "clean", "cited"),
    [
        ("Thirty days [2].", 3, "Thirty days.", (2,)),
        ("[3] Thirty days [1] [3]", 3, "Thirty days", (3, 1)),
        ("Thirty days [4] [0] [99]", 3, "Thirty days", ()),
        ("In the year [2024] [1]", 3, "In the year [2024]", (1,)),
        ("Thirty days", 0, "Thirty days", ()),
        ("Thirty days [1]", 0, "Thirty days", ()),
    ],
)
def test_marks_are_taken_out_and_numbers_beyond_the_passages_dropped(text, passages, clean, cited):
    parsed = parse_answer(text, passages)
    assert (parsed.text.split(), parsed.cited) == (clean.split(), cited)
    assert not parsed.refused


@pytest.mark.parametrize(
    "text",
    [
        REFUSAL,
        "not in the documents",
        "Not in the passages. [1]",
        UNKNOWN,
        "I don't know.",
        "I'm sorry, but the passages say nothing of it.",
        "I am unable to answer.",
        "The passages do not mention a limit.",
        "No information is given.",
        "Unknown",
        "",
        " \n",
        "[1]",
    ],
)
def test_refusals_are_recognised(text):
    assert parse_answer(text, 3).refused


@pytest.mark.parametrize(
    "text",
    [
        "No",
        "No.",
        "No [1]",
        "no, only with written consent [2]",
        "Not before 1 May [1].",
        "Unknown persons must be reported to the desk.",
        "The policy does not cover floods.",
        "Nothing",
        "0",
        "None of the two",
    ],
)
def test_answers_that_begin_like_a_refusal_are_answers(text):
    parsed = parse_answer(text, 3)
    assert not parsed.refused
    assert parsed.text


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("The answer is: 6.3 How we settle\n\nThe answer is: 6.3", "6.3 How we settle"),
        ("The correct answer is 14 days.", "14 days."),
        ("Paid are:\n\n- towing\n\n- salvage", "Paid are:\n\n- towing\n\n- salvage"),
        ("Two lines\nof one paragraph [1]\n\n\n[2] More", "Two lines\nof one paragraph"),
        ("The answer is:", "The answer is:"),
        ("The answer isn't known", "The answer isn't known"),
    ],
)
def test_the_first_paragraph_without_a_preamble_is_the_answer(text, answer):
    assert parse_answer(text, 3).text == answer
