"""The gates on true Phi-3 and Llama architectures: each lets the sound run pass and stops the worthless one."""

from collections import Counter

import pytest
import tiny_models
import torch

from doyen.errors import GateError
from doyen.finetuning.gates import require_effect, require_end_of_turn, require_supervision, resolve_targets
from doyen.finetuning.training import finetune
from doyen.models.engine import load_causal_model

LLAMA_NAMES = "q_proj,k_proj,v_proj,o_proj,gate_proj,up_proj,down_proj"


@pytest.fixture(scope="module")
def phi_model(phi):
    return load_causal_model(phi)


def kinds(names):
    return Counter(name.rsplit(".", 1)[-1] for name in names)


def test_supervision_is_measured():
    assert require_supervision([3, 2], Counter()) == {"examples": 2, "tokens": 5, "fewest_in_an_example": 2}


@pytest.mark.parametrize("supervised", [[], [3, 0]])
def test_nothing_supervised_is_stopped_and_says_why(supervised):
    with pytest.raises(GateError, match="4 longer than 64 tokens") as caught:
        require_supervision(supervised, Counter({"longer than 64 tokens": 4}))
    assert "max_tokens" in caught.value.hint


def test_examples_that_are_all_too_long_stop_the_run(phi, examples, settings_of, tmp_path):
    with pytest.raises(GateError, match="nothing to learn.*8 longer than 64"):
        finetune(tmp_path, settings_of(phi, max_tokens=64), examples, [], name="a")
    assert not (tmp_path / "adapters").exists()


def test_an_unsupervised_end_of_turn_is_counted():
    with pytest.raises(GateError, match="1 of 3 examples"):
        require_end_of_turn([7, 5, 7], [7], ["<|end|>"])
    assert require_end_of_turn([7, 7], [7], ["<|end|>"]) == {"stop_tokens": ["<|end|>"]}


def test_a_template_that_never_closes_the_turn_stops_the_run(examples, settings_of, tmp_path):
    template = "{% for m in messages %}{{ '<|' + m['role'] + '|>\n' + m['content'] + '\n' }}{% endfor %}"
    template += "{% if add_generation_prompt %}{{ '<|assistant|>\n' }}{% endif %}"
    folder = tiny_models.phi_folder(tmp_path, template=template)
    with pytest.raises(GateError, match="end of the turn is not supervised in 8 of 8"):
        finetune(tmp_path, settings_of(folder), examples, [], name="a")


def test_llama_names_on_phi_are_refused_with_phis_own_names(phi_model):
    with pytest.raises(GateError) as caught:
        resolve_targets(phi_model, LLAMA_NAMES)
    said = str(caught.value)
    assert "q_proj, k_proj, v_proj, gate_proj, up_proj match nothing" in said
    assert "only down_proj, o_proj would have been adapted" in said
    assert "qkv_proj (×2)" in said and "gate_up_proj (×2)" in said
    assert "all-linear" in caught.value.hint


def test_llama_names_are_right_on_llama(llama):
    assert kinds(resolve_targets(load_causal_model(llama), LLAMA_NAMES)) == dict.fromkeys(LLAMA_NAMES.split(","), 2)


def test_all_linear_on_phi_is_the_four_fused_ones_and_not_the_output_layer(phi_model):
    names = resolve_targets(phi_model, "all-linear")
    assert kinds(names) == {"qkv_proj": 2, "o_proj": 2, "gate_up_proj": 2, "down_proj": 2}
    assert not any("lm_head" in name for name in names)


def test_the_output_layer_cannot_be_named(phi_model):
    with pytest.raises(GateError, match="lm_head match nothing"):
        resolve_targets(phi_model, "lm_head")


def test_some_names_and_no_names(phi_model):
    assert kinds(resolve_targets(phi_model, " o_proj , qkv_proj ")) == {"o_proj": 2, "qkv_proj": 2}
    with pytest.raises(GateError, match="none given"):
        resolve_targets(phi_model, " , ")


def test_effect():
    logits = torch.zeros(5)
    assert require_effect(logits, torch.tensor([0, 0, 0.5, 0, 0]))["largest_logit_difference"] == 0.5
    for same in (logits, logits + 1e-4, logits * float("nan")):
        with pytest.raises(GateError, match="no-op"):
            require_effect(logits, same)


def test_a_run_that_learns_nothing_leaves_no_adapter(phi, examples, settings_of, tmp_path):
    with pytest.raises(GateError, match="no-op where it is served"):
        finetune(tmp_path, settings_of(phi, learning_rate=1e-8, epochs=0.1), examples, [], name="idle")
    assert not (tmp_path / "adapters" / "idle").exists()
