"""What the page asks beside the rest: who asks, a passage in its text, training runs."""

import json
import os

import pytest
from small_server import TEXTS, write_adapter

from doyen.finetuning.runs import thinned, training_runs


def test_who_asks(served):
    me = served.client.get("/api/me").json()
    assert me["role"] == "admin" and me["keys"] is False and me["documents"] is True
    assert me["default"] == "doyen/rag" and "doyen/finetuned:first" in me["models"]


def test_a_passage_within_its_text(served):
    text = TEXTS["leave.md"]
    start = text.index("27 days")
    query = {"document": "leave.md", "start": start, "end": start + 7}
    row = served.client.get("/api/passage", params=query).json()
    assert (row["before"], row["passage"], row["after"]) == (text[:start], "27 days", text[start + 7 : row["to"]])
    assert row["from"] == 0 and row["current"] and row["page"] is None and "text" not in row
    close = served.client.get("/api/passage", params=query | {"around": 3}).json()
    assert close["before"] + close["passage"] == text[close["from"] : start + 7] and len(close["before"]) < start
    whole = served.client.get("/api/passage", params={"document": "leave.md"}).json()
    assert whole["passage"] == "" and whole["after"].strip() == text.strip()


@pytest.mark.parametrize(
    ("query", "status"),
    [
        ({"document": "none.md"}, 404),
        ({"document": "leave.md", "start": 9, "end": 3}, 400),
        ({"document": "leave.md", "start": 0, "end": 99_999_999}, 400),
        ({"document": "leave.md", "start": -1}, 400),
        ({"document": "leave.md", "start": 9_999_999}, 200),
        ({}, 400),
    ],
)
def test_passages_that_are_none(served, query, status):
    assert served.client.get("/api/passage", params=query).status_code == status


def lines(*losses, steps=9):
    rows = [
        {"step": i + 1, "steps": steps, "loss": x, "seconds_left": 30.0, "tokens_per_s": 99.0}
        for i, x in enumerate(losses)
    ]
    return "".join(json.dumps(row) + "\n" for row in rows)


def test_runs_at_work_stopped_and_done(expert, phi, serve):
    write_adapter(expert, phi, "first", 1)
    work = expert / "adapters" / ".second.training"
    work.mkdir(parents=True)
    (work / "history.jsonl").write_text(lines(3.0, 2.0) + '{"step": 3, "lo')  # a line that is being written
    one = serve(expert)
    rows = one.client.get("/api/runs").json()["runs"]
    assert [(r["name"], r["state"], r["step"], r["steps"]) for r in rows] == [
        ("second", "running", 2, 9),
        ("first", "done", 1, 1),
    ]
    assert "folder" not in rows[0] and str(expert) not in json.dumps(rows)
    row = one.client.get("/api/runs/second").json()
    assert [r["loss"] for r in row["history"]] == [3.0, 2.0] and row["facts"]["seconds_left"] == 30.0
    os.utime(work / "history.jsonl", (1e9, 1e9))
    assert {r.name: r.state for r in training_runs(expert)} == {"second": "stopped", "first": "done"}
    (work / "training.html").write_text("<p>so far</p>")
    page = one.client.get("/api/runs/second/training.html")
    assert page.text == "<p>so far</p>" and page.headers["content-security-policy"].startswith("sandbox;")
    for name in ("third", "first/training.html", "..%2F..%2Fdoyen.toml"):
        assert one.client.get(f"/api/runs/{name}").status_code == 404


def test_a_long_history_keeps_its_ends_and_held_out_losses():
    rows = [{"step": i} | ({"held_out_loss": 1.0} if i == 777 else {}) for i in range(1, 5001)]
    found = thinned(rows, 100)
    assert 100 <= len(found) <= 103 and found[0]["step"] == 1 and found[-1]["step"] == 5000
    assert any(r["step"] == 777 for r in found) and thinned([]) == []
