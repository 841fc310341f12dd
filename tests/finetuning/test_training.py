"""Whole runs at toy size: they learn, stop and go on bit for bit, and leave what the engine serves."""

import dataclasses
import itertools
import json
import math
import shutil

import pytest
import tiny_models
import torch
from safetensors.torch import load_file

import doyen
from doyen.adapters import list_adapters, read_adapter
from doyen.errors import ConfigError, GateError, Interrupted, UsageError
from doyen.finetuning.checking import recalibrate
from doyen.finetuning.running import finetune as finetune_expert
from doyen.finetuning.running import next_name
from doyen.finetuning.steps import FINAL_RATE, learning_rate
from doyen.finetuning.training import finetune
from doyen.lineage import read_lineage
from doyen.models.fitting import weights_fingerprint
from doyen.models.transformers_engine import TransformersEngine


def history(folder):
    return [json.loads(line) for line in (folder / "history.jsonl").read_text().splitlines()]


def weights(expert, name):
    return load_file(str(expert / "adapters" / name / "adapter_model.safetensors"))


def stop_after(steps):
    """A report that presses Ctrl-C after so many steps."""

    def report(progress):
        if progress.step == steps:
            raise KeyboardInterrupt

    return report


@pytest.fixture(scope="module")
def trained(phi, examples, validation, settings_of, tmp_path_factory):
    """One undisturbed run with dropout, so that the random state matters: (expert, settings, manifest)."""
    settings = settings_of(phi, epochs=6.0, dropout=0.1)
    expert = tmp_path_factory.mktemp("expert")
    return expert, settings, finetune(expert, settings, examples, validation, name="whole")


def test_the_loss_falls(trained):
    expert, _, manifest = trained
    losses = [line["loss"] for line in history(expert / "adapters" / "whole")]
    assert len(losses) == manifest.steps == 12
    assert losses[-1] < 0.75 * losses[0]
    assert manifest.train_loss == pytest.approx(losses[-1], abs=1e-3)


def test_the_adapter_folder_says_what_it_is_made_of(trained, phi, examples):
    expert, settings, manifest = trained
    folder = expert / "adapters" / "whole"
    assert {p.name for p in folder.iterdir()} == {
        "adapter_config.json",
        "adapter_model.safetensors",
        "history.jsonl",
        "lineage.jsonl",
        "manifest.json",
        "training.html",
    }
    assert len(read_lineage(folder / "lineage.jsonl")) == manifest.examples["train"]
    assert read_adapter(folder) == dataclasses.replace(manifest)
    assert list_adapters(expert) == [folder]
    assert not (expert / "adapters" / ".whole.training").exists()
    assert manifest.settings == dataclasses.asdict(settings.finetune)
    assert manifest.target_modules == ["down_proj", "gate_up_proj", "o_proj", "qkv_proj"]
    # rank × (in + out) of the four fused linears (hidden 64, 4 + 2 × 2 heads of 16, intermediate 96), in 2 layers
    assert manifest.trained_parameters == 2 * 4 * ((64 + 128) + (64 + 64) + (64 + 192) + (96 + 64))
    assert sum(t.numel() for t in weights(expert, "whole").values()) == manifest.trained_parameters
    assert manifest.template_hash == TransformersEngine(phi).template_hash()
    assert manifest.examples["train"] == len(examples) and manifest.examples["variants"] == {"closed-book": 8}
    assert set(manifest.gates) == {
        *("supervision", "doubles", "held_out", "length", "end_of_turn", "targets"),
        *("space", "export", "memory", "effect"),
    }
    assert manifest.calibration["answerable"] == manifest.calibration["unanswerable"] == 8
    assert 0 < manifest.refusal_threshold < 1
    assert manifest.validation_loss > 0 and manifest.versions["peft"]
    assert manifest.forgetting["bytes"] > 8000 and manifest.held_out["kept_step"] == 12


def test_the_manifest_has_what_decides_the_bits(trained, phi):
    _, settings, manifest = trained
    assert manifest.settings["seed"] == settings.finetune.seed
    assert manifest.machine["threads"] == torch.get_num_threads() and manifest.machine["device"] == "cpu"
    assert manifest.machine["dtype"] in ("bfloat16", "float32") and manifest.machine["processor"]
    assert {"doyen", "torch", "transformers", "peft", "numpy"} <= set(manifest.versions)
    assert len(manifest.examples["sha256"]) == len(manifest.examples["validation_sha256"]) == 16
    assert manifest.weights_fingerprint == weights_fingerprint(phi)


