"""What the user demands × evidence → which arms are left. Every arm that goes is named with its figure."""

import pytest

from doyen.errors import ExamplesError, UsageError
from doyen.evaluation.advice import advise
from doyen.evaluation.constraints import Constraints
from doyen.evaluation.report import build_report
from doyen.evaluation.rules import CorpusFacts, advise_without_comparison, term_density
from doyen.evaluation.scoring import score_answer
from doyen.examples.importing import question_row, read_questions, write_rows
from doyen.records import ARMS, Answer, Citation, Question

CITED = (Citation("a.md", None, None, 0, 3, "Den"),)
SECONDS = {"base": 0.5, "rag": 2.0, "finetuned": 0.5, "rag+finetuned": 2.5}


def report(right, *, n=60, former=(), stale=(), manifest=None, cost=None):
    """Each arm answers its number of questions right, the first ones; arms in `stale` give the former answer besides."""
    questions = [Question(str(i), "Who?", ("Denver",), former_answers=former) for i in range(n)]
    answers = {
        arm: [
            Answer(
                "Denver" if i < right[arm] else former[0] if arm in stale else "Boston",
                True,
                arm,
                citations=CITED if "rag" in arm else (),
                seconds=SECONDS[arm],
            )
            for i in range(n)
        ]
        for arm in ARMS
    }
    manifest = {"adapter": {"seconds": 7200.0}} if manifest is None else manifest
    found = build_report(questions=questions, answers=answers, hits=None, manifest=manifest, seed=1)
    return found | ({"cost": {"arms": cost}} if cost else {})


TUNED_BEST = {"base": 5, "rag": 40, "finetuned": 58, "rag+finetuned": 50}


def reasons(advice):
    return " ".join(advice.reasons)


def test_nothing_demanded_is_the_advice_of_the_report():
    found = report(TUNED_BEST)
    assert advise(found, Constraints()).as_dict() == found["advice"]
    assert found["advice"]["arm"] == "finetuned"


def test_traceable_rules_out_what_cites_nothing():
    advice = advise(report(TUNED_BEST), Constraints(traceable=True))
    assert advice.arm == "rag+finetuned"
    assert [o.arm for o in advice.ruled_out] == ["base", "finetuned"]
    assert "0 of its 60 answers cite a source" in reasons(advice)
    assert "Without --traceable it would be finetuned, which scores 96.7%" in reasons(advice)
    assert advice.constraints == {"traceable": True}


def test_an_arm_that_cites_in_most_answers_stays_and_the_others_are_counted():
    found = report(TUNED_BEST)
    for i, row in enumerate(found["rows"]):
        for arm, least in (("rag", 40), ("rag+finetuned", 20)):
            if i < least:
                row["arms"][arm]["citations"] = []
    advice = advise(found, Constraints(traceable=True))
    assert advice.arm == "rag+finetuned"
    assert "rag cites a source in 20 of 60 answers, fewer than 50%" in reasons(advice)
    assert "20 of its 60 answers cite nothing" in reasons(advice)


def test_seconds_are_the_95th_percentile():
    advice = advise(report({**TUNED_BEST, "rag+finetuned": 60}), Constraints(traceable=True, seconds=2.2))
    assert (advice.arm, advice.runner_up) == ("rag", None)
    assert "rag+finetuned takes 2.50 s an answer (95th percentile), more than 2.2 s." in reasons(advice)


def test_memory_and_budget_go_by_the_cost_table_and_say_where_it_is_silent():
    cost = {arm: {"memory_gib": 3.0 if "tuned" in arm else 1.0, "usd_per_1000": 1.0} for arm in ARMS}
    advice = advise(report(TUNED_BEST, cost=cost), Constraints(memory_gib=2.0))
    assert (advice.arm, {o.constraint for o in advice.ruled_out}) == ("rag", {"memory_gib"})
    assert "finetuned held up to 3.00 GiB in the comparison, more than 2 GiB" in reasons(advice)
    assert advise(report(TUNED_BEST, cost=cost), Constraints(budget_usd=0.5)).arm is None
    silent = advise(report(TUNED_BEST), Constraints(memory_gib=2.0, budget_usd=0.5))
    assert silent.arm == "finetuned"
    assert "--max-memory 2.0 was not checked for base, rag, finetuned and rag+finetuned" in reasons(silent)


