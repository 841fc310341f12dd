"""Pairs from documents: what is asked, and that a passage never shows what its query was taken from."""

import numpy as np
import pytest

from doyen.errors import ExamplesError
from doyen.finetuning.retriever.measuring import hold_out, ndcg_of, rank_documents
from doyen.finetuning.retriever.pairs import is_held_out, make_pairs
from doyen.records import Chunk, GoldSource, Question

SENTENCES = (
    "The harbour office keeps the ledger of every crane that lifts cargo. "
    "A surveyor from the guild inspects the hoist and its brake twice in each year. "
    "Ropes with more than six broken strands are taken out of service on the same day."
)


def chunk(document, text=SENTENCES, context="Cranes › Ropes", **more):
    return Chunk(document, 0, len(text), text, context, section="Ropes", **more)


def of_kind(pairs, kind):
    return [pair for pair in pairs if pair.kind == kind]


def test_a_title_and_a_heading_are_asked_of_text_without_them():
    pairs = make_pairs([chunk("a.md"), chunk("b.md", context="Locks › Gates")])
    assert {(p.query, p.text) for p in of_kind(pairs, "title")} == {("Cranes", SENTENCES), ("Locks", SENTENCES)}
    assert ("Cranes Ropes", SENTENCES) in {(p.query, p.text) for p in of_kind(pairs, "heading")}


def test_headings_in_the_text_are_not_shown():
    pairs = make_pairs([chunk("a.md", f"# Cranes\n\n## Ropes\n\n{SENTENCES}"), chunk("b.md", context="Locks › Gates")])
    assert {p.text for p in pairs if p.document == "a.md" and p.kind in ("title", "heading")} == {SENTENCES}


def test_a_title_of_several_documents_names_none_of_them():
    assert not of_kind(make_pairs([chunk("a.md"), chunk("b.md")]), "title")


def test_a_sentence_is_left_out_of_the_passage_that_it_asks_for():
    found = of_kind(make_pairs([chunk(f"{n}.md") for n in range(20)]), "sentence")
    assert len(found) == 20
    assert all(p.query in SENTENCES and p.query not in p.text and len(p.text) > 120 for p in found)
    shown = {p.text.startswith("Cranes › Ropes\n") for p in found}
    assert shown == {True, False}


def test_words_that_only_one_chunk_has_are_not_asked():
    pairs = make_pairs([chunk("a.md", SENTENCES + " Zanzibar."), chunk("b.md", context="Locks › Gates")])
    assert of_kind(pairs, "words")
    assert not any("zanzibar" in p.query for p in of_kind(pairs, "words"))


def test_a_document_gives_a_bounded_number_of_pairs():
    pairs = make_pairs([chunk("a.md") for _ in range(50)], a_document=6)
    assert len(pairs) == 6
    assert len({p.kind for p in pairs}) >= 3


def test_a_question_asks_for_the_chunk_of_its_page_that_shares_its_rare_words():
    chunks = [
        chunk("a.md", "General remarks on what the guild does in winter and in summer.", pages=(2,)),
        chunk("a.md", "The hoist is inspected twice a year by the surveyor.", pages=(2,)),
        chunk("a.md", "The hoist is inspected never, says another page.", pages=(3,)),
    ]
    question = Question("q", "How often is the hoist inspected?", ("twice a year",), gold=(GoldSource("a.md", 2),))
    (pair,) = of_kind(make_pairs(chunks, [question]), "question")
    assert (pair.chunk, pair.query) == (1, question.question)


def test_pairs_come_out_the_same_again():
    chunks = [chunk(f"{n}.md", context=f"Title {n} › Part") for n in range(9)]
    assert make_pairs(chunks) == make_pairs(chunks)


def test_about_one_document_in_seven_is_held_out():
    share = np.mean([is_held_out(f"folder/{n}.md") for n in range(2000)])
    assert 0.12 < share < 0.18


def test_documents_rank_by_their_nearest_passage():
    passages = np.eye(4, dtype=np.float32)
    query = np.array([[0.1, 0.5, 0.9, 0.2]], dtype=np.float32)
    assert rank_documents(query, passages, ["b", "a", "b", "c"]) == [["b", "a", "c"]]


def held_out_of(count):
    chunks = [chunk(f"{n}.md", context=f"Title {n} › Part") for n in range(count)]
    return chunks, hold_out(chunks, make_pairs(chunks))


def test_held_out_passages_do_not_show_what_is_asked():
    chunks, held_out = held_out_of(60)
    texts = dict(zip(held_out.documents, held_out.passages, strict=True))
    assert len(texts) == 60
    for query, kind, gold in zip(held_out.queries, held_out.kinds, held_out.gold, strict=True):
        assert query not in texts[gold]
        assert kind == "sentence" or not texts[gold].startswith("Title")


def test_ndcg_counts_a_document_once_at_its_best_place():
    _, held_out = held_out_of(60)
    gold = held_out.gold[0]
    own = held_out.documents.index(gold)
    others = [i for i, d in enumerate(held_out.documents) if d != gold][:2]
    orders = [[others[0], others[0], own, own]] + [[own]] * (len(held_out.queries) - 1)
    assert ndcg_of(held_out, orders)[0] == pytest.approx(1 / np.log2(3))


def test_too_few_documents_to_measure_with_are_an_error():
    with pytest.raises(ExamplesError, match="queries to measure with"):
        held_out_of(3)
