"""Feedback: kept, reviewed, made into examples and questions, and gone with the documents that it showed."""

import json
import re
import sqlite3
import subprocess
import sys

import pytest
from label_cases import Guild
from small_stores import read_lines
from typer.testing import CliRunner

import doyen
from doyen.cli import app
from doyen.config import load_settings
from doyen.errors import UsageError
from doyen.examples.building import build_examples, held_out_questions, known_test_questions
from doyen.examples.feedback import feedback_examples, feedback_questions
from doyen.expert import open_retriever
from doyen.feedback import COMPARE_SHARE, FeedbackBook, FullError, Passage, side_of


@pytest.fixture
def guild(tmp_path):
    return Guild(tmp_path, each=3)


def passage(document="open/open0.md", quote="four weeks", start=0):
    return Passage(document, "a", 1, None, start, start + len(quote), quote)


def name_on(side):
    return next(f"{i}.md" for i in range(100) if side_of([f"{i}.md"]) == side)


def give(guild, labels, document, **more):
    found = guild.send("GET", "/api/document", None, params={"id": document, "text": "true"}).json()["text"]
    start = found.index("four weeks")
    body = {"question": "How long is the notice period?", "answer": "A year.", "thumb": "down"}
    body |= {"passages": [{"document": document, "start": start, "end": start + 10, "score": 1.0}]} | more
    return guild.send("POST", "/api/feedback", labels, json=body)


def test_from_a_thumb_to_an_example(guild):
    made = give(guild, (), "open/open0.md", correction="four weeks")
    assert made.status_code == 201
    row = guild.send("GET", "/api/feedback", ()).json()["feedback"][0]
    assert (row["proposed"], row["supported"], row["state"]) == ("four weeks", True, "new")
    assert row["passages"][0]["quote"] == "four weeks"
    done = guild.send("POST", f"/api/feedback/{row['id']}/review", (), json={"verdict": "accept"}).json()
    assert done["state"] == "accepted" and done["evidence"] == row["passages"]
    assert done["use"] == side_of(["open/open0.md"])
    assert guild.send("GET", "/api/feedback", ()).json()["total"] == 0


def test_feedback_is_seen_by_who_may_see_what_it_showed(guild):
    assert give(guild, ("hr",), "hr/hr0.md", correction="xyzzyhr0q").status_code == 201
    assert give(guild, (), "hr/hr0.md").status_code == 400  # no place of a hidden document is taken
    name = guild.send("GET", "/api/feedback", ("hr",)).json()["feedback"][0]["id"]
    for labels in ((), ("legal",)):
        assert guild.send("GET", "/api/feedback", labels).json() == {"feedback": [], "total": 0}
        answer = guild.send("POST", f"/api/feedback/{name}/review", labels, json={"verdict": "reject"})
        assert answer.status_code == 404 and "xyzzy" not in answer.text
    assert guild.send("GET", "/api/feedback", None).json()["total"] == 1


def test_one_key_cannot_fill_the_disk(guild, monkeypatch):
    monkeypatch.setattr("doyen.feedback.MOST_WAITING", 3)
    book = FeedbackBook(guild.expert)
    first = [book.add("ada", "how?", "so", "up", passages=[passage()]).id for _ in range(3)][0]
    with pytest.raises(FullError, match="3 rows"):
        book.add("ada", "how?", "so", "up")
    book.add("bob", "how?", "so", "up")
    book.review(first, "reject", "root")
    book.add("ada", "how?", "so", "up")
    assert len(book.rows()) == 5
    for _ in range(3):
        assert give(guild, (), "open/open0.md").status_code == 201
    answer = give(guild, (), "open/open0.md")
    assert (answer.status_code, answer.json()["error"]["code"]) == (409, "full")


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ({"thumb": "sideways"}, "thumb"),
        ({"question": ""}, "question"),
        ({"passages": [{"document": "open/none.md", "start": 0, "end": 1}]}, "indexed"),
        ({"passages": [{"document": "open/open0.md", "start": 5, "end": 10**6}]}, "no place"),
    ],
)
def test_what_is_no_feedback(guild, body, said):
    whole = {"question": "x", "answer": "y", "thumb": "up"} | body
    answer = guild.send("POST", "/api/feedback", (), json=whole)
    assert answer.status_code == 400 and said in answer.text


def test_verdicts_need_an_answer_and_evidence(expert):
    book = FeedbackBook(expert)
    bad = book.add("ada", "Q?", "wrong", "down", passages=[passage()])
    bare = book.add("ada", "Q?", "right", "up")
    for name, verdict, more, said in (
        (bad.id, "accept", {}, "no right answer"),
        (bare.id, "accept", {}, "no evidence"),
        (bad.id, "edit", {}, "gives"),
        (bad.id, "accept", {"answer": "x"}, "changes nothing"),
        (bad.id, "shrug", {}, "verdict"),
        ("none", "accept", {}, "no feedback"),
    ):
        with pytest.raises(UsageError, match=said):
            book.review(name, verdict, "eve", **more)
    edited = book.review(bad.id, "edit", "eve", question="Better Q?", answer="four weeks")
    assert (edited.state, edited.final_question, edited.reviewer) == ("edited", "Better Q?", "eve")
    assert book.review(bad.id, "reject", "eve").evidence == ()


