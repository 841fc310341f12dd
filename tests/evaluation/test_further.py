"""Further figures on a small index, with an entailer that reads words."""

import numpy as np
import pytest
from small_stores import HashEmbedder

from doyen.config import EmbedderSettings
from doyen.embedding import load_embedder
from doyen.evaluation.further import FurtherScores
from doyen.evaluation.scoring import score_answer
from doyen.evaluation.terminology import Term
from doyen.records import Answer, Chunk, Citation, Question

TEXT = "The guild grants 27 days of leave. It pays for lunch."


class Words:
    """An `Entailer`: sure where all words of the hypothesis' second sentence stand in the premise."""

    name = "words"

    def __init__(self):
        self.asked = []

    def entails(self, premises, hypotheses):
        self.asked += zip(premises, hypotheses, strict=True)
        said = [set(h.split("? ", 1)[1].strip(".").split()) for h in hypotheses]
        return np.array(
            [float(words <= set(p.replace(".", "").split())) for p, words in zip(premises, said, strict=True)],
            np.float32,
        )


class Index:
    """What FurtherScores asks of an index: the chunks of documents."""

    def __init__(self):
        self.asked = []

    def chunks_of(self, documents):
        self.asked += documents
        return [Chunk("a.md", 0, len(TEXT), TEXT, context="Benefits", sha256="s")] if "a.md" in documents else []


def answer(text, *, arm="rag", answered=True, sha256="s", document="a.md"):
    quote = Citation(document, None, None, 0, 34, TEXT[:34], sha256)
    return Answer(text, answered, arm, (quote,) if answered and arm == "rag" else ())


def scored(given, *, question=None, **options):
    question = question or Question("q", "How long?", ("27 days",))
    further = FurtherScores(Index(), HashEmbedder(), **options)
    further.prepare([(question, given)] * 2)
    return further(question, given)


def test_that_answers_go_to_an_embedders_api_is_said_beforehand(monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "none")
    long = Question("q", "Why?", ("The guild grants 27 days of leave and pays for lunch.",), kind="long")
    short = Question("r", "How long?", ("27 days",))
    api = load_embedder(EmbedderSettings(name="openai:text-embedding-3-small"))
    told = FurtherScores(Index(), api).told_before([long, short], 4)
    assert "1 long questions" in told and "api.openai.com" in told and "US$" in told
    tokens = api.counter.count(long.answers[0])
    assert f"about {5 * tokens} tokens" in told  # the known answer, and one of each arm
    assert FurtherScores(Index(), api).told_before([short], 4) == ""
    assert FurtherScores(Index(), HashEmbedder()).told_before([long], 4) == ""


def test_the_whole_cited_passage_counts_with_its_headings():
    assert scored(answer("lunch benefits")).quotes_supported == 1.0
    assert (
        scored(answer("lunch benefits", sha256="older")).quotes_supported == 0.0
    )  # of that version the quote alone is known
    assert scored(answer("27 days", document="gone.md")).quotes_supported == 1.0


def test_arms_that_read_nothing_and_refusals_have_no_such_figure():
    for given in (answer("27 days", arm="finetuned"), answer("none", answered=False)):
        found = scored(given, entailer=Words())
        assert (found.quote_support, found.quotes_entailed) == (None, None)


def test_an_entailer_reads_each_sentence_with_its_question():
    words = Words()
    found = scored(answer("27 days of leave. Free parking."), entailer=words)
    assert found.quotes_entailed == 0.5
    assert words.asked[0] == (f"Benefits\n{TEXT}", "How long? 27 days of leave.")


def test_without_an_entailer_or_glossary_their_figures_are_left_out():
    found = scored(answer("27 days"))
    assert (found.quotes_entailed, found.terms_right, found.forbidden_terms) == (None, None, None)


def test_long_answers_have_a_similarity_and_a_refusal_has_none():
    long = Question("q", "What?", ("The guild grants leave.",), "long")
    assert scored(answer("The guild grants leave."), question=long).embedding_similarity == pytest.approx(1, abs=1e-3)
    assert scored(answer("x", answered=False), question=long).embedding_similarity == 0
    assert scored(answer("x")).embedding_similarity is None


def test_a_glossary_scores_terms_and_refusals_use_none():
    options = {"question": Question("q", "What?", ("paid leave",)), "glossary": [Term("leave", forbidden=("holiday",))]}
    assert scored(answer("leave"), **options).terms_right == 1
    wrong = scored(answer("a holiday"), **options)
    assert (wrong.terms_right, wrong.forbidden_terms) == (0, 1)
    refused = scored(answer("x", answered=False), **options)
    assert (refused.terms_right, refused.forbidden_terms) == (0, None)


def test_other_figures_are_those_of_the_plain_score():
    question, given = Question("q", "How long?", ("27 days",), "number"), answer("27 days")
    assert scored(given, question=question).answer_score == score_answer(question, given).answer_score == 1
