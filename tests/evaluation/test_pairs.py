import json
import re

import numpy as np
import pytest
from typer.testing import CliRunner

import doyen
from doyen.cli import app
from doyen.errors import UsageError
from doyen.evaluation.advice import advise
from doyen.evaluation.pairs import more_questions, pair_rows, plan_lines, plan_questions
from doyen.evaluation.report import build_report
from doyen.evaluation.report_page import render_page
from doyen.records import Answer, Question

ARMS = ("base", "rag", "finetuned", "rag+finetuned")


def right(count, of=60):
    return [1.0] * count + [0.0] * (of - count)


def report(**right_of):
    """A comparison of 60 questions in which each arm answers its number right, the first ones."""
    asked = [Question(str(i), "Who?", ("Denver",)) for i in range(60)]
    answers = {
        arm: [Answer("Denver" if i < right_of[arm.replace("+", "_")] else "Boston", True, arm) for i in range(60)]
        for arm in ARMS
    }
    return build_report(questions=asked, answers=answers, hits=None, manifest={}, seed=1)


def test_rows_name_the_arm_that_is_better():
    one, two = (
        pair_rows({"base": right(20), "rag": right(40)}, seed=1),
        pair_rows({"base": right(40), "rag": right(20)}, seed=1),
    )
    assert (one[0]["beats"], two[0]["beats"]) == ("rag", "base")
    assert one[0]["p_value"] == one[0]["p_holm"] < 0.001  # one pair: nothing to correct
    assert one[0]["more_questions"] == 0


def test_six_pairs_are_corrected():
    # Seven more questions right, none fewer: sure alone (p = 2/128), not among six pairs.
    arms = {"base": right(20), "rag": right(27), "finetuned": right(20), "rag+finetuned": right(20)}
    rows = pair_rows(arms, seed=1)
    first = rows[0]
    assert first["low"] > 0 and first["p_value"] == pytest.approx(2 / 128, abs=1e-5)
    assert first["p_holm"] == pytest.approx(6 * 2 / 128, abs=1e-4) and first["beats"] is None
    assert pair_rows({"base": arms["base"], "rag": arms["rag"]}, seed=1)[0]["beats"] == "rag"


def test_the_advice_uses_the_corrected_decision_and_says_so():
    tied = report(base=20, rag=27, finetuned=20, rag_finetuned=20)
    advice = advise(tied)
    assert advice.arm == "base"
    assert "once corrected for the number of pairs (p = 0.094)" in advice.reasons[0]
    assert "With 60 questions a true difference of 11.7 points" in advice.reasons[1]
    # 11.7 points are seen by a test of one pair alone; six pairs ask for half as many again.
    assert "you need about 34 more questions to tell these two apart" in " ".join(advice.reasons)
    assert advise(report(base=20, rag=29, finetuned=20, rag_finetuned=20)).arm == "rag"


def test_arms_that_never_differ_have_no_resolution():
    advice = advise(report(base=20, rag=20, finetuned=20, rag_finetuned=20))
    assert advice.arm == "base" and "four times in five" not in " ".join(advice.reasons)


def test_the_page_says_how_many_more_questions():
    page = render_page(report(base=20, rag=26, finetuned=20, rag_finetuned=45))
    table = page[page.index("corrected for all pairs") :]
    assert re.search(r"<td>10\.9 <span class=\"interval\">about \d+ more questions</span>", table)
    assert "<td>– <span" in table  # base and finetuned never differ: that says nothing of what would be seen
    assert "told apart" in table and "more questions will not settle it" in table
    assert "<strong>+41.7</strong>" in table and "<strong>+10.0</strong>" not in table


def test_more_questions():
    assert more_questions(0.05, 0.5, 200) == 590  # 785 needed
    assert more_questions(0.004, 0.5, 200) is None  # about 0
    assert more_questions(0.006, 0.5, 200) is None  # 54,000
    assert more_questions(0.05, 0.5, 200, tests=6) == 1100  # 1,211 needed, two figures
    assert more_questions(0.5, 0.5, 7) == 1
    assert more_questions(0.5, 0.0, 2) == 6  # all agree, but two questions prove nothing


def test_a_difference_at_the_detectable_size_is_found_four_times_in_five():
    rng, found = np.random.default_rng(5), 0
    for seed in range(150):
        base = rng.normal(0, 1, 80)
        gain = pair_rows({"base": base, "rag": base + rng.normal(FOUND_AT_80, 1, 80)}, seed=seed)[0]
        found += gain["p_value"] <= 0.05
    assert 0.7 < found / 150 < 0.9


FOUND_AT_80 = 2.8016 / 80**0.5


def test_a_plan_with_an_assumed_and_with_a_measured_spread():
    plan = plan_questions(0.05)
    assert (plan["questions"], plan["corrected"], plan["assumed"], plan["pairs"]) == (785, 1211, 0.5, [])
    assert plan_questions(0.05, spread=0.25)["questions"] == 197
    measured = plan_questions(0.1, report(base=20, rag=27, finetuned=20, rag_finetuned=45))
    assert measured["assumed"] is None and measured["asked"] == 60
    assert measured["questions"] == max(p["questions"] for p in measured["pairs"])
    assert len(measured["pairs"]) == 5  # base and finetuned never differ: no spread to plan with
    assert "rag minus base" in "\n".join(plan_lines(measured))
    for wrong in (0, -0.1, 5):
        with pytest.raises(UsageError, match="between 0 and 1"):
            plan_questions(wrong)


def test_planning_from_the_command_line(tmp_path):
    doyen.init(tmp_path)
    command = ["compare", "--plan-questions", "0.05", "--expert", str(tmp_path)]
    assert json.loads(CliRunner().invoke(app, [*command, "--json"]).stdout) == plan_questions(0.05)
    shown = CliRunner().invoke(app, command).stdout
    assert "785 questions" in shown and "assumed: a spread of 0.5" in shown
    folder = tmp_path / "comparisons" / "one"
    folder.mkdir(parents=True)
    (folder / "report.json").write_text(json.dumps(report(base=20, rag=27, finetuned=20, rag_finetuned=45)))
    assert "rag minus base" in CliRunner().invoke(app, command).stdout
    assert CliRunner().invoke(app, ["compare", "--plan-questions", "5", "--expert", str(tmp_path)]).exit_code
