"""Citations: verbatim at their offsets, short, and honest about who named the passage."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from doyen.citing import MAX_QUOTE, cite
from doyen.prompts import REFUSAL, parse_answer
from doyen.records import Chunk, Hit

LEASE = "Lease of the mill.\n\nThe deposit is EUR 700. It is paid back within thirty days. Pets need consent."
RULES = "House rules.\n\nBicycles stand in the yard. The gate closes at ten in the evening."
TEXTS = {"lease.txt": LEASE, "rules.txt": RULES}


def hit(document, start=0, end=None, **more):
    text = TEXTS[document]
    end = len(text) if end is None else end
    return Hit(Chunk(document, start, end, text[start:end], sha256="s", version=3, **more), 1.0)


def citations(answer, question="How high is the deposit?", hits=None, texts=TEXTS):
    hits = [hit("rules.txt"), hit("lease.txt", 20)] if hits is None else hits
    return cite(parse_answer(answer, len(hits)), question, hits, lambda d: texts[d])


def test_the_named_passage_is_quoted_at_its_offsets_in_the_document():
    lease = hit("lease.txt", 20, pages=(2, 3), section="Costs")
    (found,) = citations("EUR 700 [2]", hits=[hit("rules.txt"), lease])
    assert found.quote == "The deposit is EUR 700."
    assert LEASE[found.start : found.end] == found.quote
    assert (found.document, found.page, found.section) == ("lease.txt", 2, "Costs")
    assert (found.sha256, found.version, found.attributed) == ("s", 3, False)
    assert "attributed" not in found.as_dict()


def test_without_a_number_the_passage_that_holds_the_answer_is_attributed():
    (found,) = citations("EUR 700")
    assert (found.document, found.quote, found.attributed) == ("lease.txt", "The deposit is EUR 700.", True)
    assert found.as_dict()["attributed"] is True


def test_a_number_of_a_passage_without_the_answer_gives_way_to_the_one_that_has_it():
    (found,) = citations("EUR 700 [1]")
    assert (found.document, found.attributed) == ("lease.txt", True)


def test_a_named_passage_stays_where_no_passage_has_the_answer_word_for_word():
    (found,) = citations("Seven hundred euros [2]")
    assert (found.document, found.attributed) == ("lease.txt", False)


def test_yes_and_no_are_cited_as_the_model_named_them():
    (found,) = citations("No [1]", "May I leave my bicycle in the yard?")
    assert (found.document, found.attributed) == ("rules.txt", False)
    assert found.quote == "Bicycles stand in the yard."


def test_yes_without_a_number_goes_by_the_words_of_the_question():
    (found,) = citations("Yes", "Do pets need consent?")
    assert (found.document, found.quote, found.attributed) == ("lease.txt", "Pets need consent.", True)


def test_two_named_passages_give_two_citations_in_the_models_order():
    found = citations("EUR 700 [2][1]")
    assert [c.document for c in found] == ["lease.txt", "rules.txt"]


def test_a_part_of_a_word_is_not_the_answer():
    assert [c.document for c in citations("EUR 70 [1]")] == ["rules.txt"]


def test_refusals_and_answers_without_passages_have_no_citation():
    assert citations(REFUSAL) == ()
    assert citations("EUR 700", hits=[]) == ()


def test_a_quote_that_is_not_at_its_offsets_is_dropped():
    moved = {"lease.txt": "x" + LEASE, "rules.txt": RULES}
    assert citations("EUR 700 [2]", texts=moved) == ()
    assert [c.document for c in citations("EUR 700 [2][1]", texts=moved)] == ["rules.txt"]


def test_a_long_sentence_is_cut_around_the_answer():
    text = "word " * 200 + "the deposit is EUR 700 in total " + "word " * 200
    hits = [Hit(Chunk("long.txt", 0, len(text), text), 1.0)]
    (found,) = citations("EUR 700 [1]", hits=hits, texts={"long.txt": text})
    assert len(found.quote) <= MAX_QUOTE
    assert "EUR 700" in found.quote
    assert text[found.start : found.end] == found.quote


@given(
    text=st.text(st.sampled_from("ab ß.!\n\t7ǰ"), max_size=900) | st.text(max_size=400),
    answer=st.text(st.sampled_from("ab ß7ǰ."), max_size=30),
    cut=st.integers(0, 300),
)
def test_every_quote_is_verbatim_and_short(text, answer, cut):
    cut = min(cut, len(text))
    chunk = Chunk("d", cut, len(text), text[cut:])
    for found in citations(answer, "a b?", [Hit(chunk, 1.0)], {"d": text}):
        assert text[found.start : found.end] == found.quote
        assert len(found.quote) <= MAX_QUOTE
        assert cut <= found.start <= found.end <= len(text)


@given(st.text(st.sampled_from("ab ß.\n7"), min_size=1, max_size=700))
def test_an_answer_with_a_passage_always_has_its_citation(text):
    found = citations("seven [1]", "a b?", [Hit(Chunk("d", 0, len(text), text), 1.0)], {"d": text})
    assert len(found) == 1


def test_an_answer_that_no_passage_supports_cites_nothing():
    assert citations("Paris", "What is the capital of France?") == ()
    assert citations("The capital of France is Paris.", "What is the capital of France?") == ()
    assert citations("Snails crossed the moor before noon") == ()


def test_a_sentence_that_goes_on_in_the_next_line_is_quoted_whole():
    wrapped = {"lease.txt": "Heading\nThe deposit is\npaid back within thirty days. It earns 2%."}
    hits = [Hit(Chunk("lease.txt", 0, len(wrapped["lease.txt"]), wrapped["lease.txt"]), 1.0)]
    (found,) = citations("thirty days [1]", "When is it paid back?", hits, wrapped)
    assert found.quote == "The deposit is\npaid back within thirty days."


def test_the_part_of_a_long_sentence_with_the_answer_is_quoted():
    long = "A row of " + "many words, " * 40 + "and thirty-five\ndays in a row" + " and yet more words" * 20 + "."
    hits = [Hit(Chunk("long.txt", 0, len(long), long), 1.0)]
    (found,) = citations("Thirty five days [1]", "How long?", hits, {"long.txt": long})
    assert "thirty-five\ndays" in found.quote and len(found.quote) <= MAX_QUOTE


HOUSE = "Helicopter in the mountains\n\nRescue by boat is paid in the valley. By air nothing is."
FLIGHT = "Does it pay for a helicopter in the mountains?"


@pytest.mark.parametrize(
    ("text", "context", "section"),
    [
        (HOUSE, "House rules › Helicopter in the mountains", None),
        (HOUSE, "", "Rescue › Helicopter in the mountains"),
        (HOUSE, "Helicopter in the mountains\n| kind | paid |", None),
        (f"## {HOUSE}", "", None),
        (HOUSE.replace("\n", "\n=====\n", 1), "", "Helicopter in the mountains"),
    ],
)
def test_a_heading_is_no_quote_for_a_verdict(text, context, section):
    chunk = Chunk("h.md", 0, len(text), text, context, section=section)
    (found,) = citations("Yes [1]", FLIGHT, [Hit(chunk, 1.0)], {"h.md": text})
    assert found.quote == "Rescue by boat is paid in the valley."


def test_a_passage_that_is_only_a_heading_is_quoted():
    text = "Helicopter in the mountains"
    chunk = Chunk("h.md", 0, len(text), text, section=text)
    (found,) = citations("Yes [1]", FLIGHT, [Hit(chunk, 1.0)], {"h.md": text})
    assert found.quote == text


def test_a_heading_that_has_the_answer_is_quoted():
    chunk = Chunk("h.md", 0, len(HOUSE), HOUSE, section="Helicopter in the mountains")
    (found,) = citations("Mountains [1]", "Where is that?", [Hit(chunk, 1.0)], {"h.md": HOUSE})
    assert found.quote.startswith("Helicopter")


def test_chinese_without_spaces_is_attributed():
    text = "日本的首都是东京。中国的首都是北京市。"
    hits = [Hit(Chunk("zh.txt", 0, len(text), text), 1.0)]
    (found,) = citations("北京", "中国的首都是哪里？", hits, {"zh.txt": text})
    assert (found.quote, found.attributed) == ("中国的首都是北京市。", True)
