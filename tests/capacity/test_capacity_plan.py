"""What a corpus takes: the plan from rates, the rates from a measurement, and the command."""

import dataclasses
import json

import numpy as np
import pytest
import tiny_models
from small_stores import words_bert, write_files
from typer.testing import CliRunner

from doyen.capacity.figures import ASSUMED, GIVEN, MEASURED, Figure, total
from doyen.capacity.measuring import Ingested, _composed, embedded_texts
from doyen.capacity.plan import plan_capacity
from doyen.capacity.queueing import Demand
from doyen.capacity.rates import FILE_NAME, EngineRates, Line, Rates, Shape, fit_line, load_rates
from doyen.capacity.recorded import recorded_shape, with_recorded_store
from doyen.capacity.running import measure_capacity, plan_for
from doyen.capacity.sample import choose_files, make_files, make_notes
from doyen.capacity.serving import _Load, search_seconds
from doyen.capacity.stored import Stored, _line_through, store_bytes, store_start, stored_lines
from doyen.capacity.wanted import SEARCH_CURVE, Prices, Wanted, read_count, read_profile
from doyen.cli import app
from doyen.cli.capacity import plan_lines, rates_lines
from doyen.config import EmbedderSettings, ModelSettings, Settings, StoreSettings, settings_toml
from doyen.documents.reading import read_documents
from doyen.embedding import ByteCounter
from doyen.errors import UsageError
from doyen.ingesting import ingest
from doyen.parsing import Limits
from doyen.parsing.tasks import Parser, ParseTask

ENGINE = EngineRates("small", 0.0005, 0.02, 0.004, 0.05, 8192, [1000, 1200], [40, 60])
RATES = Rates(
    measured="2026-11-29",
    sample="40 files of yours",
    cores=2,
    processor="a processor",
    embedder="e",
    dim=384,
    shape=Shape(40, 60_000, 8_000, 10, 4, paged=1.0, tokens=2_000),
    stages={
        "parse": Line(0.01, 1e-6, 0.1),
        "chunk": Line(0.0, 2e-6, 0.1),
        "embed": Line(0.01, 0.0, 0.1),
        "index": Line(0.001, 0.0, 0.1),
        "handing over": Line(0.002, 0.0, 0.1),
    },
    start_s=3.0,
    start_cpu_s=3.0,
    busy=0.8,
    stored={
        "page texts": Line(0.0, 0.5, 0.1),
        "chunk texts": Line(500.0, 0.0, 0.1),
        "full-text index": Line(200.0, 0.0, 0.1),
    },
    store_start={"page texts": 3000.0, "chunk texts": 5000.0, "full-text index": 1000.0},
    search_chunks=400,
    search_s=0.02,
    search_cpu_s=0.03,
    search_together_cpu_s=0.018,
    memory_gib=1.0,
    engine=ENGINE,
)


def test_storage_and_hours_follow_from_the_rates():
    plan = plan_capacity(Wanted(1000, cores=2), RATES)
    assert plan.corpus["chunks"].value == pytest.approx(10_000)
    assert plan.storage_gb["originals"].value == pytest.approx(1000 * 60_000 / 1e9)
    assert plan.storage_gb["vectors"].value == pytest.approx(10_000 * 768 / 1e9)
    parts = [figure.value for name, figure in plan.storage_gb.items() if name != "total"]
    assert plan.storage_gb["total"].value == pytest.approx(sum(parts))
    seconds = 1000 * (0.01 + 8_000 * 1e-6) + 1000 * 8_000 * 2e-6 + 10_000 * 0.011 + 1000 * 0.02
    assert plan.ingest["core-hours"].value * 3600 == pytest.approx(seconds)
    assert plan.ingest["hours on one node of 2 cores"].value * 3600 == pytest.approx(seconds / 1.6 + 3)
    assert plan.ingest["nodes"].value == 1 and plan.serving is None


