"""Questions by rules: what is asked of sentences in several languages, of tables and of headings; the law of verbatim evidence."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from doyen.examples.generating.facts import fact_of, is_verbatim, locate
from doyen.examples.generating.rules import RuleGenerator
from doyen.records import Chunk
from doyen.words import holds

ENGLISH = (
    "The Orrel library was founded in 1874. The Tamsin crane lifts 12 tonnes and stands at berth 4. Ada Mercer designed the "
    "old bridge. A leeway pass is a permit to sail at night. Passing the lock costs 48 crowns for a barge. "
    "The pilot boat stays in harbour because the bar is too shallow at low tide. It was repaired in 1990."
)
GERMAN = (
    "Die Bibliothek wurde im Jahr 1874 gegründet. Der Kran Tamsin hebt 12 Tonnen und steht am Kai. Der Verein hat 340 "
    "Mitglieder. Ein Leescheine ist eine Erlaubnis zum Segeln bei Nacht. Er wurde im Jahr 1990 erneuert."
)
SPANISH = (
    "La biblioteca fue fundada en 1874. La grúa Tamsin levanta 12 toneladas al día. La asociación tiene 340 miembros. "
    "Un pase de sotavento es un permiso para navegar de noche."
)
SWEDISH = "Kranen Tamsin lyfter 12 ton om dagen. Biblioteket har öppet varje dag i veckan."
TABLE = "Fees\n\nVessel | Fee | Days\nBarge | 48 crowns | 3\nTug | 31 crowns | 5\nTug | 32 crowns | 6\n"
RECORDS = "rate_code: FS-11; plan: Twig; price: EUR 9\nrate_code: FS-12; plan: Branch; price: EUR 17\n"


def chunk(text, language="en", *, context="Harbour", start=0, document="harbour.md"):
    return Chunk(document, start, start + len(text), text, context=context, sha256="a" * 64, language=language)


def asked(text, language="en", **more):
    """Return question → answer for every phrasing."""
    facts = RuleGenerator().generate([chunk(text, language, **more)])
    return {question: fact.answer for fact in facts for question in fact.questions}


@pytest.mark.parametrize(
    ("question", "answer"),
    [
        ("When was the Orrel library founded?", "1874"),
        ("In what year was the Orrel library founded?", "1874"),
        ("Tell me when the Orrel library was founded.", "1874"),
        ("How many tonnes does the Tamsin crane lift?", "12"),
        ("Who designed the old bridge?", "Ada Mercer"),
        ("What is a leeway pass?", "a permit to sail at night"),
        ("How much does passing the lock cost for a barge?", "48 crowns"),
        ("Why does the pilot boat stay in harbour?", "because the bar is too shallow at low tide"),
    ],
)
def test_english_sentences_become_questions(question, answer):
    found = asked(ENGLISH)
    assert found.get(question) == answer, sorted(found)


def test_a_sentence_that_needs_the_one_before_it_is_not_asked():
    assert not [q for q in asked(ENGLISH) if "1990" in q or "repaired" in q]


@pytest.mark.parametrize(
    ("text", "language", "question", "answer"),
    [
        (GERMAN, "de", "Wie viele Tonnen hebt der Kran Tamsin?", "12"),
        (GERMAN, "de", "Wie viele Mitglieder hat der Verein?", "340"),
        (GERMAN, "de", "In welchem Jahr wurde die Bibliothek gegründet?", "1874"),
        (GERMAN, "de", "Was ist ein Leescheine?", "eine Erlaubnis zum Segeln bei Nacht"),
        (SPANISH, "es", "¿En qué año la biblioteca fue fundada?", "1874"),
        (SPANISH, "es", "¿Cuántas toneladas la grúa Tamsin levanta al día?", "12"),
        (SPANISH, "es", "¿Qué es un pase de sotavento?", "un permiso para navegar de noche"),
        (SWEDISH, "sv", "Kranen Tamsin lyfter … ton om dagen", "12"),
    ],
)
def test_other_languages(text, language, question, answer):
    found = asked(text, language)
    assert found.get(question) == answer, sorted(found)


def test_statements_are_confirmed_and_with_another_figure_denied():
    text = " ".join(f"The Orrel lock {n} has a gate of {n + 20} metres." for n in range(1, 30))
    verdicts = [f for f in RuleGenerator().generate([chunk(text)]) if f.rule == "verdict"]
    assert {f.answer for f in verdicts} == {"yes", "no"}
    for fact in verdicts:
        figures = re.findall(r"\d+", fact.questions[0])
        assert (figures == re.findall(r"\d+", fact.evidence)) == (fact.answer == "yes")


def test_cells_are_asked_by_row_and_column():
    found = asked(TABLE)
    assert found["What is the Fee of Barge?"] == "48 crowns"
    assert found["Barge: what is the Days?"] == "3"
    assert not [q for q in found if "Tug" in q], "two rows have that name"


def test_a_table_that_goes_on_takes_its_header_from_the_context():
    found = asked("Ferry | 20 crowns | 1\n", context="Harbour › Fees\nVessel | Fee | Days")
    assert found["What is the Fee of Ferry?"] == "20 crowns"


def test_records_are_asked_by_their_first_value():
    found = asked(RECORDS)
    assert found["What is the price of rate code FS-12?"] == "EUR 17"


def test_headings_lead_to_their_first_sentence():
    text = "2.1 Night sailing\n\nNo vessel may leave the harbour after ten in the evening. Fines are high."
    found = asked(text, context="Harbour rules › 2.1 Night sailing")
    answer = "No vessel may leave the harbour after ten in the evening."
    assert found['What does "Harbour rules" say about Night sailing?'] == answer


@pytest.mark.parametrize(
    ("text", "language"),
    [(ENGLISH, "en"), (GERMAN, "de"), (SPANISH, "es"), (SWEDISH, "sv"), (TABLE, "en"), (RECORDS, "en")],
)
def test_evidence_is_verbatim_and_holds_the_answer(text, language):
    whole = f"Before. {text}"
    facts = RuleGenerator().generate([chunk(text, language, start=8)])
    assert facts
    for fact in facts:
        assert whole[fact.start : fact.end] == fact.evidence
        assert is_verbatim(fact, whole)
        assert fact.kind == "yesno" or holds(fact.evidence, fact.answer)


words_ = st.sampled_from(
    "The crane Orrel lifts 12 tonnes in 1874, and is was a the of (per day) 5% EUR 30 because | : ; . \n Ada Mercer “x” - 3–4 up to".split(
        " "
    )
)


@given(
    st.lists(words_, max_size=60).map(" ".join), st.sampled_from(["en", "de", "fr", "es", "it", "pt", "nl", "sv", ""])
)
def test_whatever_the_text_evidence_is_verbatim(text, language):
    for fact in RuleGenerator().generate([chunk(text, language)]):
        assert is_verbatim(fact, text)
        assert all(q.strip() for q in fact.questions)


def test_quotes_are_located_word_for_word():
    text = "One.  The crane\nlifts “12 tonnes” a day. Two."
    start, end = locate(text, 'The crane lifts "12 tonnes" a day.')
    assert text[start:end].startswith("The crane\nlifts") and "day" in text[start:end]
    assert locate(text, "The crane lifts 13 tonnes") is None
    assert locate(text, "…") is None


def test_the_id_of_a_question_depends_on_evidence_and_wording_only():
    first = fact_of(chunk("It lifts 12 tonnes.", start=5), (0, 19), ["How much?"], "12 tonnes", rule="number")
    moved = fact_of(chunk("It lifts 12 tonnes.", start=900), (0, 19), ["How much?"], "12 tonnes", rule="number")
    assert first.row_id("How much?") == moved.row_id("How much?") != first.row_id("How much does it lift?")
