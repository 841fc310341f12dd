"""Two candidate lists as one ranking."""

import numpy as np
import pytest

from doyen.config import RetrievalSettings
from doyen.index.rows import FoundRow
from doyen.records import Chunk
from doyen.retrieval.fusion import foremost, merged, name_matches, phrase_match, ranked, weigh
from doyen.retrieval.terms import question_terms, stem_sequence

QUESTION = np.array([1.0, 0.0], dtype=np.float32)
TERMS = question_terms("bicycle yard")


class Candidate:
    """A row of the index with its chunk; rows of the same document are the same row."""

    def __init__(self, document, score, cosine, text="bicycle yard", context="", language="en"):
        vector = np.array([cosine, np.sqrt(1 - cosine**2)], dtype=np.float32)
        self.row = FoundRow(hash(document), document, 0, score, vector)
        self.chunk = Chunk(document, 0, 1, text, context=context, language=language)


candidate = Candidate


def fused(dense, text, weight=0.5, document_weight=0.0, phrase_weight=0.0, terms=TERMS, languages=()):
    settings = RetrievalSettings(dense_weight=weight, document_weight=document_weight, phrase_weight=phrase_weight)
    chunks = {c.row.row: c.chunk for c in [*dense, *text]}
    found = merged([c.row for c in dense], [c.row for c in text], QUESTION)
    return [hit for passage in ranked(terms, found, chunks, settings, languages) for hit in passage]


def weighed(candidate, languages=(), terms=TERMS):
    found = merged([], [candidate.row], QUESTION)
    chunks = {candidate.row.row: candidate.chunk}
    passages = {candidate.row.row: stem_sequence(candidate.chunk.indexed, "en")}
    return weigh(terms, found, chunks, passages, RetrievalSettings(dense_weight=0.5), languages)


def documents(hits):
    return [h.chunk.document for h in hits]


def test_the_best_of_both_lists_scores_one_and_the_order_falls():
    dense = [candidate("both", 0.8, 0.8), candidate("dense", 0.4, 0.4)]
    text = [candidate("both", 6.0, 0.8), candidate("text", 3.0, 0.2)]
    hits = fused(dense, text)
    assert documents(hits) == ["both", "text", "dense"]
    assert [h.score for h in hits] == pytest.approx([1.0, 0.5 * 0.25 + 0.5 * 0.5, 0.5 * 0.5])


def test_a_hit_tells_its_cosine_and_bm25_score():
    hits = {h.chunk.document: h for h in fused([candidate("d", 0.4, 0.4)], [candidate("t", 3.0, 0.2)])}
    assert (hits["t"].similarity, hits["t"].lexical) == (pytest.approx(0.2), 3.0)
    assert (hits["d"].similarity, hits["d"].lexical) == (pytest.approx(0.4), 0.0)


def test_the_weight_at_its_ends_leaves_one_ranking():
    dense = [candidate("near", 0.9, 0.9), candidate("word", 0.1, 0.2)]
    text = [candidate("word", 9.0, 0.2)]
    only_dense, only_text = fused(dense, text, 1.0), fused(dense, text, 0.0)
    assert documents(only_dense) == ["near", "word"]
    assert [h.score for h in only_dense] == pytest.approx([1.0, 0.2 / 0.9])
    assert documents(only_text) == ["word", "near"]
    assert [h.score for h in only_text] == pytest.approx([1.0, 0.0])


def test_what_is_neither_near_nor_shares_a_word_is_no_hit():
    assert fused([], []) == []
    assert fused([candidate("far", 0.1, 0.1)], []) == []
    (hit,) = fused([candidate("far", 0.1, 0.1)], [candidate("far", 2.0, 0.1)])
    assert hit.lexical == 2.0


def test_equal_scores_come_in_order_of_document():
    assert documents(fused([candidate(name, 0.5, 0.5) for name in "cab"], [])) == ["a", "b", "c"]


