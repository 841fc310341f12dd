"""Costs: from records and answers alone; what was not recorded is said to be unknown."""

import json

import pytest

from doyen.config import CostSettings, Settings
from doyen.evaluation.cost_sections import cost_rows
from doyen.evaluation.costs import cost_figures
from doyen.evaluation.markdown_report import render_markdown
from doyen.evaluation.memory_notes import memory_by_arm, note_memory, resident_gib
from doyen.evaluation.report import build_report
from doyen.evaluation.report_page import render_page
from doyen.ingesting.report import IngestReport
from doyen.ingesting.timing import record_ingest, recorded_ingests
from doyen.records import Answer, Question


def answers(arm, n=20):
    return [Answer("x", True, arm, seconds=1.0 + i, prompt_tokens=100, completion_tokens=i) for i in range(n)]


@pytest.fixture
def expert(tmp_path):
    (tmp_path / "index").mkdir()
    return tmp_path


def ingest(expert, seconds, new=(), changed=()):
    record_ingest(expert / "index", IngestReport(new=list(new), changed=list(changed), chunks=5, seconds=seconds))


def test_seconds_tokens_and_disk_of_an_arm(expert):
    (expert / "index" / "x").write_bytes(b"0" * 2**20)
    cost = cost_figures(expert, Settings(), {"base": answers("base"), "rag": answers("rag")}, memory_gib={"rag": 0.5})
    rag = cost["arms"]["rag"]
    assert (rag["seconds_p50"], rag["seconds_p95"]) == (10.5, 19.05)
    assert (rag["tokens_p50"], rag["memory_gib"], cost["arms"]["base"]["memory_gib"]) == (110, 0.5, None)
    assert cost["disk_mib"]["index"] == 1.0
    assert rag["disk_mib"] - cost["arms"]["base"]["disk_mib"] == pytest.approx(
        1.0 + cost["disk_mib"].get("embedder", 0)
    )
    assert (rag["usd_per_1000"], rag["wh_per_1000"]) == (None, None)


def test_without_records_nothing_is_made_up(expert):
    cost = cost_figures(expert, Settings(), {"rag": answers("rag"), "finetuned": answers("finetuned")})
    assert cost["build"] == {"index": None, "training": None}
    assert cost["keeping_current"] == {"rag": None, "finetuned": None}


def test_a_changed_document_costs_what_small_ingests_took_else_the_mean_of_all(expert):
    ingest(expert, 60.0, new=[f"{i}.md" for i in range(30)])
    cost = cost_figures(expert, Settings(), {"rag": answers("rag")})
    assert cost["build"]["index"] == {"seconds": 60.0, "ingests": 1, "documents": 30, "seconds_a_document": 2.0}
    assert cost["keeping_current"]["rag"] == {"seconds": 2.0, "how": "estimated", "ingests": 1}
    ingest(expert, 3.0, changed=["1.md"])
    ingest(expert, 5.0, changed=["1.md", "2.md"])
    ingest(expert, 9.0)  # nothing changed: not recorded
    cost = cost_figures(expert, Settings(), {"rag": answers("rag")})
    assert cost["keeping_current"]["rag"] == {"seconds": 4.0, "how": "measured", "ingests": 2}


def test_broken_lines_of_the_record_are_passed_over(expert):
    ingest(expert, 3.0, changed=["1.md"])
    with (expert / "index" / "ingests.jsonl").open("a") as file:
        file.write('{"seconds":\n[1]\n')
    assert [row["changed"] for row in recorded_ingests(expert / "index")] == [1]


def test_prices_by_the_rates_or_by_what_a_server_took(expert):
    settings = Settings(cost=CostSettings(usd_per_hour=3.6, watts=100.0, usd_per_kwh=0.36))
    cost = cost_figures(expert, settings, {"base": answers("base")})["arms"]["base"]
    assert cost["usd_per_1000"] == pytest.approx((3.6 + 0.036) * 10.5 / 3600 * 1000, rel=1e-3)
    assert cost["wh_per_1000"] == pytest.approx(100 * 10.5 / 3600 * 1000, rel=1e-3)
    paid = cost_figures(expert, settings, {"base": answers("base")}, paid_usd={"base": 0.04})
    assert paid["arms"]["base"]["usd_per_1000"] == 2.0


def test_rates_shape_no_answer():
    assert Settings(cost=CostSettings(watts=80.0)).shaping() == Settings().shaping()


def test_memory_is_kept_with_the_answers(tmp_path):
    class Here:
        kind = "openvino"

    class There:
        kind = "server"

    held = resident_gib()
    assert held is None or 0.01 < held < 100
    note_memory(tmp_path, "rag", Here())
    note_memory(tmp_path, "base", There())
    assert set(memory_by_arm(tmp_path)) == ({"rag"} if held else set())
    for broken in ("{", "[]"):
        (tmp_path / "memory.json").write_text(broken)
        assert memory_by_arm(tmp_path) == {}


def test_page_and_markdown_show_the_costs(expert):
    ingest(expert, 60.0, new=[f"{i}.md" for i in range(30)])
    asked = [Question(str(i), "Who?", ("x",)) for i in range(20)]
    own = {arm: answers(arm) for arm in ("base", "rag", "rag+finetuned")}
    cost = cost_figures(expert, Settings(), own, memory_gib={"rag": 0.5})
    report = build_report(questions=asked, answers=own, hits=None, manifest={}, seed=1, cost=cost)
    rows = {row[0]: row for row in cost_rows(report)[1]}
    assert rows["base"][-2:] == ["0", "0"]
    assert rows["rag"][-2:] == ["1.0", "about 0.03"]
    assert rows["rag+finetuned"][-2:] == ["1.0 + –", "about 0.03 + –"]
    assert "What each arm costs" in render_page(report)
    assert "## Cost\n" in render_markdown(report)
    assert "What each arm costs" not in render_page(report | {"cost": None})
    json.dumps(report)