def test_other_weights_of_the_same_form_have_another_fingerprint(phi, tmp_path):
    other = tiny_models.phi_folder(tmp_path, initializer_range=0.05, seed=1)
    assert (other / "config.json").read_bytes() == (phi / "config.json").read_bytes()
    assert weights_fingerprint(other) != weights_fingerprint(phi)


def test_resuming_with_other_threads_is_said(trained, examples, validation, tmp_path):
    _, settings, _ = trained
    said = []
    with pytest.raises(Interrupted):
        finetune(tmp_path, settings, examples, validation, name="a", report=stop_after(11))
    before = torch.get_num_threads()
    torch.set_num_threads(before + 1)
    try:
        finetune(tmp_path, settings, examples, validation, name="a", resume=True, say=said.append)
    finally:
        torch.set_num_threads(before)
    assert any(f"{before + 1} threads now, {before} before" in line for line in said)


def test_the_engine_answers_as_trained(trained, phi, examples):
    expert, *_ = trained
    prompts = [list(e.messages[:-1]) for e in examples]
    engine = TransformersEngine(phi)
    tuned = [c.text for c in engine.generate(prompts, max_tokens=8, adapter=expert / "adapters" / "whole")]
    base = [c.text for c in engine.generate(prompts, max_tokens=8)]
    assert sum(text.endswith(" days") for text in tuned) >= 6
    assert not any(text.endswith(" days") for text in base)


def test_the_same_run_gives_the_same_weights_and_another_seed_others(trained, examples, tmp_path):
    expert, settings, _ = trained
    finetune(tmp_path, settings, examples, [], name="again")
    other = dataclasses.replace(settings, finetune=dataclasses.replace(settings.finetune, seed=8))
    finetune(tmp_path, other, examples, [], name="other")
    whole = weights(expert, "whole")
    files = [
        folder / "adapters" / name / "adapter_model.safetensors"
        for folder, name in ((expert, "whole"), (tmp_path, "again"))
    ]
    assert files[0].read_bytes() == files[1].read_bytes()
    assert not all(torch.equal(value, weights(tmp_path, "other")[key]) for key, value in whole.items())


@pytest.mark.parametrize("stops", [[5], [1, 2, 11], [12]])
def test_stopped_and_resumed_is_the_undisturbed_run_bit_for_bit(stops, trained, examples, validation, tmp_path):
    expert, settings, manifest = trained
    for resume, stop in zip(itertools.chain([False], itertools.repeat(True)), stops, strict=False):
        with pytest.raises(Interrupted) as caught:
            finetune(tmp_path, settings, examples, validation, name="parts", resume=resume, report=stop_after(stop))
        assert "doyen finetune --name parts --resume" in caught.value.hint
        assert list_adapters(tmp_path) == []
    steps = []
    made = finetune(
        tmp_path, settings, examples, validation, name="parts", resume=True, report=lambda p: steps.append(p.step)
    )
    assert steps == list(range(stops[-1] + 1, 13))
    whole, parts = weights(expert, "whole"), weights(tmp_path, "parts")
    assert whole.keys() == parts.keys() and all(torch.equal(whole[key], parts[key]) for key in whole)
    assert (made.steps, made.tokens, made.train_loss) == (manifest.steps, manifest.tokens, manifest.train_loss)
    kept = history(tmp_path / "adapters" / "parts")
    assert [line["step"] for line in kept] == list(range(1, 13))
    assert [line["loss"] for line in kept] == [line["loss"] for line in history(expert / "adapters" / "whole")]
    assert not (tmp_path / "adapters" / ".parts.training").exists()


def test_a_killed_run_goes_on_from_its_last_checkpoint(trained, examples, validation, tmp_path):
    expert, settings, _ = trained

    class Killed(BaseException):
        pass

    def kill(progress):
        if progress.step == 7:
            raise Killed

    with pytest.raises(Killed):
        finetune(tmp_path, settings, examples, validation, name="killed", report=kill, checkpoint_every_s=0.0)
    steps = []
    finetune(
        tmp_path, settings, examples, validation, name="killed", resume=True, report=lambda p: steps.append(p.step)
    )
    assert steps == list(range(7, 13))  # the checkpoint of step 6 was written before step 7's report
    whole, parts = weights(expert, "whole"), weights(tmp_path, "killed")
    assert all(torch.equal(whole[key], parts[key]) for key in whole)
    assert [line["step"] for line in history(tmp_path / "adapters" / "killed")] == list(range(1, 13))


