"""A comparison on tiny real models and a small index: written once, gone on with, asked anew when inputs change."""

import json
import sys
from pathlib import Path

import pytest
import tiny_models
import torch
from tiny_models import write_jsonl

import doyen
from doyen.adapters import AdapterManifest, question_hash
from doyen.cli import main
from doyen.errors import UsageError
from doyen.evaluation.comparison import latest_report, read_test_questions
from doyen.models.transformers_engine import TransformersEngine
from doyen.records import GoldSource, Question

QUESTIONS = [
    Question(
        "a", "How many days of leave does the guild grant?", ("27 days",), "span", (GoldSource("leave.md"),), "test"
    ),
    Question("b", "When does the Orrel lock open?", ("06:30",), "span", (GoldSource("locks.md"),), "test"),
    Question("c", "How far is the moon?", (), "span", (), "test", answerable=False),
]


class CountingEngine:
    """Delegates to the true engine and notes each prompt; presses Ctrl-C when `stop_at` prompts were answered."""

    def __init__(self, engine, stop_at=None):
        self.engine, self.name, self.stop_at = engine, engine.name, stop_at
        self.context_tokens, self.kind = engine.context_tokens, engine.kind
        self.asked = []

    def generate(self, prompts, **options):
        if self.stop_at is not None and len(self.asked) >= self.stop_at:
            raise KeyboardInterrupt
        self.asked += [(options.get("adapter"), p[-1]["content"]) for p in prompts]
        return self.engine.generate(prompts, **options)

    def count_tokens(self, messages):
        return self.engine.count_tokens(messages)

    def template_hash(self):
        return self.engine.template_hash()


@pytest.fixture(scope="module")
def engine(tmp_path_factory):
    return TransformersEngine(tiny_models.phi_folder(tmp_path_factory.mktemp("phi")), dtype=torch.float32)


@pytest.fixture
def expert(engine, tmp_path):
    folder = tmp_path / "documents"
    folder.mkdir()
    (folder / "leave.md").write_text("# Leave\n\nThe guild grants 27 days of leave a year.\n")
    (folder / "locks.md").write_text("# Locks\n\nThe Orrel lock opens at 06:30 and closes at 22:15.\n")
    (tmp_path / "bert").mkdir()
    expert = doyen.init(
        tmp_path / "expert", model=str(engine.folder), embedder=str(tiny_models.bert_folder(tmp_path / "bert"))
    )
    doyen.ingest(expert, [folder])
    settings = (expert / "doyen.toml").read_text().replace("# max_answer_tokens = 96", "max_answer_tokens = 6")
    (expert / "doyen.toml").write_text(settings)
    return expert


