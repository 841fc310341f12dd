"""Answers files: written as they come, taken up after a stop, in the form of the contract."""

import json

import pytest
import tiny_models
import torch

import doyen
from doyen.answering import BLOCK, answer_file, answer_of, ask_into
from doyen.config import ModelSettings, Settings
from doyen.expert import Expert, open_retriever
from doyen.models.engine import Completion
from doyen.models.openvino_engine import OpenVINOEngine
from doyen.models.transformers_engine import TransformersEngine
from doyen.prompts import STUCK, UNKNOWN
from doyen.records import Question


class ScriptedEngine:
    """A documented fake: writes a text for each question (the part of the prompt after "Question: "), notes what it was asked."""

    name = "scripted"
    context_tokens = 8192

    def __init__(self, write, stop_at=None):
        self.write, self.stop_at, self.asked = write, stop_at, []

    def generate(
        self, prompts, *, max_tokens, adapter=None, refusal=None, may_refuse=True, progress=None, constraints=()
    ):
        found = []
        for prompt in prompts:
            if len(self.asked) == self.stop_at:
                raise KeyboardInterrupt
            self.asked.append(prompt[-1]["content"].rsplit("Question: ", 1)[1])
            found.append(Completion(self.write(self.asked[-1]), 10, 3, 0.1, 0.01))
        return found

    def count_tokens(self, messages):
        return 10

    def template_hash(self):
        return "scripted"


QUESTIONS = [Question(f"q{i}", f"What is number {i}?") for i in range(2 * BLOCK + 5)]


def rows(path):
    return [json.loads(line) for line in path.read_text(encoding="utf-8").split("\n")[:-1]]


def test_all_questions_are_answered_in_their_order(tmp_path):
    engine, said = ScriptedEngine(lambda q: f"{q} indeed"), []
    answers = answer_file(Expert(engine), QUESTIONS, tmp_path / "new" / "out.jsonl", lambda *p: said.append(p))
    assert [row["id"] for row in rows(tmp_path / "new" / "out.jsonl")] == [q.id for q in QUESTIONS]
    assert [a.text for a in answers] == [f"{q.question} indeed" for q in QUESTIONS]
    assert [p.name for p in (tmp_path / "new").iterdir()] == ["out.jsonl"]
    assert said[0] == ("base", 0, 69) and said[1] == ("base", 32, 69) and said[-1] == ("base", 69, 69)


def test_a_stopped_run_goes_on_and_asks_no_answered_question_twice(tmp_path):
    out = tmp_path / "out.jsonl"
    stopped = ScriptedEngine(str.upper, stop_at=BLOCK + 3)
    with pytest.raises(KeyboardInterrupt):
        answer_file(Expert(stopped), QUESTIONS, out)
    assert not out.exists()
    rest = ScriptedEngine(str.upper)
    answer_file(Expert(rest), QUESTIONS, out)
    assert rest.asked == [q.question for q in QUESTIONS[BLOCK:]]
    assert [row["answer"] for row in rows(out)] == [q.question.upper() for q in QUESTIONS]


@pytest.mark.parametrize("change", ["settings", "questions", "engine"])
def test_other_inputs_take_up_nothing(change, tmp_path):
    out = tmp_path / "out.jsonl"
    with pytest.raises(KeyboardInterrupt):
        answer_file(Expert(ScriptedEngine(str.upper, stop_at=BLOCK)), QUESTIONS, out)
    other = ScriptedEngine(str.upper)
    settings, questions = Settings(), QUESTIONS
    if change == "settings":
        settings = Settings(model=ModelSettings(max_answer_tokens=7))
    elif change == "questions":
        questions = [Question("q0", "What else?"), *QUESTIONS[1:]]
    else:
        other.name = "another"
    answer_file(Expert(other, settings=settings), questions, out)
    assert len(other.asked) == len(QUESTIONS)


