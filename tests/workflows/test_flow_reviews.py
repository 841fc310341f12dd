import csv
import json
from pathlib import Path

import pytest
import tiny_models
from small_stores import make_expert
from typer.testing import CliRunner

from doyen.cli import app
from doyen.cli.workflows import follow
from doyen.config import ModelSettings, Settings
from doyen.errors import UsageError
from doyen.workflows.labels import read_labelled
from doyen.workflows.reading import load_workflow
from doyen.workflows.reviewing import ReviewQueue
from doyen.workflows.running import run_workflow
from doyen.workflows.watching import Watched

ROWS = ["C1,water 300,1", "C2,storm and my lawyer 200,2"]


@pytest.fixture
def queue(flow_file, expert, claims, engine, tmp_path):
    """A queue of both rows: everything is unsure."""
    path = flow_file(more="\n[confidence]\nthreshold = 1.0\n")
    for out in ("one.csv", "two.csv"):  # queued once, however often it is run
        run_workflow(expert, path, claims(ROWS), tmp_path / out, engine=engine)
    return ReviewQueue(expert)


def test_rows_are_queued_once_with_what_the_flow_made_of_them(queue):
    first, second = queue.rows()
    assert (first.row_id, first.decision, first.state) == ("C1", "pay", "new")
    assert first.outcome["facts"] == {"amount": 300} and first.input["text"] == "water 300"
    assert "confidence" in second.reason


def test_verdicts(queue):
    first, second = queue.rows()
    assert queue.review(first.id, "accept", "anna").final == first.outcome
    done = queue.review(second.id, "correct", "anna", values={"verdict": "pay", "facts.amount": 210}, comment="seen")
    assert done.final["verdict"] == "pay" and done.final["facts"]["amount"] == 210 and done.final["peril"] == "storm"
    assert queue.rows(states=("new",)) == []
    assert queue.review(second.id, "reject", "ben").state == "rejected"


@pytest.mark.parametrize(
    ("verdict", "values", "said"),
    [
        ("correct", {}, "gives values"),
        ("accept", {"verdict": "pay"}, "gives values"),
        ("correct", {"verdikt": "pay"}, "did you mean 'verdict'"),
        ("correct", {"peril.name": "x"}, "has no field"),
        ("burn", {}, "verdict is 'burn'"),
    ],
)
def test_wrong_verdicts(queue, verdict, values, said):
    with pytest.raises(UsageError, match=said):
        queue.review(queue.rows()[0].id, verdict, "anna", values=values)
    with pytest.raises(UsageError, match="there is no row"):
        queue.review("none", "accept", "anna")


def test_a_later_run_does_not_undo_a_verdict(queue, flow_file, expert, claims, engine, tmp_path):
    name = queue.rows()[0].id
    queue.review(name, "accept", "anna")
    run_workflow(
        expert, flow_file(more="\n[confidence]\nthreshold = 1.0\n"), claims(ROWS), tmp_path / "three.csv", engine=engine
    )
    assert queue.find(name).state == "accepted" and len(queue.rows()) == 2


def test_the_command_line_reviews_and_exports_labelled_rows(queue, flow_file, expert, tmp_path):
    run = CliRunner().invoke
    of = ["--expert", str(expert)]
    first, second = queue.rows()
    assert first.id in run(app, ["review", "list", *of]).stdout
    assert "facts = " in run(app, ["review", "show", first.id, *of]).stdout
    assert run(app, ["review", "accept", first.id, *of]).exit_code == 0
    assert (
        run(app, ["review", "correct", second.id, "--set", "facts.amount=210", "--set", "verdict=pay", *of]).exit_code
        == 0
    )
    out = tmp_path / "more.csv"
    found = run(app, ["review", "export", str(flow_file()), "-o", str(out), "--json", *of])
    assert json.loads(found.stdout)["rows"] == 2
    rows = read_labelled(load_workflow(flow_file()), out)
    assert [r.labels["verdict"] for r in rows] == ["pay", "pay"]
    assert rows[1].labels["facts"] == {"amount": 210} and rows[1].split == "train"


def test_rows_that_showed_a_document_go_with_it(queue, flow_file, expert):
    flow = load_workflow(flow_file())
    record = {
        "status": "review",
        "id": "9",
        "input": {"a": 1},
        "values": {},
        "decision": "pay",
        "confidence": 0.5,
        "reason": "",
    }
    record["steps"] = [{"passages": [{"document": "secret.md"}]}]
    queue.add(flow, [record])
    assert queue.rows()[-1].documents == ("secret.md",)
    assert queue.forget(["secret.md", "other.md"]) == 1 and len(queue.rows()) == 2
    assert b"secret.md" not in (expert / "serving" / "reviews.db").read_bytes()


def test_a_run_that_goes_on_queues_what_it_did_not_queue_before(flow_file, expert, claims, engine, tmp_path):
    path, table, out = flow_file(more="\n[confidence]\nthreshold = 1.0\n"), claims(ROWS), tmp_path / "one.csv"
    run_workflow(expert, path, table, out, engine=engine)
    (expert / "serving" / "reviews.db").unlink()  # as if it was killed between the two files
    assert run_workflow(expert, path, table, out, engine=engine).ran == 0
    assert [row.row_id for row in ReviewQueue(expert).rows()] == ["C1", "C2"]


def test_rows_of_one_workflow_and_some_states(queue):
    first, second = queue.rows()
    queue.review(second.id, "reject", "ben")
    assert [row.id for row in queue.rows(states=("new", "accepted"))] == [first.id]
    assert len(queue.rows(first.workflow)) == 2 and queue.rows("another") == []


def test_run_from_the_command_line(flow_file, claims, tmp_path):
    settings = Settings(model=ModelSettings(name=str(tiny_models.llama_folder(tmp_path / "llama"))))
    expert = make_expert(tmp_path / "real", settings)
    run, of = CliRunner().invoke, ["--expert", str(expert)]
    out = tmp_path / "out.csv"
    found = run(app, ["run", str(flow_file()), str(claims([*ROWS, "C3,,1"])), "-o", str(out), *of])
    assert found.exit_code == 1 and "3 rows: 2 done, 0 for a person, 1 failed" in found.stdout
    found = run(app, ["run", str(flow_file()), str(claims(ROWS)), "-o", str(out), "--again", "--json", *of])
    assert found.exit_code == 0 and json.loads(found.stdout)["done"] == 2
    with out.open() as file:
        assert len(list(csv.DictReader(file))) == 2
    shown = run(app, ["run", str(flow_file()), "--show", *of])
    assert shown.stdout.startswith("flowchart TD") and "peril --> verdict" in shown.stdout
    page = tmp_path / "flow.html"
    run(app, ["run", str(flow_file()), "--show", "-o", str(page), *of])
    assert "<svg" in page.read_text() and "verdict" in page.read_text()
    watched = run(app, ["run", str(flow_file()), str(tmp_path), "-o", "out", "--watch", "--where", "amount > 1", *of])
    assert "--watch takes no --where" in str(watched.exception)
    assert isinstance(run(app, ["run", "nowhere", "x.csv", "-o", "y.csv", *of]).exception, UsageError)


def test_watched_files_are_told_as_json_lines(capsys):
    files = [Watched(Path("a.csv"), error=UsageError("no column"))]
    follow(files, True)
    follow(files, False)
    shown = capsys.readouterr()
    assert json.loads(shown.out) == {"file": "a.csv", "error": "no column"}
    assert shown.err == "a.csv: no column\n" * 2
