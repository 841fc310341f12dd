"""Workflows over HTTP, on an expert with labelled documents and an engine without a model."""

import pytest
from flow_engine import Scripted
from label_cases import Guild

FLOW = """
title = "Notice"
arm = "rag"
[input]
id = "n"
columns = { n = "text", text = "text" }
[steps.found]
do = "retrieve"
query = "{text}"
passages = 2
[steps.kind]
do = "classify"
passages = "found"
instruction = "What is it?"
input = "{text}"
choices = ["salary", "other"]
[confidence]
threshold = 0.95
"""
LOOKUP = """
[tables]
staff = "staff.csv"
[steps.wage]
do = "lookup"
sql = "SELECT wage FROM staff WHERE n = TRY_CAST($n AS BIGINT)"
with = { n = "n" }
"""


@pytest.fixture
def guild(tmp_path):
    made = Guild(tmp_path, each=2)
    folder = made.expert / "workflows" / "notice"
    folder.mkdir(parents=True)
    (folder / "workflow.toml").write_text(FLOW)
    (made.expert / "workflows" / "broken.toml").write_text("steps = 3")
    answer_with(made, 0.99)
    return made


def answer_with(guild, probability):
    """Let the model choose, as sure as that."""
    guild.service.desk.engine.inner.generate = Scripted(lambda s, u: ("salary", probability)).generate


def post(guild, labels, rows, **more):
    return guild.send("POST", "/api/workflows/notice", labels, json={"rows": rows} | more)


def test_the_list_tells_columns_and_faults(guild):
    found = {row["name"]: row for row in guild.send("GET", "/api/workflows", ()).json()["workflows"]}
    assert found["notice"]["columns"][0] == {"name": "n", "type": "text", "optional": False}
    assert "expected a table" in found["broken"]["error"]


def test_rows_in_rows_out(guild):
    answer = post(guild, (), [{"n": "1", "text": "notice period"}, {"n": "2", "text": ""}], audit=True)
    assert answer.status_code == 200
    first, second = answer.json()["rows"]
    assert first["kind"] in ("salary", "other") and first["flow_decision"] == first["kind"]
    assert second["flow_status"] == "failed" and second["flow_reason"] == "column 'text' is empty"
    assert [r["id"] for r in answer.json()["records"]] == ["1", "2"]


def test_a_key_is_shown_no_passages_that_it_may_not_see(guild):
    for labels in ((), ("hr",)):
        answer = post(guild, labels, [{"n": "1", "text": "salary of the crew xyzzyhr0q"}], audit=True).json()
        shown = {
            p["document"] for record in answer["records"] for step in record["steps"] for p in step.get("passages", ())
        }
        assert shown and all(guild.sees(labels, d) for d in shown)


def test_wrong_requests(guild):
    assert guild.send("POST", "/api/workflows/none", (), json={"rows": [{"n": "1"}]}).status_code == 404
    assert guild.send("POST", "/api/workflows/..%2f..%2fdoyen", (), json={"rows": [{"n": "1"}]}).status_code == 404
    assert post(guild, (), []).status_code == 400
    assert post(guild, (), [{"n": "1", "text": "x"}] * 65).status_code == 400
    assert post(guild, (), [{"n": "1", "text": "x"}], arm="rags").status_code == 400
    assert guild.send("POST", "/api/workflows/broken", (), json={"rows": [{"n": "1"}]}).status_code == 422


def test_an_unknown_adapter_does_not_tell_those_of_others(guild):
    answer = post(guild, (), [{"n": "1", "text": "x"}], arm="rag+finetuned", adapter="of-hrr")
    assert answer.status_code == 422 and "there is no model" in answer.text and "of-hr'" not in answer.text


def test_flows_with_lookups_are_for_keys_that_see_all(guild):
    pytest.importorskip("duckdb")
    (guild.expert / "workflows" / "notice" / "staff.csv").write_text("n,wage\n7,4100\n")
    path = guild.expert / "workflows" / "notice" / "workflow.toml"
    path.write_text(path.read_text() + LOOKUP)
    answer_with(guild, 0.6)
    rows, url = [{"n": "7", "text": "notice period"}], "/api/workflows/notice/reviews"
    assert post(guild, (), rows).status_code == 403
    row = post(guild, None, rows).json()["rows"][0]
    assert row["wage.wage"] == 4100 and guild.send("GET", url, None).json()["total"] == 1
    assert guild.send("GET", url, ()).status_code == 403
    verdict = {"verdict": "accept"}
    assert guild.send("POST", f"{url}/{row['flow_review']}", (), json=verdict).status_code == 403


def test_unsure_rows_are_reviewed(guild):
    answer_with(guild, 0.6)
    row = post(guild, (), [{"n": "7", "text": "notice period"}]).json()["rows"][0]
    assert row["flow_status"] == "review" and row["flow_review"]
    url = "/api/workflows/notice/reviews"
    waiting = guild.send("GET", url, ()).json()
    assert waiting["total"] == 1 and waiting["reviews"][0]["id"] == row["flow_review"]
    wrong = guild.send(
        "POST", f"{url}/{row['flow_review']}", (), json={"verdict": "correct", "values": {"knd": "other"}}
    )
    assert wrong.status_code == 400 and "did you mean 'kind'" in wrong.text
    done = guild.send(
        "POST", f"{url}/{row['flow_review']}", (), json={"verdict": "correct", "values": {"kind": "other"}}
    ).json()
    assert done["state"] == "corrected" and done["final"]["kind"] == "other"
    assert guild.send("GET", url, ()).json()["total"] == 0
    assert guild.send("POST", f"{url}/none", (), json={"verdict": "accept"}).status_code == 404


def test_what_an_adapter_wrote_is_for_who_may_use_it(guild):
    answer_with(guild, 0.6)
    url, by = "/api/workflows/notice/reviews", {"arm": "rag+finetuned"}
    for adapter in ("of-open", "of-hr"):
        assert post(
            guild, ("hr",), [{"n": adapter, "text": f"{adapter} xyzzyopen0q xyzzyopen1q"}], adapter=adapter, **by
        )
    rows = guild.send("GET", url, ("hr",)).json()["reviews"]
    assert [(row["row_id"], row["adapters"]) for row in rows] == [("of-open", ["of-open"]), ("of-hr", ["of-hr"])]
    assert all(d.startswith("open/") for row in rows for d in row["documents"])
    assert [row["row_id"] for row in guild.send("GET", url, ()).json()["reviews"]] == ["of-open"]
    assert guild.send("POST", f"{url}/{rows[1]['id']}", (), json={"verdict": "accept"}).status_code == 404


def test_rows_that_show_hidden_documents_are_not_reviewed(guild):
    answer_with(guild, 0.6)
    assert post(guild, ("hr",), [{"n": "7", "text": "xyzzyhr0q xyzzyhr1q"}]).json()["rows"][0]["flow_review"]
    url = "/api/workflows/notice/reviews"
    assert guild.send("GET", url, ("hr",)).json()["total"] == 1
    assert guild.send("GET", url, ()).json()["total"] == 0
