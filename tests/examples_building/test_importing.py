"""Questions and chats files: every fault named with its line, what is read is what was written."""

import json

import pytest
from tiny_models import write_jsonl

import doyen
from doyen.errors import ExamplesError
from doyen.examples.building import held_out_questions
from doyen.examples.importing import (
    documents_of,
    holds_messages,
    question_row,
    read_examples,
    read_questions,
    write_rows,
)
from doyen.records import GoldSource

FULL = {
    "id": "a",
    "question": " How many days? ",
    "answers": ["27", 28],
    "kind": "number",
    "gold": [{"document": "leave.md", "page": 2}, {"document": "rules.md"}],
    "split": "train",
    "answerable": False,
    "tags": ["hr"],
    "lang": "de",
}
CHAT = {"messages": [{"role": "user", "content": "Hello?"}, {"role": "assistant", "content": "Good day."}]}


def faults(path, read=read_questions):
    with pytest.raises(ExamplesError) as caught:
        read(path)
    return str(caught.value)


def test_all_fields_are_read(tmp_path):
    (question,) = read_questions(write_jsonl(tmp_path / "q.jsonl", [FULL]))
    assert (question.id, question.question, question.answers, question.kind) == (
        "a",
        "How many days?",
        ("27", "28"),
        "number",
    )
    assert question.gold == (GoldSource("leave.md", 2), GoldSource("rules.md", None))
    assert (question.split, question.answerable, question.tags, question.language) == ("train", False, ("hr",), "de")
    assert documents_of([question]) == {"leave.md", "rules.md"}


def test_grades_survive_writing_and_reading(tmp_path):
    graded = FULL | {"gold": [{"document": "leave.md", "page": 2, "grade": 3}, {"document": "rules.md", "grade": 0.5}]}
    (question,) = read_questions(write_jsonl(tmp_path / "q.jsonl", [graded]))
    assert [g.grade for g in question.gold] == [3, 0.5]
    assert read_questions(write_jsonl(tmp_path / "again.jsonl", [question_row(question)])) == [question]


@pytest.mark.parametrize("grade", [-1, 101, "high", True])
def test_a_grade_is_a_number(tmp_path, grade):
    row = FULL | {"gold": [{"document": "leave.md", "grade": grade}]}
    with pytest.raises(ExamplesError, match="gold grade"):
        read_questions(write_jsonl(tmp_path / "q.jsonl", [row]))


def test_only_id_and_question_are_required(tmp_path):
    (question,) = read_questions(write_jsonl(tmp_path / "q.jsonl", [{"id": 7, "question": "Why?"}]))
    assert (question.id, question.answers, question.kind, question.answerable, question.split) == (
        "7",
        (),
        "span",
        True,
        None,
    )


def test_what_is_written_is_read_back(tmp_path):
    questions = read_questions(write_jsonl(tmp_path / "q.jsonl", [FULL, {"id": "b", "question": "¿Por qué?\u2028x"}]))
    write_rows(tmp_path / "again.jsonl", [question_row(q) for q in questions])
    assert read_questions(tmp_path / "again.jsonl") == questions


def test_byte_order_mark_crlf_and_blank_lines_are_no_fault(tmp_path):
    path = tmp_path / "q.jsonl"
    path.write_bytes(b'\xef\xbb\xbf{"id": "a", "question": "Why?"}\r\n\r\n{"id": "b", "question": "How?"}\r\n')
    assert [q.id for q in read_questions(path)] == ["a", "b"]


def test_many_faults_are_listed_together_with_their_lines(tmp_path):
    path = tmp_path / "q.jsonl"
    rows = [
        '{"id": "a", "question": "Why?"}',
        '{"id": "b", "question": ',
        "",
        "[1, 2]",
        '{"question": "Why?"}',
        '{"id": "c"}',
        '{"id": "d", "question": "Why?", "kind": "essay"}',
        '{"id": "e", "question": "Why?", "answers": "yes"}',
        '{"id": "f", "question": "Why?", "gold": ["leave.md"]}',
        '{"id": "g", "question": "Why?", "gold": [{"document": "leave.md", "page": 0}]}',
    ]
    path.write_text("\n".join(rows))
    said = faults(path)
    assert "8 broken line(s)" in said
    for line, reason in (
        (2, "not JSON"),
        (4, "got list"),
        (5, "no 'id'"),
        (6, "no 'question'"),
        (7, "kind 'essay'"),
        (8, "'answers'"),
        (9, "'gold'"),
        (10, "page 0"),
    ):
        assert any(
            part.startswith(f"line {line}: ") and reason in part for part in said.replace("\n  ", "\n").split("\n")
        ), (line, reason, said)
    assert "line 1:" not in said and "line 3:" not in said


def test_a_long_list_of_faults_is_cut_and_counted(tmp_path):
    path = tmp_path / "q.jsonl"
    path.write_text("nonsense\n" * 25)
    said = faults(path)
    assert "25 broken line(s)" in said and "15 more" in said and "line 11:" not in said