def write_text(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def test_the_report_is_written_with_an_answers_file_an_arm(expert, engine):
    counting = CountingEngine(engine)
    report = doyen.compare(expert, QUESTIONS, arms=["rag", "base"], engine=counting)
    folder = Path(report["folder"])
    assert folder.parent == expert / "comparisons"
    assert {p.name for p in folder.iterdir()} == {
        "report.json",
        "report.html",
        "report.md",
        "inputs",
        "memory.json",
        "answers.base.jsonl",
        "answers.rag.jsonl",
    }
    assert list(report["arms"]) == ["base", "rag"]
    assert len(counting.asked) == 6
    saved = json.loads((folder / "report.json").read_text())
    assert saved["arms"] == report["arms"] and "<html" in (folder / "report.html").read_text()
    assert latest_report(expert)["folder"] == str(folder)
    for arm in ("base", "rag"):
        rows = [json.loads(line) for line in (folder / f"answers.{arm}.jsonl").read_text().splitlines()]
        assert [row["id"] for row in rows] == ["a", "b", "c"] and {row["arm"] for row in rows} == {arm}


def without_times(metrics):
    """Leave out the seconds, which the answers file rounds."""
    return {name: value for name, value in metrics.items() if "seconds" not in name}


def test_the_same_comparison_asks_nothing_again(expert, engine):
    first = doyen.compare(expert, QUESTIONS, arms=["base", "rag"], engine=engine)
    counting = CountingEngine(engine)
    again = doyen.compare(expert, QUESTIONS, arms=["rag", "base"], engine=counting)
    assert counting.asked == []
    assert again["folder"] == first["folder"]
    assert list(again["arms"]) == list(first["arms"])
    for arm in first["arms"]:
        assert without_times(again["arms"][arm]["metrics"]) == without_times(first["arms"][arm]["metrics"])


def test_an_interrupted_comparison_goes_on_without_asking_twice(expert, engine):
    stopped = CountingEngine(engine, stop_at=3)
    with pytest.raises(KeyboardInterrupt):
        doyen.compare(expert, QUESTIONS, arms=["base", "rag"], engine=stopped)
    assert len(stopped.asked) == 3
    rest = CountingEngine(engine)
    report = doyen.compare(expert, QUESTIONS, arms=["base", "rag"], engine=rest)
    assert len(rest.asked) == 3 and not {p for _, p in rest.asked} & {p for _, p in stopped.asked}
    whole = doyen.compare(expert, QUESTIONS, arms=["base", "rag"], engine=engine, out=expert / "whole")
    for arm, figures in whole["arms"].items():
        assert without_times(figures["metrics"]) == without_times(report["arms"][arm]["metrics"])


def test_changed_settings_questions_or_documents_are_asked_anew(expert, engine, tmp_path):
    out = expert / "out"
    doyen.compare(expert, QUESTIONS, arms=["rag"], engine=engine, out=out)

    def asked(questions=QUESTIONS):
        counting = CountingEngine(engine)
        doyen.compare(expert, questions, arms=["rag"], engine=counting, out=out)
        return len(counting.asked)

    assert asked() == 0
    assert asked(QUESTIONS[:2]) == 2
    toml = (expert / "doyen.toml").read_text()
    (expert / "doyen.toml").write_text(toml.replace("max_answer_tokens = 6", "max_answer_tokens = 5"))
    assert asked(QUESTIONS[:2]) == 2
    (tmp_path / "documents" / "leave.md").write_text("# Leave\n\nThe guild grants 28 days of leave a year.\n")
    doyen.ingest(expert, [tmp_path / "documents"])
    assert asked(QUESTIONS[:2]) == 2
    assert asked(QUESTIONS[:2]) == 0


def test_another_adapter_of_the_same_name_is_asked_anew(expert, engine):
    from doyen.finetuning.running import finetune

    examples = expert.parent / "examples.jsonl"
    chat = [{"role": "user", "content": "Days?"}, {"role": "assistant", "content": "27 days"}]
    write_jsonl(examples, [{"messages": chat}] * 2)
    options = {"name": "a", "examples": examples, "rank": 2, "epochs": 1.0, "learning_rate": 0.01}
    finetune(expert, **options)
    first = doyen.compare(expert, QUESTIONS[:1], arms=["base", "finetuned"], engine=engine)
    finetune(expert, **options | {"epochs": 2.0}, replace=True)
    counting = CountingEngine(TransformersEngine(engine.folder, dtype=torch.float32))
    second = doyen.compare(expert, QUESTIONS[:1], arms=["base", "finetuned"], engine=counting)
    assert [bool(adapter) for adapter, _ in counting.asked] == [True]
    assert first["folder"] != second["folder"]


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"arms": ["base", "ceiling"]}, "unknown arm.*ceiling"),
        ({"arms": []}, "none given"),
        ({"arms": ["finetuned"]}, "no adapter"),
        ({"arms": ["base"], "questions": []}, "no questions"),
    ],
)
def test_what_cannot_be_compared_is_refused(options, reason, expert, engine):
    with pytest.raises(UsageError, match=reason):
        doyen.compare(expert, options.pop("questions", QUESTIONS), engine=engine, **options)
    assert not (expert / "comparisons").exists()


def test_the_imported_test_split_is_asked_by_default(expert, engine, tmp_path):
    rows = [{"id": "t", "question": "Leave?", "split": "test"}, {"id": "s", "question": "Lock?", "split": "train"}]
    doyen.import_file(expert, write_jsonl(tmp_path / "q.jsonl", rows))
    counting = CountingEngine(engine)
    doyen.compare(expert, arms=["base"], engine=counting)
    assert [prompt for _, prompt in counting.asked] == ["Question: Leave?"]


def test_a_questions_file_gives_its_test_split_or_all(tmp_path):
    marked = write_jsonl(tmp_path / "a.jsonl", [{"id": s, "question": "Why?", "split": s} for s in ("train", "test")])
    plain = write_jsonl(tmp_path / "b.jsonl", [{"id": "x", "question": "Why?"}])
    assert [q.id for q in read_test_questions(marked)] == ["test"]
    assert [q.id for q in read_test_questions(marked, "train")] == ["train"]
    assert [q.id for q in read_test_questions(marked, "all")] == ["train", "test"]
    assert [q.id for q in read_test_questions(plain)] == ["x"]


def test_answers_that_no_comparison_wrote_are_kept(expert, engine, tmp_path):
    mine = tmp_path / "results" / "answers.rag.jsonl"
    mine.parent.mkdir()
    mine.write_text("mine")
    with pytest.raises(UsageError, match="no comparison wrote"):
        doyen.compare(expert, QUESTIONS, arms=["rag"], engine=engine, out=mine.parent)
    assert mine.read_text() == "mine"


