"""The learning curve: its fit on planted scores, its nested subsets, and the whole way on a tiny real model."""

import json
from pathlib import Path

import numpy as np
import pytest
import tiny_models
import torch
from tiny_models import write_jsonl

import doyen
from doyen.adapters import adapter_folder, list_adapters
from doyen.config import load_settings
from doyen.errors import Interrupted, UsageError
from doyen.evaluation.curve_fit import curve_of, more_at
from doyen.evaluation.curve_text import curve_html, curve_lines, curve_markdown, curve_sentence
from doyen.evaluation.learning_curve import plan_curve, subset
from doyen.evaluation.markdown_report import escaped, table
from doyen.models.transformers_engine import TransformersEngine
from doyen.records import Example, GoldSource, Question

N = (100, 200, 400)


def planted(means, questions, seed=0, base=0.2):
    """Return scores of right and wrong with nearly these means, which share each question's difficulty, and the base's."""
    difficulty = np.random.default_rng(seed).random(questions)
    return [(difficulty < m).astype(float).tolist() for m in means], (difficulty < base).astype(float).tolist()


def test_a_line_over_the_logarithm_is_carried_on():
    scores, base = planted([0.3, 0.4, 0.5], 20_000)
    row = curve_of(N, scores, base)
    twice, four = (p["more"]["value"] for p in row["log"]["at"])
    assert twice == pytest.approx(0.1, abs=0.01) and four == pytest.approx(0.2, abs=0.02)
    assert row["log"]["off"] < 0.01
    assert [p["gain"]["value"] for p in row["points"]] == pytest.approx([0.1, 0.2, 0.3], abs=0.02)
    assert row["step"]["value"] == pytest.approx(0.1, abs=0.01)
    assert [p["examples"] for p in row["power"]["at"]] == [800, 1600]


def test_a_power_law_of_the_error_is_carried_on():
    errors = [0.8 * (n / 100) ** -0.5 for n in (100, 200, 400, 800, 1600)]
    scores, base = planted([1 - e for e in errors[:3]], 20_000)
    row = curve_of(N, scores, base)
    for found, error in zip(row["power"]["at"], errors[3:], strict=True):
        assert found["gain"]["value"] == pytest.approx(1 - error - 0.2, abs=0.02)
    assert row["power"]["off"] < 0.01 < row["log"]["off"] + 0.02


def test_intervals_hold_what_other_questions_would_show():
    inside = 0
    for seed in range(40):
        scores, base = planted([0.3, 0.4, 0.5], 150, seed)
        found = curve_of(N, scores, base, seed=seed)["log"]["at"][0]["more"]
        inside += found["low"] <= 0.1 <= found["high"]
    assert inside >= 34  # of 40; 38 are meant, and 34 or fewer would happen once in forty times


@pytest.mark.parametrize(
    ("means", "questions", "worth", "words"),
    [
        ([0.3, 0.4, 0.5], 2000, "yes", "Yes, it seems"),
        ([0.5, 0.5, 0.5], 2000, "no", "surely less than 1 point"),
        ([0.40, 0.41, 0.44], 40, "unclear", "cannot be told yet"),
    ],
)
def test_the_answer(means, questions, worth, words):
    scores, base = planted(means, questions)
    if worth == "unclear":  # luck apart: questions on which the points disagree both ways
        scores[2][:4], scores[0][:4] = [0.0] * 4, [1.0] * 4
        scores[2][-6:], scores[0][-6:] = [1.0] * 6, [0.0] * 6
    row = curve_of(N, scores, base) | {"against": "rag"}
    assert row["worth"] == worth and words in curve_sentence("rag+finetuned", row)
    assert more_at(row, 2)["low"] <= more_at(row, 2)["least"] <= more_at(row, 2)["most"] <= more_at(row, 2)["high"]


def test_a_curve_that_has_levelled_off_is_no_yes():
    scores, base = planted([0.3, 0.5, 0.5], 2000)
    row = curve_of(N, scores, base) | {"against": "rag"}
    assert row["log"]["at"][0]["more"]["low"] > 0 and row["worth"] == "unclear"
    assert "may have levelled off" in curve_sentence("rag+finetuned", row)


