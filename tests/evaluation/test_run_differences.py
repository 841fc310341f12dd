"""Two comparisons against each other: which answers changed, by how much, and what no comparison can be made of."""

import json

import pytest

import doyen
from doyen.errors import UsageError
from doyen.evaluation.difference_text import difference_lines
from doyen.evaluation.report import build_report, write_report
from doyen.evaluation.run_differences import compare_runs, find_run
from doyen.records import Answer, Question

HOSTILE = "<b>no</b> | \x1b[31m"


def run(right, n=20, *, first=0, refused=(), arms=("base", "rag"), manifest=None, **question):
    """Return a report on questions `first` to `first + n`; those in `right` are answered rightly in every arm."""
    ids = range(first, first + n)
    questions = [Question(f"q{i}", f"Question {i}?", **({"answers": ("27 days",)} | question)) for i in ids]
    answers = {
        arm: [Answer("27 days" if i in right else HOSTILE, i not in refused, arm, seconds=0.5) for i in ids]
        for arm in arms
    }
    made = {"id": f"run{len(right)}", "created": "2026-11-28", "settings": {"answer": {"passages": 3}}} | (
        manifest or {}
    )
    return build_report(questions=questions, answers=answers, hits=None, manifest=made, seed=1)


def test_paired_differences_on_the_questions_that_both_have():
    found = doyen.compare_runs(run(range(5)), run(range(4, 20), first=4))
    assert found["questions"] == {"both": 16, "only_a": 4, "only_b": 4, "changed": []}
    overall = found["arms"]["rag"]["metrics"]["overall"]
    assert (overall["a"], overall["b"], overall["value"], overall["n"]) == (0.0625, 1.0, 0.9375, 16)
    assert overall["low"] > 0 and overall["p"] < 0.01
    assert found["arms"]["rag"]["shares"]["correct"] == {"a": 0.0625, "b": 1.0}
    counts = {name: found["arms"]["rag"][name] for name in ("better", "worse", "reworded", "same")}
    assert counts == {"better": 15, "worse": 0, "reworded": 0, "same": 1}
    assert found == json.loads(json.dumps(found))


def test_swapped_runs_have_the_opposite_differences():
    a, b = run(range(12)), run(range(6, 20), refused=(0, 1))
    there, back = compare_runs(a, b)["arms"]["base"], compare_runs(b, a)["arms"]["base"]
    assert there["metrics"]["overall"]["value"] == -back["metrics"]["overall"]["value"] == 0.1
    assert (there["better"], there["worse"]) == (back["worse"], back["better"]) == (8, 6)
    assert there["shares"]["refused"] == {"a": 0.0, "b": 0.1}


def test_changed_answers_are_listed_worse_first_with_both_texts():
    changed = compare_runs(run({0, 1}), run({1, 2}), arms=["rag"])["changed"]
    assert [(row["id"], row["change"], row["arm"]) for row in changed] == [
        ("q0", "worse", "rag"),
        ("q2", "better", "rag"),
    ]
    assert changed[0]["a"] == {"answer": "27 days", "answered": True, "outcome": "right", "overall": 1.0}
    assert changed[0]["b"]["answer"] == HOSTILE and changed[0]["b"]["outcome"] == "wrong"


def test_the_same_run_twice_differs_in_nothing():
    found = compare_runs(run({1}), run({1}))
    assert found["changed"] == found["settings"] == []
    overall = found["arms"]["base"]["metrics"]["overall"]
    assert overall["value"] == overall["low"] == overall["high"] == 0 and overall["p"] == 1
    assert "no setting, model, adapter or index differs" in difference_lines(found)


def test_settings_models_and_adapters_that_differ():
    a = run({1}, manifest={"model": "one", "index": "aa"})
    b = run({1}, manifest={"model": "two", "index": "aa", "adapter": {"name": "n"}, "id": "other"})
    assert compare_runs(a, b)["settings"] == [
        {"setting": "model", "a": "one", "b": "two"},
        {"setting": "adapter.name", "a": None, "b": "n"},
    ]


def test_questions_whose_text_or_answers_changed_are_set_aside():
    b = run({0, 1})
    b["rows"][0]["answers"] = ["28 days"]
    b["rows"][1]["question"] = "Another?"
    found = compare_runs(run({0}), b)
    assert found["questions"] == {"both": 18, "only_a": 0, "only_b": 0, "changed": ["q0", "q1"]}


@pytest.mark.parametrize(
    ("a", "b", "message"),
    [
        (run({0}), run({0}, first=100), "no question in common"),
        (run({0}), run({0}, answers=("28 days",)), "20 ids are the same, but not their texts"),
        (run({0}, arms=("base",)), run({0}, arms=("rag",)), r"no arm in common \(base and rag\)"),
        (run({0}), run(set(), n=0), "no question in common"),
    ],
)
def test_nothing_in_common(a, b, message):
    with pytest.raises(UsageError, match=message):
        compare_runs(a, b)


@pytest.mark.parametrize(
    ("given", "scored"),
    [({"n": 1}, True), ({"answers": ()}, False), ({"refused": range(20)}, True), ({"answerable": False}, True)],
)
def test_little_to_compare(given, scored):
    found = compare_runs(run({0}, **given), run({0, 1}, **given))
    assert ("overall" in found["arms"]["rag"]["metrics"]) is scored
    assert all(line.isprintable() for line in difference_lines(found))


def test_runs_are_found_by_id_folder_and_file(tmp_path):
    for name in ("aa11", "bb22"):
        write_report(run({0}), tmp_path / "comparisons" / name)
    folder = tmp_path / "comparisons" / "aa11"
    found = [find_run("aa11", tmp_path), find_run(folder), find_run(str(folder / "report.json"))]
    assert [report["folder"] for report in found] == [str(folder)] * 3
    assert compare_runs("aa11", "bb22", expert=tmp_path)["a"]["folder"] == str(folder)


def test_an_unknown_run_names_those_that_there_are(tmp_path):
    with pytest.raises(UsageError, match="no comparison 'x'") as none:
        find_run("x", tmp_path)
    assert none.value.hint == "doyen compare makes one"
    write_report(run({0}), tmp_path / "comparisons" / "aa11")
    with pytest.raises(UsageError, match="no comparison ''") as some:
        find_run("", tmp_path / "comparisons" / "..")
    assert "aa11" in some.value.hint


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        "{}",
        '{"format": 1, "arms": {}, "rows": [{"scores": {}}]}',
        '{"format": 9}',
        '{"format": 1, "arms": {}, "rows": []}',
    ],
)
def test_other_files_are_no_comparison(text, tmp_path):
    (tmp_path / "report.json").write_text(text)
    with pytest.raises(UsageError, match="not the report of a comparison"):
        find_run(tmp_path)


def test_the_lines_for_a_terminal():
    text = "\n".join(difference_lines(compare_runs(run(range(20), arms=("base",)), run(set()))))
    assert "A: run20, 2026-11-28, 20 questions, advice base" in text
    assert "base: 0 better, 20 worse, 0 in other words only" in text
    assert "overall        1.000 → 0.000  -1.000 [-1.000, -1.000]" in text and "worse\n" in text
    assert "only in B: rag" in text
    assert "    A [right] 27 days\n    B [wrong] <b>no</b> | [31m" in text
