"""--fail-under: what is read, what falls short, and what must not pass a build unseen."""

import pytest

from doyen.errors import UsageError
from doyen.evaluation.thresholds import RECOMMENDED, declines, parse_bounds, shortfalls


def figure(value, low=0.0, high=1.0):
    return {"value": value, "low": low, "high": high, "n": 40, "a": 0.5, "b": 0.5 + value}


def report(advice="rag", **scores):
    arms = {arm: {"metrics": {} if value is None else {"overall": figure(value)}} for arm, value in scores.items()}
    return {"arms": arms, "advice": {"arm": advice}}


def test_bounds_are_read():
    arms = ["rag", "rag+finetuned"]
    assert parse_bounds(["0.5", "rag+finetuned=.45"], arms) == {RECOMMENDED: 0.5, "rag+finetuned": 0.45}
    assert parse_bounds([], arms) == {}
    assert parse_bounds(["-0.02"], arms, low=-1) == {RECOMMENDED: -0.02}


@pytest.mark.parametrize("text", ["50", "-0.1", "nan", "half", "", "base=0.5", "=0.5", "rag=", "rag=2"])
def test_wrong_bounds_are_refused_together(text):
    with pytest.raises(UsageError, match=r"'x' is not a number from 0 to 1") as error:
        parse_bounds([text, "x"], ["rag"])
    assert f"'{text}'" in str(error.value) and "arms: rag" in error.value.hint


def test_the_recommended_or_the_named_arm_falls_short():
    found = report(rag=0.41, base=0.2)
    assert shortfalls(found, {RECOMMENDED: 0.41, "base": 0.2}) == []
    (fault,) = shortfalls(found, {RECOMMENDED: 0.5})
    assert fault == "rag scores 0.410 overall, under 0.5 (95% interval 0.000 to 1.000, 40 questions)"
    assert [f.split()[0] for f in shortfalls(found, {RECOMMENDED: 0.5, "base": 0.3})] == ["rag", "base"]


def test_nothing_measured_falls_short():
    assert shortfalls(report(rag=None), {RECOMMENDED: 0.0}) == ["rag has no overall score (asked for: 0 or more)"]
    assert declines(report(rag=None), {"rag": 0.0}) == ["rag has no overall score in both runs"]


def test_a_decline_counts_only_where_the_whole_interval_is_under_the_bound():
    found = report(rag=None, base=None)
    found["arms"]["rag"]["metrics"]["overall"] = figure(-0.2, -0.3, -0.1)
    found["arms"]["base"]["metrics"]["overall"] = figure(-0.1, -0.3, 0.1)
    (fault,) = declines(found, {RECOMMENDED: 0.0})
    assert fault.startswith("rag went from 0.500 to 0.300: by -0.200 (95% interval -0.300 to -0.100")
    assert declines(found, {RECOMMENDED: -0.1}) == []
    assert (
        declines(found, {RECOMMENDED: 0.0, "rag": -0.5}) == []
    )  # an arm's own bound stands in the general one's place
    assert len(declines(found, {"base": 0.2})) == 1
