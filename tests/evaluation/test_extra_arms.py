"""Oracle, reference, several adapters and a judge in a whole comparison, on tiny real models and a local server."""

import json
import sys
from pathlib import Path

import pytest
import tiny_models
import torch
from chat_server import ChatServer, Script, engine_of
from tiny_models import write_jsonl

import doyen
from doyen.cli import main
from doyen.errors import ConfigError, ExamplesError, StoreError, UsageError
from doyen.examples.importing import read_questions
from doyen.models.transformers_engine import TransformersEngine
from doyen.records import ARMS, GoldSource, Question

HTML = "<img src=x onerror=alert(1)></script><b>27 days</b> {{chart}} | *x*"
QUESTIONS = [
    Question("a", "How many days of leave does the guild grant?", ("27 days",), "number", (GoldSource("leave.md"),)),
    Question("b", "When does the Orrel lock open?", ("06:30",), "span", (GoldSource("locks.md", start=0, end=60),)),
    Question("c", "How far is the moon?", (), "span", (), answerable=False),
    Question("d", "What does the guild say of leave?", ("It grants 27 days of leave a year.",), "long"),
    Question("e", "Why?"),
]


@pytest.fixture(scope="module")
def engine(tmp_path_factory):
    return TransformersEngine(tiny_models.phi_folder(tmp_path_factory.mktemp("phi")), dtype=torch.float32)


@pytest.fixture(scope="module")
def made(engine, tmp_path_factory):
    """An expert with two adapters that differ in their seed."""
    home = tmp_path_factory.mktemp("expert")
    documents = home / "documents"
    documents.mkdir()
    (documents / "leave.md").write_text("# Leave\n\nThe guild grants 27 days of leave a year.\n")
    (documents / "locks.md").write_text("# Locks\n\nThe Orrel lock opens at 06:30 and closes at 22:15.\n")
    (home / "bert").mkdir()
    expert = doyen.init(home / "expert", model=str(engine.folder), embedder=str(tiny_models.bert_folder(home / "bert")))
    doyen.ingest(expert, [documents])
    toml = (expert / "doyen.toml").read_text().replace("# max_answer_tokens = 96", "max_answer_tokens = 6", 1)
    (expert / "doyen.toml").write_text(toml.replace('# engine = "auto"', 'engine = "transformers"', 1))
    examples = home / "examples.jsonl"
    chat = [{"role": "user", "content": "Days?"}, {"role": "assistant", "content": "27 days"}]
    write_jsonl(examples, [{"messages": chat}] * 2)
    for name, seed in (("one", 1), ("two", 2)):
        doyen.finetune(expert, name=name, examples=examples, rank=2, epochs=1.0, learning_rate=0.05, seed=seed)
    return expert


@pytest.fixture
def expert(made):
    yield made
    import shutil

    shutil.rmtree(made / "comparisons", ignore_errors=True)


@pytest.fixture
def server():
    running = ChatServer(Script(lambda body: "27 days [1]" if "[1]" in body["messages"][-1]["content"] else HTML))
    running.keeps_constraints = False
    yield running
    running.close()


def judging(body):
    if not body["messages"][0]["content"].startswith("You grade"):
        return "27 days [1]"
    asked = json.loads(body["messages"][-1]["content"])
    return json.dumps({"verdict": "correct" if asked["answer"] in asked["known_answers"] else "wrong"})


def written(report):
    folder = Path(report["folder"])
    return [(folder / f"report.{kind}").read_text() for kind in ("html", "md")]


# ------------------------------------------------------------------ oracle
def test_the_oracle_reads_gold_and_is_paired_on_the_questions_that_have_it(expert, engine):
    report = doyen.compare(expert, QUESTIONS, arms=["rag", "base", "oracle"], engine=engine)
    assert list(report["arms"]) == ["base", "rag", "oracle"]
    assert report["arms"]["oracle"]["metrics"]["overall"]["n"] == 2
    assert report["left_out"] == {"oracle": {"no answer in the documents": 1, "no gold": 2}}
    pairs = {(d["a"], d["b"]): d["metrics"]["overall"]["n"] for d in report["differences"]}
    assert pairs == {("base", "rag"): 4, ("base", "oracle"): 2, ("rag", "oracle"): 2}
    asked = [row["id"] for row in report["rows"] if "oracle" in row["arms"]]
    assert asked == ["a", "b"]
    assert report["advice"]["arm"] in ARMS and any(r.startswith("Ceiling: ") for r in report["advice"]["reasons"])
    for text in written(report):
        assert "oracle was asked 2 of 5 questions" in text


