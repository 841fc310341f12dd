"""The training mix over a small real index: what each variant shows, what it is to answer, what is left out."""

import re

import pytest

from doyen.config import ExamplesSettings
from doyen.errors import ExamplesError
from doyen.examples.mix import build_mix
from doyen.prompts import REFUSAL, SYSTEM_CLOSED_BOOK, SYSTEM_PASSAGES
from doyen.records import GoldSource, Question

ALL = ExamplesSettings(passages_share=1.0, abstain_share=1.0, closed_book_share=1.0)
LEAVE = Question(
    "leave", "How many days of annual leave does the guild grant?", ("27 days",), "span", (GoldSource("leave.md"),)
)
CRANE = Question(
    "crane", "How much does the Tamsin crane lift?", ("12 tonnes", "12 t"), "span", (GoldSource("cranes.md"),)
)
BOAT = Question("boat", "What is the pilot boat called?", ("Marisk",), "span", (GoldSource("manual.txt", 2),))
BICYCLE = Question("bicycle", "Are bicycles allowed on the quay?", ("no",), "yesno", (GoldSource("rules.md"),))
MOON = Question("moon", "How far away is the moon?", answerable=False)


def mix_of(retriever, *train, validation=(), settings=ALL, passages=3):
    return build_mix(train, validation, retriever, settings, passages=passages)


def variant(examples, name):
    found = [e for e in examples if e.variant == name]
    assert len(found) == 1, [e.variant for e in examples]
    return found[0]


def shown(example):
    """Return the passages that an example shows, by number."""
    parts = re.split(r"(?m)^\[(\d+)\] ", example.messages[-2]["content"].rsplit("\n\nQuestion: ", 1)[0])
    return {int(n): text for n, text in zip(parts[1::2], parts[2::2], strict=True)}


def cited(example):
    return [int(n) for n in re.findall(r"\[(\d+)\]", example.messages[-1]["content"])]


@pytest.mark.parametrize("question", [LEAVE, CRANE, BOAT], ids=lambda q: q.id)
def test_the_cited_passage_holds_the_answer(question, retriever):
    example = variant(mix_of(retriever, question).train, "passages")
    assert example.messages[0]["content"] == SYSTEM_PASSAGES
    passages = shown(example)
    assert sorted(passages) == [*range(1, len(passages) + 1)] and len(passages) in (2, 3)  # two sections may be one
    (number,) = cited(example)
    assert question.answers[0] in passages[number]
    assert example.messages[-1]["content"] == f"{question.answers[0]} [{number}]"
    assert example.messages[-2]["content"].endswith(f"Question: {question.question}")
    assert (example.question_id, example.kind, example.origin) == (question.id, question.kind, "human")


@pytest.mark.parametrize("question", [LEAVE, CRANE, BOAT, BICYCLE], ids=lambda q: q.id)
def test_sources_are_the_exact_text_of_the_gold_document(question, retriever):
    (span,) = variant(mix_of(retriever, question).train, "passages").source
    known = {d.id: d.sha256 for d in retriever.index.documents()}
    assert (span.document, span.sha256, span.page) == (
        question.gold[0].document,
        known[span.document],
        question.gold[0].page,
    )
    text, _ = retriever.index.text(span.document)
    assert question.kind == "yesno" or question.answers[0] in text[span.start : span.end]


@pytest.mark.parametrize("question", [LEAVE, CRANE, BOAT, BICYCLE], ids=lambda q: q.id)
def test_the_abstaining_variant_shows_neither_gold_nor_answer(question, retriever):
    example = variant(mix_of(retriever, question).train, "abstain")
    assert example.messages[-1]["content"] == REFUSAL
    passages = shown(example)
    gold = [
        c.text
        for c in retriever.index.chunks_of([g.document for g in question.gold])
        if question.gold[0].page in (None, c.page)
    ]
    assert passages and gold
    for text in passages.values():
        assert not any(g in text for g in gold)
        assert question.kind == "yesno" or not any(a.casefold() in text.casefold() for a in question.answers)


def test_other_pages_of_the_gold_document_may_distract(retriever):
    example = variant(mix_of(retriever, BOAT, passages=20).train, "abstain")
    text = "\n".join(shown(example).values())
    assert "Mooring lines" in text and "Marisk" not in text


def test_a_passage_elsewhere_that_holds_the_answer_is_not_shown_for_abstaining(retriever):
    twice = Question(
        "berth", "Which berth of a lock?", ("berth",), "span", (GoldSource("rules.md"),)
    )  # cranes.md says "berth" too
    text = "\n".join(shown(variant(mix_of(retriever, twice, passages=20).train, "abstain")).values())
    assert "berth" not in text and "Orrel" in text


def test_closed_book_has_no_passages(retriever):
    example = variant(mix_of(retriever, LEAVE).train, "closed-book")
    assert [m["content"] for m in example.messages] == [SYSTEM_CLOSED_BOOK, f"Question: {LEAVE.question}", "27 days"]
    assert [s.document for s in example.source] == ["leave.md"]  # what it teaches goes stale with its document


