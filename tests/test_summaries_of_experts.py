"""Summaries on the way from files to prompts: ingest, change, exchange of the embedder, adapters, the command line."""

import json

import pytest
from small_stores import HashEmbedder, make_expert, write_files
from typer.testing import CliRunner

from doyen.adapters import AdapterManifest
from doyen.cli import app
from doyen.config import AnswerSettings, Settings, load_settings
from doyen.errors import UsageError
from doyen.expert import Expert, Tuning
from doyen.ingesting import ingest, open_index
from doyen.ingesting.revectoring import revector
from doyen.prompts import passages_messages, shows_summaries, with_summaries
from doyen.records import Chunk, Hit, Summary
from doyen.retrieval.hybrid import Retriever

MILL = "The mill grinds wheat for the town. " + "".join(
    f"Wheel number {n} of the mill is driven by water of the river in month {n}.\n\n" for n in range(400)
)


@pytest.fixture
def embedder():
    return HashEmbedder()


@pytest.fixture
def filled(tmp_path, embedder):
    folder = make_expert(tmp_path / "expert")
    write_files(tmp_path / "docs", {"mill.txt": MILL, "yard.txt": "Bicycles stand in the yard behind the mill."})
    ingest(folder, [tmp_path / "docs"], embedder=embedder)
    return folder


def opened(expert):
    return open_index(expert, load_settings(expert))


def test_ingest_writes_summaries_that_are_verbatim_and_embeds_nothing_twice(filled, tmp_path, embedder):
    index = opened(filled)
    assert index.summary_count() == 2
    for document, summaries in index.summaries_of(["mill.txt", "yard.txt"]).items():
        text, _ = index.text(document)
        for summary in summaries:
            assert summary.text == " ".join(text[a:b] for a, b in summary.spans)
    assert embedder.embedded == index.chunk_count() + 1  # the short document's summary is its only chunk
    before = embedder.embedded
    write_files(tmp_path / "docs", {"yard.txt": "Prams stand in the yard now."})
    ingest(filled, [tmp_path / "docs"], embedder=embedder)
    assert embedder.embedded == before + 1
    assert opened(filled).summaries_of(["yard.txt"])["yard.txt"][0].text == "Prams stand in the yard now."


def test_another_embedder_gives_the_summaries_new_vectors(filled):
    old, other = opened(filled), HashEmbedder("other", dim=128)
    computed = revector(filled, load_settings(filled), lambda: other, "other")
    index = opened(filled)
    assert computed == old.chunk_count() + 1
    assert index.summary_count() == 2 and index.manifest.dim == 128
    summary = index.summaries_of(["mill.txt"])["mill.txt"][0]
    vector = other.embed([summary.indexed])[0]
    assert index.summary_nearness(vector, ["mill.txt"])["mill.txt"] == pytest.approx(1.0, abs=1e-2)


def test_documents_show_and_status_tell_them(filled):
    run = CliRunner().invoke
    shown = json.loads(run(app, ["documents", "show", "yard.txt", "--expert", str(filled), "--json"]).stdout)
    assert [s["text"] for s in shown["summaries"]] == ["Bicycles stand in the yard behind the mill."]
    assert "summary      Bicycles" in run(app, ["documents", "show", "yard.txt", "--expert", str(filled)]).stdout
    assert json.loads(run(app, ["status", "--expert", str(filled), "--json"]).stdout)["summaries"] == 2


def test_documents_need_a_question(filled):
    done = CliRunner().invoke(app, ["search", "--like", "yard.txt", "--documents", "--expert", str(filled)])
    assert done.exit_code != 0


# ---- prompts


def hit(document, text):
    return Hit(Chunk(document, 0, len(text), text, context="Title"), 1.0)


def summary(document, *sentences):
    text = " ".join(sentences)
    spans, at = [], 0
    for sentence in sentences:
        spans.append((at, at + len(sentence)))
        at += len(sentence) + 1
    return Summary(document, None, 0, len(text), text, tuple(spans))


def test_the_first_passage_of_each_document_says_what_it_is_about():
    hits = [hit("a.txt", "One."), hit("b.txt", "Two."), hit("a.txt", "Three.")]
    shown = with_summaries(hits, {"a.txt": [summary("a.txt", "About  mills.", "word " * 39 + "end.")]})
    content = passages_messages("Why?", shown)[1]["content"]
    assert content == (
        "[1] Title\nAbout this document: About mills.\nOne.\n\n[2] Title\nTwo.\n\n[3] Title\nThree.\n\nQuestion: Why?"
    )
    assert shows_summaries(passages_messages("Why?", shown)) and not shows_summaries(passages_messages("Why?", hits))


def test_a_first_sentence_that_is_too_long_is_cut():
    (shown,) = with_summaries([hit("a.txt", "One.")], {"a.txt": [summary("a.txt", "word " * 60 + "end.")]})
    assert shown.about.split() == ["word"] * 40 + ["…"]


@pytest.mark.parametrize(("trained", "asked"), [(True, False), (False, True)])
def test_an_adapter_trained_on_passages_of_another_form_is_refused(filled, embedder, tmp_path, trained, asked):
    examples = {"variants": {"passages": 9}} | ({"document_summaries": True} if trained else {})
    numbers = {"trained_parameters": 1, "steps": 1, "tokens": 1, "seconds": 1.0, "peak_memory_gib": 0.0}
    numbers |= {"train_loss": 1.0, "validation_loss": None, "settings": {}, "sources": [], "target_modules": []}
    names = dict.fromkeys(("name", "model", "model_fingerprint", "method", "template_hash", "created"), "x")
    AdapterManifest(**names, **numbers, examples=examples).write(tmp_path)

    def expert(summaries, retriever):
        settings = Settings(answer=AnswerSettings(document_summaries=summaries))
        return Expert(None, retriever=retriever, tuning=Tuning(tmp_path), settings=settings)

    retriever = Retriever(opened(filled), embedder)
    assert expert(trained, retriever).arm == "rag+finetuned"
    with pytest.raises(UsageError, match="document_summaries"):
        expert(asked, retriever)
    assert expert(asked, None).arm == "finetuned"  # shows no passages
