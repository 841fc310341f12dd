"""The planted corpora hold what their labels rest on; the benchmark judges and keeps runs rightly."""

import dataclasses
import importlib
import json
import re
import sys
from pathlib import Path

import pytest

from doyen.config import Settings, parse_settings, settings_toml
from doyen.evaluation.constraints import Constraints
from doyen.evaluation.report import build_report
from doyen.examples.doubles import Asked, near_questions
from doyen.examples.importing import read_questions, write_rows
from doyen.examples.splitting import overlapping
from doyen.records import ARMS, Answer, Question

FOLDER = Path(__file__).parents[1] / "benchmarks"
SEED = 101  # a development seed
NAMES = (
    *("codes", "orders", "numbers", "stale", "slips", "messages"),
    *("orders-traceable", "slips-hourly", "slips-fast", "numbers-fast", "new-traceable", "orders-daily"),
)


@pytest.fixture
def choice(monkeypatch):
    monkeypatch.syspath_prepend(str(FOLDER))
    yield importlib.import_module("choice")
    for name in [n for n in sys.modules if n.split(".")[0] in ("choice", "planted", "measuring")]:
        del sys.modules[name]


@pytest.fixture
def scenarios(choice):
    return {s.name: s for s in choice.SCENARIOS}


@pytest.fixture(params=NAMES)
def planted(request, scenarios):
    """A scenario and its corpus."""
    scenario = scenarios[request.param]
    return scenario, scenario.corpus(SEED)


def test_there_are_twelve_scenarios_with_labels_and_reasons(scenarios):
    assert tuple(scenarios) == NAMES
    assert sum(not s.constraints for s in scenarios.values()) == 6
    assert all(s.right in ARMS and s.why for s in scenarios.values())
    assert {s.right for s in scenarios.values() if not s.constraints} == set(ARMS)


def test_the_constraints_are_such_as_advise_takes(choice, scenarios):
    for scenario in scenarios.values():
        given = dict(scenario.constraints)
        if given.get("seconds") == choice.AS_FAST_AS_ALONE:
            given["seconds"] = 1.0
        assert set(Constraints(**given).given) == set(scenario.constraints)


def test_a_seed_makes_the_same_corpus_again_and_another_seed_another(planted):
    scenario, corpus = planted
    assert scenario.corpus(SEED) == corpus
    other = scenario.corpus(SEED + 1)
    assert other.after != corpus.after
    assert other.questions != corpus.questions


def test_gold_is_verbatim_and_holds_the_answer(planted):
    _, corpus = planted
    for row in corpus.questions:
        documents = corpus.before if row["split"] == "train" else corpus.after
        stated = [documents[g["document"]][g["start"] : g["end"]] for g in row["gold"]]
        assert all(s.endswith((".", "carries it.")) for s in stated)
        told = " ".join(stated)
        if row["gold"] and row["kind"] == "number":
            assert row["answers"][0] in told
        elif row["gold"] and row["answers"][0].startswith("slip "):
            assert all(part.split(" ", 1)[1] in told for part in row["answers"][0].split(" / ")[1:])
        elif row["gold"]:
            marks = set(row["answers"][0].split()) - set(re.findall(r"\w+", row["question"]))
            assert len(marks) == 4
            assert all(f"{mark} before" in told for mark in marks)


def test_facts_that_changed_are_told_before_and_not_after(planted):
    scenario, corpus = planted
    former = [row for row in corpus.split("test") if row.get("former_answers")]
    assert bool(former) == (
        scenario.name in ("numbers", "stale", "slips", "slips-hourly", "slips-fast", "numbers-fast")
    )
    for row in former:
        (document,) = {g["document"] for g in row["gold"]}
        now, once = ([w for w in a[0].split() if w[-1].isalnum()] for a in (row["answers"], row["former_answers"]))
        assert row["answers"][0] not in row["former_answers"]
        assert document in corpus.changed()
        said = [w for w in once if w not in now]
        assert said
        assert all(word in corpus.before[document] for word in said if word not in ("slip", "lot", "bay", "carrier"))
        assert not all(word in corpus.after[document] for word in said)


def test_changed_numbers_differ_by_more_than_the_tolerance(scenarios):
    for row in scenarios["stale"].corpus(SEED).split("test"):
        now, once = float(row["answers"][0]), float(row["former_answers"][0])
        assert abs(now - once) > now / 11


def test_training_and_test_questions_are_apart(planted, tmp_path):
    _, corpus = planted
    write_rows(tmp_path / "questions.jsonl", corpus.questions)
    questions = read_questions(tmp_path / "questions.jsonl")
    train, test = ([q for q in questions if q.split == side] for side in ("train", "test"))
    assert len(test) == 40
    assert not overlapping(train, test)
    assert not near_questions([Asked.of(q) for q in train], [Asked.of(q) for q in test])
    assert not near_questions([Asked.of(q) for q in test], [Asked.of(q) for q in train])