@pytest.mark.parametrize("examples", [(100,), (100, 100), (200, 100), (0, 100)])
def test_points_must_rise(examples):
    with pytest.raises(ValueError, match="rising"):
        curve_of(examples, [[1.0]] * len(examples), [0.0])


def test_a_perfect_and_an_untouched_score_can_be_fitted():
    row = curve_of(N, [[1.0] * 9] * 3, [1.0] * 9)
    assert row["worth"] == "unclear" and all(np.isfinite(p["gain"]["high"]) for p in row["power"]["at"])
    # nine questions on which nothing differs say little, 400 do
    assert curve_of((10, 20), [[0.0] * 9] * 2, [0.0] * 9)["worth"] == "unclear"
    assert curve_of((10, 20), [[0.0] * 400] * 2, [0.0] * 400)["worth"] == "no"


def chat(question, answer, question_id=None):
    messages = ({"role": "user", "content": question}, {"role": "assistant", "content": answer})
    return Example(messages, question_id=question_id)


def test_subsets_are_nested_and_keep_a_questions_examples_together():
    examples = [chat(f"Q{i}", "a", f"q{i // 3}") for i in range(60)] + [chat(f"own {i}", "a") for i in range(20)]
    parts = [subset(examples, share) for share in (0.25, 0.5, 1.0)]
    assert parts[2] == examples and len(subset(examples, 0.25, seed=1)) > 0
    for small, large in zip(parts, parts[1:], strict=False):
        asked = {m["content"] for e in large for m in e.messages}
        assert all(m["content"] in asked for e in small for m in e.messages) and len(small) < len(large)
    for part in parts:
        ids = [e.question_id for e in part if e.question_id]
        assert all(ids.count(name) == 3 for name in ids)
    assert subset(examples, 0.25) == parts[0] != subset(examples, 0.25, seed=1)


# ------------------------------------------------------------------ the whole way
QUESTIONS = [
    Question("a", "How many days does the guild grant?", ("27 days",), "span", (GoldSource("leave.md"),), "test"),
    Question("b", "When does the Orrel lock open?", ("06:30",), "span", (GoldSource("locks.md"),), "test"),
    Question("c", "How far is the moon?", (), "span", (), "test", answerable=False),
]


class Counting:
    """Delegates to the true engine and counts prompts."""

    def __init__(self, engine):
        self.engine, self.name, self.kind, self.context_tokens = engine, engine.name, engine.kind, engine.context_tokens
        self.asked = 0

    def generate(self, prompts, **options):
        self.asked += len(prompts)
        return self.engine.generate(prompts, **options)

    def count_tokens(self, messages):
        return self.engine.count_tokens(messages)

    def template_hash(self):
        return self.engine.template_hash()


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """An expert of a tiny model with twelve examples and an adapter trained on all of them."""
    root = tmp_path_factory.mktemp("curve")
    (root / "documents").mkdir()
    (root / "documents" / "leave.md").write_text("# Leave\n\nThe guild grants 27 days of leave a year.\n")
    (root / "documents" / "locks.md").write_text("# Locks\n\nThe Orrel lock opens at 06:30 and closes at 22:15.\n")
    (root / "bert").mkdir()
    model, embedder = tiny_models.phi_folder(root / "phi"), tiny_models.bert_folder(root / "bert")
    expert = doyen.init(root / "expert", model=str(model), embedder=str(embedder))
    doyen.ingest(expert, [root / "documents"])
    text = (expert / "doyen.toml").read_text()
    text = text.replace("# max_answer_tokens = 96", "max_answer_tokens = 6").replace("# rank = 16", "rank = 2")
    text = text.replace('# engine = "auto"', 'engine = "transformers"').replace("# epochs = 2.0", "epochs = 1.0")
    (expert / "doyen.toml").write_text(text)
    rows = [chat(f"How many sails has boat {i}?", f"{i} sails", f"q{i}").as_dict() for i in range(12)]
    write_jsonl(expert / "examples" / "train.jsonl", rows)
    write_jsonl(expert / "examples" / "validation.jsonl", [chat("How many masts?", "2", "v").as_dict()])
    doyen.finetune(expert, name="all")
    return expert


def engine_of(expert):
    return Counting(TransformersEngine(Path(load_settings(expert).model.name), dtype=torch.float32))