@pytest.mark.parametrize("cut", [1, 20, -3])
def test_a_last_line_cut_off_is_dropped_and_asked_again(cut, tmp_path):
    path = tmp_path / "answers.jsonl"
    ask_into(Expert(ScriptedEngine(lambda q: "für 27 Tage ü")), QUESTIONS[:3], None, path, None)
    whole = path.read_bytes()
    lines = whole.split(b"\n")
    path.write_bytes(b"\n".join(lines[:2]) + b"\n" + lines[2][:cut])
    engine = ScriptedEngine(lambda q: "für 27 Tage ü")
    answers = ask_into(Expert(engine), QUESTIONS[:3], None, path, None)
    assert engine.asked == [QUESTIONS[2].question]
    assert path.read_bytes() == whole and len(answers) == 3


def test_a_line_cut_within_a_character_is_dropped(tmp_path):
    path = tmp_path / "answers.jsonl"
    path.write_bytes('{"id": "q0", "arm": "base", "answer": "ü'.encode()[:-1])
    engine = ScriptedEngine(str.upper)
    assert len(ask_into(Expert(engine), QUESTIONS[:1], None, path, None)) == 1
    assert len(rows(path)) == 1


def test_line_separators_in_an_answer_break_no_line(tmp_path):
    path = tmp_path / "answers.jsonl"
    ask_into(Expert(ScriptedEngine(lambda q: "one\u2028two\x85three")), QUESTIONS[:2], None, path, None)
    engine = ScriptedEngine(str.upper)
    answers = ask_into(Expert(engine), QUESTIONS[:2], None, path, None)
    assert engine.asked == [] and answers[0].text == "one\u2028two\x85three"


# ---- the form of the file, on a tiny model and a real index


@pytest.fixture(scope="module")
def expert(tmp_path_factory):
    root = tmp_path_factory.mktemp("answering")
    for name in ("phi", "bert", "documents"):
        (root / name).mkdir()
    (root / "documents" / "leave.txt").write_text(
        "Page one.\fThe guild grants 27 days of leave a year. Ask the warden.\f"
    )
    (root / "documents" / "locks.md").write_text(
        "# Locks\n\n## Hours\n\nThe Orrel lock opens at 06:30 and closes at 22:15.\n"
    )
    folder = doyen.init(
        root / "expert",
        model=str(tiny_models.phi_folder(root / "phi")),
        embedder=str(tiny_models.bert_folder(root / "bert")),
    )
    doyen.ingest(folder, [root / "documents"])
    return folder


def rag(expert, engine):
    from doyen.config import load_settings

    settings = load_settings(expert)
    return Expert(engine, retriever=open_retriever(expert, settings), settings=settings)


ASKED = [
    Question("leave", "How many days of leave does the guild grant?"),
    Question("lock", "When does the Orrel lock open?"),
]
WRITTEN = {ASKED[0].question: "27 days [1]", ASKED[1].question: "06:30"}


def test_rows_are_those_of_the_contract(expert, tmp_path):
    one = rag(expert, ScriptedEngine(WRITTEN.get))
    answers = answer_file(one, ASKED, tmp_path / "out.jsonl")
    found = rows(tmp_path / "out.jsonl")
    required = {"id", "arm", "answer", "answered", "citations", "seconds", "prompt_tokens", "completion_tokens"}
    for row, answer in zip(found, answers, strict=True):
        assert set(row) - required <= {"refusal_probability"} and required <= set(row)
        assert (row["arm"], row["answered"]) == ("rag", True)
        assert answer_of(row).citations == answer.citations
        assert row["citations"]
        for citation in row["citations"]:
            text, _ = one.retriever.index.text(citation["document"])
            assert {"document", "page", "section", "start", "end", "quote"} <= set(citation)
            assert text[citation["start"] : citation["end"]] == citation["quote"] and 0 < len(citation["quote"]) <= 300
    leave, lock = (row["citations"] for row in found)
    assert [(c["document"], c["page"]) for c in leave] == [("leave.txt", 2)] and "27 days" in leave[0]["quote"]
    assert [(c["document"], c["section"], c.get("attributed")) for c in lock] == [("locks.md", "Hours", True)]