def test_an_oracle_changes_neither_the_choice_nor_the_decisions(expert, engine):
    plain = doyen.compare(expert, QUESTIONS, arms=["base", "rag"], engine=engine)
    more = doyen.compare(expert, QUESTIONS, arms=["base", "rag", "oracle"], engine=engine)
    assert more["differences"][0] == plain["differences"][0]
    assert more["advice"]["arm"] == plain["advice"]["arm"]
    assert more["manifest"]["taken_over"] == {arm: Path(plain["folder"]).name for arm in ("base", "rag")}


def test_an_oracle_without_any_gold_is_named_and_has_no_figures(expert, engine):
    report = doyen.compare(expert, QUESTIONS[2:4], arms=["base", "oracle"], engine=engine)
    assert list(report["arms"]) == ["base"] and report["left_out"]["oracle"]["no gold"] == 1


def test_a_tuned_oracle_uses_the_adapter(expert, engine):
    report = doyen.compare(expert, QUESTIONS[:2], arms=["rag+finetuned", "oracle+finetuned"], engine=engine)
    rows = (Path(report["folder"]) / "answers.oracle+finetuned.jsonl").read_text().splitlines()
    assert [json.loads(row)["arm"] for row in rows] == ["oracle+finetuned"] * 2


# ------------------------------------------------------------------ reference
def test_reference_arms_answer_by_their_own_server_and_cost_by_their_own_prices(expert, engine, server):
    arms = ["base", "rag", "reference", "reference+rag"]
    report = doyen.compare(
        expert, QUESTIONS, arms=arms, engine=engine, reference=engine_of(server, context_tokens=9000)
    )
    assert len(server.chats) == 10 - sum(row["arms"]["reference+rag"]["prompt_tokens"] == 0 for row in report["rows"])
    assert report["manifest"]["reference"]["model"] == "our-model"
    assert report["manifest"]["cost_usd"] == {}  # no price is set
    assert HTML.startswith(report["rows"][0]["arms"]["reference"]["answer"][:20])
    assert any(r.startswith("For comparison: reference (our-model)") for r in report["advice"]["reasons"])
    page, markdown = written(report)
    assert "<img src=x" not in page and "<img src=x" not in markdown
    again = doyen.compare(expert, QUESTIONS, arms=arms, engine=engine, reference=engine_of(server, context_tokens=9000))
    assert len(server.chats) <= 10 and again["folder"] == report["folder"]


def test_a_reference_that_fails_is_named_and_gone_on_with(expert, engine, server):
    many = [Question(f"m{i}", f"How many days, {i}?", ("27 days",)) for i in range(12)]
    server.faults = [None] * 8 + [(401, {}, '{"error": {"message": "quota is spent"}}')] * 4
    options = {"arms": ["base", "reference"], "engine": engine}
    report = doyen.compare(expert, many, reference=engine_of(server, attempts=1), **options)
    assert list(report["arms"]) == ["base"] and "quota is spent" in report["failed"]["reference"]
    assert all("reference has no figures" in text for text in written(report))
    server.faults.clear()
    asked = len(server.chats)
    whole = doyen.compare(expert, many, reference=engine_of(server), **options)
    assert whole["folder"] == report["folder"] and "failed" not in whole
    assert whole["arms"]["reference"]["metrics"]["overall"]["n"] == 12
    assert len(server.chats) == asked + 4  # the first block was kept


def test_another_reference_model_asks_only_its_own_arms_anew(expert, engine, server):
    toml = (expert / "doyen.toml").read_text()
    table = f'\n[reference]\nname = "our-model"\nendpoint = "{server.url}"\ncontext_tokens = 9000\n'
    assert "[reference]" in toml
    changed = toml[: toml.index("[reference]")] + table.lstrip() + toml[toml.index("[judge]") :]
    try:
        (expert / "doyen.toml").write_text(changed)
        first = doyen.compare(expert, QUESTIONS[:2], arms=["base", "reference"], engine=engine)
        server.model = "newer-model"
        (expert / "doyen.toml").write_text(changed.replace("our-model", "newer-model"))
        second = doyen.compare(expert, QUESTIONS[:2], arms=["base", "reference"], engine=engine)
    finally:
        (expert / "doyen.toml").write_text(toml)
    assert second["manifest"]["taken_over"] == {"base": Path(first["folder"]).name}
    assert [chat["model"] for chat in server.chats] == ["our-model"] * 2 + ["newer-model"] * 2