def test_an_unanswerable_question_is_refused_with_and_without_passages(retriever):
    examples = mix_of(retriever, MOON, LEAVE).train
    mine = [e for e in examples if e.question_id == "moon"]
    assert sorted(e.variant for e in mine) == ["abstain", "closed-book"]
    assert {e.messages[-1]["content"] for e in mine} == {REFUSAL}
    assert len(shown(variant(mine, "abstain"))) == 3


def test_gold_is_put_in_where_retrieval_missed_it(retriever):
    missed = Question(
        "missed", "Orrel lock opens closes fee barge crowns?", ("27 days",), "span", (GoldSource("leave.md"),)
    )
    first = retriever.search(missed.question, 2)
    assert all(h.chunk.document == "locks.md" for h in first)
    for passages in (1, 2):
        example = variant(mix_of(retriever, missed, passages=passages).train, "passages")
        assert len(shown(example)) == passages
        assert "27 days" in shown(example)[cited(example)[0]]


def test_the_right_passage_of_a_found_document_is_put_in(retriever):
    wrong_half = Question("half", "certificate after day of sickness?", ("27 days",), "span", (GoldSource("leave.md"),))
    assert "27 days" not in retriever.search(wrong_half.question, 1)[0].chunk.text
    example = variant(mix_of(retriever, wrong_half, passages=1).train, "passages")
    assert "27 days" in shown(example)[cited(example)[0]]


def test_each_gold_source_is_cited_once(retriever):
    gold = (GoldSource("cranes.md"), GoldSource("locks.md"))
    both = Question(
        "both", "What lifts 31 tonnes, and when does the Orrel lock open?", ("Orla crane, 06:30",), "span", gold
    )
    example = variant(mix_of(retriever, both).train, "passages")
    passages = shown(example)
    assert len(cited(example)) == len(set(cited(example))) == 2
    assert {"Cranes", "Locks"} == {passages[n].split(" ")[0].split("\n")[0] for n in cited(example)}
    assert {s.document for s in example.source} == {"cranes.md", "locks.md"}


def test_no_gold_document_in_the_index_is_an_error_with_the_command(retriever):
    stranger = Question("stranger", "Which colour?", ("red",), "span", (GoldSource("elsewhere/paint.md"),))
    with pytest.raises(ExamplesError, match="elsewhere/paint.md") as caught:
        mix_of(retriever, stranger)
    assert "doyen ingest" in caught.value.hint


def test_one_missing_gold_document_is_counted_and_left_out(retriever):
    stranger = Question("stranger", "Which colour?", ("red",), "span", (GoldSource("elsewhere/paint.md"),))
    unanswered = Question("unanswered", "Which colour?", (), "span", (GoldSource("leave.md"),))
    unsupported = Question("unsupported", "Which colour?", ("red",))
    mix = mix_of(retriever, LEAVE, stranger, unanswered, unsupported)
    assert mix.left_out == {"gold document not in the index": 1, "without an answer": 1, "without gold evidence": 1}
    assert {e.question_id for e in mix.train if e.variant == "passages"} == {"leave"}


def test_questions_without_any_answer_are_an_error(retriever):
    with pytest.raises(ExamplesError, match="answer"):
        mix_of(retriever, Question("unanswered", "Which colour?", (), "span", (GoldSource("leave.md"),)))


def test_validation_always_has_the_abstaining_variant(retriever):
    none = ExamplesSettings(passages_share=1.0, abstain_share=0.0, closed_book_share=0.0)
    mix = mix_of(retriever, LEAVE, validation=[CRANE], settings=none)
    assert [e.variant for e in mix.train] == ["passages"]
    assert sorted(e.variant for e in mix.validation) == ["abstain", "passages"]
    assert {e.question_id for e in mix.validation} == {"crane"}


def test_shares_of_nought_leave_the_variant_out(retriever):
    settings = ExamplesSettings(passages_share=0.0, abstain_share=0.0, closed_book_share=1.0)
    assert {e.variant for e in mix_of(retriever, LEAVE, CRANE, settings=settings).train} == {"closed-book"}


def test_the_mix_is_the_same_each_time_and_questions_do_not_disturb_each_other(retriever):
    half = ExamplesSettings(passages_share=0.5, abstain_share=0.5, closed_book_share=0.5)
    questions = [
        Question(f"{q.id}{i}", q.question, q.answers, q.kind, q.gold) for i in range(6) for q in (LEAVE, CRANE, BOAT)
    ]
    first = mix_of(retriever, *questions, settings=half)
    assert [e.as_dict() for e in first.train] == [
        e.as_dict() for e in mix_of(retriever, *questions, settings=half).train
    ]
    unanswered = [Question(questions[0].id, "What?", (), gold=questions[0].gold), *questions[1:]]
    other = mix_of(retriever, *unanswered, settings=half)

    def kept(mix):
        return sorted((e.question_id, e.variant) for e in mix.train if e.question_id != questions[0].id)

    assert kept(first) == kept(other)
