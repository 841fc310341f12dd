"""Compiled layers: when they are taken, that they compute the same, and that a run goes on without a compiler."""

import copy
import dataclasses

import pytest
import tiny_models
import torch

from doyen.config import FinetuneSettings
from doyen.finetuning import compiling
from doyen.finetuning.compiling import FEWEST_TOKENS, as_written, compile_layers, compiles
from doyen.finetuning.data import TokenisedExample
from doyen.finetuning.loss import answer_loss
from doyen.models.engine import load_causal_model

pytestmark = pytest.mark.filterwarnings("ignore")  # torch's own, on compiling
SETTINGS = FinetuneSettings()


def test_auto_compiles_long_runs_on_the_cpu_where_there_is_a_compiler(monkeypatch):
    monkeypatch.setattr(compiling.shutil, "which", lambda name: f"/bin/{name}" if name == "clang++" else None)
    assert compiles(SETTINGS, FEWEST_TOKENS, "cpu")
    assert not compiles(SETTINGS, FEWEST_TOKENS - 1, "cpu")
    assert not compiles(SETTINGS, FEWEST_TOKENS, "cuda")
    assert not compiles(dataclasses.replace(SETTINGS, method="qlora"), FEWEST_TOKENS, "cpu")
    monkeypatch.setattr(compiling.shutil, "which", lambda name: None)
    assert not compiles(SETTINGS, FEWEST_TOKENS, "cpu")
    assert compiles(dataclasses.replace(SETTINGS, compile="on"), 1, "cuda")


@pytest.fixture
def model(tmp_path):
    return load_causal_model(tiny_models.llama_folder(tmp_path / "llama")).train()


def rows(*lengths):
    return [TokenisedExample(tuple(range(5, 5 + n)), n - 4) for n in lengths]


def gradient(model, examples):
    loss, _ = answer_loss(model, examples)
    return torch.autograd.grad(loss, model.get_decoder().layers[0].mlp.down_proj.weight)[0]


def test_without_a_working_compiler_training_goes_on(model):
    expected, said = gradient(model, rows(20)), []

    def trial():
        raise RuntimeError("no compiler\nat all")

    assert compile_layers(model, trial, said.append) is False
    assert said[-1] == "not compiled (RuntimeError: no compiler); training goes on without"
    assert torch.equal(gradient(model, rows(20)), expected)


@pytest.mark.slow
def test_compiled_layers_compute_the_same_for_any_batch_and_width(model):
    plain, said = copy.deepcopy(model), []
    assert compile_layers(model, lambda: gradient(model, rows(30)), said.append), said
    for examples in (rows(30), rows(90, 40, 70), rows(200)):
        expected = gradient(plain, examples)
        assert torch.allclose(gradient(model, examples), expected, atol=1e-4 * float(expected.abs().max()))
    kinds = {type(layer._compiled_call_impl) for layer in model.get_decoder().layers}
    with as_written(model), torch.inference_mode():
        assert {layer._compiled_call_impl for layer in model.get_decoder().layers} == {None}
        alone, _ = answer_loss(model, rows(50))
    assert {type(layer._compiled_call_impl) for layer in model.get_decoder().layers} == kinds
    assert float(alone) == pytest.approx(float(answer_loss(plain, rows(50))[0].detach()), rel=1e-4)