# ------------------------------------------------------------------ trainings
def test_several_adapters_are_a_mean_with_its_spread(expert, engine):
    arms = ["base", "finetuned"]
    report = doyen.compare(expert, QUESTIONS, arms=arms, adapter="one,two", engine=engine)
    assert [a["name"] for a in report["manifest"]["adapters"]] == ["one", "two"]
    assert "trainings_differ" not in report["manifest"]
    each = [doyen.compare(expert, QUESTIONS, arms=arms, adapter=name, engine=engine) for name in ("one", "two")]
    values = [r["arms"]["finetuned"]["metrics"]["overall"]["value"] for r in each]
    tuned = report["arms"]["finetuned"]
    assert tuned["metrics"]["overall"]["value"] == pytest.approx(sum(values) / 2, abs=1e-5)
    assert [a["overall"] for a in tuned["trainings"]["adapters"]] == pytest.approx(values, abs=1e-5)
    assert each[0]["manifest"]["taken_over"].keys() == {"base", "finetuned"}  # nothing was asked again
    row = report["rows"][0]["arms"]["finetuned"]
    assert [t["adapter"] for t in row["trainings"]] == ["one", "two"]
    assert row["answer"] == row["trainings"][0]["answer"] == each[0]["rows"][0]["arms"]["finetuned"]["answer"]
    assert sum(tuned["shares"][name]["value"] for name in ("correct", "wrong", "refused")) == pytest.approx(1, abs=1e-5)
    assert "trainings" not in each[0]["arms"]["finetuned"] and "adapters" not in each[0]["manifest"]
    assert all("standard deviation" in text for text in written(report))


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"adapter": "one,one"}, "named twice"),
        ({"adapter": "one,three"}, "no adapter 'three'"),
        ({"adapter": ["one", "two"], "arms": ["base"]}, "no arm that uses them"),
        ({"arms": ["oracle"]}, "not alone"),
        ({"arms": ["base", "ceiling"]}, "unknown arm"),
        ({"questions": [QUESTIONS[0], QUESTIONS[1], QUESTIONS[0]]}, "questions 1 and 3 have the same id 'a'"),
    ],
)
def test_what_does_not_go_together_is_refused_before_anything_is_asked(options, reason, expert, engine):
    questions = options.pop("questions", QUESTIONS)
    with pytest.raises(UsageError, match=reason):
        doyen.compare(expert, questions, engine=engine, **options)
    assert not (expert / "comparisons").exists()


def test_a_reference_that_is_not_set_up_is_refused(expert, engine):
    with pytest.raises(ConfigError, match=r"\[reference\] names no model"):
        doyen.compare(expert, QUESTIONS, arms=["base", "reference"], engine=engine)


def test_arms_without_adapter_or_index_name_the_command(expert, engine, tmp_path):
    bare = doyen.init(tmp_path / "bare", model=str(engine.folder))
    with pytest.raises(UsageError) as tuned:
        doyen.compare(bare, QUESTIONS, arms=["base", "oracle+finetuned"], engine=engine)
    assert "doyen finetune" in tuned.value.hint and "--arms base" in tuned.value.hint
    with pytest.raises(StoreError) as unindexed:
        doyen.compare(bare, QUESTIONS, arms=["rag"], engine=engine)
    assert "doyen ingest" in unindexed.value.hint


def test_double_ids_name_both_lines(tmp_path):
    path = tmp_path / "q.jsonl"
    rows = ['{"id": "x", "question": "A?"}', "", '{"id": "y", "question": "B?"}', '{"id": "x", "question": "C?"}']
    path.write_text("\n".join([*rows, rows[0]]))
    with pytest.raises(ExamplesError, match=r"id 'x' \(lines 1 and 4\); id 'x' \(lines 1 and 5\)"):
        read_questions(path)


# ------------------------------------------------------------------ questions of all sorts
@pytest.mark.parametrize("questions", [[QUESTIONS[4]], [QUESTIONS[2]], [QUESTIONS[0]], [QUESTIONS[1]] * 1])
def test_one_question_of_any_sort_makes_a_report(questions, expert, engine):
    report = doyen.compare(expert, questions, arms=["base", "finetuned", "oracle"], adapter="one,two", engine=engine)
    assert report == json.loads(json.dumps(report)) and all(written(report))
    assert report["advice"]["measured"] is bool(report["questions"]["scored"])


def test_questions_without_answers_or_gold_are_named_and_measured_as_far_as_can_be(expert, engine):
    report = doyen.compare(expert, QUESTIONS, arms=["base"], engine=engine)
    assert (report["questions"]["without_answers"], report["questions"]["without_gold"]) == (1, 2)
    assert report["arms"]["base"]["metrics"]["refusal_rate"]["n"] == 5
    assert all("1 of 4 answerable questions have no known answer" in text for text in written(report))


def test_questions_all_of_one_kind(expert, engine):
    yesno = [Question(f"y{i}", f"Is it {i}?", ("yes",), "yesno") for i in range(3)]
    report = doyen.compare(expert, yesno, arms=["base", "rag"], engine=engine)
    assert list(report["arms"]["base"]["by_kind"]) == ["yesno"]
    assert "yesno_balanced_accuracy" in report["arms"]["base"]["metrics"]


