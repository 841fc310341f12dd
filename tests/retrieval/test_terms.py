"""Questions as terms."""

import pytest

from doyen.retrieval.terms import MOST_WORDS, question_terms, stems_of


@pytest.mark.parametrize(
    ("question", "text"),
    [
        ("What is the excess of the motor tariff?", "excess motor tariff excessof"),
        ("¿Cuál es la franquicia de la tarifa?", "franquicia tarifa"),
        ("Wie hoch ist der Selbstbehalt?", "hoch selbstbehalt"),
        ("और कितने शब्द हैं?", "शब्द"),
    ],
)
def test_function_words_of_the_questions_language_go(question, text):
    assert set(question_terms(question).text.split()) == set(text.split()) - {"excessof"} | (
        {"motortariff"} if "motor" in question else set()
    )


def test_letters_and_digits_of_a_word_are_searched_apart_too():
    terms = question_terms("capital expenditure FY2018")
    assert {"fy2018", "fy", "2018"} <= set(terms.text.split())
    assert "2018" in terms.names and "2018" not in terms.stems


def test_words_written_together_in_names_are_found():
    assert "bestbuy" in question_terms("How much did Best Buy earn?").names
    numbers = question_terms("What exceeded $200,000 on September 30, 2019?").text.split()
    assert "200000" in numbers and "302019" not in numbers


def test_a_question_of_function_words_keeps_them():
    assert question_terms("what is it").stems


def test_chinese_stays_together_for_the_index_and_is_compared_in_pairs():
    terms = question_terms("谁是2015年的冠军?")
    assert "冠军" in terms.text and "冠军" in terms.stems


def test_hindi_words_keep_their_vowel_signs():
    assert stems_of("हिन्दी भाषा", "hi") == stems_of("हिन्दी, भाषा.", "hi")
    assert len(stems_of("हिन्दी", "")) == 1


def test_inflections_and_accents_meet():
    assert stems_of("Bicycles", "en") == stems_of("bicycle", "en")
    assert stems_of("Prämien", "de") == stems_of("pramien", "de")
    assert stems_of("ﬁle") == stems_of("file")


def test_the_words_of_a_question_are_bounded():
    terms = question_terms(" ".join(f"word{n}x" for n in range(10_000)))
    assert len(terms.stems) == MOST_WORDS


@pytest.mark.parametrize("question", ["", "?!", "\x00"])
def test_no_words_no_terms(question):
    assert not question_terms(question).stems
