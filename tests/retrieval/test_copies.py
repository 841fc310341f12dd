"""Copies of a passage."""

import pytest

from doyen.records import Chunk, Hit
from doyen.retrieval.copies import fold_duplicates


def hit(document, text, context="", score=1.0):
    return Hit(Chunk(document, 0, len(text), text, context=context), score)


def folded(hits, **options):
    """Fold hits, best first, after those with the same headings and text were put together."""
    passages = {}
    for one in hits:
        passages.setdefault((one.chunk.context, one.chunk.text), []).append(one)
    return fold_duplicates(passages.values(), **options)


def test_copies_are_named_by_the_first_of_them():
    hits = [hit("a", "Rent is due."), hit("b", "Boiler."), hit("c", "Rent is due."), hit("d", "Rent is due.")]
    found = folded(hits)
    assert [(h.chunk.document, h.also) for h in found] == [("a", ("c", "d")), ("b", ())]
    assert found[0].as_dict()["also"] == ["c", "d"] and "also" not in found[1].as_dict()


def test_the_same_text_under_another_heading_is_another_passage():
    hits = [hit("a", "Weight: 5 kg", "Pump A"), hit("b", "Weight: 5 kg", "Pump B")]
    assert folded(hits) == hits


def test_repeated_text_within_a_document_is_folded_without_a_name():
    assert [h.also for h in folded([hit("a", "x"), hit("a", "x")])] == [()]


BOILERPLATE = "The tenant pays the rent on the 1st of a month. Pets are not allowed; see the house rules (annex)."


@pytest.mark.parametrize(
    "copy",
    [
        BOILERPLATE.replace(". ", ".\n\n"),
        BOILERPLATE.upper(),
        BOILERPLATE.replace(";", ","),
        BOILERPLATE.replace("(annex).", "– annex"),
    ],
    ids=["white space", "letter case", "punctuation", "brackets"],
)
def test_a_copy_that_differs_in_form_alone_is_folded(copy):
    hits = [hit("2025.txt", BOILERPLATE, "Lease › Rent"), hit("2026.txt", copy, "LEASE › Rent:")]
    assert [(h.chunk.document, h.also) for h in folded(hits, near=10)] == [("2025.txt", ("2026.txt",))]
    assert folded(hits) == hits


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("due on the 1st of May", "due on the 2nd of May"),
        ("dogs are allowed", "dogs are not allowed"),
        ("Smith signs", "Schmidt signs"),
        ("1.5 kg", "15 kg"),
        ("1,500 crowns", "1.500 crowns"),
        ("a loss of -5", "a loss of 5"),
        ("income (500)", "income 500"),
        ("income $ (500)", "income $ 500"),
        ("by 5 %", "by 5"),
        ("x < 5", "x > 5"),
        ("5 €", "5 £"),
        ("10²", "102"),
        ("C# code", "C code"),
        ("cote", "coté"),
        ("the bank of the river", "the river of the bank"),
    ],
)
def test_what_differs_in_a_number_a_name_a_sign_or_a_negation_stays(one, other):
    hits = [hit("a", f"{BOILERPLATE} {one}"), hit("b", f"{BOILERPLATE} {other}")]
    assert folded(hits, near=10) == hits
    titled = [hit("a", BOILERPLATE, one), hit("b", BOILERPLATE, other)]
    assert folded(titled, near=10) == titled


def test_near_copies_are_looked_for_among_the_first_only_and_keep_their_copies_names():
    hits = [hit("a", "Rent"), hit("b", "Boiler"), hit("c", "rent."), hit("d", "rent.")]
    assert [(h.chunk.document, h.also) for h in folded(hits, near=3)] == [("a", ("c", "d")), ("b", ())]
    assert len(folded(hits, near=2)) == 3


def test_no_more_passages_are_taken_than_are_wanted():
    taken = []

    def passages():
        for number in range(50):
            taken.append(number)
            yield [hit("a", f"Rent {number}")]

    assert len(fold_duplicates(passages(), 5, near=3)) == len(taken) == 5
    taken.clear()
    assert len(fold_duplicates(passages(), 2, near=3)) == 2 and len(taken) == 3
