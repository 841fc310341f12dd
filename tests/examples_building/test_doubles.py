"""Repeated, contradictory and too near examples; nearness is checked against trying all pairs."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from doyen.examples.doubles import Asked, find_doubles, near_questions, near_sets
from doyen.prompts import REFUSAL, closed_book_messages
from doyen.records import Example, Question


def example(question, answer):
    return Example((*closed_book_messages(question), {"role": "assistant", "content": answer}))


def test_the_same_example_again_is_repeated_and_contradicts_nothing():
    found = find_doubles([example("Why?", "So."), example("How?", "So."), example("Why?", "So.")])
    assert found.repeated == {2: 0} and found.contradictory == []


def test_one_prompt_with_two_answers_is_contradictory():
    rows = [
        example("Why so?", "Rain."),
        example("why  SO?", "Wind."),
        example("Why so?", "Rain."),
        example("How?", "x"),
    ]
    found = find_doubles(rows)
    assert found.contradictory == [[0, 1]] and found.contradicting == 2 and found.repeated == {2: 0}
    assert find_doubles([example("Why?", "Rain."), example("Why?", REFUSAL)]).contradictory == [[0, 1]]


def test_marks_and_punctuation_contradict_nothing():
    rows = [example("Why?", "27 days [1]"), example("Why?", "27 days."), example("Why?", "27 Days [2, 3]")]
    assert find_doubles(rows).contradictory == []


def test_the_system_message_belongs_to_the_prompt():
    other = Example(({"role": "user", "content": "Question: Why?"}, {"role": "assistant", "content": "Wind."}))
    assert find_doubles([example("Why?", "Rain."), other]).contradictory == []


@pytest.mark.parametrize(
    ("left", "right", "near"),
    [
        (("How much does the Tamsin crane lift?", "12 t"), ("How much can the Tamsin crane lift?", "12 t"), True),
        (("How much does the Tamsin crane lift?", "12 t"), ("How much can the Tamsin crane lift?", "14 t"), False),
        (("Tell me how much the Tamsin crane lifts now?", "12 t"), ("How much the Tamsin crane lifts?", "12 t"), True),
        (("How much does the Tamsin crane lift?", "12 t"), ("How much does the Orla crane lift?", "12 t"), False),
        (("May guests park at the Tamsin quay?", "yes"), ("Can guests park at the Tamsin quay?", "yes"), False),
        (("What is limit 12 of the tariff?", "5"), ("What was limit 13 of the tariff?", "5"), False),
        (("¿Cuánto levanta la grúa Tamsin?", "12 t"), ("¿Cuánto la grúa Tamsin levanta?", "13 t"), True),  # same words
        (("???", "12 t"), ("???", "12 t"), False),
    ],
)
def test_near_questions(left, right, near):
    ours, theirs = (
        [Asked.made(left[0], [left[1]])],
        [Asked.made("Something else entirely", []), Asked.made(right[0], [right[1]])],
    )
    assert near_questions(ours, theirs) == ({0: 1} if near else {})


def test_what_is_compared_of_examples_and_questions():
    shown = Example((
        {"role": "user", "content": "[1] Tariffs\nOnly in May.\n\nQuestion: When is it?"},
        {"role": "assistant", "content": "in May [1]"},
    ))  # fmt: skip
    assert Asked.of(shown).text == "When is it?" and Asked.of(shown).answers == {"in may"}
    assert Asked.of(Question("q", "When is it?", ("In May", "May"))).answers == {"in may", "may"}
    assert not Asked.of(example("When?", REFUSAL)).answers
    assert not Asked.of(Question("q", "When?", ("In May",), answerable=False)).answers
    chat = Example((*example("When?", "May").messages, *example("And then?", "June").messages[1:]))
    assert "when" in Asked.of(chat).all and "then" in Asked.of(chat).all


sets = st.lists(st.frozensets(st.sampled_from("abcdefghij"), max_size=8), max_size=12)


@given(sets, sets, st.sampled_from([0.3, 0.5, 2 / 3, 0.85, 1.0]))
def test_near_sets_are_all_pairs_that_trying_all_finds(left, right, least):
    def near(a, b):
        return bool(a | b) and bool(a) and bool(b) and len(a & b) / len(a | b) >= least - 1e-9

    assert list(near_sets(left, right, least)) == [
        (i, j) for i, a in enumerate(left) for j, b in enumerate(right) if near(a, b)
    ]