@pytest.mark.parametrize(
    "changes",
    [
        {"gold": {"document": "leave.md"}},
        {"gold": "leave.md"},
        {"gold": 3},
        {"tags": 3},
        {"split": 1},
        {"answerable": "no"},
        {"kind": ["span"]},
        {"gold": [{"document": "leave.md", "page": True}]},
    ],
)
def test_a_wrong_type_is_a_named_fault(changes, tmp_path):
    assert "line 1: " in faults(write_jsonl(tmp_path / "q.jsonl", [FULL | changes]))


def test_double_ids_are_refused(tmp_path):
    rows = [{"id": i, "question": "Why?"} for i in ("a", "b", "a", 7, "7")]
    said = faults(write_jsonl(tmp_path / "q.jsonl", rows))
    assert "'a' (lines 1 and 3)" in said and "'7' (lines 4 and 5)" in said and "'b'" not in said


def test_an_empty_a_missing_and_a_binary_file_are_said(tmp_path):
    (tmp_path / "empty.jsonl").write_text("\n\n")
    (tmp_path / "binary.jsonl").write_bytes(b"\xff\xfe\x00\x01")
    assert "empty" in faults(tmp_path / "empty.jsonl")
    assert "no file" in faults(tmp_path / "missing.jsonl")
    assert "UTF-8" in faults(tmp_path / "binary.jsonl")
    assert "text file" in faults(tmp_path)


# ---- chats


def test_chats_are_read(tmp_path):
    path = write_jsonl(tmp_path / "chats.jsonl", [CHAT | {"origin": "feedback", "source": [{"document": "leave.md"}]}])
    assert holds_messages(path)
    (example,) = read_examples(path)
    assert example.messages == tuple(CHAT["messages"])
    assert (example.origin, example.source[0].document, example.source[0].page) == ("feedback", "leave.md", None)


def test_a_questions_file_holds_no_messages(tmp_path):
    assert not holds_messages(write_jsonl(tmp_path / "q.jsonl", [FULL]))


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ({"messages": CHAT["messages"][:1]}, "at least"),
        ({"messages": CHAT["messages"] + CHAT["messages"][:1]}, "last message"),
        ({"messages": [CHAT["messages"][0], {"role": "assistant", "content": "  "}]}, "not empty"),
        ({"messages": [{"role": "tool", "content": "x"}, CHAT["messages"][1]]}, "role"),
        ({"messages": [{"role": "user", "content": None}, CHAT["messages"][1]]}, "content"),
        (CHAT | {"origin": "stolen"}, "origin 'stolen'"),
        (CHAT | {"source": ["leave.md"]}, "source"),
        (CHAT | {"source": [{"page": 1}]}, "source"),
    ],
)
def test_a_broken_chat_is_named_with_its_line(row, reason, tmp_path):
    said = faults(write_jsonl(tmp_path / "chats.jsonl", [CHAT, row]), read_examples)
    assert "line 2: " in said and reason in said and "line 1: " not in said


# ---- into the expert


def test_import_splits_a_file_without_splits_by_document(tmp_path):
    rows = [
        {"id": str(i), "question": f"Question {i}?", "answers": ["x"], "gold": [{"document": f"{i % 10}.md"}]}
        for i in range(40)
    ]
    expert = doyen.init(tmp_path / "expert")
    report = doyen.import_file(expert, write_jsonl(tmp_path / "q.jsonl", rows))
    assert (report.questions, report.test_questions, report.split_made) == (40, 12, True)
    held = held_out_questions(expert)
    kept = [q for q in read_questions(expert / "examples" / "questions.jsonl") if q.split == "train"]
    assert len(held) == 12 and len(kept) == 28
    assert not documents_of(held) & documents_of(kept)


def test_import_keeps_the_splits_of_the_file(tmp_path):
    rows = [{"id": "a", "question": "Why?", "split": "test"}, {"id": "b", "question": "How?", "split": "train"}]
    expert = doyen.init(tmp_path / "expert")
    report = doyen.import_file(expert, write_jsonl(tmp_path / "q.jsonl", rows))
    assert not report.split_made and report.test_questions == 1
    assert [q.id for q in held_out_questions(expert)] == ["a"]


def test_a_broken_file_leaves_the_imported_one(tmp_path):
    expert = doyen.init(tmp_path / "expert")
    doyen.import_file(expert, write_jsonl(tmp_path / "q.jsonl", [FULL]))
    with pytest.raises(ExamplesError):
        doyen.import_file(expert, write_jsonl(tmp_path / "broken.jsonl", [FULL, {"id": "x"}]))
    assert [q.id for q in read_questions(expert / "examples" / "questions.jsonl")] == ["a"]


def test_chats_are_kept_beside_the_questions(tmp_path):
    expert = doyen.init(tmp_path / "expert")
    doyen.import_file(expert, write_jsonl(tmp_path / "q.jsonl", [FULL]))
    assert doyen.import_file(expert, write_jsonl(tmp_path / "chats.jsonl", [CHAT, CHAT])).own == 2
    lines = (expert / "examples" / "own.jsonl").read_text().splitlines()
    assert [json.loads(line)["messages"] for line in lines] == [CHAT["messages"]] * 2
    assert (expert / "examples" / "questions.jsonl").exists()