def test_resuming_with_other_settings_or_examples_is_refused(trained, examples, tmp_path):
    _, settings, _ = trained
    with pytest.raises(Interrupted):
        finetune(tmp_path, settings, examples, [], name="parts", report=stop_after(3))
    other = dataclasses.replace(settings, finetune=dataclasses.replace(settings.finetune, learning_rate=0.01))
    with pytest.raises(GateError, match="other examples, settings or model"):
        finetune(tmp_path, other, examples, [], name="parts", resume=True)
    with pytest.raises(GateError, match="other examples, settings or model"):
        finetune(tmp_path, settings, examples[:-1], [], name="parts", resume=True)
    assert finetune(tmp_path, settings, examples, [], name="parts", resume=True).steps == 12


def test_names(trained, examples):
    expert, settings, _ = trained
    for name in ("", "a/b", ".hidden"):
        with pytest.raises(UsageError, match="not a name"):
            finetune(expert, settings, examples, [], name=name)
    with pytest.raises(UsageError, match="an adapter 'whole' already"):
        finetune(expert, settings, examples, [], name="whole")
    with pytest.raises(UsageError, match="no interrupted run"):
        finetune(expert, settings, examples, [], name="new", resume=True)


def test_replace_takes_the_place_only_when_done(phi, examples, settings_of, tmp_path):
    settings = settings_of(phi, epochs=1.0)
    finetune(tmp_path, settings, examples, [], name="a")
    before = (tmp_path / "adapters" / "a" / "manifest.json").read_bytes()
    other = settings_of(phi, epochs=1.0, rank=2)
    with pytest.raises(Interrupted):
        finetune(tmp_path, other, examples, [], name="a", replace=True, report=stop_after(1))
    assert (tmp_path / "adapters" / "a" / "manifest.json").read_bytes() == before
    finetune(tmp_path, other, examples, [], name="a", replace=True, resume=True)
    assert read_adapter(tmp_path / "adapters" / "a").settings["rank"] == 2
    assert [p.name for p in list_adapters(tmp_path)] == ["a"]


def test_an_adapter_without_validation_has_no_threshold(llama, examples, settings_of, tmp_path):
    manifest = finetune(tmp_path, settings_of(llama, epochs=1.0), examples, [], name="a")
    assert (manifest.validation_loss, manifest.refusal_threshold) == (None, None)
    assert manifest.target_modules == sorted(
        ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
    )


def test_a_loss_that_is_no_number_stops_the_run(examples, settings_of, tmp_path):
    broken = tiny_models.phi_folder(tmp_path, initializer_range=1e30)
    with pytest.raises(GateError, match="not numbers any more, before anything was learned"):
        finetune(tmp_path, settings_of(broken), examples, [], name="a")
    assert list_adapters(tmp_path) == []


def test_an_adapter_without_effect_leaves_nothing_to_resume(llama, examples, settings_of, tmp_path):
    settings = settings_of(llama, epochs=0.5, learning_rate=1e-8)
    with pytest.raises(GateError, match="changes no logits"):
        finetune(tmp_path, settings, examples, [], name="a")
    assert list((tmp_path / "adapters").iterdir()) == []


def test_stopped_while_calibrating_keeps_the_training(phi, examples, validation, settings_of, tmp_path):
    def ctrl_c(line):
        if line.startswith("calibrating"):
            raise KeyboardInterrupt

    settings, steps = settings_of(phi, epochs=1.0), []
    with pytest.raises(Interrupted) as caught:
        finetune(tmp_path, settings, examples, validation, name="a", say=ctrl_c)
    assert "finetune --resume --name a" in caught.value.hint
    finetune(tmp_path, settings, examples, validation, name="a", resume=True, report=steps.append)
    assert steps == [] and [p.name for p in list_adapters(tmp_path)] == ["a"]