def test_a_refusal_has_no_citation_and_says_so(expert, tmp_path):
    answer_file(rag(expert, ScriptedEngine(lambda q: "Not in the documents. [1]")), ASKED, tmp_path / "out.jsonl")
    for row in rows(tmp_path / "out.jsonl"):
        assert (row["answered"], row["answer"], row["citations"]) == (False, UNKNOWN, [])


def test_an_answer_that_only_repeats_itself_is_not_given(expert, tmp_path):
    answer_file(rag(expert, ScriptedEngine(lambda q: "27 days " * 30 + "[1]")), ASKED, tmp_path / "out.jsonl")
    for row in rows(tmp_path / "out.jsonl"):
        assert (row["answered"], row["answer"], row["citations"]) == (False, STUCK, [])


def test_without_evidence_the_model_is_not_asked(expert, tmp_path):
    import dataclasses

    one = rag(expert, ScriptedEngine(str.upper))
    one.settings = dataclasses.replace(
        one.settings, answer=dataclasses.replace(one.settings.answer, min_similarity=1.0)
    )
    answers = answer_file(one, [Question("x", "Who painted the leave rules?"), ASKED[0]], tmp_path / "out.jsonl")
    assert one.engine.asked == [ASKED[0].question]  # most of its longer words stand in a passage
    assert (answers[0].answered, answers[0].text, answers[0].citations) == (False, UNKNOWN, ())


class NarrowEngine(ScriptedEngine):
    """A fake whose prompts have a token a character; notes how many passages the last one showed."""

    def count_tokens(self, messages):
        return sum(len(m["content"]) for m in messages)

    def generate(self, prompts, **options):
        self.passages = prompts[-1][-1]["content"].count("\n\n")
        self.tokens = self.count_tokens(prompts[-1])
        return super().generate(prompts, **options)


def test_passages_that_do_not_fit_are_left_out_from_the_end_and_counted(expert, tmp_path):
    question = [Question("both", "How many days of leave does the guild grant, and when does the Orrel lock open?")]
    wide, narrow = (rag(expert, NarrowEngine(lambda q: "27 days [1]")) for _ in range(2))
    whole = answer_file(wide, question, tmp_path / "wide.jsonl")[0]
    assert wide.engine.passages > 1 and whole.passages_left_out == 0
    assert "passages_left_out" not in rows(tmp_path / "wide.jsonl")[0]
    narrow.engine.context_tokens = wide.engine.tokens - 1 + narrow.settings.model.max_answer_tokens
    answer = answer_file(narrow, question, tmp_path / "narrow.jsonl")[0]
    assert narrow.engine.passages == wide.engine.passages - 1
    assert answer.passages_left_out == 1 == rows(tmp_path / "narrow.jsonl")[0]["passages_left_out"]
    assert answer.hits == whole.hits[:-1]


@pytest.mark.parametrize("name", ["openvino", "transformers"])
def test_the_arms_with_the_tiny_model(name, expert, tmp_path):
    from doyen.config import load_settings

    folder = tiny_models.phi_folder(tmp_path)
    engine = OpenVINOEngine(folder) if name == "openvino" else TransformersEngine(folder, dtype=torch.float32)
    settings = load_settings(expert)
    for one, arm in ((Expert(engine, settings=settings), "base"), (rag(expert, engine), "rag")):
        answers = answer_file(one, ASKED, tmp_path / f"{arm}.jsonl")
        assert {a.arm for a in answers} == {arm}
        assert all(a.prompt_tokens > 20 and a.seconds > 0 and 0 <= a.refusal_probability <= 1 for a in answers)
        assert [a.as_dict(q.id) for a, q in zip(answers, ASKED, strict=True)] == rows(tmp_path / f"{arm}.jsonl")
