"""`doyen compare --diff` and `--fail-under` as a build calls them: what they print and with which exit code."""

import json
import sys

import pytest

from doyen.cli import main
from doyen.evaluation.report import build_report, write_report
from doyen.records import Answer, Question


@pytest.fixture
def call(monkeypatch, capsys):
    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["doyen", "compare", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            main()
        return ended.value.code or 0, *capsys.readouterr()

    return run


@pytest.fixture
def expert(tmp_path):
    """An expert's folder with two comparisons, of which the second has 10 right answers less."""
    (tmp_path / "doyen.toml").write_text("format = 1\n")
    questions = [Question(f"q{i}", f"Question {i}?", ("27 days",)) for i in range(20)]
    for name, right in (("before", 18), ("after", 8)):
        answers = {"rag": [Answer("27 days" if i < right else "none", True, "rag") for i in range(20)]}
        report = build_report(questions=questions, answers=answers, hits=None, manifest={"id": name}, seed=1)
        write_report(report, tmp_path / "comparisons" / name)
    return tmp_path


def test_the_difference_is_printed_and_fails_only_if_asked_to(expert, call):
    code, out, _ = call("--diff", "before", "after", "--expert", expert)
    assert code == 0 and "rag: 0 better, 10 worse" in out
    code, out, err = call("--diff", "before", "after", "--fail-under", 0, "--json", "--expert", expert)
    assert code == 1 and json.loads(out)["arms"]["rag"]["worse"] == 10
    assert err.startswith("error: rag went from 0.900 to 0.400: by -0.500")
    assert call("--diff", "after", "before", "--fail-under", 0, "--expert", expert)[0] == 0


def test_two_folders_need_no_expert(expert, call, tmp_path_factory, monkeypatch):
    monkeypatch.chdir(tmp_path_factory.mktemp("elsewhere"))
    folders = [expert / "comparisons" / name for name in ("before", "after")]
    assert call("--diff", *folders, "--fail-under", "rag=-0.9")[0] == 0
    assert call("--diff", folders[0], folders[1] / "report.json")[0] == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--diff", "before", "gone"], "no comparison 'gone'"),
        (["--diff", "before", "after", "--limit", 3], "--diff asks no questions"),
        (["--diff", "before", "after", "--generate", 3], "--diff asks no questions"),
        (["--diff", "before", "after", "--curve"], "--diff asks no questions"),
        (["--diff", "before", "after", "--plan-questions", 0.05], "--diff asks no questions"),
        (["--diff", "before", "after", "--arms", "base"], "no arm in common"),
        (["--diff", "before", "after", "--fail-under", "base=0"], "names an arm that is not compared"),
        (["--fail-under", "50"], "'50' is not a number from 0 to 1"),
        (["--arms", "rag", "--fail-under", "base=0.5"], "names an arm that is not compared"),
    ],
)
def test_wrong_use_is_told_apart_from_a_failed_check(arguments, message, expert, call):
    code, out, err = call(*arguments, "--expert", expert)
    assert code == 2 and message in err and not out
