"""Ranks of units against the definitions, written out a second time and the slow way."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from doyen.evaluation.retrieval_scores import gold_grades, score_hits, summarise_hits
from doyen.records import Chunk, GoldSource, Hit, Question


def question(*gold):
    return Question("1", "Who?", gold=tuple(GoldSource(*source) for source in gold))


def hit(document, *pages):
    return Hit(Chunk(document, 0, 1, "x", pages=pages), 1.0)


PAGE_3 = question(("a.pdf", 3))
NAMES = {"hit@1", "hit@3", "hit@5", "hit@10", "recall@10", "mrr", "ndcg@10"}


def test_hits_are_ranked_by_page():
    found = score_hits(PAGE_3, [hit("a.pdf", 2), hit("a.pdf", 2), hit("a.pdf"), hit("a.pdf", 3)])
    assert found == {
        **{"hit@1": 0, "hit@3": 1, "hit@5": 1, "hit@10": 1, "recall@10": 1},
        **{"mrr": pytest.approx(1 / 3), "ndcg@10": 0.5},
    }
    assert score_hits(PAGE_3, [hit("a.pdf", 2, 3)])["mrr"] == 0.5
    assert score_hits(PAGE_3, []) == dict.fromkeys(NAMES, 0)


def test_hits_are_ranked_by_document_without_gold_pages():
    found = score_hits(question(("b.txt", None)), [hit("a.txt", 1), hit("a.txt", 2), hit("b.txt", 7)])
    assert (found["hit@1"], found["mrr"]) == (0, 0.5)


def test_a_late_hit_counts_nothing():
    found = score_hits(PAGE_3, [*(hit("a.pdf", 10 + i) for i in range(10)), hit("a.pdf", 3)])
    assert set(found.values()) == {0}


def test_each_level_has_its_own_ranking():
    hits = [hit("b.pdf", 1), hit("a.pdf", 1), hit("a.pdf", 3)]
    assert score_hits(PAGE_3, hits, level="page") == score_hits(PAGE_3, hits)
    assert score_hits(PAGE_3, hits, level="page")["mrr"] == pytest.approx(1 / 3)
    assert score_hits(PAGE_3, hits, level="document")["mrr"] == 0.5
    assert score_hits(question(("a.txt", None)), hits, level="page") == {}


def test_a_document_has_the_grade_of_its_best_page():
    graded = question(("a.pdf", 1, 1), ("a.pdf", 2, 3), ("b.pdf", 1, 2))
    assert gold_grades(graded, "document") == {("a.pdf", None): 3, ("b.pdf", None): 2}
    assert gold_grades(question(("a.pdf", 1, 0))) == {}


def test_the_higher_grade_first_is_the_better_order():
    graded = question(("good.txt", None, 3), ("fair.txt", None, 1))
    best, worse = [hit("good.txt"), hit("fair.txt")], [hit("fair.txt"), hit("good.txt")]
    assert score_hits(graded, best)["ndcg@10"] == 1
    # gains 2^3 - 1 = 7 and 2^1 - 1 = 1
    expected = (1 + 7 / math.log2(3)) / (7 + 1 / math.log2(3))
    assert score_hits(graded, worse)["ndcg@10"] == pytest.approx(expected)


def test_recall_is_the_share_of_the_gold_in_the_first_k():
    wanted = question(("a.txt", None), ("b.txt", None), ("c.txt", None))
    hits = [hit("a.txt"), hit("x.txt"), hit("b.txt"), hit("c.txt")]
    assert score_hits(wanted, hits, k=3)["recall@3"] == pytest.approx(2 / 3)
    assert score_hits(wanted, hits, k=2)["hit@2"] == 1
    assert "recall@10" not in score_hits(wanted, hits, k=3)


@given(
    st.lists(st.tuples(st.sampled_from("abcdefghijklmnop"), st.integers(1, 3)), max_size=40),
    st.dictionaries(
        st.tuples(st.sampled_from("abcdefghijklmnop"), st.integers(1, 3)),
        st.integers(1, 4),
        min_size=1,
        max_size=14,
    ),
)
def test_scores_follow_the_definitions(found, gold):
    scores = score_hits(
        question(*((document, page, grade) for (document, page), grade in gold.items())),
        [hit(document, page) for document, page in found],
    )
    ranking = []
    for unit in found:
        if unit not in ranking:
            ranking.append(unit)
    ranking = ranking[:10]
    ranks = [i + 1 for i in range(len(ranking)) if ranking[i] in gold]
    for k in (1, 3, 5, 10):
        assert scores[f"hit@{k}"] == (1 if any(rank <= k for rank in ranks) else 0)
    assert scores["recall@10"] == pytest.approx(len(ranks) / len(gold))
    assert scores["mrr"] == pytest.approx(1 / min(ranks) if ranks else 0)
    gained = sum((2 ** gold[ranking[rank - 1]] - 1) / (math.log(rank + 1) / math.log(2)) for rank in ranks)
    grades = sorted(gold.values())[::-1][:10]
    ideal = sum((2**grade - 1) / (math.log(i + 2) / math.log(2)) for i, grade in enumerate(grades))
    assert scores["ndcg@10"] == pytest.approx(gained / ideal)


def test_the_summary_is_over_questions_with_gold():
    found = summarise_hits([PAGE_3, PAGE_3, question()], [[hit("a.pdf", 3)], [], [hit("x")]])
    assert (found["hit@1"].value, found["hit@1"].n) == (0.5, 2)
    assert summarise_hits([question()], [[hit("x")]]) == {}
