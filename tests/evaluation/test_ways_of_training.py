"""LoRA or QLoRA: which runs count as alike, the choice by figures and by what fits, and the report's table."""

import dataclasses
import json

import pytest
from small_stores import make_expert

from doyen.adapters import AdapterManifest
from doyen.evaluation.methods import advise_training, trained_methods, training_advice, won_back
from doyen.evaluation.report import build_report
from doyen.evaluation.report_page import render_page
from doyen.planning import plan


def run(method, before, after, *, created="2026-01-01", sha="x", seconds=600.0, memory=4.0, **settings):
    return AdapterManifest(
        name=f"{method}-{created[-1]}",
        model="m",
        model_fingerprint="f",
        method=method,
        template_hash="t",
        created=created,
        settings={"epochs": 2.0, "batch_size": 8, "max_tokens": 2048, "seed": 7} | settings,
        examples={"sha256": sha},
        sources=[],
        target_modules=[],
        trained_parameters=4_884_480,
        steps=10,
        tokens=100_000,
        seconds=seconds,
        peak_memory_gib=memory,
        train_loss=0.5,
        validation_loss=after,
        held_out={"examples": 20, "before": before, "after": after},
    )


@pytest.fixture
def expert_of(tmp_path):
    def expert(*runs):
        made = make_expert(tmp_path / "expert")
        for manifest in runs:
            (made / "adapters" / manifest.name).mkdir(parents=True)
            manifest.write(made / "adapters" / manifest.name)
        return made

    return expert


LORA, QLORA = run("lora", 2.0, 0.5), run("qlora", 2.2, 0.52, seconds=660.0, memory=3.0, created="2026-01-02")


def test_only_runs_alike_stand_beside_each_other(expert_of):
    older = run("lora", 2.0, 0.9, created="2026-01-00")
    others = [run("full", 2.0, 0.4, sha="y"), run("lora", 2.0, 0.3, created="2026-01-09", epochs=3.0)]
    others.append(run("full", 2.0, 0.2, created="2026-01-07", documents_epochs=1.0))
    unmeasured = dataclasses.replace(run("full", 0, 0, created="2026-01-08"), held_out={})
    expert = expert_of(older, LORA, *others, unmeasured, dataclasses.replace(QLORA, created="2026-02-01"))
    assert [row["adapter"] for row in trained_methods(expert)] == ["lora-1", "qlora-2"]
    assert trained_methods(expert_of()) == trained_methods(expert)


def test_the_memory_is_that_of_the_training_where_it_is_known(expert_of):
    apart = dataclasses.replace(QLORA, training_memory_gib=1.5)
    rows = trained_methods(expert_of(LORA, apart))
    assert {row["method"]: row["peak_memory_gib"] for row in rows} == {"lora": 4.0, "qlora": 1.5}


def test_an_expert_without_adapters_gets_advice_by_its_machine(expert_of):
    advice = advise_training(expert_of())
    assert (advice["measured"], advice["methods"]) == (False, [])
    assert json.dumps(advice)


def rows(*runs):
    names = ("method", "seconds", "tokens", "peak_memory_gib", "trained_parameters")
    return [
        {"adapter": r.name} | {n: getattr(r, n) for n in names} | {n: r.held_out[n] for n in ("before", "after")}
        for r in runs
    ]


def test_what_training_wins_back_of_the_loss_that_nf4_costs():
    assert won_back(rows(LORA, QLORA)) == pytest.approx(0.9)
    assert won_back(rows(LORA)) is None
    assert won_back(rows(LORA, run("qlora", 2.0, 0.6))) is None


@pytest.mark.parametrize(
    ("qlora", "chosen"),
    [
        (QLORA, "lora"),  # higher loss
        (run("qlora", 2.2, 0.502, seconds=660.0), "lora"),  # equal, slower
        (run("qlora", 2.2, 0.502, seconds=500.0), "qlora"),  # equal, faster
        (run("qlora", 2.2, 0.4, seconds=660.0), "qlora"),  # lower loss
    ],
)
def test_of_both_measured_the_lower_loss_wins_then_the_faster(qlora, chosen):
    advice = training_advice(rows(LORA, qlora), plan("llama-70b", gpu="141", measure=False).methods[:0])
    assert (advice["method"], advice["measured"]) == (chosen, True)


def test_the_reasons_hold_the_figures():
    said = " ".join(training_advice(rows(LORA, QLORA), ())["reasons"])
    for figure in ("2.000 → 0.500", "10.0 minutes", "1.10 times LoRA's time", "0.75 times its memory", "1.040 times"):
        assert figure in said
    assert "NF4 without training costs 0.200 of loss, of which training wins back 90%." in said


def test_what_does_not_fit_is_not_chosen():
    methods = plan("llama-70b", gpu="141", measure=False).methods
    assert training_advice(rows(LORA, QLORA), methods)["method"] == "qlora"  # 70B in 16 bits: more than 141 GB
    assert training_advice((), plan("llama-70b", gpu="24", gpus=1, measure=False).methods)["method"] is None


def test_the_report_has_a_table_of_the_ways_of_training():
    report = build_report(questions=[], answers={}, hits=None, manifest={}, seed=7, methods=rows(LORA, QLORA))
    page = render_page(report)
    assert "Ways of training, on the same examples" in page and "<td>0.520</td>" in page
    assert "Training wins back 90% of what NF4 costs the untrained model." in page
    assert "Ways of training" not in render_page(report | {"methods": []})