def test_what_is_given_is_given_and_what_is_assumed_is_said_so():
    plan = plan_capacity(Wanted(10_000_000, pages=8, page_characters=3000, questions_per_day=1_000_000), RATES)
    assert plan.corpus["characters"].value == 10_000_000 * 8 * 3000
    assert plan.corpus["characters"].source == GIVEN
    assert plan.ingest["nodes"].value > 1 and plan.ingest["nodes"].source.startswith(ASSUMED)
    assert plan.serving is not None and plan.serving.parts > 1
    assert any("on several machines is arithmetic here" in remark for remark in plan.remarks)
    row = json.loads(json.dumps(plan.as_dict()))
    assert row["storage_gb"]["total"]["low"] < row["storage_gb"]["total"]["value"] < row["storage_gb"]["total"]["high"]


def test_more_questions_never_need_fewer_nodes():
    nodes = [
        plan_capacity(Wanted(1000, questions_per_day=count, whole_s=15), RATES).serving.nodes.value
        for count in (1_000, 20_000, 100_000)
    ]
    assert nodes == sorted(nodes) and nodes[0] == 1 < nodes[-1]


def test_a_search_costs_less_the_more_of_them_come():
    load = _Load(ENGINE, Figure(0.04), 0.5, cores=2)
    seconds = [load.search_s(per_s) for per_s in (0, 1, 10, 50, 1000)]
    assert seconds == sorted(seconds, reverse=True)
    assert (seconds[0], seconds[-1]) == (0.04, pytest.approx(0.02))
    shares = [load.searching(per_s) for per_s in (0, 1, 10, 50, 1000)]
    assert shares == sorted(shares) and shares[-1] == pytest.approx(1000 * 0.02 / 2)
    assert _Load(ENGINE, Figure(0.04), 1.3, cores=2).search_s(1000) == pytest.approx(0.04)  # no better, no worse


def test_searches_that_go_together_save_nodes_where_each_question_goes_to_all_parts():
    fast = dataclasses.replace(ENGINE, read_token_s=5e-5, step_s=0.002, text_step_s=0.0004)
    loads = [_Load(fast, Figure(0.04), together, cores=2, parts=4) for together in (1.0, 0.5)]
    alone, together = (load.nodes_for(Demand(200, 15))[0] for load in loads)
    assert alone % 4 == together % 4 == 0 and together < alone


def test_the_plan_says_what_a_search_takes_at_the_peak():
    serving = plan_capacity(Wanted(1000, questions_per_day=100_000, whole_s=15), RATES).serving
    assert RATES.search_together_cpu_s < serving.search_peak_s.value < serving.search_s.value
    assert serving.as_dict()["search_peak_s"]["value"] < serving.as_dict()["search_s"]["value"]


def test_prices_are_those_that_are_known():
    plan = plan_capacity(Wanted(1000, questions_per_day=100, prices=Prices(core_hour=0.05)), RATES)
    assert plan.prices["ingest, US$"].value == pytest.approx(plan.ingest["core-hours"].value * 0.05)
    assert "storage, US$ a month" not in plan.prices


def test_a_figure_is_as_weak_as_the_weakest_of_its_parts():
    product = Figure(2, 0.3, MEASURED, "here") * Figure(5, 0.4, ASSUMED, "a guess")
    assert (product.value, product.spread, product.source) == (10, pytest.approx(0.5), "assumed (a guess)")
    both = total([Figure(90, 0.1, MEASURED), Figure(1, 1.0, ASSUMED)])
    assert (both.value, both.origin) == (91, MEASURED)  # what is small decides nothing
    assert both.low < 91 < both.high


def test_a_cost_by_two_counts_is_found_again():
    first, second = [1.0, 2, 3, 4, 5, 6], [10.0, 5, 30, 20, 60, 10]
    line = fit_line(first, second, [0.5 * a + 0.02 * b for a, b in zip(first, second, strict=True)])
    assert (line.base, line.more) == (pytest.approx(0.5), pytest.approx(0.02))


