"""Copies of a passage."""

from doyen.records import Chunk, Hit
from doyen.retrieval.copies import fold_duplicates


def hit(document, text, context="", score=1.0):
    return Hit(Chunk(document, 0, len(text), text, context=context), score)


def test_copies_are_named_by_the_first_of_them():
    hits = [hit("a", "Rent is due."), hit("b", "Boiler."), hit("c", "Rent is due."), hit("d", "Rent is due.")]
    folded = fold_duplicates(hits)
    assert [(h.chunk.document, h.also) for h in folded] == [("a", ("c", "d")), ("b", ())]
    assert folded[0].as_dict()["also"] == ["c", "d"] and "also" not in folded[1].as_dict()


def test_the_same_text_under_another_heading_is_another_passage():
    hits = [hit("a", "Weight: 5 kg", "Pump A"), hit("b", "Weight: 5 kg", "Pump B")]
    assert fold_duplicates(hits) == hits


def test_repeated_text_within_a_document_is_folded_without_a_name():
    assert [h.also for h in fold_duplicates([hit("a", "x"), hit("a", "x")])] == [()]
