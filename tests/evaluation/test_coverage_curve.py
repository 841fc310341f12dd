"""Shares and the risk–coverage curve on scores whose figures can be worked out by hand."""

import pytest

from doyen.evaluation.coverage_curve import MOST_POINTS, outcome_figures, outcome_shares, risk_coverage
from doyen.evaluation.outcome_charts import NO_CONFIDENCE, curve_chart, shares_chart
from doyen.evaluation.scoring import Score
from doyen.records import Answer

RIGHT = Score("span", True, False, 1.0)
WRONG = Score("span", True, False, 0.0)
REFUSED = Score("span", True, True, 0.0)
RIGHTLY = Score("span", False, True)
INVENTED = Score("span", False, False)
UNSCORED = Score("span", True, False)


def test_three_shares_add_up_and_unscored_questions_are_left_out():
    shares = outcome_shares([RIGHT, RIGHT, WRONG, REFUSED, RIGHTLY, INVENTED, INVENTED, INVENTED, UNSCORED])
    found = {name: (i.value, i.n) for name, i in shares.items()}
    assert found == {"correct": (3 / 8, 8), "wrong": (4 / 8, 8), "refused": (1 / 8, 8), "refused_rightly": (1 / 8, 8)}
    assert shares["wrong"].low < 0.5 < shares["wrong"].high
    assert outcome_shares([UNSCORED]) == outcome_shares([]) == {}


def test_a_curve_by_hand():
    curve = risk_coverage([RIGHT, WRONG, RIGHT, WRONG, REFUSED], [0.9, 0.2, 0.8, 0.8, 0.1])
    assert [(p["coverage"], p["risk"], p["confidence"]) for p in curve["points"]] == [
        (0.2, 0.0, 0.9),
        (0.6, 0.3333, 0.8),  # one right and one wrong answer are equally sure: both or neither
        (0.8, 0.5, 0.2),
    ]
    assert curve["risk"]["value"] == 0.5
    assert curve["area"]["value"] == pytest.approx((0 + 2 / 3 + 1 / 2) / 4, abs=1e-6)
    assert curve["gain"]["value"] == pytest.approx(0.5 - curve["area"]["value"], abs=1e-6)
    assert (curve["questions"], curve["answered"], curve["without_confidence"]) == (5, 4, 0)


def test_a_good_order_gains_a_bad_one_loses_and_none_does_neither():
    scores = [RIGHT] * 30 + [WRONG] * 30
    falling = [1 - i / 60 for i in range(60)]
    assert risk_coverage(scores, falling)["gain"]["low"] > 0
    assert risk_coverage(scores, falling[::-1])["gain"]["high"] < 0
    same = risk_coverage(scores, [0.5] * 60)
    assert same["gain"]["low"] == same["gain"]["high"] == 0 and len(same["points"]) == 1


def test_the_order_of_the_questions_does_not_count():
    pairs = [((RIGHT, WRONG, INVENTED)[i % 3], (i * 7 % 10) / 10) for i in range(50)]
    forward, backward = (risk_coverage(*zip(*p, strict=True), seed=1) for p in (pairs, pairs[::-1]))
    assert forward == backward


def test_many_points_are_thinned_and_keep_both_ends():
    curve = risk_coverage([RIGHT] * 999 + [WRONG], [1 - i / 1000 for i in range(1000)])
    assert len(curve["points"]) == MOST_POINTS
    assert curve["points"][0]["coverage"] == 0.001 and curve["points"][-1]["coverage"] == 1


def test_without_confidence_all_refused_or_nothing_at_all():
    assert risk_coverage([RIGHT, WRONG], [None, None]) is None
    assert risk_coverage([REFUSED, RIGHTLY], [0.1, 0.2]) is None
    assert risk_coverage([], []) is None
    some = risk_coverage([RIGHT, WRONG], [None, 0.5])
    assert some["without_confidence"] == 1 and some["risk"]["value"] == 1
    with pytest.raises(ValueError, match="shorter|longer"):
        risk_coverage([RIGHT], [])


def test_confidence_is_the_probability_of_no_refusal():
    answers = [Answer("a", True, "rag", refusal_probability=0.1), Answer("b", True, "rag", refusal_probability=0.6)]
    found = outcome_figures([RIGHT, WRONG], answers)
    assert [p["confidence"] for p in found["risk_coverage"]["points"]] == [0.9, 0.4]
    assert outcome_figures([UNSCORED], [Answer("a", True, "rag")]) == {"shares": None, "risk_coverage": None}


def test_charts_say_what_they_show():
    answers = [Answer("a", True, "rag", refusal_probability=p) for p in (0.1, 0.6)]
    report = {"arms": {"<rag>": outcome_figures([RIGHT, WRONG], answers), "base": outcome_figures([], [])}}
    bars, curves = shares_chart(report), curve_chart(report)
    assert "&lt;rag&gt;: 50.0% correct, 50.0% wrong, 0.0% refused" in bars and "<rag>" not in bars + curves
    assert curves.count("<polyline") == 1 and "50.0% of 2 answers wrong" in curves
    empty = {"arms": {"base": {}}}  # as in reports of earlier versions
    assert shares_chart(empty) == "" and NO_CONFIDENCE in curve_chart(empty)