def test_lines_name_each_figure_once_with_where_it_comes_from():
    text = "\n".join(plan_lines(plan_capacity(Wanted(1000), RATES)))
    assert "measured here (40 files of yours)" in text and "e+" not in text
    near = dataclasses.replace(RATES, stored=RATES.stored | {"page texts": Line(0.0, 999.7e9 / 8_000_000, 0.1)})
    assert "1,000  page texts" in "\n".join(plan_lines(plan_capacity(Wanted(1000), near)))


# ---- rates


def test_each_stage_is_told_by_what_it_counts():
    embed = dataclasses.replace(RATES, stages=RATES.stages | {"embed": Line(0.001, 0.0001, 0.1)})
    assert "    210.00 ms of processor time a document  embed" in "\n".join(rates_lines(embed)), (
        "10 passages, 2,000 tokens"
    )


def test_rates_are_kept_and_broken_ones_named(tmp_path):
    path = tmp_path / FILE_NAME
    assert load_rates(path) is None
    RATES.save(path)
    assert load_rates(path) == RATES
    for content in ("{", "{}", '{"format": 0}', path.read_text().replace('"parse"', '"pars"')):
        path.write_text(content)
        with pytest.raises(UsageError, match="holds no rates"):
            load_rates(path)


def stored(documents, chunks, characters):
    """A store that has 1,000 bytes of its own in each part, and vectors of 4 numbers."""
    parts = {"page texts": 700 * documents + 0.3 * characters, "chunks": 150 * chunks + 8 * chunks + 0.6 * characters}
    parts["full-text index"] = 0.2 * characters
    return Stored({name: 1000 + size for name, size in parts.items()}, documents, chunks, characters)


def test_what_documents_and_characters_are_stored_in_is_told_apart():
    found = stored_lines(stored(1, 12, 5000), stored(32, 64, 1500), stored(60, 900, 400_000), dim=4)
    lines = {name: (pytest.approx(line.base), pytest.approx(line.more)) for name, line in found.items()}
    assert lines["page texts"] == (700, 0.3) and lines["chunk texts"] == (150, 0.6)
    assert lines["full-text index"] == (pytest.approx(0, abs=1e-6), 0.2)


def test_what_is_beside_the_stages_goes_with_the_passages():
    stages = {name: Line(0.0, 0.0, 0.1) for name in ("chunk", "index")}
    stages |= {"parse": Line(0.01, 0.0, 0.1), "embed": Line(0.0, 0.001, 0.1)}

    def took(documents, chunks, characters):
        cpu_s = 2 + 0.01 * documents + 0.001 * characters / 4 + 0.005 * chunks
        return Ingested(cpu_s, cpu_s, Stored({}, documents, chunks, characters))

    shape = Shape(60, 9000, 8000, 15, 3, tokens=2000)
    found = _composed(stages, shape, took(32, 64, 1500), took(60, 900, 480_000))
    assert found["stages"]["handing over"] == Line(pytest.approx(0.005), 0.0, 0.3)
    assert found["start_cpu_s"] == pytest.approx(2 + 0.32 + 0.375 + 0.32)


def test_a_store_has_something_beside_its_content():
    small = stored(1, 12, 5000)
    lines = stored_lines(small, stored(32, 64, 1500), stored(60, 900, 400_000), dim=4)
    assert store_start(small, lines, dim=4) == {name: pytest.approx(1000) for name in lines}