def told_in(corpus):
    return set(" ".join([*corpus.before.values(), *corpus.after.values()]).lower().split())


def test_no_document_tells_of_codes_that_examples_teach(scenarios):
    corpus = scenarios["codes"].corpus(SEED)
    known = {word for row in corpus.split("train") for word in row["answers"][0].split()}
    asked = {word for row in corpus.split("test") for word in row["answers"][0].split()}
    assert asked <= known
    assert not known & told_in(corpus)


@pytest.mark.parametrize(("name", "told"), [("orders", False), ("orders-daily", False), ("orders-traceable", True)])
def test_marks_of_the_house_style_are_alike_in_all_orders(scenarios, name, told):
    corpus = scenarios[name].corpus(SEED)
    marks = set.intersection(*(set(row["answers"][0].split()) for row in corpus.questions)) - {"of"}
    assert len(marks) == 4
    assert not marks & set(" ".join(row["question"] for row in corpus.questions).split())
    assert (marks <= told_in(corpus)) == told


def test_a_message_holds_its_answer_and_no_document_does(scenarios):
    for row in scenarios["messages"].corpus(SEED).split("test"):
        assert row["answers"][0] in row["question"].split()
        assert not row["gold"]


def test_what_is_new_came_after_the_training(scenarios):
    corpus = scenarios["new-traceable"].corpus(SEED)
    assert all(g["document"] not in corpus.before for row in corpus.split("test") for g in row["gold"])
    assert len(corpus.split("train")) < 20


def test_scenarios_of_one_kind_draw_apart(scenarios):
    assert not set(scenarios["slips"].corpus(SEED).after) & set(scenarios["slips-hourly"].corpus(SEED).after)


def test_gold_that_stands_twice_is_refused(choice):
    from planted.corpus import gold

    with pytest.raises(ValueError, match="2 times"):
        gold("a.md", "One is 1. One is 1.", "One is 1.")


def measured(**right):
    """A report of 40 questions in which each arm answers its number right; arms with documents take 4 s, the others 1 s."""
    questions = [Question(str(i), "Who?", ("Denver",)) for i in range(40)]
    answers = {
        arm: [
            Answer(
                "Denver" if i < right[arm.replace("+", "_")] else "Boston", True, arm, seconds=4 if "rag" in arm else 1
            )
            for i in range(40)
        ]
        for arm in ARMS
    }
    return build_report(questions=questions, answers=answers, hits=None, manifest={}, seed=1)


def test_the_bound_on_seconds_is_that_of_the_arms_without_documents(choice, scenarios):
    report = measured(base=0, rag=10, finetuned=20, rag_finetuned=40)
    assert choice.judged(scenarios["slips"], report)["chosen"] == "rag+finetuned"
    found = choice.judged(scenarios["slips-fast"], report)
    assert found["constraints"] == {"seconds": 1.2}
    assert (found["chosen"], found["hit"]) == ("finetuned", True)
    assert not choice.judged(scenarios["numbers-fast"], report)["hit"]


def test_runs_of_other_seeds_stay_in_the_result_file(choice, tmp_path):
    def run(seed, hit):
        choice.save_run(seed, [{"hit": hit, "seconds": {"training": 90, "comparison": 30}}], tmp_path / "choice.json")

    run(2, True)
    run(1, False)
    run(2, False)
    runs = json.loads((tmp_path / "choice.json").read_text(encoding="utf-8"))["runs"]
    assert [(r["seed"], r["right"], r["of"], r["minutes"]) for r in runs] == [(1, 0, 1, 2.0), (2, 0, 1, 2.0)]


def test_all_scenarios_train_by_one_recipe(choice, scenarios):
    made = [choice.with_recipe(Settings(), s) for s in scenarios.values()]
    assert len({m.examples for m in made}) == 1
    assert len({dataclasses.replace(m.finetune, epochs=2.0) for m in made}) == 1
    assert parse_settings(settings_toml(made[0])) == made[0]


@pytest.mark.e2e
def test_documents_change_between_the_examples_and_the_questions(choice, scenarios, tmp_path):
    from planted.numbers import changing_numbers

    import doyen

    scenario = dataclasses.replace(
        scenarios["numbers"], draw=lambda names: changing_numbers(names, train=4, test=3, changed=0.7)
    )
    corpus = scenario.corpus(SEED)
    expert = choice.set_up(scenario, corpus, tmp_path)
    assert doyen.status(expert)["documents"] == 7
    assert doyen.status(expert)["examples"]["variants"]["closed-book"] == 4
    choice.write_documents(tmp_path / "documents", corpus.after)
    assert sorted(doyen.ingest(expert, [tmp_path / "documents"]).changed) == corpus.changed()
