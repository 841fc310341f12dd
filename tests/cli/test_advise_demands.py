"""`doyen advise` with demands, from a comparison and without one."""

import json
import sys

import pytest

from doyen.cli import main
from doyen.evaluation.report import build_report, write_report
from doyen.records import Answer, Question


@pytest.fixture
def call(monkeypatch, capsys):
    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["doyen", "advise", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            main()
        return ended.value.code or 0, *capsys.readouterr()

    return run


@pytest.fixture
def expert(tmp_path):
    (tmp_path / "doyen.toml").write_text("format = 1\n")
    return tmp_path


def test_a_comparison_is_read_under_the_demands(expert, call):
    questions = [Question(f"q{i}", f"Question {i}?", ("27 days",)) for i in range(40)]
    right, seconds = {"base": 10, "rag": 30}, {"base": 1.0, "rag": 3.0}
    answers = {
        arm: [Answer("27 days" if i < right[arm] else "none", True, arm, seconds=seconds[arm]) for i in range(40)]
        for arm in right
    }
    report = build_report(questions=questions, answers=answers, hits=None, manifest={"id": "one"}, seed=1)
    write_report(report, expert / "comparisons" / "one")
    assert call("--expert", expert)[1].startswith("rag (measured")
    code, out, _ = call("--max-seconds", 2, "--expert", expert)
    assert code == 0 and out.startswith("base (measured")
    assert 'arm = "base" under [answer]' in out
    assert "Ruled out: rag takes 3.00 s an answer" in out
    given = json.loads(call("--max-seconds", 2, "--traceable", "--json", "--expert", expert)[1])
    assert given["arm"] is None
    assert given["constraints"] == {"traceable": True, "seconds": 2.0}
    assert {row["constraint"] for row in given["ruled_out"]} == {"traceable", "seconds"}
    assert call("--max-seconds", 0.5, "--expert", expert)[1].startswith("no arm (measured")


def test_without_a_comparison_it_is_advice(expert, call):
    code, out, _ = call("--changes", "daily", "--form", "--expert", expert)
    assert code == 0 and out.startswith("base (advice, not a measurement)")


def test_a_demand_that_cannot_be_is_named(expert, call):
    code, _, err = call("--changes", "often", "--expert", expert)
    assert code == 2
    assert "hourly, daily, weekly, monthly, rarely" in err
