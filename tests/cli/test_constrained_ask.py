"""`doyen ask` with constraints and its cache, through an expert with a scripted engine."""

import json
import sys

import pytest
import tiny_models

from doyen.cli import main
from doyen.config import AnswerSettings, ModelSettings, Settings, settings_toml
from doyen.expert import Expert
from doyen.models.constraints import Choices, JsonSchema, Regex


@pytest.fixture
def run(monkeypatch, capsys):
    """Call the command line with arguments; return (exit code, stdout, stderr)."""

    def call(*arguments):
        monkeypatch.setattr(sys, "argv", ["doyen", *map(str, arguments)])
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            main()
        code = ended.value.code
        return (0 if code is None else code), *capsys.readouterr()

    return call


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return tiny_models.llama_folder(tmp_path_factory.mktemp("llama"))


@pytest.fixture
def expert(tmp_path, model):
    folder = tmp_path / "expert"
    folder.mkdir()
    made = Settings(
        model=ModelSettings(name=str(model), engine="openvino", max_answer_tokens=60), answer=AnswerSettings(arm="base")
    )
    (folder / "doyen.toml").write_text(settings_toml(made))
    return folder


def test_a_choice_prints_its_probabilities(run, expert):
    code, out, err = run("ask", "Is it?", "--choices", "yes, no,maybe", "--expert", expert)
    assert code == 0, err
    assert out.splitlines()[0] in ("yes", "no", "maybe")
    assert [line.split(":")[0].strip() for line in out.splitlines()[1:4]] == ["yes", "no", "maybe"]
    code, out, _ = run("ask", "Is it?", "--choices", "yes,no,maybe", "--expert", expert, "--json")
    row = json.loads(out)
    assert list(row["choice_probabilities"]) == ["yes", "no", "maybe"]
    assert sum(row["choice_probabilities"].values()) == pytest.approx(1, abs=1e-5)
    assert max(row["choice_probabilities"], key=row["choice_probabilities"].get) == row["answer"]


def test_a_schema_from_a_file_and_an_expression(run, expert, tmp_path):
    schema = tmp_path / "schema.json"
    schema.write_text('{"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}')
    code, out, err = run("ask", "How many?", "--json-schema", schema, "--expert", expert)
    assert code == 0, err
    assert isinstance(json.loads(out.splitlines()[0])["n"], int)
    code, out, _ = run("ask", "How many?", "--regex", "n[0-9]{3}", "--expert", expert)
    assert out.startswith("n") and out.strip()[1:].isdigit() and len(out.strip()) == 4


def test_questions_of_a_file_are_answered_within_the_constraint(run, expert, tmp_path):
    questions = tiny_models.write_jsonl(
        tmp_path / "q.jsonl", [{"id": f"q{i}", "question": f"Is it {i}?"} for i in range(3)]
    )
    code, _, err = run(
        "ask", "--questions", questions, "--out", tmp_path / "o.jsonl", "--choices", "a,b", "--expert", expert
    )
    assert code == 0, err
    assert {json.loads(line)["answer"] for line in (tmp_path / "o.jsonl").read_text().splitlines()} <= {"a", "b"}


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--choices", ""], "empty"),
        (["--choices", "a,a"], "twice"),
        (["--regex", "(a"], "unclosed"),
        (["--json-schema", "nowhere.json"], "nowhere.json"),
        (["--choices", "a,b", "--regex", "a"], "one of"),
    ],
)
def test_what_cannot_be_met_is_wrong_usage(run, expert, options, said):
    code, out, err = run("ask", "Is it?", *options, "--expert", expert)
    assert (code, out) == (2, "") and said in err


def test_an_answer_too_long_for_its_tokens_is_said(run, expert, tmp_path):
    schema = tmp_path / "schema.json"
    schema.write_text('{"type": "array", "items": {"type": "string"}, "minItems": 40}')
    code, _, err = run("ask", "Which?", "--json-schema", schema, "--expert", expert)
    assert code == 1 and "max_answer_tokens" in err


def test_the_same_question_is_answered_from_the_cache_unless_it_may_not(run, expert):
    first, second, third = (
        json.loads(run("ask", "Who?", "--expert", expert, "--json", *more)[1]) for more in ([], [], ["--no-cache"])
    )
    assert second["cached"] and "cached" not in first and "cached" not in third
    assert second["answer"] == first["answer"] == third["answer"] and second["seconds"] == first["seconds"]


@pytest.mark.parametrize("constraint", [Choices(("yes", "no")), Regex("[a-z]{2}"), JsonSchema({"type": "boolean"})])
def test_an_expert_holds_its_answers_to_a_constraint(expert, constraint):
    answer = Expert.open(expert).ask("Is it?", constraint=constraint)
    assert answer.answered and not answer.citations
    assert bool(answer.choice_probabilities) == isinstance(constraint, Choices)
    assert not (expert / "answers.cache").exists()
