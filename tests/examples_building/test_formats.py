"""Alpaca, ShareGPT, messages and prompt/completion, a line each or in an array; what is none of them is named."""

import json

import pytest
from tiny_models import write_jsonl

import doyen
from doyen.errors import ExamplesError
from doyen.examples.importing import holds_messages, read_examples

ASKED, ANSWERED = "How many days of leave?", "27 days"
TURNS = [{"role": "user", "content": ASKED}, {"role": "assistant", "content": ANSWERED}]
SYSTEM = {"role": "system", "content": "Be brief."}
HUMAN, GPT = {"from": "human", "value": ASKED}, {"from": "gpt", "value": ANSWERED}
EQUAL = [
    {"messages": TURNS},
    {"messages": [{"role": "user", "content": [{"type": "text", "text": ASKED}]}, TURNS[1]]},
    {"instruction": ASKED, "input": "", "output": ANSWERED},
    {"instruction": ASKED, "output": f" {ANSWERED}\n", "text": "of the template"},
    {"conversations": [HUMAN, GPT], "id": "7"},
    {"conversations": TURNS},
    {"prompt": ASKED, "completion": ANSWERED},
    {"prompt": TURNS[:1], "completion": TURNS[1:]},
    {"prompt": TURNS[:1], "completion": ANSWERED},
]


@pytest.mark.parametrize("row", EQUAL)
def test_each_form_gives_the_same_messages(row, tmp_path):
    path = write_jsonl(tmp_path / "a.jsonl", [row])
    assert holds_messages(path)
    (example,) = read_examples(path)
    assert list(example.messages) == TURNS and example.origin == "human"


@pytest.mark.parametrize(
    ("row", "messages"),
    [
        ({"conversations": [{"from": "system", "value": "Be brief."}, HUMAN, GPT]}, [SYSTEM, *TURNS]),
        ({"conversations": [HUMAN, GPT], "system": "Be brief."}, [SYSTEM, *TURNS]),
        ({"instruction": ASKED, "output": ANSWERED, "system": "Be brief."}, [SYSTEM, *TURNS]),
        ({"conversations": [HUMAN, GPT, HUMAN, GPT]}, TURNS * 2),
        ({"instruction": ASKED, "output": ANSWERED, "history": [[ASKED, ANSWERED]]}, TURNS * 2),
    ],
)
def test_system_and_earlier_turns_are_kept(row, messages, tmp_path):
    (example,) = read_examples(write_jsonl(tmp_path / "a.jsonl", [row]))
    assert list(example.messages) == messages


def test_alpacas_input_stands_below_its_instruction(tmp_path):
    row = {"instruction": "Shorten.", "input": "The guild grants 27 days.", "output": "27 days"}
    (example,) = read_examples(write_jsonl(tmp_path / "a.jsonl", [row]))
    assert example.messages[0]["content"] == "Shorten.\n\nThe guild grants 27 days."


@pytest.mark.parametrize("indent", [None, 2])
def test_a_json_array_is_read_too(indent, tmp_path):
    path = tmp_path / "a.json"
    path.write_text("\ufeff" + json.dumps(EQUAL, indent=indent), encoding="utf-8")
    assert holds_messages(path) and len(read_examples(path)) == len(EQUAL)
    questions = tmp_path / "q.json"
    questions.write_text(json.dumps([{"id": "a", "question": "Why?"}], indent=indent))
    assert doyen.import_file(doyen.init(tmp_path / "expert"), questions).questions == 1


def said_of(text, tmp_path):
    path = tmp_path / "a.json"
    path.write_text(text)
    with pytest.raises(ExamplesError) as caught:
        read_examples(path)
    return str(caught.value)


def test_faults_of_an_array_are_named_with_their_lines(tmp_path):
    good = json.dumps(EQUAL[0])
    assert "line 3: " in said_of(f'[\n{good},\n{{"output": "x"}},\n{good}\n]', tmp_path)
    assert "line 3: not JSON" in said_of(f"[\n{good},\n{{broken\n]", tmp_path)
    assert "not closed by ]" in said_of(f"[\n{good},\n", tmp_path)
    assert "more text after" in said_of(f"[{good}]\n{good}", tmp_path)
    assert "is empty" in said_of("[]", tmp_path)


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ({"text": "just text"}, "instruction and output, or prompt and completion; there is 'text'"),
        ({}, "there is nothing"),
        ({"messages": []}, "there is none"),
        ({"messages": [SYSTEM]}, "there is only the system's"),
        ({"messages": [SYSTEM, TURNS[1]]}, "only the assistant and the system's"),
        ({"messages": [TURNS[0], SYSTEM, TURNS[1]]}, "system message may only be the first"),
        ({"messages": "hello"}, "'messages' is not a list"),
        ({"conversations": [HUMAN, GPT, HUMAN]}, "last message must be the assistant's"),
        ({"conversations": [HUMAN, {"from": "observation", "value": "x"}]}, "'observation' in 'conversations'"),
        ({"conversations": ["hello"]}, "no object with 'from' and 'value'"),
        ({"conversations": [HUMAN, {"from": "gpt", "value": 3}]}, "'value' is no text"),
        ({"instruction": ASKED}, "'output' is missing"),
        ({"instruction": 3, "output": "x"}, "'instruction' is no text"),
        ({"instruction": ASKED, "input": 3, "output": "x"}, "'input' is no text"),
        ({"instruction": ASKED, "output": ""}, "not empty"),
        ({"instruction": ASKED, "output": "x", "history": ["x"]}, "'history'"),
        ({"prompt": ASKED}, "'completion' is missing"),
        ({"prompt": TURNS[:1], "completion": 3}, "'content' is no text"),
    ],
)
def test_what_is_none_of_them_is_named_with_its_line(row, reason, tmp_path):
    path = write_jsonl(tmp_path / "a.jsonl", [EQUAL[0], row])
    with pytest.raises(ExamplesError) as caught:
        read_examples(path)
    assert "line 2: " in str(caught.value) and reason in str(caught.value), str(caught.value)


def test_importing_what_is_neither_says_both_forms(tmp_path):
    path = write_jsonl(tmp_path / "a.jsonl", [{"text": "x"}])
    with pytest.raises(ExamplesError, match="no 'id' and no 'question'; an example would have messages .*'text'"):
        doyen.import_file(doyen.init(tmp_path / "expert"), path)


def test_other_forms_are_imported_as_chats(tmp_path):
    expert = doyen.init(tmp_path / "expert")
    assert doyen.import_file(expert, write_jsonl(tmp_path / "a.jsonl", EQUAL)).own == len(EQUAL)
    assert [list(e.messages) for e in read_examples(expert / "examples" / "own.jsonl")] == [TURNS] * len(EQUAL)
