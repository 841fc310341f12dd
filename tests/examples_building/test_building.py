"""The examples folder: built from imported questions and chats, nothing of the test split in it."""

import hashlib
import json

import pytest
from tiny_models import write_jsonl

import doyen
from doyen.errors import ExamplesError
from doyen.examples.building import load_examples
from doyen.examples.reporting import examples_report

TOPICS = {
    "cranes.md": ("How much does the Tamsin crane lift", "12 tonnes"),
    "locks.md": ("When does the Orrel lock open", "06:30"),
    "leave.md": ("How many days of leave does the guild grant", "27 days"),
    "rules.md": ("What is not allowed on the quay", "Bicycles"),
}


def question(number, document, split="train", text=None):
    asked, answer = TOPICS[document]
    row = {
        "id": f"{document}-{number}",
        "question": text or f"{asked} in case {number}?",
        "answers": [answer],
        "split": split,
    }
    return row | {"gold": [{"document": document}]}


ROWS = [question(n, document) for document in ("cranes.md", "locks.md", "leave.md") for n in range(4)]
ROWS += [question(n, "rules.md", "test") for n in range(2)]


@pytest.fixture
def expert(indexed, tmp_path):
    """An expert whose index is that of `indexed`."""
    import shutil

    return shutil.copytree(indexed, tmp_path / "expert")


def build(expert, retriever, rows, tmp_path):
    doyen.import_file(expert, write_jsonl(tmp_path / "in.jsonl", rows))
    return doyen.build_examples(expert, retriever)


def lines(path):
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def test_the_built_files_hold_the_train_split_only(expert, retriever, tmp_path):
    report = build(expert, retriever, ROWS, tmp_path)
    train, validation = lines(expert / "examples" / "train.jsonl"), lines(expert / "examples" / "validation.jsonl")
    assert (len(train), len(validation)) == (report.train, report.validation)
    assert (report.questions, report.test_questions) == (14, 2)
    assert not any(row["question_id"].startswith("rules.md") for row in [*train, *validation])
    assert set(train[0]) >= {"messages", "source", "origin", "kind"}
    manifest = json.loads((expert / "examples" / "manifest.json").read_text())
    assert manifest["sha256"] == hashlib.sha256((expert / "examples" / "train.jsonl").read_bytes()).hexdigest()
    assert manifest["train"] == len(train) and sum(manifest["variants"].values()) == len(train)
    assert any("teach little" in warning for warning in report.warnings)


def test_validation_documents_are_not_trained_on(expert, retriever, tmp_path):
    (expert / "doyen.toml").write_text("[chunking]\nmax_tokens = 32\n[finetune]\nvalidation_share = 0.4\n")
    build(expert, retriever, ROWS, tmp_path)
    sides = [
        {row["question_id"].split("-")[0] for row in lines(expert / "examples" / f"{side}.jsonl")}
        for side in ("train", "validation")
    ]
    assert sides[0] and sides[1] and not sides[0] & sides[1]


def test_near_copies_of_test_questions_are_left_out(expert, retriever, tmp_path):
    copy = question(9, "leave.md", text="what is NOT allowed on the quay in case 1")
    report = build(expert, retriever, [*ROWS, copy], tmp_path)
    assert report.left_out["nearly equal to a test question"] == 1
    assert "leave.md-9" not in {row["question_id"] for row in lines(expert / "examples" / "train.jsonl")}


def test_chats_are_trained_on_as_they_are_unless_they_ask_a_test_question(expert, retriever, tmp_path):
    chats = [
        {"messages": [{"role": "user", "content": asked}, {"role": "assistant", "content": "Bicycles."}]}
        for asked in ("Hello there, harbour office?", "What is not allowed on the quay in case 0?")
    ]
    doyen.import_file(expert, write_jsonl(tmp_path / "chats.jsonl", chats))
    report = build(expert, retriever, ROWS, tmp_path)
    assert report.own == 2 and report.variants["own"] == 1
    own = [row for row in lines(expert / "examples" / "train.jsonl") if not row["variant"]]
    assert [row["messages"] for row in own] == [chats[0]["messages"]]


def test_chats_alone_are_enough(expert, retriever, tmp_path):
    chat = {"messages": [{"role": "user", "content": "Hello?"}, {"role": "assistant", "content": "Good day."}]}
    report = build(expert, retriever, [chat] * 3, tmp_path)
    train, validation = load_examples(expert)
    assert (report.train, len(train), validation) == (3, 3, [])


def test_two_builds_are_equal(expert, retriever, tmp_path):
    files = [expert / "examples" / name for name in ("train.jsonl", "validation.jsonl")]
    build(expert, retriever, ROWS, tmp_path)
    before = [path.read_bytes() for path in files]
    doyen.build_examples(expert, retriever)
    assert [path.read_bytes() for path in files] == before


def test_nothing_built_names_the_command(expert):
    with pytest.raises(ExamplesError) as caught:
        load_examples(expert)
    assert "examples build" in caught.value.hint and "examples import" in caught.value.hint


def test_with_test_questions_alone_the_documents_are_asked(expert, retriever, tmp_path):
    report = build(expert, retriever, [question(n, "rules.md", "test") for n in range(3)], tmp_path)
    assert report.test_questions == 3 and report.generated > 0
    assert {e.origin for e in load_examples(expert)[0]} == {"generated"}


def test_the_review_file_beside_imported_questions_needs_the_option(expert, retriever, tmp_path):
    doyen.build_examples(expert, retriever)
    report = build(expert, retriever, ROWS, tmp_path)
    assert report.generated == 0 and "--from-documents" in report.warnings[0]
    both = doyen.build_examples(expert, retriever, from_documents=True)
    assert both.generated > 0 and {e.origin for e in load_examples(expert)[0]} == {"human", "generated"}


def test_the_report_shows_samples_and_lengths(expert, retriever, tmp_path):
    build(expert, retriever, ROWS, tmp_path)
    report = examples_report(expert)
    assert len(report["samples"]) == 3 and report["samples"][0]["messages"][-1]["role"] == "assistant"
    assert 0 < report["characters"]["median"] <= report["characters"]["longest"]


def test_the_report_names_doubles(expert, retriever, tmp_path):
    rows = [("Who?", "Ann"), ("Who?", "Bob"), ("Hello there?", "Good day."), ("Hello there?", "Good day.")]
    rows += [(f"What of quay {i}?", f"{i}") for i in range(9)]
    chats = [{"prompt": asked, "completion": answer} for asked, answer in rows]
    build(expert, retriever, chats, tmp_path)
    row = examples_report(expert)
    assert row["doubles"]["repeated"] == 1 and row["doubles"]["contradictory"] == 2
    assert row["doubles"]["near_held_out"] == 0 and row["doubles"]["cases"][0].startswith("'Who?' → ")
    assert any("2 examples answer the same prompt in different ways: 'Who?'" in flag for flag in row["flags"])
    assert any("1 examples are the same as another" in flag for flag in row["flags"])
