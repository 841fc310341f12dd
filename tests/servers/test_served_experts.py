"""Experts whose model is a server: what is said before, what it costs, what is kept when it fails."""

import json
import shutil
import sys
import time
from pathlib import Path

import pytest
import tiny_models
from chat_server import Script

import doyen
from doyen.answer_costs import answers_dollars, told_before, told_of_rows
from doyen.config import ModelSettings, Settings
from doyen.errors import EndpointError
from doyen.expert import Expert
from doyen.models.endpoint import Endpoint
from doyen.models.server_engine import ServerEngine
from doyen.prompts import REFUSAL, UNKNOWN, passages_messages
from doyen.records import Answer, Question
from doyen.refusing import RefusalRule

QUESTIONS = [Question(f"q{i}", f"How many days of leave in case {i}?", ("27 days",), split="test") for i in range(40)]
REFUSED = (403, {}, json.dumps({"error": {"message": "your quota is gone"}}))


@pytest.fixture(scope="module")
def ingested(tmp_path_factory):
    """An expert with two documents."""
    root = tmp_path_factory.mktemp("served")
    for name in ("documents", "bert"):
        (root / name).mkdir()
    (root / "documents" / "leave.md").write_text("# Leave\n\nThe guild grants 27 days of leave a year.\n")
    (root / "documents" / "locks.md").write_text(
        "# Locks\n\nThe Orrel lock opens at 06:30, by order of the guild's rota desk.\n"
    )
    embedder = tiny_models.bert_folder(root / "bert")
    expert = doyen.init(root / "expert", model="openai:our-model", embedder=str(embedder))
    doyen.ingest(expert, [root / "documents"])
    return expert


@pytest.fixture
def served(make_server, ingested, tmp_path):
    """The expert, and the server that its settings name."""
    server = make_server(Script(lambda body: "27 days [1]", {"27 ": 0.8, "Not": 0.15}))
    expert = shutil.copytree(ingested, tmp_path / "expert")
    set_model(expert, endpoint=server.url)
    return expert, server


def asked_since(server, start):
    """Return the questions that were asked after so many requests, each once."""
    return {body["messages"][-1]["content"].rpartition("Question: ")[2] for body in server.chats[start:]}


def set_model(expert, **values):
    path = expert / "doyen.toml"
    head, _, tail = path.read_text().partition("[model]")
    table, _, rest = tail.partition("\n[")
    lines = [line for line in table.splitlines() if not any(line.lstrip("# ").startswith(f"{k} =") for k in values)]
    lines += [f"{k} = {json.dumps(v)}" for k, v in values.items()]
    path.write_text(f"{head}[model]" + "\n".join(lines) + f"\n\n[{rest}")


def run(capsys, *arguments):
    from doyen.cli import main

    before, sys.argv = sys.argv, ["doyen", *map(str, arguments)]
    try:
        with pytest.raises(SystemExit) as done:
            main()
    finally:
        sys.argv = before
    out, err = capsys.readouterr()
    return done.value.code or 0, out, err


def test_a_question_over_the_command_line(served, capsys):
    expert, server = served
    set_model(expert, input_price=0.5, output_price=2.0)
    code, out, err = run(capsys, "ask", "How many days of leave?", "--expert", expert, "--json")
    row = json.loads(out)
    assert code == 0 and (row["answer"], row["citations"][0]["document"]) == ("27 days", "leave.md")
    assert row["cost_usd"] == pytest.approx((0.5 * row["prompt_tokens"] + 2.0 * 3) / 1e6, abs=1e-6)
    assert row["refusal_probability"] == 0.15 and "about US$" in err
    assert "The guild grants 27 days" in server.chats[0]["messages"][-1]["content"]


def test_a_comparison_goes_on_where_the_server_failed(served):
    expert, server = served
    server.faults = [None] * 35 + [REFUSED]
    with pytest.raises(EndpointError, match="quota"):
        doyen.compare(expert, QUESTIONS, arms=["base"])
    time.sleep(0.1)  # what was under way arrives
    before = len(server.chats)
    set_model(expert, requests_per_minute=1000, input_price=1.0, output_price=1.0)  # shapes no answer
    server.faults.clear()
    report = doyen.compare(expert, QUESTIONS, arms=["base"])
    assert asked_since(server, before) == {q.question for q in QUESTIONS[32:]}  # the first block stayed
    lines = Path(report["folder"], "answers.base.jsonl").read_text().splitlines()
    tokens = sum(json.loads(line)["prompt_tokens"] + 3 for line in lines)
    assert report["manifest"]["cost_usd"] == {"base": pytest.approx(tokens / 1e6, abs=1e-6)}
    assert report["manifest"]["server"].startswith("vllm at 127.0.0.1:")


def test_answers_to_a_file_go_on_too(served, capsys, tmp_path):
    expert, server = served
    asked = tiny_models.write_jsonl(tmp_path / "q.jsonl", [{"id": q.id, "question": q.question} for q in QUESTIONS])
    server.faults = [None] * 33 + [REFUSED]
    command = ("ask", "--questions", asked, "--out", tmp_path / "a.jsonl", "--expert", expert)
    assert run(capsys, *command)[0] == 1
    time.sleep(0.1)
    before = len(server.chats)
    server.faults.clear()
    assert run(capsys, *command)[0] == 0
    assert (
        asked_since(server, before) == {q.question for q in QUESTIONS[32:]}
        and len((tmp_path / "a.jsonl").read_text().splitlines()) == 40
    )


