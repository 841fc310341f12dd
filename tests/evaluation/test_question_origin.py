"""What a report says of generated questions: counts, wording, both figures, plain sentences on its first screen."""

import dataclasses

import pytest
from small_stores import write_texts

from doyen.evaluation.markdown_report import render_markdown
from doyen.evaluation.question_origin import origin_figures, origin_lines, origin_sentences, question_origin
from doyen.evaluation.report import build_report
from doyen.evaluation.report_page import render_page
from doyen.evaluation.scoring import score_answer
from doyen.records import Answer, GoldSource, Question

TEXTS = {"crane.md": "The Tamsin crane lifts 12 tonnes at berth 4.", "lock.md": "The Orrel lock opens at 06:30."}
HUMAN = Question("h", "How heavy may my container be?", ("12 tonnes",), "span", (GoldSource("crane.md"),))
MADE = Question(
    "g",
    "What does the Tamsin crane lift?",
    ("12 tonnes",),
    "span",
    (GoldSource("crane.md"),),
    tags=("generated", "rules"),
)
OTHER = Question(
    "o",
    "When does the Orrel lock open?",
    ("06:30",),
    "span",
    (GoldSource("lock.md"),),
    tags=("generated", "teacher", "accepted"),
)


@pytest.fixture
def filled(index, embedder):
    write_texts(index, embedder, TEXTS)
    return index


def answers(arm, *texts):
    return [Answer(text, True, arm) for text in texts]


def report_of(questions, origin, **arms):
    found = {arm.replace("_", "+"): answers(arm.replace("_", "+"), *texts) for arm, texts in arms.items()}
    return build_report(questions=questions, answers=found, hits=None, manifest={}, seed=3, origin=origin)


def test_questions_of_people_alone_have_no_origin(filled):
    assert question_origin([HUMAN], filled) is None
    report = report_of([HUMAN], None, rag=["12 tonnes"])
    assert report["origin"] is None and origin_lines(report) == []
    assert "generated from the documents" not in render_page(report) + render_markdown(report)


def test_who_wrote_them_what_was_looked_through_and_how_near_their_words_are(filled):
    origin = question_origin([HUMAN, MADE, OTHER], filled, trained={"crane.md"})
    assert (origin["human"], origin["generated"], origin["writers"]) == (1, 2, {"rules": 1, "teacher": 1})
    assert (origin["accepted"], origin["edited"], origin["not_reviewed"], origin["seen"]) == (1, 0, 1, 1)
    assert origin["wording"]["generated"]["value"] == 1.0 and origin["wording"]["human"]["value"] == 0.0


def test_the_wording_is_that_of_the_golds_page_and_form_does_not_count(filled):
    other_page = dataclasses.replace(MADE, gold=(GoldSource("crane.md", 7),))
    assert question_origin([other_page], filled)["wording"] == {}
    inflected = dataclasses.replace(MADE, question="What do Tamsin cranes lift?")
    assert question_origin([inflected], filled)["wording"]["generated"]["value"] == 1.0


def test_both_figures_stand_side_by_side_on_the_first_screen(filled):
    questions = [HUMAN, MADE, OTHER]
    origin = question_origin(questions, filled)
    report = report_of(
        questions, origin, rag=["no idea", "12 tonnes", "06:30"], rag_finetuned=["12 tonnes", "no idea", "no idea"]
    )
    arms = report["origin"]["arms"]
    assert arms["rag"]["human"]["value"] == 0 and arms["rag"]["generated"] == {"value": 1, "low": 1, "high": 1, "n": 2}
    assert arms["rag+finetuned"]["human"]["value"] == 1
    said = " ".join(report["origin"]["said"])
    assert said.startswith(
        "2 of the 3 questions were generated from the documents, by rules and a stronger model; 1 of them"
    )
    assert (
        "On people's questions (1 are few) rag+finetuned scores highest, on generated ones rag: trust the former."
        in said
    )
    assert "flatter retrieval" in said
    page, wiki = render_page(report), render_markdown(report)
    first = page[page.index("<main>") : page.index("<h2>For engineers")]
    for text in (first, wiki, "\n".join(origin_lines(report))):
        assert "2 of the 3 questions were generated" in text and "100.0%" in text
    assert first.index("1 of people") < first.index("2 generated") < first.index("<h2>Why")
    assert "100.0% (100.0 to 100.0, n = 2)" in wiki


def test_a_tie_names_no_other_arm(filled):
    questions = [HUMAN, MADE]
    scores = {
        arm: [score_answer(q, a) for q, a in zip(questions, answers(arm, *texts), strict=True)]
        for arm, texts in (("rag", ("no", "12 tonnes")), ("rag+finetuned", ("12 tonnes", "12 tonnes")))
    }
    said = origin_figures(question_origin(questions, filled), questions, scores, 0)["said"]
    assert said[-1].endswith("rag+finetuned scores highest.") and said[-1].startswith("On both")


def test_only_generated_ones_ask_for_peoples(filled):
    origin = question_origin([MADE, OTHER], filled, trained={"lock.md"})
    said = origin_sentences(origin | {"arms": {}})
    assert said[0].startswith("All 2 questions were generated") and "people have really asked" in said[-1]
    assert any("1 stand on documents that the adapter was trained on" in text for text in said)
