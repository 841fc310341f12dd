"""An evaluation of a small expert's retrieval: figures, stages, what is wrong with the questions, a second run."""

import json

import pytest
from small_stores import read_lines, words_bert, write_files

import doyen
from doyen.config import RetrievalSettings, Settings, load_settings
from doyen.errors import ExamplesError, UsageError
from doyen.evaluation.retrieval_ablation import SWITCHES, ablation, stages_of
from doyen.expert import open_retriever
from doyen.records import GoldSource, Question

FILES = {
    "lease.txt": "The deposit is returned within thirty days.\fPets need the owner's consent.\n",
    "house/yard.md": "# The yard\n\nBicycles stand in the yard behind the mill.",
    "house/boiler.md": "Smith repairs the boiler every autumn.",
}
GOLD = Question("pets", "Do pets need consent?", gold=(GoldSource("lease.txt", 2),), kind="yesno")
QUESTIONS = [
    GOLD,
    Question("yard", "Where do bicycles stand?", gold=(GoldSource("house/yard.md"),)),
    Question("boiler", "¿Quién repairs the boiler?", gold=(GoldSource("house/boiler.md"),), language="es"),
    Question("moon", "How far is the moon?", answerable=False),
]


@pytest.fixture(scope="module")
def expert(tmp_path_factory):
    folder = tmp_path_factory.mktemp("evaluated")
    made = doyen.init(folder / "expert", embedder=str(words_bert(folder / "toy", list(FILES.values()))))
    doyen.ingest(made, [write_files(folder / "source", FILES)])
    return made


def evaluated(expert, questions=QUESTIONS, **options):
    return doyen.evaluate_retrieval(expert, questions, **options)


def test_the_report_counts_levels_languages_and_kinds(expert):
    report = evaluated(expert)
    assert report["questions"] == {"total": 4, "with_gold": 3, "without_gold": 1}
    assert report["warnings"] == []
    assert report["levels"]["document"]["hit@1"] == {"value": 1, "low": 1, "high": 1, "n": 3}
    assert report["levels"]["page"]["hit@1"]["n"] == 1
    assert {name: row["mrr"]["n"] for name, row in report["by_language"].items()} == {"en": 2, "es": 1}
    assert {name: row["mrr"]["n"] for name, row in report["by_kind"].items()} == {"yesno": 1, "span": 2}
    assert [row["id"] for row in report["rows"]] == ["pets", "yard", "boiler"]


def test_report_and_hits_are_written(expert, tmp_path):
    report = evaluated(expert, out=tmp_path / "out")
    kept = json.loads((tmp_path / "out" / "report.json").read_text(encoding="utf-8"))
    assert kept == {name: value for name, value in report.items() if name != "folder"}
    hits = {row["id"]: row["hits"] for row in read_lines(tmp_path / "out" / "hits.jsonl")}
    assert hits.keys() == {"pets", "yard", "boiler"}
    assert (hits["pets"][0]["document"], hits["pets"][0]["page"]) == ("lease.txt", 2)
    written = (tmp_path / "out" / "hits.jsonl").read_text() + (tmp_path / "out" / "report.json").read_text()
    assert "Smith" not in written  # a removed document's text stays nowhere


def test_the_same_inputs_go_into_the_same_folder(expert):
    first, again, other = evaluated(expert), evaluated(expert), evaluated(expert, QUESTIONS[:2])
    assert first["folder"] == again["folder"] != other["folder"]
    assert first["rows"] == again["rows"]


def test_without_gold_pages_there_is_no_page_level(expert):
    assert set(evaluated(expert, QUESTIONS[1:])["levels"]) == {"gold", "document"}


def test_the_depth_names_the_figures(expert):
    row = evaluated(expert, k=2, stages=False)["levels"]["document"]
    assert {"hit@2", "recall@2"} <= set(row) and "recall@10" not in row
    with pytest.raises(UsageError, match="1 to 100"):
        evaluated(expert, k=0)


# ---- what a model is shown


def test_an_answer_over_two_chunks_is_shown_whole_when_neighbours_are_joined(tmp_path):
    rule = "The deposit is returned " + " ".join(f"within{n} the usual time" for n in range(15))
    files = {
        "a.md": f"# Lease\n\n{rule}.",
        "b.md": "# Yard\n\nBicycles.",
    }
    made = doyen.init(tmp_path / "expert", embedder=str(words_bert(tmp_path / "toy", list(files.values()))))
    settings = (made / "doyen.toml").read_text(encoding="utf-8")
    (made / "doyen.toml").write_text(settings.replace("# max_tokens = 200", "max_tokens = 45"), encoding="utf-8")
    doyen.ingest(made, [write_files(tmp_path / "source", files)])
    first, second, *_ = open_retriever(made, load_settings(made)).index.chunks_of(["a.md"])
    over_both = " ".join([*first.text.split()[-5:], *second.text.split()[:5]])
    gold = (GoldSource("a.md"),)
    asked = [
        Question("whole", "When is the deposit returned?", (over_both,), gold=gold),
        Question("absent", "When is the deposit returned?", ("forty days",), gold=gold),
        Question("yes", "Is the deposit returned?", ("yes",), gold=gold, kind="yesno"),
    ]
    shown = evaluated(made, asked)["shown"]
    assert shown["passages"] == 3 and shown["joined"]["gold"]["value"] == 1
    assert (shown["single"]["answer"]["value"], shown["joined"]["answer"]["value"]) == (0.0, 0.5)
    assert shown["joined"]["answer"]["n"] == 2 and shown["differences"]["answer"]["value"] == 0.5
    assert evaluated(made, asked, stages=False)["shown"] is None