# ------------------------------------------------------------------ judge and further figures
def test_a_judge_is_asked_once_and_agrees_or_not(expert, engine, server):
    server.brain = Script(judging)
    options = {"arms": ["base", "reference+rag"], "engine": engine}
    report = doyen.compare(
        expert, QUESTIONS, reference=engine_of(server, context_tokens=9000), judge=engine_of(server), **options
    )
    judge = report["judge"]
    assert judge["failed"] is None and judge["agreement"]["n"] == judge["asked"] > 0
    assert "judged_correct" in report["arms"]["reference+rag"]["metrics"]
    assert any(row["arms"]["reference+rag"].get("judged") == "correct" for row in report["rows"])
    assert all("Cohen" in text or "Kappa" in text for text in written(report))
    asked = len(server.chats)
    doyen.compare(
        expert,
        QUESTIONS[:2],
        reference=engine_of(server, context_tokens=9000),
        judge=engine_of(server),
        arms=["base"],
        engine=engine,
    )
    assert len(server.chats) == asked  # the verdicts of the other comparison serve


def test_a_judge_that_fails_leaves_the_deterministic_figures(expert, engine, server):
    server.faults = [(500, {}, "out of order")] * 50
    report = doyen.compare(expert, QUESTIONS, arms=["base"], engine=engine, judge=engine_of(server, attempts=1))
    assert "out of order" in report["judge"]["failed"]
    plain = doyen.compare(expert, QUESTIONS, arms=["base"], engine=engine)
    assert report["arms"]["base"]["metrics"]["overall"] == plain["arms"]["base"]["metrics"]["overall"]
    assert (
        "All deterministic figures stand"
        in written(doyen.compare(expert, QUESTIONS, arms=["base"], engine=engine, judge=engine_of(server, attempts=1)))[
            0
        ]
    )


def test_quotes_similarity_terms_and_domain_text(expert, engine, server):
    (expert / "terms.csv").write_text("term,forbidden\nleave,holiday\n")
    toml = (expert / "doyen.toml").read_text()
    changed = toml.replace('# glossary = ""', 'glossary = "terms.csv"', 1)
    assert changed != toml
    try:
        (expert / "doyen.toml").write_text(changed)
        report = doyen.compare(
            expert, QUESTIONS, arms=["finetuned", "reference+rag"], adapter="one,two", engine=engine,
            reference=engine_of(server, context_tokens=9000), domain_text=True,
        )  # fmt: skip
    finally:
        (expert / "doyen.toml").write_text(toml)
    figures = report["arms"]["reference+rag"]["metrics"]
    assert figures["quotes_supported"]["value"] > 0.4 and figures["embedding_similarity"]["n"] == 1
    assert (figures["terms_right"]["value"], figures["forbidden_terms"]["value"]) == (0, 0)
    domain = report["domain_text"]
    assert domain["documents"] == 2 and domain["adapters"].keys() == {"one", "two"}
    assert domain["base"]["value"] > 0 and domain["adapters"]["one"]["change"]["value"] != 0


def test_domain_text_leaves_out_trained_documents_and_needs_log_probabilities(expert, engine, server):
    from doyen.config import load_settings
    from doyen.evaluation.domain_bits import domain_bits, untrained_texts
    from doyen.ingesting import open_index

    index = open_index(expert, load_settings(expert))
    assert list(untrained_texts(index, ["leave.md"])) == ["locks.md"]
    assert untrained_texts(index, ["leave.md", "locks.md"]) == {}
    found = domain_bits(expert, index, engine_of(server), ["one"])
    assert found["base"] is None and "scores no texts" in found["left_out"]


def test_the_command_line_takes_all_of_it(expert, server, tmp_path, monkeypatch, capsys):
    rows = [{"id": q.id, "question": q.question, "answers": q.answers} for q in QUESTIONS[:2]]
    asked = write_jsonl(tmp_path / "asked.jsonl", rows)
    toml = (expert / "doyen.toml").read_text()
    table = f'[reference]\nname = "our-model"\nendpoint = "{server.url}"\ninput_price = 1.0\noutput_price = 2.0\n\n'
    changed = toml[: toml.index("[reference]")] + table + toml[toml.index("[judge]") :]
    arguments = ["compare", "--expert", expert, "--questions", asked, "--arms", "base,finetuned,oracle,reference"]
    monkeypatch.setattr(sys, "argv", ["doyen", *map(str, arguments), "--adapter", "one,two", "--domain-text"])
    try:
        (expert / "doyen.toml").write_text(changed)
        _run(main)
    finally:
        (expert / "doyen.toml").write_text(toml)
    printed = capsys.readouterr()
    assert "about US$" in printed.err and "questions are sent to 127.0.0.1" in printed.err
    assert "finetuned: standard deviation" in printed.out and "Bits per byte" in printed.out
    assert "oracle was asked 0 of 2 questions" in printed.out


def _run(command):
    with pytest.raises(SystemExit) as ended:
        command()
    assert not ended.value.code