def test_full_text_counts_by_the_share_of_the_question_that_it_finds():
    whole, half = weighed(candidate("a", 2.0, 0.5)), weighed(candidate("a", 2.0, 0.5, text="bicycle"))
    assert (whole.dense, whole.text) == (0.5, 0.5)
    assert half.text == pytest.approx(1 / 3)


def test_an_embedder_counts_less_in_a_language_that_it_does_not_know():
    hindi = candidate("a", 2.0, 0.5, language="hi")
    assert weighed(hindi, ("en",)).dense == pytest.approx(0.2)
    assert weighed(hindi, ("en", "hi")).dense == weighed(hindi).dense == 0.5


def test_rows_far_down_both_lists_are_not_looked_at():
    rows = [candidate(f"d{n:03}", 200.0 - n, (200 - n) / 201) for n in range(200)]
    found = merged([c.row for c in rows], [c.row for c in reversed(rows)], QUESTION)
    kept = {f.row.document for f in foremost(found, 10)}
    assert {f"d{n:03}" for n in range(50)} == kept
    assert len(foremost(found, 60)) == 60


def test_the_document_that_the_question_names_comes_first():
    terms = question_terms("What did Best Buy spend in FY2018?")
    found = [
        candidate(name, 0.5, 0.5, text="spend", context="Annual report")
        for name in ("BESTBUY_2017_10K.pdf", "BESTBUY_2018_10K.pdf", "COSTCO_2018_10K.pdf", "AMCOR_2019_10K.pdf")
    ]
    matches = name_matches(terms, [c.chunk for c in found])
    assert max(matches, key=matches.get) == "BESTBUY_2018_10K.pdf"
    assert matches["AMCOR_2019_10K.pdf"] == 0.0 and all(0 <= m <= 1 for m in matches.values())
    assert documents(fused(found, [], document_weight=0.1, terms=terms))[0] == "BESTBUY_2018_10K.pdf"


def test_a_title_that_the_question_names_whole_matches_best():
    chunks = [
        Chunk(f"pages/{n}.xml", 0, 1, "x", context=title, language="en")
        for n, title in enumerate(("Asthma", "Asthma in children at school", "Diabetes"))
    ]
    matches = list(name_matches(question_terms("What causes asthma?"), chunks).values())
    assert matches[0] > matches[1] > matches[2] == 0.0


def test_words_that_stand_together_in_the_question_and_in_the_passage_count():
    terms = question_terms("Who repairs the yard lamp?")
    near, apart = (
        candidate(d, 1.0, 0.5, text=t) for d, t in (("z", "He repairs a yard lamp"), ("a", "lamp, he repairs"))
    )
    assert phrase_match(terms, stem_sequence(near.chunk.text, "en")) == 1.0
    assert phrase_match(terms, stem_sequence(apart.chunk.text, "en")) == 0.0
    assert documents(fused([near, apart], [], phrase_weight=0.3, terms=terms))[0] == "z"
    assert phrase_match(question_terms("lamp"), ["lamp"]) == 0.0


@pytest.mark.parametrize("seed", range(20))
def test_whatever_the_phrases_passages_come_best_first(seed):
    """Phrases are looked for late; the order must be as if all had been."""
    random = np.random.default_rng(seed)
    words = ["who", "repairs", "the", "yard", "lamp", "bicycle", "roof"]
    found = [
        candidate(f"d{n}", *(0.2 + random.random(2) * 0.7), text=" ".join(random.choice(words, 6)) + f" {n}")
        for n in range(30)
    ]
    dense, text = found[:20], found[10:]
    hits = fused(dense, text, phrase_weight=0.4, terms=question_terms("Who repairs the yard lamp at the bicycle roof?"))
    assert len(hits) == 30 and len({h.score for h in hits}) > 20
    assert hits == sorted(hits, key=lambda h: (-h.score, h.chunk.document, h.chunk.start))