def test_changing_documents_rule_out_arms_that_measurably_go_stale():
    found = report(
        {"base": 5, "rag": 40, "finetuned": 45, "rag+finetuned": 59}, former=("Paris",), stale=("finetuned",)
    )
    assert found["arms"]["finetuned"]["metrics"]["stale"]["value"] == 0.25
    advice = advise(found, Constraints(changes="daily"))
    assert [o.arm for o in advice.ruled_out] == ["finetuned"]
    assert "gives the former answer to 25.0% of 60 questions" in reasons(advice)
    assert advice.arm == "rag+finetuned"  # it goes by evidence alone, and there is none against it
    assert not advise(found, Constraints(changes="rarely")).ruled_out


def test_a_trained_arm_surely_worse_than_reading_on_changed_facts_goes():
    found = report({"base": 5, "rag": 55, "finetuned": 5, "rag+finetuned": 30}, former=("Paris",))
    out = {o.arm: o.reason for o in advise(found, Constraints(changes="weekly")).ruled_out}
    assert set(out) == {"finetuned", "rag+finetuned"}
    assert "41.7 points less than rag on 60 questions whose facts changed" in out["rag+finetuned"]


def test_training_that_takes_longer_than_documents_stand_still():
    advice = advise(report(TUNED_BEST), Constraints(changes="hourly"))
    assert [o.reason for o in advice.ruled_out] == [
        "finetuned takes 2.0 hours to train again, longer than documents that change hourly stand still."
    ]
    assert "0 questions name a former answer" in reasons(advice)
    assert not advise(report(TUNED_BEST), Constraints(changes="daily")).ruled_out


@pytest.mark.parametrize(
    ("manifest", "out"),
    [
        ({"engine": "server", "server": "vLLM at models.example.com"}, list(ARMS)),
        ({"engine": "server", "server": "Ollama at localhost:11434"}, []),
        ({"engine": "server", "server": "vLLM at [::1]:8000"}, []),
        ({"engine": "server", "server": "vLLM at localhost.example.com:8000"}, list(ARMS)),
        ({"engine": "server", "server": "vLLM at 127.example.com"}, list(ARMS)),
        ({"settings": {"store": {"uri": "postgresql://doyen@db.example.com/x?schema=a"}}}, ["rag", "rag+finetuned"]),
        (
            {"settings": {"store": {"uri": "postgresql://doyen@localhost/x?host=db.example.com"}}},
            ["rag", "rag+finetuned"],
        ),
        ({"settings": {"store": {"uri": "postgresql://doyen@[::1]:5432/x?schema=a"}}}, []),
        ({"settings": {"store": {"uri": "postgresql:///x?schema=a&host=/run/postgresql"}}}, []),
        ({"settings": {"store": {"uri": "index"}}}, []),
        ({"engine": "openvino", "settings": {"rerank": {"name": "jina:x"}}}, ["rag", "rag+finetuned"]),
        ({"engine": "openvino", "embedder": "openai:x@3/api", "settings": {}}, ["rag", "rag+finetuned"]),
        ({"engine": "openvino", "embedder": "minilm@ab/onnx-int8", "settings": {"rerank": {"name": ""}}}, []),
    ],
)
def test_offline_rules_out_what_asks_over_a_network(manifest, out):
    assert [o.arm for o in advise(report(TUNED_BEST, manifest=manifest), Constraints(offline=True)).ruled_out] == out


def test_nothing_left_says_what_to_loosen():
    advice = advise(report(TUNED_BEST), Constraints(traceable=True, seconds=1.0))
    assert (advice.arm, advice.runner_up, advice.measured) == (None, None, True)
    assert "Loosen --traceable: finetuned would be left, which scores 96.7%." in reasons(advice)
    assert "Or loosen --max-seconds 1.0: rag+finetuned would be left" in reasons(advice)
    server = {"engine": "server", "server": "vLLM at models.example.com"}
    both = advise(report(TUNED_BEST, manifest=server), Constraints(offline=True, seconds=0.1))
    assert "at least 2 rule out every arm" in reasons(both)


def test_every_reason_under_constraints_has_a_figure():
    for demands in (Constraints("daily", True, 2.2, 1.0, True, 1.0), Constraints(seconds=0.1)):
        advice = advise(report(TUNED_BEST), demands)
        assert all(any(c.isdigit() for c in reason) for reason in advice.reasons), advice.reasons


@pytest.mark.parametrize(
    "wrong", [{"changes": "often"}, {"seconds": 0.0}, {"budget_usd": -1.0}, {"memory_gib": float("nan")}]
)
def test_demands_that_cannot_be(wrong):
    with pytest.raises(UsageError):
        Constraints(**wrong)


