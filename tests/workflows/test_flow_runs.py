import csv
import json
import sqlite3

import pytest
from flow_engine import Scripted

from doyen.errors import EngineError, UsageError, WorkflowError
from doyen.workflows import running
from doyen.workflows.doing import run_rows
from doyen.workflows.opening import open_setup
from doyen.workflows.reading import load_workflow
from doyen.workflows.rows import Row
from doyen.workflows.running import run_workflow

ROWS = [
    "C1,water in the cellar 300,300",
    "C2,storm took the roof 5000,5000",
    "C3,a vase fell 40,40",
    "C4,water and my lawyer 90,",
]


@pytest.fixture(autouse=True)
def no_waits(monkeypatch):
    monkeypatch.setattr("doyen.workflows.asking.WAIT_S", 0.0)


def read(path):
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def trail(out):
    lines = out.with_name(out.name + ".audit.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines]


def test_rows_go_through_the_steps(flow_file, expert, claims, engine, tmp_path):
    out = tmp_path / "out.csv"
    report = run_workflow(expert, flow_file(), claims(ROWS), out, engine=engine)
    assert (report.rows, report.done, report.review, report.failed) == (4, 4, 0, 0)
    rows = read(out)
    assert [r["verdict"] for r in rows] == ["pay", "refer", "reject", "refer"]
    assert [r["peril"] for r in rows] == ["water", "storm", "other", "water"]
    assert [r["facts.amount"] for r in rows] == ["300", "5000", "40", "90"]
    assert rows[1]["flow_reason"] == "a large claim" and rows[0]["flow_reason"] == ""
    assert float(rows[0]["flow_confidence"]) == pytest.approx(0.9 * 0.8 * 0.95)
    header, *records = trail(out)
    assert header["with"]["arm"] == "base" and header["workflow"] == "triage"
    assert [r["id"] for r in records] == ["C1", "C2", "C3", "C4"]
    by_step = {step["step"]: step for step in records[1]["steps"]}
    assert by_step["verdict"] == {
        "step": "verdict",
        "do": "decide",
        "rule": 1,
        "because": "a large claim",
        "value": "refer",
    }
    assert len(by_step["peril"]["prompt_sha256"]) == 64 and by_step["peril"]["probabilities"]["storm"] == 0.9


def test_prompts_begin_alike_and_go_in_batches(flow_file, expert, claims, engine, tmp_path):
    run_workflow(expert, flow_file(), claims(ROWS), tmp_path / "out.csv", engine=engine)
    assert [len(batch) for batch in engine.batches] == [4, 4, 2]  # the rules decide two rows
    for batch in engine.batches:
        assert len({prompt[0]["content"] for prompt in batch}) == 1
    assert engine.batches[0][0] == [
        {
            "role": "system",
            "content": "You handle claims.\nWhat caused the damage?\nAnswer with one of: water, storm, other",
        },
        {"role": "user", "content": "Input:\nwater in the cellar 300"},
    ]


def test_equal_prompts_are_asked_once(flow_file, expert, claims, engine, tmp_path):
    report = run_workflow(
        expert, flow_file(), claims([f"C{i},water 7,1" for i in range(9)]), tmp_path / "out.csv", engine=engine
    )
    assert report.done == 9 and [len(batch) for batch in engine.batches] == [1, 1, 1]


BAD = {
    "short": "C5",
    "empty text": "C6,,3",
    "blank text": "C7,   ,3",
    "no number": "C8,water,many",
    "too wide": "C9,water,1,2,3",
}


@pytest.mark.parametrize(
    ("row", "said"),
    [
        (BAD["short"], "column 'text' has no value"),
        (BAD["empty text"], "column 'text' is empty"),
        (BAD["blank text"], "column 'text' is empty"),
        (BAD["no number"], "column 'amount' is 'many', expected a number"),
        (BAD["too wide"], "has 5 cells under 3 columns"),
    ],
)
def test_a_bad_row_fails_alone(flow_file, expert, claims, engine, tmp_path, row, said):
    out = tmp_path / "out.csv"
    report = run_workflow(expert, flow_file(), claims([ROWS[0], row, ROWS[1]]), out, engine=engine)
    assert (report.done, report.failed) == (2, 1)
    bad = read(out)[1]
    assert bad["flow_status"] == "failed" and said in bad["flow_reason"] and bad["flow_decision"] == ""


def test_missing_column_is_told_before_anything_runs(flow_file, expert, claims, engine, tmp_path):
    with pytest.raises(WorkflowError, match="has no column 'text'; did you mean 'txt'"):
        run_workflow(expert, flow_file(), claims(["1,x"], header="claim,txt"), tmp_path / "out.csv", engine=engine)
    assert not engine.batches and not (tmp_path / "out.csv").exists()


def test_a_rule_that_divides_by_zero_fails_its_row(flow_file, expert, claims, engine, tmp_path):
    path = flow_file(("facts.amount > 1000", "1000 / facts.amount < 1"))
    out = tmp_path / "out.csv"
    report = run_workflow(expert, path, claims(["C1,water 0,1", "C2,water 20,1"]), out, engine=engine)
    assert (report.done, report.failed) == (1, 1)
    assert read(out)[0]["flow_reason"] == "[verdict] '1000 / facts.amount < 1' divides by zero"


def test_a_long_text_is_cut_and_shown_to_a_person(flow_file, expert, claims, engine, tmp_path):
    out = tmp_path / "out.csv"
    report = run_workflow(expert, flow_file(), claims([f"C1,{'water ' * 17_000} 300,1", ROWS[0]]), out, engine=engine)
    assert (report.done, report.review, report.failed) == (1, 1, 0)
    row = read(out)[0]
    assert "characters of its text were not read" in row["flow_reason"] and row["peril"] == "water"
    longest = max(engine.count_tokens(prompt) for prompt in engine.prompts)
    assert longest <= engine.context_tokens


def test_an_instruction_that_fits_nowhere_fails_the_row(flow_file, expert, claims, tmp_path):
    out = tmp_path / "out.csv"
    report = run_workflow(expert, flow_file(), claims(ROWS), out, engine=Scripted(context_tokens=30))
    assert report.failed == 4 and "does not fit into the model's context" in read(out)[0]["flow_reason"]


def test_another_language(flow_file, expert, claims, engine, tmp_path):
    out = tmp_path / "out.csv"
    run_workflow(
        expert, flow_file(), claims(["Ж1,Вода в подвале 300 – ущерб,1", "中2,地下室进水 water,2"]), out, engine=engine
    )
    assert [r["claim"] for r in read(out)] == ["Ж1", "中2"]
    assert engine.batches[0][0][1]["content"].endswith("Вода в подвале 300 – ущерб")


class Failing(Scripted):
    """Fails for prompts with a word, as often as said; and whenever such a prompt is in a batch."""

    def __init__(self, answer, word, times):
        super().__init__(answer)
        self.word, self.left, self.tries = word, times, 0

    def generate(self, prompts, **options):
        if self.left and any(self.word in p[-1]["content"] for p in prompts):
            self.left -= 1
            self.tries += 1
            raise RuntimeError("out of memory")
        return super().generate(prompts, **options)


def test_an_engine_that_fails_for_a_row_is_retried_then_the_row_fails(flow_file, expert, claims, engine, tmp_path):
    failing = Failing(engine.answer, "roof", 10**9)
    out = tmp_path / "out.csv"
    report = run_workflow(expert, flow_file(), claims(ROWS), out, engine=failing)
    assert (report.done, report.failed) == (3, 1)
    assert failing.tries == 1 + 3  # with the batch, and alone with two retries
    assert read(out)[1]["flow_reason"] == "[peril] the engine failed: out of memory"


def test_an_engine_that_recovers_costs_no_row(flow_file, expert, claims, engine, tmp_path):
    report = run_workflow(
        expert, flow_file(), claims(ROWS), tmp_path / "out.csv", engine=Failing(engine.answer, "roof", 3)
    )
    assert report.failed == 0 and report.done == 4


def test_a_dead_engine_fails_all_rows_and_retry_failed_does_them(flow_file, expert, claims, engine, tmp_path):
    out, table = tmp_path / "out.csv", claims(ROWS)
    report = run_workflow(expert, flow_file(), table, out, engine=Failing(engine.answer, "", 10**9))
    assert report.failed == 4
    assert run_workflow(expert, flow_file(), table, out, engine=engine).ran == 0
    report = run_workflow(expert, flow_file(), table, out, engine=engine, retry_failed=True)
    assert (report.ran, report.done, report.failed) == (4, 4, 0)
    assert [r["claim"] for r in read(out)] == ["C1", "C2", "C3", "C4"]


def test_what_a_server_writes_out_of_form_fails_the_row(flow_file, expert, claims, tmp_path):
    def answer(system, user):
        return "no JSON" if "JSON" in system else "water"

    out = tmp_path / "out.csv"
    report = run_workflow(expert, flow_file(), claims(ROWS[:1]), out, engine=Scripted(answer))
    assert report.failed == 1 and "[facts] the model wrote no JSON" in read(out)[0]["flow_reason"]


def test_where_limit_and_dry_run(flow_file, expert, claims, engine, tmp_path):
    out, table = tmp_path / "out.csv", claims([*ROWS, BAD["empty text"]])
    report = run_workflow(expert, flow_file(), table, out, engine=engine, dry_run=True)
    assert (report.rows, report.failed, report.dry_run) == (5, 1, True)
    assert not engine.batches and not out.exists()
    report = run_workflow(expert, flow_file(), table, out, engine=engine, where="amount > 200", limit=1)
    assert report.rows == 1
    report = run_workflow(expert, flow_file(), table, out, engine=engine, where="amount > 200")
    assert (report.rows, report.ran) == (2, 1)
    assert [r["claim"] for r in read(out)] == ["C1", "C2"]
    with pytest.raises(UsageError, match="'amuont' is no input column"):
        run_workflow(expert, flow_file(), table, out, engine=engine, where="amuont > 200")


def test_rows_that_were_judged_in_another_way_are_not_gone_on_with(
    flow_file, expert, claims, engine, tmp_path, monkeypatch
):
    out = tmp_path / "out.csv"
    with monkeypatch.context() as patch:
        patch.setattr(running, "SIGNS", running.SIGNS - 1)
        run_workflow(expert, flow_file(), claims(ROWS), out, engine=engine)
    with pytest.raises(UsageError, match="the trail of another run: other way of judging"):
        run_workflow(expert, flow_file(), claims(ROWS), out, engine=engine)
    assert run_workflow(expert, flow_file(), claims(ROWS), out, engine=engine, again=True).ran == len(ROWS)


def test_the_output_of_another_run_is_not_touched(flow_file, expert, claims, engine, tmp_path):
    out = tmp_path / "out.csv"
    run_workflow(expert, flow_file(), claims(ROWS), out, engine=engine)
    with pytest.raises(UsageError, match="the trail of another run: other input"):
        run_workflow(expert, flow_file(), claims(ROWS[:2]), out, engine=engine)
    with pytest.raises(UsageError, match="other workflow"):
        run_workflow(expert, flow_file(("> 1000", "> 2000")), claims(ROWS), out, engine=engine)
    assert run_workflow(expert, flow_file(), claims(ROWS[:2]), out, engine=engine, again=True).rows == 2


def test_parquet_keeps_its_types(flow_file, expert, engine, tmp_path):
    import datetime

    import pyarrow as pa
    import pyarrow.parquet as pq

    table = pa.table(
        {
            "claim": ["C1", "C2"],
            "text": ["water 5", "storm 6"],
            "amount": pa.array([1, None], pa.int32()),
            "day": [datetime.date(2026, 1, 2), None],
        }
    )
    pq.write_table(table, tmp_path / "in.parquet")
    out = tmp_path / "out.parquet"
    run_workflow(expert, flow_file(), tmp_path / "in.parquet", out, engine=engine)
    found = pq.read_table(out)
    assert found.schema.field("day").type == pa.date32() and found.schema.field("amount").type == pa.int32()
    assert found.schema.field("facts.amount").type == pa.float64()
    assert found.column("day").to_pylist() == [datetime.date(2026, 1, 2), None]
    assert found.column("verdict").to_pylist() == ["pay", "pay"]


def test_json_lines_with_a_broken_line(flow_file, expert, engine, tmp_path):
    source = tmp_path / "in.jsonl"
    source.write_text('{"claim": 7, "text": "water 5", "amount": 2.5}\n{broken\n[1]\n{"text": "storm 6"}\n')
    report = run_workflow(expert, flow_file(), source, tmp_path / "out.jsonl", engine=engine)
    assert (report.done, report.failed) == (1, 3)
    rows = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert rows[0]["claim"] == 7 and rows[0]["facts.amount"] == 5
    assert "line 2 is no JSON" in rows[1]["flow_reason"] and "column 'claim' has no value" in rows[3]["flow_reason"]


def test_a_folder_of_mails(flow_file, expert, engine, tmp_path):
    box = tmp_path / "inbox"
    box.mkdir()
    (box / "a.eml").write_text("From: a@b.example\nTo: us@example\nSubject: Pipe\n\nThe water came 300\n")
    (box / "b.eml").write_bytes(b"\x00\x01 not a mail")
    path = flow_file(
        ('columns = { claim = "text", text = "text", amount = "number" }', 'columns = { id = "text", subject = "text", text = "text" }'),
        ('id = "claim"', 'id = "id"'), ('optional = ["amount"]', 'optional = ["subject"]'),
    )  # fmt: skip
    report = run_workflow(expert, path, box, tmp_path / "out.csv", engine=engine)
    assert (report.done, report.failed) == (1, 1)
    row = read(tmp_path / "out.csv")[0]
    assert (row["id"], row["sender"], row["subject"], row["text"]) == (
        "a.eml",
        "a@b.example",
        "Pipe",
        "The water came 300",
    )
    assert row["verdict"] == "pay"


def test_a_database_table_is_read_once(flow_file, expert, engine, tmp_path):
    pytest.importorskip("sqlalchemy")
    with sqlite3.connect(tmp_path / "c.db") as db:
        db.execute("CREATE TABLE claims (claim TEXT PRIMARY KEY, text TEXT, amount REAL)")
        db.executemany("INSERT INTO claims VALUES (?, ?, ?)", [("b", "storm 9", 1.5), ("a", "water 8", None)])
    url, out = f"sqlite:///{tmp_path / 'c.db'}", tmp_path / "out.csv"
    run_workflow(expert, flow_file(), url, out, table="claims", engine=engine)
    assert [(r["claim"], r["amount"], r["verdict"]) for r in read(out)] == [("a", "", "pay"), ("b", "1.5", "pay")]
    with sqlite3.connect(tmp_path / "c.db") as db:
        db.execute("DELETE FROM claims")
    assert run_workflow(expert, flow_file(), url, out, table="claims", engine=engine).rows == 2
    with pytest.raises(UsageError, match="--table or --query"):
        run_workflow(expert, flow_file(), url, out, engine=engine)


def test_a_database_is_read_anew_where_that_is_asked_for(flow_file, expert, engine, tmp_path):
    pytest.importorskip("sqlalchemy")
    with sqlite3.connect(tmp_path / "c.db") as db:
        db.execute("CREATE TABLE claims (claim TEXT PRIMARY KEY, text TEXT)")
        db.execute("INSERT INTO claims VALUES ('a', 'water 8')")

    def run(**more):
        url, out = f"sqlite:///{tmp_path / 'c.db'}", tmp_path / "out.csv"
        return run_workflow(expert, flow_file(), url, out, engine=engine, **({"table": "claims"} | more))

    assert run(dry_run=True).rows == 1 and not list(tmp_path.glob(".out*"))
    assert run().rows == 1
    with sqlite3.connect(tmp_path / "c.db") as db:
        db.execute("INSERT INTO claims VALUES ('b', 'storm 9')")
    other = {"table": "", "query": "SELECT claim, text FROM claims WHERE claim = 'b'"}
    with pytest.raises(UsageError, match="other input"):
        run(**other)
    assert run(again=True).rows == 2
    assert run(again=True, **other).rows == 1 and [r["claim"] for r in read(tmp_path / "out.csv")] == ["b"]
    assert len(list(tmp_path.glob(".out*"))) == 1  # nothing stays of what was asked before


def test_nothing_stays_of_an_output_that_a_killed_run_began(flow_file, expert, claims, engine, tmp_path):
    (tmp_path / ".out.csv.999.partial").write_text("claim\nC")
    run_workflow(expert, flow_file(), claims(ROWS), tmp_path / "out.csv", engine=engine)
    assert not list(tmp_path.glob(".*partial"))


def test_an_input_is_not_overwritten(flow_file, expert, claims, engine):
    table = claims(ROWS)
    before = table.read_bytes()
    with pytest.raises(UsageError, match="is the input"):
        run_workflow(expert, flow_file(), table, table, engine=engine)
    assert table.read_bytes() == before


def test_conditions_checks_and_reviews(flow_file, expert, claims, tmp_path):
    more = """
[steps.letter]
do = "draft"
when = "verdict == 'pay'"
instruction = "Write to the customer."
input = "Amount {facts.amount}: {text}"
[steps.letter_right]
do = "check"
of = "letter"
numbers_in = ["text"]
most_words = 6
[steps.person]
do = "review"
when = "confidence(peril) < 0.5"
because = "unsure of the peril"
"""

    def answer(system, user):
        if "Write" in system:
            return "We pay 999 euros." if "bad" in user else "We pay 300."
        if "JSON" in system:
            return '{"amount": 300}'
        return ("water", 0.4 if "unsure" in user else 0.9) if "caused" in system else "pay"

    out = tmp_path / "out.csv"
    rows = ["C1,water 300,1", "C2,bad 300,1", "C3,unsure 300,1"]
    path = flow_file(more=more)
    report = run_workflow(expert, path, claims(rows), out, engine=Scripted(answer))
    assert (report.done, report.review) == (1, 2)
    found = read(out)
    assert found[1]["flow_reason"] == "[letter_right] numbers without evidence: 999"
    assert (
        found[2]["flow_reason"] == "unsure of the peril" and found[2]["person"] == "true" and found[0]["person"] == ""
    )


def test_a_threshold_by_hand_sends_unsure_rows_to_a_person(flow_file, expert, claims, engine, tmp_path):
    path = flow_file(more="\n[confidence]\nthreshold = 0.7\n")
    report = run_workflow(expert, path, claims(ROWS), tmp_path / "out.csv", engine=engine)
    assert report.threshold == 0.7 and not report.calibrated
    assert [r["flow_status"] for r in read(tmp_path / "out.csv")] == ["review", "done", "done", "review"]


def test_unknown_adapters_are_told_at_once(flow_file, expert, engine):
    flow = load_workflow(flow_file(('arm = "base"', 'arm = "finetuned"\nadapter = "triage"')))
    with pytest.raises(WorkflowError) as error:
        open_setup(expert, flow, engine=engine)
    assert str(error.value).count("adapter: the expert in") == 3


def test_an_arm_of_the_run_goes_before_the_steps_own(flow_file, expert, engine):
    flow = load_workflow(flow_file(('instruction = "What caused', 'arm = "rag"\ninstruction = "What caused')))
    assert open_setup(expert, flow, engine=engine).arms == {"peril": "rag", "facts": "base", "verdict": "base"}
    assert set(open_setup(expert, flow, arm="base", engine=engine).arms.values()) == {"base"}


def test_model_errors_of_doyen_are_the_rows_fault_too(flow_file, expert, claims, tmp_path):
    def answer(system, user):
        raise EngineError("the model is gone")

    report = run_workflow(expert, flow_file(), claims(ROWS[:1]), tmp_path / "out.csv", engine=Scripted(answer))
    assert report.failed == 1


def test_rows_without_a_decision_go_to_a_person(flow_file, expert, engine):
    flow = load_workflow(flow_file(('do = "decide"', 'do = "decide"\nwhen = "peril == \'storm\'"')))
    row = Row(1, "1", {"claim": "C1", "text": "water 3", "amount": None})
    run_rows(open_setup(expert, flow, engine=engine), [row])
    assert row.status == "review" and "nothing was decided" in row.reason


def test_no_spreadsheet_runs_what_a_model_wrote(flow_file, expert, claims, tmp_path):
    more = '\n[steps.letter]\ndo = "draft"\ninstruction = "Write."\ninput = "{text}"\n'
    out = tmp_path / "out.csv"
    engine = Scripted(lambda system, user: "=1+1" if "Write" in system else "")
    run_workflow(expert, flow_file(more=more), claims(["C1,-5 water,-5"]), out, engine=engine)
    row = read(out)[0]
    assert row["letter"] == "'=1+1" and row["text"] == "-5 water"