def test_an_experts_own_store_says_what_its_documents_take(tiny, tmp_path):
    texts = {f"{n}.txt": f"Note {n}: " + " ".join(f"w{(n * i) % 199}" for i in range(80)) for n in range(40)}
    write_files(tmp_path / "files", texts)
    expert = tmp_path / "expert"
    expert.mkdir()
    (expert / "doyen.toml").write_text(settings_toml(tiny))
    ingest(expert, [tmp_path / "files"])
    rates = dataclasses.replace(RATES, dim=32)
    shape = recorded_shape(expert, tiny, rates)
    found = with_recorded_store(rates, expert, tiny, shape)
    real = store_bytes(expert)
    planned = plan_capacity(Wanted(40), found, shape=shape).storage_gb
    for part, place in (("page texts", "page texts"), ("full-text index", "full-text index")):
        assert planned[part].value * 1e9 == pytest.approx(real[place] - rates.store_start[part], rel=1e-3)
    texts, vectors = planned["chunk texts"].value * 1e9, planned["vectors"].value * 1e9
    assert texts + vectors == pytest.approx(real["chunks"] - rates.store_start["chunk texts"], rel=1e-3)
    joined = dataclasses.replace(tiny, store=StoreSettings(f"experts:{expert}"))
    assert with_recorded_store(rates, expert, joined, shape) is rates, "nothing lies in a folder of its own"


def test_a_summary_that_is_the_only_passage_is_embedded_once(tmp_path):
    note = make_notes(tmp_path, 1)[0]
    task = ParseTask(note.name, note.name, str(note), str(tmp_path), note.read_bytes(), "0" * 64)
    parsed = Parser(ByteCounter(4000), 200, Limits())(task)
    (_, chunks, _, summaries), *_ = parsed.documents
    assert embedded_texts(parsed) == [chunks[0].indexed] == [summaries[0].indexed]


def test_a_document_that_seems_to_take_less_than_nothing_takes_nothing():
    rows = np.array(
        [[31, 1000, 300 - 31], [59, 400_000, 120_000 - 59]], dtype=np.float64
    )  # documents, characters, bytes
    line = _line_through(rows)
    assert line.base == 0 and line.more == pytest.approx(0.3, rel=0.01)


def test_made_pdfs_are_the_same_every_time_and_can_be_read(tmp_path):
    made, again = (make_files(tmp_path / name, 2, 3) for name in ("a", "b"))
    assert [p.read_bytes() for p in made] == [p.read_bytes() for p in again]
    (document,) = read_documents(made[0].read_bytes(), made[0].name, made[0].name).documents
    assert len(document.pages) == 3 and len(document.text) > 6000


def test_a_sample_without_files_is_refused(tmp_path):
    with pytest.raises(UsageError, match="is no folder"):
        choose_files(tmp_path / "none")
    with pytest.raises(UsageError, match="no file that can be read"):
        choose_files(tmp_path)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    """Settings with a tiny model and embedder."""
    folder = tmp_path_factory.mktemp("tiny")
    embedder = words_bert(folder / "embedder", [" ".join(f"w{n}" for n in range(200))])
    model = ModelSettings(name=str(tiny_models.phi_folder(folder / "phi")), max_answer_tokens=4)
    return Settings(model=model, embedder=EmbedderSettings(name=str(embedder)))


@pytest.fixture
def expert(tmp_path, tiny):
    """An expert with a tiny model and embedder, and nothing in it."""
    write_files(tmp_path / "expert", {"doyen.toml": settings_toml(tiny)})
    return tmp_path / "expert"


def texts(folder, count):
    body = [" ".join(f"w{(n * k) % 200}" for k in range(1, 90)) + "." for n in range(1, count + 1)]
    return write_files(folder, {f"{n}.txt": text for n, text in enumerate(body)})


@pytest.mark.e2e
def test_a_machine_is_measured_on_files_and_plans_by_it(expert, tmp_path):
    said = []
    rates = measure_capacity(expert, sample=texts(tmp_path / "files", 12), say=said.append)
    assert said[0] == "reading 12 files" and rates.shape.documents == 12
    assert rates.engine is not None and rates.engine.read_token_s > 0
    assert rates.search_cpu_s > 0 and rates.search_together_cpu_s > 0 and rates.memory_gib > 0 and 0 < rates.busy <= 1
    assert all(line.base >= 0 and line.more >= 0 for line in (rates.stages | rates.stored).values())
    assert load_rates(expert / FILE_NAME) == rates
    plan = plan_for(Wanted(1000, questions_per_day=1000), expert, say=said.append)
    assert plan.serving is not None and "no rates are kept" not in "".join(said)


