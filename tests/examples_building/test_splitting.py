"""The law of the splits: no gold document on both sides. Near-duplicates are found, other numbers are other questions."""

from hypothesis import given
from hypothesis import strategies as st

from doyen.examples.splitting import overlapping, split_by_document
from doyen.records import GoldSource, Question

golds = st.lists(st.lists(st.sampled_from("abcdefghij"), max_size=3), min_size=1, max_size=25)


def questions_of(golds):
    return [Question(str(i), f"Question {i}?", gold=tuple(GoldSource(d) for d in gold)) for i, gold in enumerate(golds)]


@given(golds, st.floats(0, 1), st.integers(0, 99))
def test_no_gold_document_is_on_both_sides(golds, share, seed):
    questions = questions_of(golds)
    split = split_by_document(questions, share=share, seed=seed)
    assert [q.id for q in split] == [q.id for q in questions]
    sides = {side: {g.document for q in split if q.split == side for g in q.gold} for side in ("train", "test")}
    assert {q.split for q in split} <= {"train", "test"}
    assert not sides["train"] & sides["test"]
    assert split == split_by_document(questions, share=share, seed=seed)


@given(st.integers(1, 60), st.floats(0, 1), st.integers(0, 99))
def test_the_share_is_met_to_half_a_question_where_documents_stand_alone(count, share, seed):
    split = split_by_document(questions_of([[str(i)] for i in range(count)]), share=share, seed=seed)
    assert abs(sum(q.split == "test" for q in split) - share * count) <= 0.5 + 1e-9


def test_another_seed_draws_others():
    questions = questions_of([[str(i)] for i in range(40)])
    drawn = {tuple(q.split for q in split_by_document(questions, share=0.5, seed=seed)) for seed in range(5)}
    assert len(drawn) == 5


def test_sides_can_be_named():
    split = split_by_document(questions_of([["a"], ["b"]]), share=0.5, seed=1, name="validation", rest="rest")
    assert {q.split for q in split} == {"validation", "rest"}


def pairs(train, test):
    return [(a.id, b.id) for a, b in overlapping([Question("train", train)], [Question("test", test)])]


def test_near_duplicates_are_found():
    found = [("train", "test")]
    assert (
        pairs(
            "How many days of leave does the guild grant a year?", "how many days of leave does the guild grant a YEAR"
        )
        == found
    )
    assert (
        pairs(
            "How many days of leave does the guild grant per year?",
            "How many days of leave does the guild grant each year?",
        )
        == []
    )
    long = "Which of the cranes at the northern quay was inspected by the harbour master in the last quarter of"
    assert pairs(f"{long} 2024?", f"So {long} 2024?") == found


def test_other_numbers_are_other_questions():
    long = "What is the limit of cover that tariff {} of the marine policy grants for a barge on the canal?"
    assert pairs(long.format(12), long.format(13)) == []
    assert pairs(long.format(12), long.format(12)) == [("train", "test")]
    assert pairs(long.format("B12"), long.format("B13")) == []


def test_a_question_without_words_overlaps_nothing():
    assert pairs("???", "???") == []


@given(st.text(min_size=1, max_size=40))
def test_a_question_with_a_word_overlaps_itself(text):
    import re

    assert bool(pairs(text, text)) == bool(re.search(r"\w", text.casefold()))