# ------------------------------------------------------------------ former answers
@pytest.mark.parametrize(
    ("answer", "stale"),
    [
        ("It is 450 euros.", 1.0),
        ("It is 470 euros.", 0.0),
        ("It rose from 450 euros to 470 euros.", 0.0),
        ("It is 9 euros.", 0.0),
    ],
)
def test_a_former_answer_counts_as_stale(answer, stale):
    for kind in ("number", "span"):
        question = Question("1", "What is the limit?", ("470 euros",), kind=kind, former_answers=("450 euros",))
        given = "450 to 470" if kind == "number" and "rose" in answer else answer
        expected = 1.0 if given == "450 to 470" else stale  # of numbers, the first one counts
        assert score_answer(question, Answer(given, True, "rag")).stale == expected


def test_who_refuses_is_not_stale_and_without_a_former_answer_nothing_is_said():
    known = Question("1", "Limit?", ("470",), kind="number", former_answers=("450",))
    assert score_answer(known, Answer("450", False, "rag")).stale == 0.0
    assert score_answer(Question("1", "Limit?", ("470",), kind="number"), Answer("450", True, "rag")).stale is None
    gone = Question("1", "Limit?", answerable=False, former_answers=("450 euros",))
    assert score_answer(gone, Answer("450 euros", True, "rag")).stale == 1.0


def test_a_form_with_a_former_number_in_it_is_stale():
    question = Question("1", "Slip?", ("CLAIM Kemp | LIMIT 470 EUR",), former_answers=("CLAIM Kemp | LIMIT 450 EUR",))
    assert score_answer(question, Answer("CLAIM Kemp | LIMIT 450 EUR", True, "finetuned")).stale == 1.0
    assert score_answer(question, Answer("CLAIM Kemp | LIMIT 470 EUR", True, "rag")).stale == 0.0


def test_former_answers_are_read_and_written(tmp_path):
    path = tmp_path / "questions.jsonl"
    path.write_text('{"id": 1, "question": "Limit?", "answers": ["470"], "former_answers": ["450", 430]}')
    (read,) = read_questions(path)
    assert read.former_answers == ("450", "430")
    write_rows(path, [question_row(read)])
    assert read_questions(path) == [read]
    assert "former_answers" not in question_row(Question("1", "Limit?"))
    path.write_text('{"id": 1, "question": "Limit?", "former_answers": "450"}')
    with pytest.raises(ExamplesError, match="former_answers"):
        read_questions(path)


# ------------------------------------------------------------------ without a comparison
@pytest.mark.parametrize(
    ("facts", "demands", "arm"),
    [
        (CorpusFacts(documents=12, chunks=90), Constraints(), "rag"),
        (CorpusFacts(documents=12, chunks=90, adapters=1), Constraints(), "rag"),
        (CorpusFacts(adapters=1), Constraints(), "finetuned"),
        (CorpusFacts(), Constraints(), "base"),
        (CorpusFacts(documents=12, examples=400), Constraints(form=True, changes="daily"), "rag+finetuned"),
        (CorpusFacts(documents=12, examples=400, terms=0.8), Constraints(form=True, changes="rarely"), "finetuned"),
        (CorpusFacts(documents=12, examples=20), Constraints(form=True), "rag"),
        (CorpusFacts(adapters=1), Constraints(traceable=True), None),
    ],
)
def test_rules_say_that_they_are_rules(facts, demands, arm):
    advice = advise_without_comparison(facts, demands)
    assert (advice.arm, advice.measured) == (arm, False)
    assert "not a measurement" in advice.reasons[0]
    assert any("doyen compare" in reason for reason in advice.reasons)
    assert all(any(c.isdigit() for c in reason) for reason in advice.reasons), advice.reasons


def test_the_share_of_words_that_general_texts_lack():
    general = ["water bread house because"] * 3
    density, _ = term_density([*general, *["morning evening people kitchen garden table window children"] * 3] * 2)
    assert density is None  # too few words to say
    terms = " ".join(f"zorb{chr(97 + i)}" for i in range(26))
    density, own = term_density([f"{terms} {' '.join(general)}"] * 3)
    assert density > 0.8
    assert "zorba" in own


def test_versions_kept_tell_how_often_documents_change():
    assert CorpusFacts(documents=5, versions=1, days=3).changes is None
    assert CorpusFacts(documents=5, versions=30, days=30).changes == "daily"
    assert CorpusFacts(documents=5, versions=2, days=60).changes == "monthly"