def test_questions_that_the_adapter_was_trained_on_are_refused(expert, engine):
    folder = expert / "adapters" / "a"
    folder.mkdir(parents=True)
    row = {"questions": [question_hash("how many DAYS of leave does the guild grant")]}
    AdapterManifest(
        *("a", "m", "f", "lora", "t", "2026-01-01T00:00:00", {}, row, [], [], 10, 5, 100, 1.0, 0.5, 1.25, None)
    ).write(folder)
    with pytest.raises(UsageError, match="1 of 3 questions were trained on"):
        doyen.compare(expert, QUESTIONS, engine=engine, adapter="a")
    assert doyen.compare(expert, QUESTIONS[1:], arms=["base"], engine=engine)["arms"]


def test_answers_with_the_same_inputs_are_taken_over_from_another_comparison(expert, engine):
    first = doyen.compare(expert, QUESTIONS, arms=["base"], engine=engine)
    counting = CountingEngine(engine)
    second = doyen.compare(expert, QUESTIONS, arms=["base", "rag"], engine=counting)
    assert len(counting.asked) == 3 and all("Orrel lock opens" in p or "guild grants" in p for _, p in counting.asked)
    assert second["manifest"]["taken_over"] == {"base": Path(first["folder"]).name}
    assert without_times(second["arms"]["base"]["metrics"]) == without_times(first["arms"]["base"]["metrics"])
    counting.asked.clear()
    doyen.ingest(expert, [write_text(expert.parent / "more" / "quay.md", "# Quay\n\nThe quay is 40 m long.\n").parent])
    doyen.compare(expert, QUESTIONS, arms=["base", "rag"], engine=counting)
    assert len(counting.asked) == 3  # rag sees another index, base does not


@pytest.mark.parametrize(("bound", "code"), [("base=0", 0), ("1", 1)])
def test_a_build_fails_after_the_report_is_written(bound, code, expert, tmp_path, monkeypatch, capsys):
    settings = (expert / "doyen.toml").read_text().replace('# engine = "auto"', 'engine = "transformers"')
    (expert / "doyen.toml").write_text(settings)
    rows = [{"id": q.id, "question": q.question, "answers": q.answers} for q in QUESTIONS[:2]]
    asked = write_jsonl(tmp_path / "asked.jsonl", rows)
    out = tmp_path / "out"
    arguments = ["compare", "--expert", expert, "--questions", asked, "--arms", "base", "--out", out, "--json"]
    monkeypatch.setattr(sys, "argv", ["doyen", *map(str, arguments), "--fail-under", bound])
    with pytest.raises(SystemExit) as ended:
        main()
    printed = capsys.readouterr()
    assert (ended.value.code or 0) == code
    assert {"report.md", "report.html", "report.json"} <= {p.name for p in out.iterdir()}
    assert json.loads(printed.out)["arms"]["base"]["shares"]["correct"]["n"] == 2
    assert ("error: base scores" in printed.err and "under 1" in printed.err) is (code == 1)


def test_questions_are_generated_and_asked_where_there_are_none(expert, monkeypatch, capsys):
    settings = (expert / "doyen.toml").read_text().replace('# engine = "auto"', 'engine = "transformers"')
    (expert / "doyen.toml").write_text(settings)

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["doyen", "compare", "--expert", str(expert), "--arms", "base", *arguments])
        with pytest.raises(SystemExit) as ended:
            main()
        return ended.value.code or 0, capsys.readouterr()

    code, printed = run()
    assert code == 1 and "hint: doyen compare --generate 60" in printed.err
    code, printed = run("--generate", "4", "--json")
    report = json.loads(printed.out)
    assert code == 0 and report["origin"]["generated"] == report["questions"]["total"] > 0
    assert "questions_review.html" in printed.err
    code, printed = run()  # from now on they are what is asked
    assert code == 0 and "questions: All" in printed.out


def test_of_many_questions_some_are_asked_alone_first(expert, engine):
    many = [Question(f"q{n}", f"Which lock is number {n}?", ("x",), "span", (), "test") for n in range(24)]
    counting = CountingEngine(engine)
    report = doyen.compare(expert, many, arms=["base", "rag"], engine=counting)
    found = report["cost"]["arms"]["rag"]
    assert found["latency_n"] == 12 and found["latency_p95"] >= found["latency_p50"] > 0
    asked = len(counting.asked)
    assert asked == 2 * (13 + 24)
    again = doyen.compare(expert, many, arms=["base", "rag"], engine=counting)
    assert again["cost"]["arms"]["rag"]["latency_p95"] == found["latency_p95"] and len(counting.asked) == asked
