import csv
import json
import random

import pytest
from flow_engine import Scripted

from doyen.errors import DoyenError, UsageError, WorkflowError
from doyen.workflows.evaluating import evaluate_workflow
from doyen.workflows.reading import load_workflow
from doyen.workflows.running import run_workflow

WORDS = {"pay": "calm", "refer": "lawyer"}


@pytest.fixture
def labelled(tmp_path):
    """160 rows; the model is right on those without "hard", and surer of them."""
    rng = random.Random(1)
    path = tmp_path / "labelled.csv"
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(
            ["claim", "text", "amount", "expected.peril", "expected.facts.amount", "expected.verdict", "split"]
        )
        for n in range(160):
            verdict, hard = rng.choice(["pay", "refer"]), rng.random() < 0.3
            text = f"water {'hard ' if hard else ''}{WORDS[verdict]} {n + 1}"
            writer.writerow([f"C{n}", text, n, "water", n + 1, verdict, "test" if n < 150 else "train"])
    return path


def answer(system, user):
    if "JSON" in system:
        return f'{{"amount": {[int(w) for w in user.split() if w.isdigit()][-1]}}}', 0.9
    if "caused" in system:
        return "water", 0.9
    if "hard" in user:
        return "pay", 0.6  # right half of the time
    return ("refer" if "lawyer" in user else "pay"), 0.95


def test_accuracy_confidence_and_what_goes_straight_through(flow_file, expert, labelled, tmp_path):
    out = tmp_path / "report"
    report = evaluate_workflow(expert, flow_file(), labelled, arms=["base"], out=out, engine=Scripted(answer))
    assert report["rows"] == 150 and report["warnings"] == []
    arm = report["arms"]["base"]
    assert 0.75 < arm["decision"]["value"] < 0.95 and arm["steps"]["facts"]["fields"]["amount"]["value"] == 1
    sure = arm["confidence"]
    assert sure["calibration_error"] < 0.06
    assert 0.6 < sure["at_threshold"]["through"]["value"] < 0.8 and sure["at_threshold"]["errors"]["value"] <= 0.05
    assert sure["curve"][-1]["through"] == 1 and sure["curve"][0]["errors"] == 0
    assert json.loads((out / "report.json").read_text())["arms"]["base"]["decision"] == arm["decision"]
    page = (out / "report.html").read_text()
    assert "<svg" in page and "http" not in page.replace("http://www.w3.org", "")


def test_runs_take_the_kept_fit(flow_file, expert, labelled, claims, tmp_path):
    flow = flow_file()
    engine = Scripted(answer)
    evaluate_workflow(expert, flow, labelled, arms=["base"], out=tmp_path / "report", engine=engine)
    report = run_workflow(
        expert, flow, claims(["C1,water calm 3,1", "C2,water hard calm 3,1"]), tmp_path / "out.csv", engine=engine
    )
    assert report.calibrated and 0.7 < report.threshold < 1
    assert (report.done, report.review) == (1, 1)
    with (tmp_path / "out.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert float(rows[0]["flow_confidence"]) > 0.9 and "is under" in rows[1]["flow_reason"]
    other = flow_file(("facts.amount > 1000", "facts.amount > 2000"))
    assert not run_workflow(expert, other, claims(["C1,water 3,1"]), tmp_path / "o2.csv", engine=engine).calibrated


def test_arms_are_compared_row_by_row(flow_file, expert, labelled, tmp_path):
    class Worse(Scripted):
        def generate(self, prompts, **options):
            self.seen = getattr(self, "seen", 0) + 1
            return super().generate(prompts, **options)

    flow = load_workflow(flow_file())
    report = evaluate_workflow(
        expert, flow, labelled, arms=["rag", "base"], out=tmp_path / "r", engine=Worse(answer), keep_fit=False
    )
    assert [(d["arm"], d["minus"], d["value"]) for d in report["differences"]] == [("base", "rag", 0.0)]
    assert not (expert / "workflows").exists()


def test_an_interrupted_evaluation_goes_on(flow_file, expert, labelled, tmp_path):
    class Stops(Scripted):
        def generate(self, prompts, **options):
            if len(self.batches) >= 4:
                raise KeyboardInterrupt
            return super().generate(prompts, **options)

    options = {"arms": ["base"], "out": tmp_path / "r", "keep_fit": False}
    with pytest.raises(KeyboardInterrupt):
        evaluate_workflow(expert, flow_file(), labelled, engine=Stops(answer), **options)
    engine = Scripted(answer)
    assert evaluate_workflow(expert, flow_file(), labelled, engine=engine, **options)["rows"] == 150
    assert len(engine.batches[0]) < 150


@pytest.mark.parametrize(
    ("header", "row", "said"),
    [
        ("claim,text,expected.verdict", "C1,water,payy", "row 1: expected.verdict is 'payy', which the step never gives; did you mean 'pay'?"),
        ("claim,text,expected.verdic", "C1,water,pay", "'expected.verdic' labels no step that a person can label; did you mean 'verdict'?"),
        ("claim,text,expected.facts.amount,expected.verdict", "C1,water,many,pay", "'many' is no integer"),
        ("claim,text,expected.facts.amount,expected.verdict", "C1,water,-4,pay", "is not valid by its schema"),
        ("claim,text,expected.facts.amuont", "C1,water,4", "'amuont' is no property of its schema; did you mean 'amount'?"),
        ("claim,text,expected.verdict,split", "C1,water,pay,tset", "split is 'tset'"),
        ("claim,text,expected", "C1,water,{pay", "row 1: expected is no JSON"),
        ("claim,text", "C1,water", "has no labels"),
        ("claim,text,expected.peril", "C1,water,storm", "no row to evaluate has a label of the decision"),
    ],
)  # fmt: skip
def test_wrong_labels(flow_file, expert, tmp_path, header, row, said):
    path = tmp_path / "labelled.csv"
    path.write_text(f"{header}\n{row}\n")
    with pytest.raises(WorkflowError) as error:
        evaluate_workflow(expert, flow_file(), path, arms=["base"], out=tmp_path / "r", engine=Scripted(answer))
    assert said in str(error.value)


@pytest.mark.parametrize(("arm", "said"), [("rags", "unknown arm 'rags'"), ("finetuned", "has no adapter")])
def test_what_is_not_there_is_told_before_the_first_arm_runs(flow_file, expert, labelled, tmp_path, arm, said):
    engine = Scripted(answer)
    with pytest.raises(DoyenError, match=said):
        evaluate_workflow(expert, flow_file(), labelled, arms=["base", arm], out=tmp_path / "r", engine=engine)
    assert engine.batches == []


def test_an_arm_twice(flow_file, expert, labelled, tmp_path):
    with pytest.raises(UsageError, match="each arm once"):
        evaluate_workflow(
            expert, flow_file(), labelled, arms=["rag", "rag"], out=tmp_path / "r", engine=Scripted(answer)
        )