# ---- stages


def test_stages_go_from_one_arm_to_the_settings_as_they_are(expert):
    report = evaluated(expert)
    names = [row["name"] for row in report["stages"]]
    assert names[:3] == ["BM25 only", "dense only", "fused"]
    assert [row["against"] is None for row in report["stages"][:3]] == [True, True, False]
    last = report["stages"][-1]
    assert last["metrics"] == report["levels"]["gold"]
    assert last["differences"].keys() == last["metrics"].keys()
    assert evaluated(expert, stages=False)["stages"] == []


def test_the_arms_differ_in_their_weight_and_the_last_stage_in_nothing(expert):
    settings = load_settings(expert)
    text, dense, *more = stages_of(settings)
    assert (text.settings.retrieval.dense_weight, dense.settings.retrieval.dense_weight) == (0, 1)
    assert more[-1].settings == settings


def test_a_switch_that_is_off_or_unknown_is_no_stage():
    settings = Settings(retrieval=RetrievalSettings())
    known = [
        (name, value)
        for name, path, value in SWITCHES
        if getattr(getattr(settings, path.split(".")[0], None), path.split(".")[1], value) != value
    ]
    assert len(stages_of(settings)) == 3 + len(known)


def test_a_stage_is_compared_with_the_better_of_the_stages_before():
    weak, strong, both = ([{"ndcg@10": value}] * 3 for value in (0.25, 0.5, 0.75))
    rows = ablation(stages_of(Settings())[:3], [strong, weak, both], seed=0)
    assert rows[2]["against"] == "BM25 only"
    assert rows[2]["differences"]["ndcg@10"]["value"] == 0.25
    assert ablation(stages_of(Settings())[:3], [weak, strong, both], seed=0)[2]["against"] == "dense only"


# ---- questions that cannot be measured


def test_without_gold_there_is_nothing_to_measure(expert):
    with pytest.raises(ExamplesError, match="none of the 1 questions has gold") as raised:
        evaluated(expert, [QUESTIONS[3]])
    assert '"gold"' in raised.value.hint


def test_a_gold_document_that_is_not_indexed_is_named(expert):
    lost = Question("lost", "Who repairs the roof?", gold=(GoldSource("roof.md"),))
    (warning,) = evaluated(expert, [*QUESTIONS, lost], stages=False)["warnings"]
    assert "1 of 4 gold documents are not in the index (roof.md)" in warning
    assert "1 questions" in warning


def test_a_gold_page_that_the_document_lacks_is_named(expert):
    beyond = Question("beyond", "Pets?", gold=(GoldSource("lease.txt", 3), GoldSource("house/yard.md", 1)))
    (warning,) = evaluated(expert, [beyond], stages=False)["warnings"]
    assert "2 gold pages do not exist in their document (house/yard.md p. 1, lease.txt p. 3)" in warning


@pytest.mark.parametrize(
    ("gold", "hint"),
    [
        ("docs/house/yard.md", "--name docs"),
        ("yard.md", "the index knows it as 'house/yard.md'"),
        ("x.md", "doyen documents"),
    ],
)
def test_ids_that_all_differ_are_a_fault(expert, gold, hint):
    with pytest.raises(ExamplesError, match="none of the 1 gold documents is in the index") as raised:
        evaluated(expert, [Question("q", "Where do bicycles stand?", gold=(GoldSource(gold),))])
    assert hint in raised.value.hint


# ---- a second run


def test_a_second_run_is_compared_question_by_question(expert, tmp_path):
    evaluated(expert, QUESTIONS[:2], out=tmp_path / "first")
    found = evaluated(expert, QUESTIONS[1:], against=tmp_path / "first", stages=False)["against"]
    assert found["questions"] == 1
    assert found["differences"]["ndcg@10"]["value"] == 0


def test_what_is_no_evaluation_is_refused(expert, tmp_path):
    with pytest.raises(UsageError, match="not the report of a retrieval evaluation"):
        evaluated(expert, against=tmp_path)
    evaluated(expert, QUESTIONS[:1], out=tmp_path / "other", stages=False)
    with pytest.raises(UsageError, match="no question in common"):
        evaluated(expert, QUESTIONS[1:], against=tmp_path / "other")