def test_an_experts_own_documents_say_what_documents_are_like(expert, tmp_path):
    RATES.save(expert / FILE_NAME)
    report = ingest(expert, [texts(tmp_path / "files", 22)])
    plan = plan_for(Wanted(2200), expert)
    assert plan.corpus["chunks"].source == "recorded (the expert's documents)"
    assert plan.corpus["chunks"].value == pytest.approx(100 * (report.chunks + 22))  # and a summary each
    assert any("the expert's largest ingest took" in remark for remark in plan.remarks)


def test_what_tokens_cost_is_read_from_the_settings(tmp_path):
    model = ModelSettings(input_price=2.0)
    write_files(tmp_path, {"doyen.toml": settings_toml(Settings(model=model))})
    prices = plan_for(Wanted(1000, questions_per_day=1000), tmp_path, rates=RATES).prices
    read = prices["tokens read, millions a month"].value
    assert prices["tokens read, US$ a month"].value == pytest.approx(2 * read)
    assert "tokens written, US$ a month" not in prices


def test_fewer_than_four_files_measure_nothing(expert, tmp_path):
    with pytest.raises(UsageError, match="3 of 3 sampled files"):
        measure_capacity(expert, sample=texts(tmp_path / "files", 3))
    assert not (expert / FILE_NAME).exists()


# ---- the command


@pytest.mark.parametrize(("text", "count"), [("2000", 2000), ("10k", 10_000), ("2.5M", 2_500_000), ("1_000", 1000)])
def test_counts_are_read(text, count):
    assert read_count(text, "documents") == count


@pytest.mark.parametrize("text", ["", "ten", "0", "-5", "10T", "1e6"])
def test_what_is_no_count_is_refused(text):
    with pytest.raises(UsageError, match="no number of documents"):
        read_count(text, "documents")


@pytest.mark.parametrize("text", ["never", "1,2", ",".join(["0"] * 24), ",".join(["-1"] + ["1"] * 23), "nan," * 24])
def test_what_is_no_day_is_refused(text):
    with pytest.raises(UsageError, match="is no day"):
        read_profile(text)


def test_all_that_makes_no_sense_is_said_together():
    with pytest.raises(UsageError, match=r"pages is 0; hours is -1; .*a changed share of 2"):
        Wanted(10, pages=0, hours=-1, questions_per_day=-1, changed=2)


def run(*words):
    return CliRunner().invoke(app, ["plan", *words], catch_exceptions=True)


def test_the_command_plans_by_kept_rates(expert):
    RATES.save(expert / FILE_NAME)
    done = run("--documents", "10M", "--pages", "8", "--questions-per-day", "1M", "--json", "--expert", str(expert))
    row = json.loads(done.stdout)
    assert row["corpus"]["documents"]["value"] == 10_000_000 and row["serving"]["nodes"]["value"] > 1
    assert row["calibration"]["sample"] == "40 files of yours"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--documents", "10", "--method", "lora"], "planned apart"),
        (["--questions-per-day", "10"], "questions of how many documents"),
        (["--documents", "many"], "no number of documents"),
    ],
)
def test_options_that_do_not_go_together_are_refused(expert, words, said):
    assert said in str(run(*words, "--expert", str(expert)).exception)


def test_a_search_among_more_chunks_costs_as_many_times_more_as_the_curve_says():
    small, first, last = (
        search_seconds(chunks, RATES).value for chunks in (100, SEARCH_CURVE[0][0], SEARCH_CURVE[-1][0])
    )
    assert small == RATES.search_cpu_s <= first < last
    slow = dataclasses.replace(RATES, search_cpu_s=3 * RATES.search_cpu_s)
    assert search_seconds(SEARCH_CURVE[-1][0], slow).value == pytest.approx(3 * last)
    beyond = search_seconds(3 * SEARCH_CURVE[-1][0], RATES)
    assert beyond.value > last and beyond.origin == ASSUMED
