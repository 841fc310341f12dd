"""Gold passages of a small real index."""

import pytest
import tiny_models

import doyen
from doyen.config import load_settings
from doyen.evaluation.gold_passages import NO_GOLD, NOT_INDEXED, UNANSWERABLE, gold_hits
from doyen.expert import open_retriever
from doyen.records import GoldSource, Question

LINES = [
    f"Rule {i}: the {name} opens at {i:02}:15 and its keeper is called Keeper{i}."
    for i, name in enumerate("abcdefgh", 1)
]


@pytest.fixture(scope="module")
def retriever(tmp_path_factory):
    folder = tmp_path_factory.mktemp("gold")
    documents = folder / "documents"
    documents.mkdir()
    text = "\f".join("\n\n".join([line + " " + "Nothing else is known of it. " * 25] * 2) for line in LINES)
    (documents / "rules.txt").write_text(text)
    (documents / "moon.txt").write_text("The moon is far away and has no keeper.")
    (folder / "bert").mkdir()
    model, embedder = tiny_models.phi_folder(folder / "phi"), tiny_models.bert_folder(folder / "bert")
    expert = doyen.init(folder / "expert", model=str(model), embedder=str(embedder))
    doyen.ingest(expert, [documents])
    return open_retriever(expert, load_settings(expert))


def asked(*gold, text="When does the moon open?", **more):
    return Question("q", text, ("x",), gold=gold, **more)


def only(retriever, question):
    hits, reasons = gold_hits(retriever, [question])
    return hits[0], reasons


def test_characters_give_the_chunks_that_overlap_them(retriever):
    text = retriever.index.text("rules.txt")[0]
    start = text.index("Keeper5")
    hits, reasons = only(retriever, asked(GoldSource("rules.txt", start=start, end=start + 7)))
    assert reasons == {} and hits
    assert all(h.chunk.start < start + 7 and start < h.chunk.end for h in hits)
    assert any("Keeper5" in h.chunk.text for h in hits)


def test_a_page_gives_its_chunks_the_best_first(retriever):
    hits, _ = only(retriever, asked(GoldSource("rules.txt", 3), text="keeper Keeper3 of c"))
    assert {h.chunk.pages for h in hits} == {(3,)} and len(hits) > 1
    assert hits[0].similarity or hits[0].lexical


def test_a_document_without_a_page_gives_all_of_it_though_search_would_not_find_it(retriever):
    hits, _ = only(retriever, asked(GoldSource("moon.txt"), text="zzz"))
    assert [h.chunk.document for h in hits] == ["moon.txt"]
    hits, _ = only(retriever, asked(GoldSource("moon.txt", 7)))  # a page that the format does not have
    assert [h.chunk.document for h in hits] == ["moon.txt"]


def test_of_a_page_or_document_those_with_a_known_answer_are_the_gold(retriever):
    known = Question("q", "Who keeps it?", ("Keeper4",), gold=(GoldSource("rules.txt"),))
    hits, _ = only(retriever, known)
    assert hits and all("Keeper4" in h.chunk.text for h in hits)
    verdict = Question("q", "Is it so?", ("no",), "yesno", gold=(GoldSource("rules.txt"),))
    assert len(only(retriever, verdict)[0]) > len(hits)


def test_several_sources_take_turns(retriever):
    hits, _ = only(retriever, asked(GoldSource("rules.txt", 2), GoldSource("moon.txt")))
    assert [h.chunk.document for h in hits[:2]] == ["rules.txt", "moon.txt"]
    places = [(h.chunk.document, h.chunk.start) for h in hits]
    assert len(places) == len(set(places))


@pytest.mark.parametrize(
    ("question", "reason"),
    [
        (asked(), NO_GOLD),
        (asked(GoldSource("gone.txt")), NOT_INDEXED),
        (asked(GoldSource("moon.txt"), answerable=False), UNANSWERABLE),
        (asked(GoldSource("moon.txt", grade=0)), NO_GOLD),
    ],
)
def test_questions_that_have_none_are_counted_by_reason(question, reason, retriever):
    assert only(retriever, question) == (None, {reason: 1})