def test_a_curve_is_trained_asked_written_and_taken_over(trained):
    said, engine = [], engine_of(trained)
    report = doyen.compare(trained, QUESTIONS, engine=engine, curve=(0.5,), say=said.append)
    assert engine.asked >= 3 * 4 + 2 * 2  # rag arms may see no evidence, and then refuse unasked
    assert any("learning curve: 1 training on 6 of 12 examples" in text and "tokens/s" in text for text in said)
    curve = report["curve"]
    assert [a["examples"] for a in curve["adapters"]] == [6, 12] and curve["adapters"][1]["adapter"] == "all"
    assert set(curve["arms"]) == {"finetuned", "rag+finetuned"} and curve["arms"]["finetuned"]["against"] == "base"
    assert curve["worth"] in ("yes", "no", "unclear") and report == json.loads(json.dumps(report))
    saved = {name: (Path(report["folder"]) / f"report.{name}").read_text() for name in ("json", "html", "md")}
    assert all("Is it worth collecting more examples?" in saved[name] for name in ("html", "md"))
    assert json.loads(saved["json"])["curve"] == curve and "{{" not in saved["html"].split("<script", 1)[0]
    # the expert's own adapters are as they were
    assert [p.name for p in list_adapters(trained)] == ["all"] and adapter_folder(trained, "").name == "all"
    assert [row["name"] for row in doyen.status(trained)["adapters"]] == ["all"]
    again, made = engine_of(trained), sorted((trained / "curves" / "adapters").iterdir())
    stamps = [(p / "manifest.json").stat().st_mtime_ns for p in made]
    second = doyen.compare(trained, QUESTIONS, engine=again, curve=(0.5,), say=said.append)
    assert again.asked == 0 and [(p / "manifest.json").stat().st_mtime_ns for p in made] == stamps
    assert second["curve"] == curve and "its adapters are trained" in said[-1]
    assert doyen.compare(trained, QUESTIONS, engine=again)["curve"] == curve  # a later run keeps what was measured


def test_an_interrupted_training_of_a_curve_goes_on(trained):
    def stop(stage, done, total):
        if stage.startswith("training") and done >= 1:
            raise KeyboardInterrupt

    with pytest.raises(Interrupted) as error:
        doyen.compare(trained, QUESTIONS, engine=engine_of(trained), curve=(0.75,), progress=stop)
    assert "--curve" in error.value.hint and "doyen finetune" not in error.value.hint
    assert not list((trained / "adapters").glob(".*.training")) and doyen.status(trained)["interrupted_runs"] == []
    steps = []
    report = doyen.compare(
        trained,
        QUESTIONS,
        engine=engine_of(trained),
        curve=(0.75,),
        progress=lambda stage, done, total: steps.append(done) if stage.startswith("training") else None,
    )
    assert [a["examples"] for a in report["curve"]["adapters"]] == [9, 12]
    assert 1 not in steps  # the first step was not made again


@pytest.mark.parametrize(
    ("options", "fault"),
    [
        ({"curve": (0.5, 1.5)}, "shares lie between 0 and 1"),
        ({"curve": (1.0,)}, "a share beside all examples"),
        ({"curve": (0.01,)}, "cannot be cut"),
        ({"curve": (0.5,), "arms": ["base", "rag"]}, "a learning curve is of finetuned over base"),
    ],
)
def test_what_has_no_curve_is_refused_before_anything_is_asked(options, fault, trained):
    engine = engine_of(trained)
    with pytest.raises(UsageError, match=fault):
        doyen.compare(trained, QUESTIONS, engine=engine, **options)
    assert engine.asked == 0


def test_an_adapter_of_other_examples_cannot_end_a_curve(trained, tmp_path):
    path = trained / "examples" / "train.jsonl"
    before = path.read_text()
    try:
        path.write_text("\n".join(before.split("\n")[:8]) + "\n")
        with pytest.raises(UsageError, match="trained on other examples"):
            plan_curve(trained, load_settings(trained), "", (0.5,))
    finally:
        path.write_text(before)


def test_without_a_curve_nothing_is_said():
    assert curve_lines({"curve": None}) == [] and curve_html({"curve": None}) == ""
    assert curve_markdown({"curve": None}, escaped, table) == ""