def test_fewer_passages_where_they_do_not_fit(served):
    expert, server = served
    question = "How many days of leave?"
    hits = Expert.open(expert, arm="rag").search(question, 2)
    both, one = (len(server.brain.tokens(passages_messages(question, hits[:n]), True)) for n in (2, 1))
    assert both - one > 50
    for room, left_out in ((both, 0), (both - 1, 1)):
        server.context = room + 96
        answer = Expert.open(expert, arm="rag").ask_many([question], hits=[hits])[0]
        assert (answer.passages_left_out, answer.prompt_tokens) == (left_out, (both, one)[left_out])


def engine_at(url):
    return ServerEngine(Endpoint("openai", url=url), "gpt", name="openai:gpt")


def test_where_questions_go_is_said_for_other_machines_and_for_money():
    settings, priced = Settings(), Settings(ModelSettings(input_price=1.0, output_price=2.0))
    away, here = engine_at("https://gpu.example/v1"), engine_at("http://127.0.0.1:1/v1")
    told = told_before(away, settings, ["Why?"], ["base", "rag"])
    assert told.startswith("questions and passages are sent to gpu.example for openai:gpt: about ")
    assert "price is not known" in told
    assert told_before(away, settings, ["Why?"], ["base"]).startswith("questions are sent")
    assert told_before(away, settings, ["Why?"], ["oracle"]) == told_before(away, settings, ["Why?"], ["rag"])
    assert "([reference] input_price" in told_before(away, settings, ["Why?"], ["base"], table="reference")
    assert told_before(here, settings, ["Why?"], ["rag"]) is None
    assert "US$ 0.00 at most" in told_before(here, priced, ["Why?"], ["rag"])
    assert told_before(object(), priced, ["Why?"], ["rag"]) is None
    assert "about 661,000 tokens, and at most 96,000 back; about US$ 0.85 at most" in told_before(
        away, priced, ["Why?"] * 1000, ["rag"]
    )


def test_where_the_rows_of_a_workflow_go_is_said():
    settings, priced = Settings(), Settings(ModelSettings(input_price=1.0, output_price=2.0))
    away, here = engine_at("https://gpu.example/v1"), engine_at("http://127.0.0.1:1/v1")
    told = told_of_rows(away, settings, 1200, 3)
    assert told.startswith(
        "1,200 rows are sent to gpu.example for openai:gpt, each in up to 3 prompts; their price is not"
    )
    assert told_of_rows(here, priced, 1, 1).endswith("the cost is told as it goes")
    assert told_of_rows(here, settings, 1, 1) is None and told_of_rows(object(), priced, 1, 1) is None
    assert told_of_rows(away, settings, 1, 0) is None


def test_dollars_need_both_prices():
    answers = [Answer("a", True, "rag", prompt_tokens=1000, completion_tokens=10)]
    assert answers_dollars(ModelSettings(input_price=1.0), answers) is None
    assert answers_dollars(ModelSettings(input_price=1.0, output_price=10.0), answers) == pytest.approx(0.0011)


@pytest.mark.parametrize(("nothing", "answered"), [(False, True), (True, False)])
def test_a_rule_without_probabilities_gives_way_to_the_evidence(served, nothing, answered):
    """Some servers give no log-probabilities: then what the model writes counts, and whether a passage is near."""
    expert, server = served
    server.gives_logprobs = False
    opened = Expert.open(expert, arm="rag")
    with_rule = _WithRule(opened.engine, retriever=opened.retriever, settings=opened.settings)
    question = "Zzyx qwv kjhg?" if nothing else "How many days of leave does the guild grant?"
    hits = [h if not nothing else _far(h) for h in opened.search("leave", 1)]
    answer = with_rule.ask_many([question], hits=[hits])[0]
    assert (answer.answered, answer.refusal_probability) == (answered, None)
    server.brain = Script(lambda body: REFUSAL)
    assert with_rule.ask_many([question], hits=[hits])[0].text == UNKNOWN
    assert len(server.chats) == 2  # a refusal that nothing weighs is not asked about again


class _WithRule(Expert):
    refusal_rule = RefusalRule(threshold=0.5)


def _far(hit):
    import dataclasses

    return dataclasses.replace(hit, similarity=0.0)


def test_doctor_and_status_know_that_the_model_is_elsewhere(served, capsys):
    expert, server = served
    _, out, _ = run(capsys, "doctor", "--expert", expert)
    assert (
        "openai:our-model is behind an API" in out and f"vllm answers at {server.root.removeprefix('http://')}" in out
    )
    server.close()
    _, out, _ = run(capsys, "doctor", "--expert", expert)
    assert "MEND server" in out
    assert doyen.status(expert)["models"]["model"] == {"name": "openai:our-model", "fetched": True}
