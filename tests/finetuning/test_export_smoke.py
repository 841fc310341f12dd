"""Before training: an adapter of this very model is merged and split, one layer of each kind; what cannot be is stopped."""

import os

import pytest
import tiny_models
import torch

from doyen.errors import DoyenError, GateError
from doyen.finetuning.methods import trained_model
from doyen.finetuning.preparing import Prepared
from doyen.finetuning.smoke import require_exportable


def model_of(folder, settings):
    return trained_model(folder, settings.finetune, Prepared([], [], "", {}, {}, []), lambda _: None)


def tried(model, folder, settings, place):
    said = []
    return require_exportable(model, folder, settings.finetune, place, said.append), said


@pytest.mark.parametrize(
    ("method", "variants"),
    [("lora", ""), ("lora", "dora,rslora"), ("qlora", ""), ("qlora", "dora"), ("qlora", "loftq")],
)
def test_phis_fused_modules_can_be_merged_and_split(phi, settings_of, tmp_path, method, variants):
    settings = settings_of(phi, method=method, lora_variants=variants)
    model = model_of(phi, settings)
    weights = {name: p.detach().clone() for name, p in model.named_parameters()}
    random = torch.get_rng_state()
    found, said = tried(model, phi, settings, tmp_path / "adapters")
    assert found["split"] is True and found["largest_relative_difference"] < 1e-4 and said == []
    assert torch.equal(torch.get_rng_state(), random) and not list((tmp_path / "adapters").iterdir())
    assert all(torch.equal(p, weights[name]) for name, p in model.named_parameters())


def test_other_models_have_nothing_to_split_and_whole_ones_nothing_to_merge(llama, settings_of, tmp_path):
    settings = settings_of(llama)
    assert tried(model_of(llama, settings), llama, settings, tmp_path)[0]["split"] is None
    settings = settings_of(llama, method="full")
    assert tried(model_of(llama, settings), llama, settings, tmp_path)[0] == {"whole": True}


def test_weights_that_cannot_be_merged_stop_the_run(phi, settings_of, tmp_path):
    settings = settings_of(phi)
    model = model_of(phi, settings)
    model.get_base_model().model.layers[0].mlp.down_proj.base_layer.weight.data[3, 4] = float("nan")
    with pytest.raises(GateError, match="merging 'down_proj' fails"):
        tried(model, phi, settings, tmp_path)


def test_fused_modules_of_other_rows_are_said(phi, settings_of, tmp_path):
    settings = settings_of(phi)
    other = tiny_models.phi_folder(tmp_path / "other", intermediate_size=128)  # whose gate_up_proj has other parts
    found, said = tried(model_of(phi, settings), other, settings, tmp_path)
    assert found["split"] is False and "cannot be split" in said[0]


@pytest.mark.skipif(os.name != "posix", reason="files in the way are told otherwise")
def test_a_folder_that_cannot_be_written_is_said_before_training(phi, settings_of, tmp_path):
    (tmp_path / "adapters").write_text("a file in the way")
    settings = settings_of(phi)
    with pytest.raises(DoyenError, match="folder for adapters cannot be written"):
        tried(model_of(phi, settings), phi, settings, tmp_path / "adapters")