def test_recalibrating_changes_the_rule_and_not_the_weights(phi, examples, validation, settings_of, tmp_path):
    settings = settings_of(phi, epochs=1.0)
    first = finetune(tmp_path, settings, examples, validation, name="a")
    weights = (tmp_path / "adapters" / "a" / "adapter_model.safetensors").read_bytes()
    most = dataclasses.replace(settings, finetune=dataclasses.replace(settings.finetune, false_refusals=0.9))
    again = recalibrate(tmp_path, "a", most, examples, validation, say=lambda _: None)
    assert again.refusal_threshold <= first.refusal_threshold
    assert again == read_adapter(tmp_path / "adapters" / "a")
    assert (again.calibration["slope"], again.created) == (first.calibration["slope"], first.created)
    assert (tmp_path / "adapters" / "a" / "adapter_model.safetensors").read_bytes() == weights
    with pytest.raises(UsageError, match="trained on other examples"):
        recalibrate(tmp_path, "a", settings, examples[:-1], validation, say=lambda _: None)


def test_qlora_trains_phi_in_four_bits_and_the_engine_serves_it(phi, examples, settings_of, tmp_path, caplog):
    said = []
    settings = settings_of(phi, method="qlora", epochs=6.0)
    manifest = finetune(tmp_path, settings, examples, [], name="q", say=said.append)
    losses = [line["loss"] for line in history(tmp_path / "adapters" / "q")]
    assert losses[-1] < 0.7 * losses[0]
    assert manifest.method == "qlora" and manifest.gates["effect"]["largest_logit_difference"] > 1e-3
    assert manifest.target_modules == ["down_proj", "gate_up_proj", "o_proj", "qkv_proj"]
    prompt = [list(examples[0].messages[:-1])]
    engine = TransformersEngine(phi)
    tuned = engine.generate(prompt, max_tokens=8, adapter=tmp_path / "adapters" / "q")
    assert tuned[0].text != engine.generate(prompt, max_tokens=8)[0].text
    assert not [r for r in caplog.records if "kernels-community" in r.getMessage()]
    assert any("8 linear modules" in line for line in said)


def test_the_learning_rate_warms_up_and_decays():
    rates = [learning_rate(step, 100, 1.0) for step in range(100)]
    assert rates[:6] == pytest.approx([(i + 1) / 6 for i in range(6)])
    assert max(rates) == 1.0 and rates[6:] == sorted(rates[6:], reverse=True)
    assert FINAL_RATE < rates[-1] < FINAL_RATE + 0.01
    assert rates[53] == pytest.approx(FINAL_RATE + (1 - FINAL_RATE) / 2)
    for steps in (1, 2, 3):
        assert all(
            0 < learning_rate(step, steps, 1.0) <= 1.0 and math.isfinite(learning_rate(step, steps, 1.0))
            for step in range(steps)
        )


# ---- through the expert's folder


def test_an_examples_file_trains_by_name_and_number(phi, examples, tmp_path):
    expert = doyen.init(tmp_path / "expert", model=str(phi))
    path = tmp_path / "examples.jsonl"
    path.write_text("".join(json.dumps(e.as_dict()) + "\n" for e in examples))
    options = {"examples": path, "epochs": 1.0, "rank": 2, "learning_rate": 0.02, "batch_size": 4}
    names = [finetune_expert(expert, **options).name for _ in range(2)]
    assert names == ["lora-1", "lora-2"]
    assert read_adapter(expert / "adapters" / "lora-2").settings["rank"] == 2
    with pytest.raises(Interrupted):
        finetune_expert(expert, **options, name="x", report=stop_after(1))
    assert doyen.status(expert)["interrupted_runs"] == ["x"]
    with pytest.raises(Interrupted):
        finetune_expert(expert, **options, report=stop_after(1))
    assert doyen.status(expert)["interrupted_runs"] == ["lora-3", "x"]
    assert next_name(expert, "lora") == "lora-4"
    shutil.rmtree(expert / "adapters" / ".lora-3.training")
    assert finetune_expert(expert, resume=True).name == "x"  # the run keeps what it was given
    assert read_adapter(expert / "adapters" / "x").settings["rank"] == 2
    with pytest.raises(ConfigError) as caught:
        finetune_expert(expert, **options | {"rank": 0, "method": "prompt"}, colour="red")
    assert all(word in str(caught.value) for word in ("colour", "rank", "lora, qlora"))
    with pytest.raises(UsageError, match="no interrupted run"):
        finetune_expert(expert, **options, resume=True)