def test_no_document_is_on_both_sides(expert):
    book = FeedbackBook(expert)
    names = [f"{i}.md" for i in range(60)]
    for name in names + [name_on("train")]:
        row = book.add("ada", f"What of {name}?", "four weeks", "up", passages=[passage(name)])
        book.review(row.id, "accept", "eve")
    sides = {use: feedback_questions(expert, use) for use in ("train", "compare")}
    documents = {use: {g.document for q in found for g in q.gold} for use, found in sides.items()}
    assert (
        documents["train"].isdisjoint(documents["compare"]) and set(names) == documents["train"] | documents["compare"]
    )
    assert 0.1 < len(documents["compare"]) / 60 < 2 * COMPARE_SHARE
    assert side_of([name_on("train"), name_on("compare")]) == "compare"
    assert {q.split for q in sides["compare"]} == {"test"} and all("feedback" in q.tags for q in sides["compare"])
    assert {q.id for q in known_test_questions(expert)} == {q.id for q in sides["compare"]}
    assert {q.id for q in held_out_questions(expert)} == {q.id for q in sides["compare"]}
    found = feedback_examples(expert)
    assert {s.document for e in found for s in e.source} == documents["train"] and found[0].origin == "feedback"


def test_what_shares_a_document_with_feedback_to_compare_on_is_not_trained_on(expert):
    book = FeedbackBook(expert)
    train, other, compare = name_on("train"), f"other-{name_on('train')}", name_on("compare")
    assert side_of([other]) == "train"
    for shown in ([train], [other], [train, compare]):
        row = book.add("ada", f"What of {shown}?", "four weeks", "up", passages=[passage(name) for name in shown])
        book.review(row.id, "accept", "eve")
    compared = {g.document for q in feedback_questions(expert, "compare") for g in q.gold}
    assert compared == {train, compare}
    assert [g.document for q in feedback_questions(expert, "train") for g in q.gold] == [other]
    assert [s.document for e in feedback_examples(expert) for s in e.source] == [other]


def test_reviewed_feedback_is_trained_on_where_its_evidence_stands(guild):
    settings, book = load_settings(guild.expert), FeedbackBook(guild.expert)
    retriever = open_retriever(guild.expert, settings)
    train = [d for d in guild.texts if side_of([d]) == "train"][:6]
    for number, document in enumerate(train):
        quote = "four weeks" if number else "what is not there"
        row = book.add(
            "ada", f"How long is the notice in {document}?", "four weeks", "up", passages=[passage(document, quote)]
        )
        book.review(row.id, "accept", "eve")
    build_examples(guild.expert, retriever)
    rows = [json.loads(line) for line in (guild.expert / "examples" / "train.jsonl").read_text().splitlines()]
    rows += [json.loads(line) for line in (guild.expert / "examples" / "validation.jsonl").read_text().splitlines()]
    assert {r["origin"] for r in rows} == {"feedback"}
    asked = {r["question_id"] for r in rows}
    kept = {f"feedback-{r.id}" for r in book.rows() if r.evidence[0].quote == "four weeks"}
    assert asked <= kept and asked


def test_removing_a_document_erases_feedback_that_showed_it(guild):
    give(guild, (), "open/open0.md", correction="quagga-secret")
    give(guild, (), "open/open1.md", correction="stays")
    doyen.remove_documents(guild.expert, ["open/open0.md"])
    assert [r.correction for r in FeedbackBook(guild.expert).rows()] == ["stays"]
    assert b"quagga-secret" not in (guild.expert / "serving" / "feedback.db").read_bytes()


def test_what_was_accepted_survives_a_kill(expert):
    code = (
        "import os, sys; from pathlib import Path; from doyen.feedback import FeedbackBook\n"
        "row = FeedbackBook(Path(sys.argv[1])).add('ada', 'Q?', 'A', 'up'); os.write(1, row.id.encode()); os.kill(os.getpid(), 9)"
    )
    done = subprocess.run([sys.executable, "-c", code, str(expert)], capture_output=True, check=False)
    assert done.returncode == -9 and FeedbackBook(expert).find(done.stdout.decode()).answer == "A"
    with sqlite3.connect(expert / "serving" / "feedback.db") as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)


def test_a_users_text_cannot_steer_the_reviewers_terminal(expert):
    text = "Q?\x1b]0;owned\x07\x1b[2J\r\nfake-id  new  thumb up  \x9b31mQ2?"
    FeedbackBook(expert).add("ada", text, text, "down", correction=text, passages=[passage(quote="four\x1b[1mweeks")])
    done = CliRunner().invoke(app, ["feedback", "list", "--expert", str(expert)])
    assert done.exit_code == 0 and not re.search(r"[\x00-\x09\x0b-\x1f\x7f-\x9f]", done.stdout)
    assert len(done.stdout.splitlines()) == 5 and not any(line.startswith("fake") for line in done.stdout.splitlines())


def test_the_command_line(expert, tmp_path):
    book = FeedbackBook(expert)
    train = book.add("ada", "Q1?", "four weeks", "up", passages=[passage(name_on("train"))])
    book.add("ada", "Q2?", "no", "down", passages=[passage(name_on("compare"))])

    def run(*arguments):
        done = CliRunner().invoke(app, ["feedback", *arguments, "--expert", str(expert), "--json"])
        assert done.exit_code == 0, done.output
        return json.loads(done.stdout)

    rows = run("list")
    assert [r["question"] for r in rows] == ["Q1?", "Q2?"]
    assert run("review", train.id, "accept")["use"] == "train"
    assert run("review", rows[1]["id"], "edit", "--answer", "four weeks")["use"] == "compare"
    assert run("list") == [] and len(run("list", "--state", "all")) == 2
    assert run("export", "--out", str(tmp_path / "e.jsonl"))["rows"] == 1
    assert read_lines(tmp_path / "e.jsonl")[0]["origin"] == "feedback"
    assert run("export", "--compare", "--out", str(tmp_path / "q.jsonl"))["rows"] == 1
    assert read_lines(tmp_path / "q.jsonl")[0]["split"] == "test"
