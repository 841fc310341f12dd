"""A flow over claims with the real default model: documents, a table, rules, the model's judgement, a letter."""

import csv
import json

import pytest

import doyen
from doyen.workflows.running import run_workflow

pytestmark = pytest.mark.e2e

POLICY = "# Home policy\n\nBurst pipes and storm damage to roofs are insured.\n\nTheft from sheds is not insured.\n"
FLOW = """
system = "You handle claims of a household insurer."
arm = "rag"
[input]
id = "claim"
columns = { claim = "text", text = "text", policy = "text" }
[tables]
policies = "policies.csv"
[steps.peril]
do = "classify"
instruction = "What caused the damage?"
input = "{text}"
choices = ["water", "storm", "theft"]
[steps.facts]
do = "extract"
instruction = "Take the amount in euros out of the report."
input = "{text}"
max_tokens = 40
[steps.facts.schema]
type = "object"
required = ["amount"]
[steps.facts.schema.properties]
amount = { type = "integer", minimum = 0, maximum = 99999 }
[steps.policy_row]
do = "lookup"
sql = "SELECT insured_sum FROM policies WHERE number = $number"
with = { number = "policy" }
[steps.wording]
do = "retrieve"
query = "Is {peril} insured?"
passages = 1
[steps.verdict]
do = "decide"
rules = [
  { when = "policy_row.insured_sum == null", then = "refer", because = "no such policy" },
  { when = "facts.amount > policy_row.insured_sum", then = "refer", because = "above the insured sum" },
]
choices = ["pay", "reject"]
passages = "wording"
instruction = "Pay the claim, or reject it?"
input = "{text}"
[steps.letter]
do = "draft"
when = "verdict != 'refer'"
passages = "wording"
instruction = "Write one sentence to the customer."
input = "Decision: {verdict}. Report: {text}"
max_tokens = 40
"""
CLAIMS = [
    ("C1", "A water pipe burst in the kitchen, the repair costs 320 euros.", "HP-1"),
    ("C2", "The storm took tiles from my roof, 9000 euros.", "HP-2"),
    ("C3", "Un tuyau d'eau a éclaté, 150 euros.", "HP-9"),
    ("C4", "", "HP-1"),
]


def test_claims_go_through_the_flow(tmp_path):
    pytest.importorskip("duckdb")
    expert, documents = tmp_path / "expert", tmp_path / "documents"
    documents.mkdir()
    (documents / "home.md").write_text(POLICY, encoding="utf-8")
    doyen.init(expert)
    assert not doyen.ingest(expert, [documents]).failed
    (tmp_path / "workflow.toml").write_text(FLOW, encoding="utf-8")
    (tmp_path / "policies.csv").write_text("number,insured_sum\nHP-1,5000\nHP-2,800\n")
    with (tmp_path / "claims.csv").open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([("claim", "text", "policy"), *CLAIMS])
    out = tmp_path / "out.jsonl"
    report = run_workflow(expert, tmp_path / "workflow.toml", tmp_path / "claims.csv", out)
    assert (report.rows, report.failed) == (4, 1)
    rows = [json.loads(line) for line in out.read_text(encoding="utf-8").splitlines()]
    assert all(r["peril"] in ("water", "storm", "theft") and 0 <= r["facts.amount"] <= 99999 for r in rows[:3])
    above = {"C1": 5000, "C2": 800}
    for row in rows[:2]:
        large = row["facts.amount"] > above[row["claim"]]
        assert (row["verdict"] == "refer") == large and bool(row["letter"]) != large
    assert all(0 < r["flow_confidence"] <= 1 for r in rows[:3])
    assert rows[2]["verdict"] == "refer" and rows[2]["flow_reason"] == "no such policy" and rows[2]["letter"] is None
    trail = [
        json.loads(line) for line in out.with_name("out.jsonl.audit.jsonl").read_text(encoding="utf-8").splitlines()
    ]
    passage = next(s for s in trail[1]["steps"] if s["step"] == "wording")["passages"][0]
    assert passage["document"] == "home.md" and passage["version"] == 1
    text = doyen.Expert.open(expert, arm="rag").retriever.index.text("home.md")[0]
    assert "insured" in text[passage["start"] : passage["end"]]
