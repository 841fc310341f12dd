"""Extractive summaries: verbatim, short, of prose only, in any script."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from doyen.chunking import chunk_document
from doyen.documents.reading import read_documents
from doyen.embedding import ByteCounter
from doyen.records import Document, Summary
from doyen.summarising import MOST_WORDS, summarise
from doyen.words import length_of, words

COUNTER = ByteCounter(4000)

ENGLISH = """# Boiler manual

The boiler heats the water of the whole building. Maintenance of the boiler takes place every autumn.
Pressure in the boiler must stay between one and two bar, or the safety valve of the boiler opens.
Cats are not allowed.

```
boiler --start --pressure 1.5 this line of code is about the boiler and the water pressure
```

| Part of the boiler | Price of the boiler part in euro |
| --- | --- |
| Valve of the boiler for the water pressure | 12 |
"""
CHINESE = "锅炉加热整栋楼的水。锅炉的维护每年秋天进行一次。锅炉的压力必须保持在一到两巴之间。猫不得入内。"
HINDI = "बॉयलर पूरी इमारत का पानी गर्म करता है। बॉयलर की देखभाल हर शरद ऋतु में होती है। बॉयलर का दबाव एक से दो बार के बीच रहना चाहिए। बिल्लियों को अनुमति नहीं है।"
THAI = "หม้อต้มทำน้ำร้อนให้ทั้งอาคารและต้องบำรุงรักษาทุกปี หม้อต้มต้องมีแรงดันระหว่างหนึ่งถึงสองบาร์"


def summaries_of(text, name="manual.md", **options):
    document = read_documents(text.encode(), name, name, source=name).documents[0]
    return document, summarise(document, chunk_document(document, COUNTER, **options))


def assert_verbatim(document, summary):
    assert summary.spans == tuple(sorted(summary.spans))
    assert summary.text == Summary.joined(document.text, summary.spans)
    assert all(summary.start <= a < b <= summary.end for a, b in summary.spans)


def test_central_sentences_are_kept_and_code_tables_and_headings_left_out():
    document, (summary,) = summaries_of(ENGLISH)
    assert_verbatim(document, summary)
    assert "heats the water" in summary.text and "safety valve" in summary.text
    assert "--start" not in summary.text and "|" not in summary.text and "#" not in summary.text


@pytest.mark.parametrize("text", [CHINESE, HINDI, THAI])
def test_scripts_without_spaces_or_full_stops_are_summarised_by_whole_sentences(text):
    document, (summary,) = summaries_of(text * 30, "manual.txt")
    assert_verbatim(document, summary)
    assert summary.text[:6] in text
    assert 0 < length_of(words(summary.text)) <= MOST_WORDS
    if text != THAI:
        assert all(document.text[b - 1] in "。।" for _, b in summary.spans)


def test_a_sentence_that_repeats_another_is_passed_over_for_one_that_tells_more():
    text = "The harbour office collects fees of ships in the harbour.\n" + "".join(
        f"The harbour office collects fees of ships in the harbour in year {n}.\n" for n in ("one", "two", "three")
    )
    text += "The pilots guide ships through the narrow channel at night.\nPilots wait for ships near the channel.\n"
    _, (summary,) = summaries_of(text, "harbour.txt")
    assert "channel" in summary.text


@pytest.mark.parametrize(
    ("text", "first"),
    [("Kate\nTom\nLiz\n", "Kate"), ("name,age\nKate,3\nTom,4\n", ""), ("x" * 5000, "x"), ("一" * 900, "一")],
)
def test_what_has_no_sentences_is_summarised_by_its_beginning(text, first):
    document, (summary,) = summaries_of(text, "list.csv" if "," in text else "list.txt")
    assert_verbatim(document, summary)
    assert summary.text.startswith(first) and len(summary.spans) == 1
    assert length_of(words(summary.text)) <= MOST_WORDS


def test_an_empty_document_has_none():
    document = Document("a.txt", " \n", "a", "text/plain", "0", "a.txt")
    assert summarise(document, chunk_document(document, COUNTER)) == []


def long_document(sections):
    paragraph = "The {0} of the mill is described here in some detail. Every {0} has its place and its keeper.\n\n"
    return "# The mill\n\n" + "".join(f"## About the {name}\n\n" + paragraph.format(name) * 60 for name in sections)


def test_large_sections_of_a_long_document_have_summaries_of_their_own():
    names = ["wheel", "stone", "sluice"]
    document, (whole, *sections) = summaries_of(long_document(names), max_tokens=100)
    assert whole.section is None and (whole.start, whole.end) == (0, len(document.text))
    assert [s.section for s in sections] == [f"About the {name}" for name in names]
    for name, summary in zip(names, sections, strict=True):
        assert_verbatim(document, summary)
        assert name in summary.text and document.text[summary.start :].startswith(f"## About the {name}")


def test_a_short_document_and_a_section_are_indexed_by_a_chunk_that_is_embedded_anyway():
    document, (summary,) = summaries_of(ENGLISH)
    chunks = chunk_document(document, COUNTER)
    assert summary.indexed in {c.indexed for c in chunks}
    document, (whole, *sections) = summaries_of(long_document(["wheel", "stone"]), max_tokens=100)
    indexed = {c.indexed for c in chunk_document(document, COUNTER, max_tokens=100)}
    assert whole.indexed not in indexed and whole.indexed.endswith(whole.text)
    assert {s.indexed for s in sections} <= indexed


@given(st.text(st.sampled_from("ab. \n#|`-—。！कि锅\t1"), max_size=300))
def test_every_sentence_is_verbatim_and_all_are_short(text):
    document = Document("a.md", text, "a b", "text/markdown", "0", "a.md")
    for summary in summarise(document, chunk_document(document, COUNTER)):
        assert_verbatim(document, summary)
        assert length_of(words(summary.text)) <= MOST_WORDS
